//! Probes by the hundred: `uprobe_multi` links (Linux 6.6), each of which attaches a program at many places of a file at once, and
//! detaches it from all of them within one grace period. Loading programs for them and making the links is not in aya yet, so
//! this asks the kernel itself (bpf(2), include/uapi/linux/bpf.h); the object is read by aya's own parser.

use std::{
    collections::{HashMap, HashSet},
    ffi::{CStr, CString},
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya::Ebpf;
use aya_obj::{
    Function, Object, ProgramSection,
    generated::{BPF_F_UPROBE_MULTI_RETURN, bpf_attach_type, bpf_attr, bpf_cmd, bpf_prog_type},
};
use memprof_common::Cookie;
use procfs::KernelVersion;

use super::{KernelError, load::failed, memory::data_of, undisturbed::undisturbed};

/// Before, links of one process missed all its threads but the first (commit 46ba0e49b642).
const OLDEST: KernelVersion = KernelVersion { major: 6, minor: 10, patch: 0 };

/// Room for what the verifier says, should it say anything.
const LOG_BYTES: usize = 1 << 20;

/// The programs that belong at probes, loaded for such links.
#[derive(Debug)]
pub(super) struct MultiPrograms {
    programs: HashMap<String, MultiProgram>,
}

#[derive(Debug)]
struct MultiProgram {
    program: OwnedFd,
    is_at_returns: bool,
}

impl MultiPrograms {
    /// Whether this kernel can be expected to have what is needed.
    pub(super) fn is_supported() -> bool {
        KernelVersion::current().is_ok_and(|version| version >= OLDEST)
    }

    /// Loads those programs that are wanted, to use the maps of `bpf`, which was loaded from the same object.
    pub(super) fn load(object: &[u8], bpf: &Ebpf, is_wanted: impl Fn(&str) -> bool) -> Result<Self, KernelError> {
        let mut object = Object::parse(object).map_err(failed)?;
        let types = load_types(&mut object)?;
        relocate(&mut object, bpf)?;
        let mut programs = HashMap::new();
        for (name, program) in object.programs.iter().filter(|(name, _)| is_wanted(name)) {
            let is_at_returns = match program.section {
                ProgramSection::UProbe { .. } => false,
                ProgramSection::URetProbe { .. } => true,
                _ => continue,
            };
            let function = object.functions.get(&program.function_key());
            let function = function.ok_or_else(|| failed(format!("the program {name} has no code")))?;
            let program = load_program(name, &program.license, function, &types)?;
            programs.insert(name.clone(), MultiProgram { program, is_at_returns });
        }
        Ok(Self { programs })
    }

    /// The loaded programs, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &OwnedFd)> {
        self.programs.iter().map(|(name, multi)| (name.as_str(), &multi.program))
    }

    /// Attaches a program at these places of a file, each with its cookie: to the process with that pid, or to all. It stays
    /// attached as long as what is returned is open.
    pub(super) fn attach(
        &self,
        program: &str,
        path: &Path,
        sites: &[(u64, Cookie)],
        pid: Option<u32>,
    ) -> io::Result<OwnedFd> {
        let MultiProgram { program, is_at_returns } = self.programs.get(program).ok_or(io::ErrorKind::NotFound)?;
        let path = CString::new(path.as_os_str().as_bytes())?;
        let (offsets, cookies): (Vec<u64>, Vec<u64>) = sites.iter().map(|(offset, cookie)| (*offset, cookie.0)).unzip();
        let mut attributes = zeroed();
        attributes.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd().cast_unsigned();
        attributes.link_create.attach_type = bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32;
        // SAFETY: the union was zeroed, which any of its fields may be.
        let link = unsafe { &mut attributes.link_create.__bindgen_anon_3.uprobe_multi };
        link.path = path.as_ptr() as u64;
        link.offsets = offsets.as_ptr() as u64;
        link.cookies = cookies.as_ptr() as u64;
        link.cnt = sites.len() as u32;
        link.flags = if *is_at_returns { BPF_F_UPROBE_MULTI_RETURN } else { 0 };
        link.pid = pid.unwrap_or(0);
        // SAFETY: what the attributes point to outlives the call, and is as long as they say.
        let link = undisturbed(|| unsafe { ask_kernel(bpf_cmd::BPF_LINK_CREATE, &attributes) });
        link.unwrap_or_else(|| Err(io::ErrorKind::Interrupted.into()))
    }
}

