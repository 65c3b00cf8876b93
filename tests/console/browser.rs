//! A Chromium for one test, driven through chromedriver.
//!
//! Answers for: every wait has a deadline, the test sees every error in the browser's console, and
//! the browser's profile folder outlives it, so that it can be searched.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::support::ports::Port;
use crate::support::wait_for;

/// Longest start of the browser on a busy machine.
const START: Duration = Duration::from_secs(30);
/// Longest wait for a page or a part of it.
pub(super) const PAGE: Duration = Duration::from_secs(15);

/// WebDriver names keys by a private code point.
pub(super) const ENTER: &str = "\u{e007}";
pub(super) const TAB: &str = "\u{e004}";

/// A browser with one page.
pub(super) struct Browser {
    client: Client,
    runtime: Runtime,
    driver: Child,
    /// The browser's files.
    pub(super) profile: TempDir,
    /// Clicks and strokes so far; a typed or pasted text counts as one.
    pub(super) steps: u32,
    _port: Port,
}

/// A command that WebDriver itself does not have.
#[derive(Debug)]
struct Own {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Own {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}

fn capabilities(profile: &Path) -> Value {
    let args = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-first-run",
        "--window-size=1280,800",
        // No request can resolve another host.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ];
    let args = args.map(str::to_owned).into_iter();
    let args: Vec<String> =
        args.chain([format!("--user-data-dir={}", profile.display())]).collect();
    json!({
        "browserName": "chrome",
        // The tests' CAs are in no trust store.
        "acceptInsecureCerts": true,
        "unhandledPromptBehavior": "accept",
        "goog:chromeOptions": {"args": args},
        "goog:loggingPrefs": {"browser": "ALL"},
    })
}

impl Browser {
    /// Starts a browser with an empty profile.
    #[track_caller]
    pub(super) fn start() -> Self {
        let port = Port::claim();
        let profile = TempDir::with_prefix("fluxgate-browser-").unwrap();
        let log = File::create(profile.path().join("driver.log")).unwrap();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={}", port.addr().port()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("chromedriver runs: scripts/setup-tests.sh installs it");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let kept = profile.path().join("profile");
        let capabilities = capabilities(&kept).as_object().unwrap().clone();
        let address = format!("http://{}", port.addr());
        let client = wait_for("the browser starts", START, || {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            builder.capabilities(capabilities.clone());
            runtime.block_on(builder.connect(&address)).ok()
        });
        Self { client, runtime, driver, profile, steps: 0, _port: port }
    }

    #[track_caller]
    pub(super) fn go(&self, address: &str) {
        self.runtime.block_on(self.client.goto(address)).unwrap();
    }

    #[track_caller]
    pub(super) fn address(&self) -> String {
        self.runtime.block_on(self.client.current_url()).unwrap().to_string()
    }

    /// The page as it is, with changes by scripts.
    #[track_caller]
    pub(super) fn source(&self) -> String {
        self.runtime.block_on(self.client.source()).unwrap()
    }

    #[track_caller]
    pub(super) fn script(&self, text: &str) -> Value {
        self.runtime.block_on(self.client.execute(text, Vec::new())).unwrap()
    }

    /// Runs a script that calls its last argument with the result.
    #[track_caller]
    pub(super) fn script_async(&self, text: &str) -> Value {
        self.runtime.block_on(self.client.execute_async(text, Vec::new())).unwrap()
    }

    /// Waits until the page has this part, and returns its text.
    #[track_caller]
    pub(super) fn text(&self, css: &str) -> String {
        wait_for(&format!("the page shows `{css}`"), PAGE, || {
            self.runtime.block_on(async {
                let element = self.client.find(Locator::Css(css)).await.ok()?;
                element.text().await.ok()
            })
        })
    }

