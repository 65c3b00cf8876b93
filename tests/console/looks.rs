//! Accessibility and size of pages: axe's rules, screen widths, weights.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::browser::Browser;
use super::{console, signed_in};
use crate::support::Request;
use crate::support::cluster::Cluster;

/// The largest transfer size of a page with all its files, bytes.
const WEIGHT_MAX: u64 = 150_000;
/// From a narrow phone to a wide screen, with the layout's own breakpoints.
const WIDTHS: [u32; 9] = [320, 390, 800, 820, 910, 1_024, 1_180, 1_280, 1_920];

/// The checker's script, in the folder that scripts/setup-tests.sh creates.
fn axe() -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let lib = target.unwrap_or_else(|| root.join("target")).join("tools/lib");
    let versions = std::fs::read_dir(&lib).unwrap_or_else(|e| panic!("{}: {e}", lib.display()));
    let script = "site-packages/axe_playwright_python/axe.min.js";
    let found = versions.flatten().map(|version| version.path().join(script));
    let script = found.into_iter().find(|path| path.is_file());
    std::fs::read_to_string(script.expect("scripts/setup-tests.sh installs axe")).unwrap()
}

/// Runs the checker; returns all findings that it calls serious or worse.
fn findings(browser: &Browser, axe: &str) -> Vec<String> {
    // Injected by the driver, so the pages' own policy stays as it is.
    browser.script(axe);
    let run = "const done = arguments[arguments.length - 1]; \
        axe.run(document, { resultTypes: ['violations'] }).then((r) => done(r.violations))";
    let violations = browser.script_async(run);
    let severe = |found: &&Value| matches!(found["impact"].as_str(), Some("serious" | "critical"));
    let words = |found: &Value| {
        let nodes = found["nodes"].as_array().unwrap().iter();
        let nodes: Vec<String> =
            nodes.map(|node| format!("{} {}", node["html"], node["failureSummary"])).collect();
        format!("{}: {}\n  {}", found["id"], found["help"], nodes.join("\n  "))
    };
    violations.as_array().unwrap().iter().filter(severe).map(words).collect()
}

/// Every page with a URL of its own.
fn pages(cluster: &Cluster) -> Vec<String> {
    let key = cluster
        .create(1, &json!({"name": "Production Sync", "scope": "write", "owner": "user_42"}));
    // As wide as possible: long names, and entries that were created by a key.
    let wide = "W".repeat(100);
    cluster.create(1, &json!({"name": wide, "scope": "read", "owner": wide}));
    let admin = cluster.create(1, &json!({"name": "Terraform", "scope": "admin", "owner": "ops"}));
    let made = json!({"name": "Made by a key", "scope": "read"});
    Request::post("/v1/keys")
        .bearer(&admin.secret)
        .json(&made)
        .send(cluster.node(1).at.admin)
        .expect(201);
    let revoked = cluster.create(
        1,
        &json!({"name": "Gone", "scope": "admin", "expires_at": "2099-01-01T00:00:00Z"}),
    );
    cluster.admin(1, Request::new("DELETE", &revoked.path())).expect(200);
    for node in [1, 1, 2, 3] {
        cluster.ask(node, &key.validate()).expect(200);
    }
    let mut pages: Vec<String> =
        ["keys", "keys?search=nothing-is-called-so", "keys/new", "audit", "cluster", "lost"]
            .map(str::to_owned)
            .to_vec();
    for part in ["", "/edit", "/rotate", "/revoke"] {
        pages.push(format!("keys/{}{part}", key.id));
    }
    pages.push(format!("keys/{}", revoked.id));
    pages.push(format!("keys/{}/erase", revoked.id));
    pages
}

#[test]
fn pages_are_accessible_in_light_and_dark_and_fit_every_width() {
    let cluster = Cluster::start(3);
    let axe = axe();
    let pages = pages(&cluster);
    let browser = Browser::start();
    let mut found = Vec::new();
    let check = |browser: &Browser, page: &str, found: &mut Vec<String>| {
        for scheme in ["light", "dark"] {
            browser.prefer(scheme);
            let new = findings(browser, &axe);
            found.extend(new.into_iter().map(|line| format!("{page}, {scheme}: {line}")));
        }
        for width in WIDTHS {
            browser.width(width);
            let wide = browser.script("return document.documentElement.scrollWidth");
            if wide.as_u64().unwrap() > u64::from(width) {
                found.push(format!("{page}: {wide} wide on a screen of {width}"));
            }
            if width == WIDTHS[1] {
                found.extend(
                    findings(browser, &axe).into_iter().map(|l| format!("{page}, phone: {l}")),
                );
            }
        }
        browser.devtools("Emulation.clearDeviceMetricsOverride", &json!({}));
    };
    browser.go(&console(&cluster, 1, "sign-in"));
    check(&browser, "sign-in", &mut found);
    drop(browser);
    let mut browser = signed_in(&cluster, 1);
    for page in &pages {
        browser.go(&console(&cluster, 1, page));
        check(&browser, page, &mut found);
    }
    browser.go(&console(&cluster, 1, "keys/new"));
    browser.enter("#name", "Looked at");
    browser.click("input[value=admin]");
    browser.click("form.card button.primary");
    browser.text("#key");
    check(&browser, "the key", &mut found);
    assert!(found.is_empty(), "\n{}", found.join("\n"));
    browser.assert_quiet(&["status of 404"]);
}

#[test]
fn pages_are_small_and_contact_no_other_host() {
    let cluster = Cluster::start(3);
    let pages = pages(&cluster);
    for at in 0..50 {
        cluster.create(1, &json!({"name": format!("A key with quite a long name, number {at}"), "scope": "read", "owner": "user_42"}));
    }
    let browser = signed_in(&cluster, 2);
    let origin = format!("http://{}/", cluster.node(2).at.admin);
    browser.devtools("Network.setCacheDisabled", &json!({"cacheDisabled": true}));
    for page in &pages {
        browser.go(&console(&cluster, 2, page));
        let asked = browser.script(
            "return [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]\
             .map((entry) => [entry.name, entry.transferSize])",
        );
        let asked = asked.as_array().unwrap().clone();
        let sizes = asked.iter().map(|entry| entry[1].as_u64().unwrap_or(0));
        let weight: u64 = sizes.sum();
        assert!(asked.len() >= 4, "the page and its files: {asked:?}");
        assert!(weight < WEIGHT_MAX, "{page} weighs {weight} bytes: {asked:?}");
        for entry in &asked {
            let name = entry[0].as_str().unwrap();
            assert!(name.starts_with(&origin), "{page} asked {name}");
        }
    }
    browser.assert_quiet(&["status of 404"]);
}
