//! A picture of each page, light and dark, wide and on a phone.
//!
//! As a test: every state of a page can be reached and is drawn. If `CONSOLE_PICTURES` names a
//! folder (`scripts/console-pictures.sh`), the pictures are kept there, of a cluster that has been
//! busy for a while.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::browser::{Browser, PAGE};
use super::{console, sign_in};
use crate::support::cluster::{Cluster, OPERATOR};
use crate::support::{Answer, Key, Request, wait_until};

const FOLDER: &str = "CONSOLE_PICTURES";
/// How long the cluster is busy before pictures are kept.
const BUSY: Duration = Duration::from_secs(40);
/// A blank picture is smaller, bytes.
const BLANK_MAX: usize = 6_000;
const WIDE: u32 = 1_280;
const PHONE: u32 = 390;

struct Pictures {
    folder: PathBuf,
    temporary: Option<TempDir>,
}

impl Pictures {
    fn new() -> Self {
        match std::env::var_os(FOLDER) {
            Some(folder) => Self { folder: folder.into(), temporary: None },
            None => {
                let temporary = TempDir::new().unwrap();
                Self { folder: temporary.path().to_owned(), temporary: Some(temporary) }
            }
        }
    }

    fn stay(&self) -> bool {
        self.temporary.is_none()
    }

    /// Takes all pictures of the current page.
    #[track_caller]
    fn take(&self, browser: &Browser, name: &str) {
        for (width, scheme) in [(WIDE, "light"), (WIDE, "dark"), (PHONE, "light")] {
            browser.prefer(scheme);
            browser.whole(width);
            let kind = if width == PHONE { "phone" } else { scheme };
            let picture = browser.picture();
            assert!(picture.len() > BLANK_MAX, "{name}, {kind}: {} bytes", picture.len());
            std::fs::write(self.folder.join(format!("{name}-{kind}.png")), picture).unwrap();
        }
        browser.prefer("light");
        browser.width(WIDE);
    }
}

fn create(cluster: &Cluster, name: &str, scope: &str, owner: &str, more: &Value) -> Key {
    let mut body = json!({"name": name, "scope": scope});
    let fields = body.as_object_mut().unwrap();
    if !owner.is_empty() {
        fields.insert("owner".to_owned(), owner.into());
    }
    fields.extend(more.as_object().unwrap().clone());
    cluster.create(1, &body)
}

/// Keys as an organisation has them; the first is the busy one.
fn keys(cluster: &Cluster) -> Vec<Key> {
    let limit = |tokens: u64, period: &str| json!({"limits": [{"name": "requests", "tokens": tokens, "period": period}]});
    let none = json!({});
    let mut keys = vec![
        create(cluster, "Production Sync", "write", "user_42", &limit(60, "1s")),
        create(cluster, "Grafana", "read", "monitoring", &none),
        create(cluster, "Nightly import", "write", "data-team", &limit(5_000, "600s")),
        create(cluster, "Development Testing", "read", "user_42", &limit(40, "60s")),
        create(cluster, "Terraform", "admin", "platform", &none),
        create(cluster, "Partner: Acme GmbH", "read", "acme", &limit(250, "10s")),
        create(cluster, "Status page", "read", "", &none),
    ];
    let soon = json!({"expires_at": "2099-12-31T23:59:59Z"});
    keys.push(create(cluster, "Contractor, until the end of the century", "write", "kim", &soon));
    let off = create(cluster, "Old dashboard", "read", "monitoring", &none);
    cluster.admin(2, Request::new("PATCH", &off.path()).json(&json!({"enabled": false})));
    let revoked = create(cluster, "Leaked in a log", "write", "user_7", &none);
    cluster.admin(3, Request::new("DELETE", &revoked.path())).expect(200);
    keys
}

