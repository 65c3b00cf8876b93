//! The console in a real Chromium, on a cluster of three real nodes.
//!
//! Answers for: what a person does in the browser works through every node, the key is nowhere once
//! it is no longer shown, no other host is asked, nobody is kept out by a script or a colour, and
//! nobody gets in who should not.

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

/// Where a node's console is.
fn console(cluster: &Cluster, node: u64, path: &str) -> String {
    format!("http://{}/console/{path}", cluster.node(node).at.admin)
}

/// A page as the operator gets it from a node, which may be one that answers nothing else.
#[track_caller]
pub(crate) fn operators_page(cluster: &Cluster, node: u64, path: &str) -> String {
    let operator = forms::Visitor::sign_in(cluster, node, OPERATOR);
    operator.get(node, path).expect(200).text()
}

/// A browser that is signed in as the operator, at a node.
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
