//! What the path of a process's cgroup tells: its container, and its systemd unit. Pure.
//!
//! Nothing defines these paths but the habits of those who make them: runc and crun, which put `docker-ID.scope` into a slice of
//! systemd's, or `ID` into a folder of their own; containerd's and CRI-O's plugins; LXC and LXD; systemd itself.

/// Digits of the id that all runtimes of the OCI kind give to containers.
const ID_DIGITS: usize = 64;

/// The container, and the unit, that `/proc/PID/cgroup` tells of.
pub fn container_and_unit(content: &str) -> (Option<String>, Option<String>) {
    let paths = || content.lines().filter_map(Path::parse);
    let container = paths().find_map(|path| path.innermost(container));
    let unit = paths().filter(|path| path.is_systemds).find_map(|path| path.innermost(unit));
    (container, unit)
}

/// A line: the path in one hierarchy.
struct Path<'a> {
    components: Vec<&'a str>,
    /// Whether systemd makes the folders: those of version 2, and of its own hierarchy in version 1.
    is_systemds: bool,
}

impl<'a> Path<'a> {
    /// `NUMBER:CONTROLLERS:PATH`; a path can have colons.
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let components = path.trim_end_matches(" (deleted)").split('/').collect();
        Some(Self { components, is_systemds: controllers.is_empty() || controllers == "name=systemd" })
    }

    /// What `read` makes of a component, and the one above it, for the innermost of which it makes something.
    fn innermost(&self, read: impl Fn(&str, &str) -> Option<String>) -> Option<String> {
        self.components.windows(2).rev().find_map(|pair| read(pair[0], pair[1]))
    }
}

fn container(above: &str, component: &str) -> Option<String> {
    oci_id(component).or_else(|| lxc_name(above, component)).map(str::to_owned)
}

/// `ID`, `docker-ID.scope`, `crio-ID`, or `SLICE:cri-containerd:ID`. A monitor beside a container (`libpod-conmon-ID`) is not in it.
fn oci_id(component: &str) -> Option<&str> {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    let (prefix, id) = name.rsplit_once(['-', ':']).unwrap_or(("", name));
    let is_id = id.len() == ID_DIGITS && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_id && !prefix.ends_with("conmon")).then_some(id)
}

/// `lxc/NAME`, `lxc.payload/NAME` or `lxc.payload.NAME`.
fn lxc_name<'a>(above: &str, component: &'a str) -> Option<&'a str> {
    let name = match above {
        "lxc" | "lxc.payload" => Some(component),
        _ => component.strip_prefix("lxc.payload."),
    };
    name.filter(|name| !name.is_empty())
}

