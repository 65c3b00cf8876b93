//! The console over TLS: the browser sends the session only over TLS.

use serde_json::json;

use super::browser::{Browser, ENTER};
use crate::support::certs::Certs;
use crate::support::cluster::{Cluster, OPERATOR};

#[test]
fn under_tls_the_session_cookie_is_secure_and_hidden_from_scripts() {
    let mut cluster = Cluster::plan(3, |_| {});
    let certs = Certs::make(cluster.dir(), "certs", &[]);
    for id in cluster.ids() {
        let setting = certs.setting(id, None, false);
        cluster.node_mut(id).settings.set("admin", "tls", setting);
        cluster.node_mut(id).spawn();
    }
    cluster.wait_ready();
    let at = |node: u64| format!("https://{}/console/", cluster.node(node).at.admin);
    let mut browser = Browser::start();
    browser.go(&at(1));
    browser.enter("#token", &format!("{OPERATOR}{ENTER}"));
    browser.wait_text("h1", |text| text.starts_with("API Keys"));
    let cookies = browser.devtools("Network.getCookies", &json!({"urls": [at(1)]}));
    let cookies = cookies["cookies"].as_array().unwrap();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    let cookie = &cookies[0];
    assert_eq!(cookie["name"], "__Secure-fluxgate_session");
    assert_eq!((&cookie["secure"], &cookie["httpOnly"]), (&json!(true), &json!(true)), "{cookie}");
    assert_eq!((&cookie["sameSite"], &cookie["path"]), (&json!("Strict"), &json!("/console/")));
    assert_eq!(browser.script("return document.cookie"), json!(""));
    // Sends a form; the page's scheme is https, which the listener's configuration does not name.
    browser.click(".head .primary");
    browser.enter("#name", "Over TLS");
    browser.click("input[value=read]");
    browser.click("form.card button.primary");
    assert!(browser.text("#key").starts_with("fx_live_"));
    browser.click("[data-saved]");
    browser.click("[data-done] button");
    // The same session at another node: cookies do not know ports.
    browser.go(&format!("{}keys", at(2)));
    browser.wait_text(".keys tbody", |text| text.contains("Over TLS"));
    browser.assert_quiet(&[]);
}
