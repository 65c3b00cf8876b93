//! The console in a real Chromium, on a cluster of three real nodes.
//!
//! Answers for: everything that a person does in the browser works through every node; the key is
//! stored nowhere after its page; the browser contacts no other host; the pages work without
//! scripts and with any color scheme; and only administrators get in.

mod browser;
mod edges;
mod flows;
mod forms;
mod looks;
mod paint;
mod pictures;
mod secure;

use crate::support::cluster::{Cluster, OPERATOR};
use browser::{Browser, ENTER};

/// The URL of a node's console.
fn console(cluster: &Cluster, node: u64, path: &str) -> String {
    format!("http://{}/console/{path}", cluster.node(node).at.admin)
}

/// A page for the operator from a node, which may be one that answers nothing else.
#[track_caller]
pub(crate) fn operators_page(cluster: &Cluster, node: u64, path: &str) -> String {
    let operator = forms::Visitor::sign_in(cluster, node, OPERATOR);
    operator.get(node, path).expect(200).text()
}

/// A browser at a node, signed in as the operator.
#[track_caller]
fn signed_in(cluster: &Cluster, node: u64) -> Browser {
    let mut browser = Browser::start();
    sign_in(&mut browser, cluster, node, OPERATOR);
    browser.wait_text("h1", |text| text.starts_with("API Keys"));
    browser
}

#[track_caller]
fn sign_in(browser: &mut Browser, cluster: &Cluster, node: u64, token: &str) {
    browser.go(&console(cluster, node, ""));
    browser.enter("#token", &format!("{token}{ENTER}"));
}
