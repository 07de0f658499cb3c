//! A real browser without a window: Debian's Chromium, spoken to through its DevTools protocol over a pipe. So there is no port
//! that another could have, and it ends with the test.
#![allow(dead_code, reason = "each test executable uses its part")]
#![allow(unreachable_pub, missing_docs, reason = "this is no interface")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longest time that anything here may take: many of these may be started at once.
const PATIENCE: Duration = Duration::from_secs(120);

/// The browser reads commands from descriptor 3 and writes to 4.
const START: &str = r#"exec chromium-headless-shell "$@" 3<&0 4>&1 </dev/null >/dev/null"#;

const OPTIONS: [&str; 9] = [
    "--remote-debugging-pipe",
    // As root it does not start otherwise.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--window-size=1280,900",
];

/// One page in a browser of its own.
pub struct Page {
    browser: Child,
    to: Option<ChildStdin>,
    from: Receiver<Value>,
    session: Option<String>,
    commands: u64,
    /// What happened while something else was waited for.
    events: Vec<Value>,
    _profile: TempDir,
}

impl Page {
    /// Opens a file, and waits until all of it is there.
    pub fn open(file: &Path) -> Self {
        Self::open_address(&url(file))
    }

    /// Likewise what is at an address.
    pub fn open_address(address: &str) -> Self {
        let mut page = Self::start();
        let target = page.command("Target.createTarget", json!({ "url": "about:blank" }));
        let attached =
            page.command("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        page.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        // Else its load could be taken for that of the page.
        page.wait_until("document.readyState === 'complete'");
        for domain in ["Page", "Runtime", "Log", "Network", "Audits"] {
            page.command(&format!("{domain}.enable"), json!({}));
        }
        page.command("Page.navigate", json!({ "url": address }));
        page.wait_for_event("Page.loadEventFired");
        page
    }

    fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", START, "chromium"]).args(OPTIONS);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        let mut browser = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (to, stdout) = (browser.stdin.take(), browser.stdout.take().unwrap());
        let (sender, from) = channel();
        std::thread::spawn(move || {
            let messages = BufReader::new(stdout).split(0).map_while(Result::ok);
            messages.for_each(|message| drop(sender.send(serde_json::from_slice(&message).unwrap())));
        });
        Self { browser, to, from, session: None, commands: 0, events: Vec::new(), _profile: profile }
    }

    /// Sends a command and waits for what comes of it.
    pub fn command(&mut self, method: &str, parameters: Value) -> Value {
        self.commands += 1;
        let id = self.commands;
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let to = self.to.as_mut().unwrap();
        to.write_all(message.to_string().as_bytes()).unwrap();
        to.write_all(&[0]).unwrap();
        loop {
            let answer = self.next_message(method);
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    fn wait_for_event(&mut self, method: &str) {
        while !self.events.iter().any(|event| event["method"] == method) {
            let event = self.next_message(method);
            self.events.push(event);
        }
    }

    fn next_message(&mut self, wanted: &str) -> Value {
        self.from.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{wanted}: {error}; is Chromium installed?"))
    }

    /// What an expression of JavaScript comes to.
    pub fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.command("Runtime.evaluate", parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    /// The text of each element that a selector finds, if it is to be seen.
    pub fn texts(&mut self, selector: &str) -> Vec<String> {
        let found = self.value(&format!(
            "[...document.querySelectorAll({})].filter(element => element.checkVisibility()).map(element => element.textContent)",
            json!(selector)
        ));
        found.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    }

    /// Waits until an expression is true.
    pub fn wait_until(&mut self, expression: &str) {
        let start = Instant::now();
        while self.value(expression) != json!(true) {
            assert!(start.elapsed() < PATIENCE, "waited in vain until {expression}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Clicks with the mouse, where the first element is that a selector finds.
    pub fn click(&mut self, selector: &str) {
        let place = self.value(&format!(
            "(() => {{ const element = document.querySelector({}); element.scrollIntoView({{ block: 'center' }}); \
             const box = element.getBoundingClientRect(); return [box.x + Math.min(box.width / 2, 40), box.y + box.height / 2]; }})()",
            json!(selector)
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let (x, y) = (&place[0], &place[1]);
            let event = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.command("Input.dispatchMouseEvent", event);
        }
    }

    /// Types into what has the focus.
    pub fn type_text(&mut self, text: &str) {
        self.command("Input.insertText", json!({ "text": text }));
    }

    /// Presses a key that is no character.
    pub fn press(&mut self, key: &str) {
        for kind in ["rawKeyDown", "keyUp"] {
            let code = if key == "Enter" { 13 } else { 0 };
            self.command("Input.dispatchKeyEvent", json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code }));
        }
    }

    /// As on a screen of this size, in these colours (`light`, `dark`).
    pub fn show_on(&mut self, width: u32, height: u32, colours: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.command("Emulation.setDeviceMetricsOverride", size);
        let feature = json!({ "name": "prefers-color-scheme", "value": colours });
        self.command("Emulation.setEmulatedMedia", json!({ "features": [feature] }));
    }

    /// How many colours there are in a picture of what is to be seen.
    pub fn colours(&mut self) -> usize {
        let picture = self.command("Page.captureScreenshot", json!({ "format": "png" }));
        let png = BASE64_STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        let colours: HashSet<_> = pixels[..info.buffer_size()].chunks(info.color_type.samples()).collect();
        colours.len()
    }

    /// Everything that was fetched, by address.
    pub fn requests(&self) -> Vec<String> {
        let requests = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        let addresses = requests.map(|request| request["params"]["request"]["url"].as_str().unwrap().to_owned());
        addresses.filter(|address| !address.starts_with("data:")).collect()
    }

    /// What a developer would see in red: errors, exceptions, breaches of the policy.
    pub fn complaints(&self) -> Vec<String> {
        let methods = ["Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Audits.issueAdded"];
        let complaints = self.events.iter().filter(|event| methods.iter().any(|method| event["method"] == *method));
        complaints.map(|event| event["params"].to_string()).collect()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // It ends when there is nobody to command it.
        self.to = None;
        let _ = self.browser.kill();
        let _ = self.browser.wait();
    }
}

/// The address of a file.
pub fn url(file: &Path) -> String {
    format!("file://{}", file.display())
}
