//! A headless browser of its own for each test, driven by chromedriver, and the demo that it looks at.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fantoccini::elements::Element;
use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::support::{http, node_process};

/// How long anything on the page may take before it counts as failed. The demo may be a debug build on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Finds what is at a place: an XPath if it begins with a slash, else a CSS selector.
const FIND: &str = "const find = (place) => {
    if (!place.startsWith('/')) return [...document.querySelectorAll(place)];
    const found = document.evaluate(place, document, null, XPathResult.ORDERED_NODE_SNAPSHOT_TYPE, null);
    return Array.from({ length: found.snapshotLength }, (_, i) => found.snapshotItem(i));
};";

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Starts `command` and waits for the line of its output in which `find` finds something. The rest is read away.
fn start<T>(mut command: Command, find: impl Fn(&str) -> Option<T>) -> (Process, T) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap_or_else(|error| {
        panic!("cannot start {command:?}: {error}");
    });
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let process = Process(child);
    let found = loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "{command:?} has ended without what is waited for");
        if let Some(found) = find(&line) {
            break found;
        }
    };
    std::thread::spawn(move || read_away(lines));
    (process, found)
}

fn read_away(mut lines: BufReader<ChildStdout>) {
    _ = std::io::copy(&mut lines, &mut std::io::sink());
}

/// A demo that is slowed down.
pub(crate) struct SlowedDown {
    ends: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl SlowedDown {
    /// Lets it run at full speed again.
    pub(crate) async fn end(self) {
        self.ends.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
    }
}

/// A cluster of three in one process, with a page.
pub(crate) struct Demo {
    process: Option<Process>,
    pub(crate) page: SocketAddr,
}

impl Demo {
    pub(crate) fn start() -> Demo {
        Demo::at("127.0.0.1:0")
    }

    fn at(address: &str) -> Demo {
        let (process, page) = start(node_process::sapwood(["demo", "--http", address]), |line| {
            line.split("http://").nth(1)?.trim_end().trim_end_matches('/').parse().ok()
        });
        Demo { process: Some(process), page }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.page)
    }

    /// Lets the process run for a tenth of the time from now on, so that a heal, which lasts for tenths of a second, can be
    /// seen on the page.
    pub(crate) fn slow_down(&self) -> SlowedDown {
        let process = self.process.as_ref().expect("the demo runs");
        let pid = Pid::from_child(&process.0);
        let ends = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&ends);
        let task = tokio::spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                kill_process(pid, Signal::STOP).unwrap();
                sleep(Duration::from_millis(45)).await;
                kill_process(pid, Signal::CONT).unwrap();
                sleep(Duration::from_millis(5)).await;
            }
        });
        SlowedDown { ends, task }
    }

    /// Ends it, as if the machine had failed.
    pub(crate) fn end(&mut self) {
        self.process = None;
    }

    /// Starts it anew where it was, with nothing in it.
    pub(crate) fn start_again(&mut self) {
        *self = Demo::at(&self.page.to_string());
    }
}

/// A window of a browser, and what drives it.
pub(crate) struct Browser {
    client: Client,
    session: String,
    driver: SocketAddr,
    _process: Process,
}