/// Puts the descriptors of `bpf`'s maps, and the functions that are called, into the programs' code.
fn relocate(object: &mut Object, bpf: &Ebpf) -> Result<(), KernelError> {
    let text_sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let definitions = std::mem::take(&mut object.maps);
    let mut maps = Vec::new();
    for (name, definition) in &definitions {
        let map = bpf.map(name).and_then(data_of).ok_or_else(|| failed(format!("there is no map {name}")))?;
        maps.push((name.as_str(), map.fd().as_fd().as_raw_fd(), definition));
    }
    object.relocate_maps(maps.into_iter(), &text_sections).map_err(failed)?;
    object.relocate_calls(&text_sections).map_err(failed)
}

/// Gives the object's types to the kernel. It has them already, from aya; but to ask for these would take CAP_SYS_ADMIN.
fn load_types(object: &mut Object) -> Result<OwnedFd, KernelError> {
    let features = aya::features().btf().ok_or_else(|| failed("the kernel takes no types"))?;
    let types = object.fixup_and_sanitize_btf(features).map_err(failed)?;
    let bytes = types.ok_or_else(|| failed("the object has no types"))?.to_bytes();
    let mut attributes = zeroed();
    // SAFETY: the union was zeroed, which any of its fields may be.
    let types = unsafe { &mut attributes.__bindgen_anon_7 };
    (types.btf, types.btf_size) = (bytes.as_ptr() as u64, bytes.len() as u32);
    // SAFETY: the bytes outlive the call, and are as many as the attributes say.
    let types = unsafe { ask_kernel(bpf_cmd::BPF_BTF_LOAD, &attributes) };
    types.map_err(|source| KernelError::Call { call: "BPF_BTF_LOAD", source })
}

fn load_program(name: &str, license: &CStr, function: &Function, types: &OwnedFd) -> Result<OwnedFd, KernelError> {
    let functions = function.func_info.func_info_bytes();
    let mut attributes = zeroed();
    // SAFETY: the union was zeroed, which any of its fields may be.
    let program = unsafe { &mut attributes.__bindgen_anon_3 };
    program.prog_type = bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32;
    program.expected_attach_type = bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32;
    program.insns = function.instructions.as_ptr() as u64;
    program.insn_cnt = function.instructions.len() as u32;
    program.license = license.as_ptr() as u64;
    program.prog_btf_fd = types.as_raw_fd().cast_unsigned();
    program.func_info = functions.as_ptr() as u64;
    program.func_info_cnt = function.func_info.len() as u32;
    program.func_info_rec_size = function.func_info_rec_size as u32;
    // The last byte stays zero.
    for (to, from) in program.prog_name.iter_mut().rev().skip(1).rev().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: what the attributes point to outlives the call, and is as long as they say.
    let loaded = unsafe { ask_kernel(bpf_cmd::BPF_PROG_LOAD, &attributes) };
    loaded.map_err(|source| {
        log::debug!("the kernel on {name}: {}", verifier_log(&mut attributes));
        KernelError::Refused { program: name.to_owned(), source }
    })
}

/// Has a program refused once more, to learn why.
fn verifier_log(attributes: &mut bpf_attr) -> String {
    let mut log = vec![0u8; LOG_BYTES];
    // SAFETY: these are the attributes of a program.
    let program = unsafe { &mut attributes.__bindgen_anon_3 };
    (program.log_level, program.log_size, program.log_buf) = (1, LOG_BYTES as u32, log.as_mut_ptr() as u64);
    // SAFETY: what the attributes point to is still there, and the log is as long as they say.
    let _ = unsafe { ask_kernel(bpf_cmd::BPF_PROG_LOAD, attributes) };
    CStr::from_bytes_until_nul(&log).unwrap_or_default().to_string_lossy().into_owned()
}

fn zeroed() -> bpf_attr {
    // SAFETY: all of its fields are integers.
    unsafe { std::mem::zeroed() }
}

/// # Safety
/// The attributes are for this command, which returns a new descriptor, and what they point to is there.
unsafe fn ask_kernel(command: bpf_cmd, attributes: &bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: as the caller promises.
    let descriptor = unsafe { libc::syscall(libc::SYS_bpf, command as u32, attributes, size_of::<bpf_attr>()) };
    match i32::try_from(descriptor) {
        // SAFETY: it is new, and nobody else's.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}