    /// Waits until a part of the page has a fitting text.
    #[track_caller]
    pub(super) fn wait_text(&self, css: &str, fits: impl Fn(&str) -> bool) -> String {
        wait_for(&format!("`{css}` has the expected text"), PAGE, || {
            let text = self.runtime.block_on(async {
                let element = self.client.find(Locator::Css(css)).await.ok()?;
                element.text().await.ok()
            });
            text.filter(|text| fits(text))
        })
    }

    /// Clicks, once the part exists and can be clicked.
    #[track_caller]
    pub(super) fn click(&mut self, css: &str) {
        self.steps += 1;
        wait_for(&format!("`{css}` can be clicked"), PAGE, || {
            self.runtime.block_on(async {
                let element = self.client.find(Locator::Css(css)).await.ok()?;
                element.click().await.ok()
            })
        });
    }

    /// Types or pastes a text, once the part exists.
    #[track_caller]
    pub(super) fn enter(&mut self, css: &str, text: &str) {
        self.steps += 1;
        wait_for(&format!("`{css}` takes a text"), PAGE, || {
            self.runtime.block_on(async {
                let element = self.client.find(Locator::Css(css)).await.ok()?;
                element.send_keys(text).await.ok()
            })
        });
    }

    /// Types where the focus is.
    #[track_caller]
    pub(super) fn press(&mut self, keys: &str) {
        self.steps += 1;
        self.runtime.block_on(async {
            let element = self.client.active_element().await.unwrap();
            element.send_keys(keys).await.unwrap();
        });
    }

    #[track_caller]
    pub(super) fn clear(&self, css: &str) {
        self.runtime.block_on(async {
            let element = self.client.find(Locator::Css(css)).await.unwrap();
            element.clear().await.unwrap();
        });
    }

    /// Sends a DevTools command.
    #[track_caller]
    pub(super) fn devtools(&self, name: &str, parameters: &Value) -> Value {
        let body = json!({"cmd": name, "params": parameters});
        let own = Own { path: "goog/cdp/execute", body };
        self.runtime.block_on(self.client.issue_cmd(own)).unwrap()
    }

    /// Shows pages in this color scheme.
    #[track_caller]
    pub(super) fn prefer(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// Shows pages on a screen of this width.
    #[track_caller]
    pub(super) fn width(&self, width: u32) {
        let screen =
            json!({"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &screen);
    }

    /// Shows the whole page, however long, on a screen of this width.
    #[track_caller]
    pub(super) fn whole(&self, width: u32) {
        self.width(width);
        let height = self.script("return Math.max(800, document.documentElement.scrollHeight)");
        let screen =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &screen);
    }

    /// A screenshot, as PNG.
    #[track_caller]
    pub(super) fn picture(&self) -> Vec<u8> {
        self.runtime.block_on(self.client.screenshot()).unwrap()
    }

    /// New lines of the browser's console since the last call.
    #[track_caller]
    pub(super) fn log(&self) -> Vec<String> {
        let own = Own { path: "se/log", body: json!({"type": "browser"}) };
        let entries = self.runtime.block_on(self.client.issue_cmd(own)).unwrap();
        let entries = entries.as_array().unwrap().iter();
        entries.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Fails if the browser's console has any lines but these.
    #[track_caller]
    pub(super) fn assert_quiet(&self, expected: &[&str]) {
        let mut lines = self.log();
        lines.retain(|line| !expected.iter().any(|text| line.contains(text)));
        assert!(lines.is_empty(), "the browser's console: {lines:#?}");
    }

    /// Ends the browser and returns its profile folder.
    pub(super) fn close(mut self) -> TempDir {
        // Waits until the browser has ended and its files are written.
        self.runtime.block_on(self.client.clone().close()).ok();
        self.end();
        std::mem::replace(&mut self.profile, TempDir::new().unwrap())
    }

    fn end(&mut self) {
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Otherwise a failed test would leave the browser running.
        self.runtime.block_on(self.client.clone().close()).ok();
        self.end();
    }
}