impl Browser {
    /// Opens `url` in a window for a desk.
    pub(crate) async fn open(url: &str) -> Browser {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0");
        let (process, port) = start(command, |line| {
            line.split("started successfully on port ")
                .nth(1)?
                .trim_end()
                .trim_end_matches('.')
                .parse::<u16>()
                .ok()
        });
        let driver = SocketAddr::from(([127, 0, 0, 1], port));
        let mut wanted = Capabilities::new();
        // Without a sandbox, as whoever runs these tests may be root.
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ];
        wanted.insert("goog:chromeOptions".into(), json!({ "args": args }));
        wanted.insert("goog:loggingPrefs".into(), json!({ "browser": "ALL" }));
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let client = builder.capabilities(wanted).connect(&format!("http://{driver}")).await.unwrap();
        let session = client.session_id().await.unwrap().unwrap();
        let browser = Browser { client, session, driver, _process: process };
        browser.resize(1440, 1000).await;
        browser.client.goto(url).await.unwrap();
        browser
    }

    pub(crate) async fn reload(&self) {
        self.client.refresh().await.unwrap();
    }

    /// What a script on the page returns.
    pub(crate) async fn ask(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// The text of all elements at a place: an XPath if it begins with a slash, else a CSS selector.
    pub(crate) async fn texts(&self, place: &str) -> Vec<String> {
        let script = format!("{FIND} return find(arguments[0]).map((node) => node.textContent)");
        let found = self.client.execute(&script, vec![place.into()]).await.unwrap();
        serde_json::from_value(found).unwrap()
    }

    /// The text of the first element at a place.
    pub(crate) async fn text(&self, place: &str) -> String {
        self.texts(place).await.into_iter().next().unwrap_or_else(|| panic!("nothing is at {place}"))
    }

    async fn element(&self, place: &str) -> Element {
        let locator = if place.starts_with('/') { Locator::XPath(place) } else { Locator::Css(place) };
        let found = self.client.wait().at_most(PATIENCE).for_element(locator).await;
        let found = found.unwrap_or_else(|error| panic!("{place}: {error}"));
        let script = "arguments[0].scrollIntoView({ block: 'center', behavior: 'instant' })";
        self.client.execute(script, vec![serde_json::to_value(&found).unwrap()]).await.unwrap();
        found
    }

    /// Clicks as a person does: it has to be seen, and nothing may lie above it.
    pub(crate) async fn click(&self, place: &str) {
        self.element(place).await.click().await.unwrap_or_else(|error| panic!("{place}: {error}"));
    }

    /// Types into a field what replaces its content.
    pub(crate) async fn fill(&self, place: &str, text: &str) {
        let field = self.element(place).await;
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap_or_else(|error| panic!("{place}: {error}"));
    }

    pub(crate) async fn choose(&self, place: &str, option: &str) {
        self.element(place).await.select_by_value(option).await.unwrap();
    }

    /// Waits until the script returns `true`.
    pub(crate) async fn until(&self, what: &str, script: &str) {
        let started = Instant::now();
        while self.ask(script).await != Value::Bool(true) {
            if started.elapsed() > PATIENCE {
                self.picture("failed").await;
                panic!("not within {PATIENCE:?}: {what}; see target/pictures/failed.png");
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until something at `place` has `text` in it.
    pub(crate) async fn until_text(&self, place: &str, text: &str) {
        let (at, has) = (Value::from(place), Value::from(text));
        let script = format!("{FIND} return find({at}).some((node) => node.textContent.includes({has}))");
        self.until(&format!("{place} says {text:?}"), &script).await;
    }

    pub(crate) async fn resize(&self, width: u32, height: u32) {
        let mobile = width < 600;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics).await;
    }

    /// What the system's preferences are said to be.
    pub(crate) async fn prefer(&self, feature: &str, value: &str) {
        let media = json!({ "features": [{ "name": feature, "value": value }] });
        self.devtools("Emulation.setEmulatedMedia", &media).await;
    }

    /// Presses Enter wherever the focus is.
    pub(crate) async fn press_enter(&self) {
        let key = |kind: &str| json!({ "type": kind, "key": "Enter", "code": "Enter", "text": "\r", "windowsVirtualKeyCode": 13 });
        self.devtools("Input.dispatchKeyEvent", &key("keyDown")).await;
        self.devtools("Input.dispatchKeyEvent", &key("keyUp")).await;
    }

    async fn devtools(&self, command: &str, params: &Value) {
        self.vendor("goog/cdp/execute", &json!({ "cmd": command, "params": params })).await;
    }

    /// What only chromedriver knows of.
    async fn vendor(&self, what: &str, body: &Value) -> Value {
        let path = format!("/session/{}/{what}", self.session);
        let answer = http::send(self.driver, "POST", &path, &[], &body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["value"].clone()
    }

    /// Everything the browser has complained of since it was asked last.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.vendor("se/log", &json!({ "type": "browser" })).await;
        log.as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Takes a picture of the window, for a person to look at.
    pub(crate) async fn picture(&self, name: &str) {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/pictures");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), self.client.screenshot().await.unwrap()).unwrap();
    }

    /// The same of the whole page, and not only of what the window shows.
    pub(crate) async fn whole_picture(&self, name: &str, width: u32) {
        let height = self.ask("return document.documentElement.scrollHeight").await.as_u64().unwrap();
        self.resize(width, u32::try_from(height).unwrap()).await;
        self.picture(name).await;
    }

    /// Ends the session.
    ///
    /// # Panics
    /// If the browser has complained of anything.
    pub(crate) async fn close(self) {
        let complaints = self.complaints().await;
        self.client.clone().close().await.unwrap();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}