fn unit(_: &str, component: &str) -> Option<String> {
    let is_unit = [".service", ".scope"].iter().any(|kind| component.len() > kind.len() && component.ends_with(kind));
    is_unit.then(|| component.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const INNER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

    /// The content, and what it tells; `ID` and `INNER` stand for ids.
    fn assert_told(cases: &[(&str, Option<&str>, Option<&str>)]) {
        let spell = |text: &str| text.replace("ID", ID).replace("INNER", INNER);
        for (content, container, unit) in cases {
            let expected = (container.map(spell), unit.map(spell));
            assert_eq!(container_and_unit(&spell(content)), expected, "{content}");
        }
    }

    #[test]
    fn processes_of_the_machine_itself() {
        assert_told(&[
            ("0::/\n", None, None),
            ("0::/init.scope\n", None, Some("init.scope")),
            ("0::/system.slice/ssh.service\n", None, Some("ssh.service")),
            ("0::/system.slice/system-getty.slice/getty@tty1.service\n", None, Some("getty@tty1.service")),
            ("0::/user.slice/user-1000.slice/session-2.scope\n", None, Some("session-2.scope")),
            ("0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", None, Some("init.scope")),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-firefox-4711.scope\n",
                None,
                Some("app-gnome-firefox-4711.scope"),
            ),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/dbus.service\n", None, Some("dbus.service")),
            ("0::/system.slice/cups.service (deleted)\n", None, Some("cups.service")),
            ("0::/machine.slice/systemd-nspawn@web.service/payload\n", None, Some("systemd-nspawn@web.service")),
            ("4:memory:/process_api/7cdba3c1626f5a96a8322b771481c3f8\n0::/\n", None, None),
            ("", None, None),
            ("nonsense", None, None),
        ]);
    }

    #[test]
    fn version_1_and_both_at_once() {
        assert_told(&[
            (
                "12:pids:/system.slice/cron.service\n3:cpu,cpuacct:/\n1:name=systemd:/system.slice/cron.service\n",
                None,
                Some("cron.service"),
            ),
            ("1:name=systemd:/user.slice/user-0.slice/session-c1.scope\n0::/\n", None, Some("session-c1.scope")),
            // A unit of systemd's is one in its own hierarchy only.
            ("5:cpuset:/somebodys.service\n1:name=systemd:/\n", None, None),
            (
                "11:memory:/docker/ID\n4:cpu,cpuacct:/docker/ID\n1:name=systemd:/docker/ID\n0::/system.slice/containerd.service\n",
                Some("ID"),
                Some("containerd.service"),
            ),
            ("9:perf_event:/\n8:memory:/docker/ID\n1:name=systemd:/\n", Some("ID"), None),
        ]);
    }

    #[test]
    fn docker_and_podman() {
        assert_told(&[
            ("0::/docker/ID\n", Some("ID"), None),
            ("0::/system.slice/docker-ID.scope\n", Some("ID"), Some("docker-ID.scope")),
            ("0::/docker/ID/system.slice/nginx.service\n", Some("ID"), Some("nginx.service")),
            ("0::/docker/ID/docker/INNER\n", Some("INNER"), None),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope\n",
                Some("ID"),
                Some("docker-ID.scope"),
            ),
            ("0::/machine.slice/libpod-ID.scope\n", Some("ID"), Some("libpod-ID.scope")),
            ("0::/machine.slice/libpod-ID.scope/container\n", Some("ID"), Some("libpod-ID.scope")),
            ("0::/libpod_parent/libpod-ID\n", Some("ID"), None),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container\n",
                Some("ID"),
                Some("libpod-ID.scope"),
            ),
            // The monitor is no part of it.
            ("0::/machine.slice/libpod-conmon-ID.scope\n", None, Some("libpod-conmon-ID.scope")),
            // As seen from another container.
            ("0::/../../system.slice/docker-ID.scope\n", Some("ID"), Some("docker-ID.scope")),
        ]);
    }

    #[test]
    fn kubernetes() {
        let pod = "kubepods-burstable-pod9f1f2b0c_7d55_4f0a_a7ac_2d1d5d0f7d11.slice";
        let folder = "kubepods/burstable/pod9f1f2b0c-7d55-4f0a-a7ac-2d1d5d0f7d11";
        let cases = [
            (format!("0::/{folder}/ID\n"), None),
            (format!("11:memory:/{folder}/ID\n1:name=systemd:/{folder}/ID\n"), None),
            (format!("0::/kubepods.slice/{pod}/cri-containerd-ID.scope\n"), Some("cri-containerd-ID.scope")),
            (format!("0::/kubepods.slice/{pod}/crio-ID.scope\n"), Some("crio-ID.scope")),
            (format!("0::/kubepods.slice/{pod}/crio-ID.scope/container\n"), Some("crio-ID.scope")),
            (format!("0::/kubepods.slice/{pod}/docker-ID.scope\n"), Some("docker-ID.scope")),
            (format!("0::/system.slice/containerd.service/{pod}:cri-containerd:ID\n"), Some("containerd.service")),
            // kind: a node is a container itself.
            (
                format!("0::/docker/INNER/kubelet.slice/kubelet-{pod}/cri-containerd-ID.scope\n"),
                Some("cri-containerd-ID.scope"),
            ),
            (format!("0::/../{pod}/cri-containerd-ID.scope\n"), Some("cri-containerd-ID.scope")),
        ];
        for (content, unit) in &cases {
            assert_told(&[(content, Some("ID"), *unit)]);
        }
        assert_told(&[("0::/kubepods.slice/crio-conmon-ID.scope\n", None, Some("crio-conmon-ID.scope"))]);
    }

    #[test]
    fn lxc_and_lxd() {
        assert_told(&[
            ("0::/lxc.payload.web/system.slice/nginx.service\n", Some("web"), Some("nginx.service")),
            ("0::/lxc.payload.web\n", Some("web"), None),
            ("4:memory:/lxc/101/ns\n1:name=systemd:/lxc/101/ns\n", Some("101"), None),
            ("0::/lxc.payload/db\n", Some("db"), None),
            ("0::/lxc.monitor.web\n", None, None),
            ("0::/lxc\n", None, None),
            // docker within LXD.
            ("0::/lxc.payload.web/docker/ID\n", Some("ID"), None),
        ]);
    }

    #[test]
    fn what_looks_like_an_id_and_is_none() {
        let short = &ID[1..];
        let upper = ID.to_uppercase();
        for name in [short, &upper, &format!("{ID}0"), "docker-.scope", ".scope", ".service"] {
            assert_eq!(container_and_unit(&format!("0::/docker/{name}\n")).0, None, "{name}");
        }
        assert_eq!(container_and_unit("0::/x/.service\n").1, None);
    }
}