/// Sends requests like callers, in waves, until `stop` is set.
fn be_busy(cluster: &Cluster, keys: &[Key], stop: &AtomicBool) {
    let began = Instant::now();
    let mut at = 0_usize;
    while !stop.load(Ordering::Relaxed) {
        let wave = 1.0 + (began.elapsed().as_secs_f64() / 7.0).sin();
        let key = &keys[if at.is_multiple_of(9) { at / 9 % keys.len() } else { 0 }];
        let ask = |request: Request| -> Answer { request.send(cluster.gateway([1, 2, 3][at % 3])) };
        ask(key.validate());
        if at.is_multiple_of(25) {
            ask(Request::post("/v1/validate").bearer("fx_live_AAAAAAAAAAAA_nonsense"));
        }
        at += 1;
        // The pace of the load, not a wait for a condition.
        std::thread::sleep(Duration::from_secs_f64(0.06 - 0.025 * wave));
    }
}

/// Stops the callers, also when a picture failed.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn every_page_is_drawn_in_every_state() {
    let mut cluster = Cluster::start(3);
    let pictures = Pictures::new();
    let keys = keys(&cluster);
    let mut browser = Browser::start();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| be_busy(&cluster, &keys, &stop));
        picture_busy(&cluster, &keys, &mut browser, &pictures);
    });
    picture_changes(&cluster, &keys, &mut browser, &pictures);
    cluster.node_mut(3).kill();
    browser.go(&console(&cluster, 1, "cluster"));
    browser.wait_text(".banner.degraded", |text| text.contains("Node 3 does not answer"));
    pictures.take(&browser, "cluster-degraded");
}

fn picture_busy(cluster: &Cluster, keys: &[Key], browser: &mut Browser, pictures: &Pictures) {
    browser.width(WIDE);
    browser.go(&console(cluster, 1, ""));
    browser.text("#token");
    pictures.take(browser, "sign-in");
    sign_in(browser, cluster, 1, "fx_live_AAAAAAAAAAAA_nonsense");
    browser.text(".error");
    pictures.take(browser, "sign-in-refused");
    sign_in(browser, cluster, 1, OPERATOR);
    browser.wait_text("h1", |text| text.starts_with("API Keys"));
    browser.go(&console(cluster, 2, "cluster"));
    let points = "return (document.querySelector('[data-chart=admitted] path')\
        ?.getAttribute('d').split('L').length ?? 0)";
    let began = Instant::now();
    wait_until("the charts have their lines", BUSY * 2, || {
        let is_long = !pictures.stay() || began.elapsed() > BUSY;
        is_long && browser.script(points).as_u64().unwrap() >= 2
    });
    pictures.take(browser, "cluster");
    browser.go(&console(cluster, 1, "keys"));
    browser.wait_text(".used span", |text| text.contains(" / "));
    pictures.take(browser, "keys");
    browser.go(&console(cluster, 1, "keys?search=nothing-is-called-so"));
    browser.text(".empty h2");
    pictures.take(browser, "keys-none");
    browser.go(&console(cluster, 3, &format!("keys/{}", keys[0].id)));
    browser.text(".bars");
    pictures.take(browser, "key");
    browser.go(&console(cluster, 1, "audit"));
    browser.text(".audit tbody");
    pictures.take(browser, "audit");
    browser.go(&console(cluster, 1, "no/such/page"));
    browser.text(".empty h1");
    pictures.take(browser, "lost");
}

fn picture_changes(cluster: &Cluster, keys: &[Key], browser: &mut Browser, pictures: &Pictures) {
    browser.go(&console(cluster, 1, "keys/new"));
    browser.enter("#name", "Production Sync");
    browser.click("input[value=write]");
    browser.click("details.more summary");
    pictures.take(browser, "new");
    browser.click("form.card button.primary");
    browser.text("#key");
    pictures.take(browser, "key-shown");
    browser.click("[data-saved]");
    browser.click("[data-done] button");
    browser.wait_text("h1", |text| text == "Production Sync");
    for page in ["edit", "rotate", "revoke"] {
        browser.go(&console(cluster, 2, &format!("keys/{}/{page}", keys[3].id)));
        wait_until("the form is there", PAGE, || {
            browser.script("return !!document.querySelector('form.card')") == json!(true)
        });
        pictures.take(browser, page);
    }
    browser.enter("#confirm", "Development Testing");
    browser.click("form.card button.danger");
    browser.text(".receipt");
    pictures.take(browser, "revoked");
}
