//! Whole tasks in the browser, from the first page to the receipt.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::browser::{Browser, ENTER, TAB};
use super::{console, sign_in, signed_in};
use crate::support::cluster::{Cluster, OPERATOR};
use crate::support::keys::limit;
use crate::support::wait::roomy_period_s;
use crate::support::{Key, Request, wait_until};

fn validate(secret: &str) -> Request {
    Request::post("/v1/validate").bearer(secret)
}

/// Every file below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).map(|entries| entries.flatten().collect::<Vec<_>>());
    let of = |entry: std::fs::DirEntry| {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_dir { files(&entry.path()) } else { vec![entry.path()] }
    };
    entries.unwrap_or_default().into_iter().flat_map(of).collect()
}

/// Everything that a page and its browser store and a script can see.
const KEPT: &str = r#"
    const done = arguments[arguments.length - 1];
    (async () => {
      const kept = [location.href, document.cookie, JSON.stringify(history.state),
        JSON.stringify({ ...localStorage }), JSON.stringify({ ...sessionStorage })];
      for (const name of await caches.keys()) kept.push(name);
      for (const base of await indexedDB.databases()) kept.push(base.name);
      kept.push(document.documentElement.outerHTML);
      kept.push(...performance.getEntries().map((entry) => entry.name));
      done(kept.join("\n"));
    })();
"#;

#[track_caller]
fn assert_nowhere(browser: &Browser, secret: &str, when: &str) {
    let kept = browser.script_async(KEPT);
    assert!(!kept.as_str().unwrap().contains(secret), "{when}: the key is stored: {kept}");
}

#[test]
fn creating_a_key_takes_fewer_than_ten_steps_and_stores_the_key_nowhere() {
    let cluster = Cluster::start(3);
    let mut browser = Browser::start();
    // Counted from the sign-in on; typing the name is one step more.
    sign_in(&mut browser, &cluster, 1, OPERATOR);
    // Pasting and Enter.
    browser.steps += 1;
    browser.click(".head .primary");
    browser.press("Production Sync");
    browser.steps -= 1;
    browser.click("input[value=write]");
    browser.click("form.card button.primary");
    let shown = browser.text("#key");
    assert!(shown.starts_with("fx_live_") && shown.len() == 70, "{shown}");
    let secret = shown[21..].to_owned();

    let page = browser.source();
    assert!(page.contains("It won’t be shown again"), "{page}");
    let gateway = format!("http://{}", cluster.gateway(1));
    for header in ["Authorization: Bearer ", "X-API-Key: "] {
        let line = format!("curl -X POST \"{gateway}/v1/validate\" -H \"{header}{shown}\"");
        let of = |css| browser.text(css);
        assert!([of("#curl-bearer"), of("#curl-header")].contains(&line), "{line}");
    }
    // A reload would request the record, and create no second key.
    assert!(browser.address().contains("/console/keys/key_"), "{}", browser.address());
    let kept = "return [location.href, document.cookie, JSON.stringify({ ...localStorage }), \
        JSON.stringify({ ...sessionStorage }), JSON.stringify(history.state)].join()";
    assert!(!browser.script(kept).as_str().unwrap().contains(&secret));

    browser.click("[data-copy=key]");
    browser.wait_text("[data-copy=key]", |text| text == "Copied");
    browser.click("[data-done] button");
    browser.wait_text("h1", |text| text == "Production Sync");
    let steps = browser.steps;
    assert!(steps < 10, "{steps} steps");
    assert_eq!(steps, 7, "paste, Enter, Create API Key, scope, Create, Copy, Done");

    for node in cluster.ids() {
        let answer = validate(&shown).send(cluster.gateway(node)).expect(200);
        assert_eq!(answer.json()["name"], "Production Sync");
    }
    assert_nowhere(&browser, &secret, "after Done");
    browser.script("history.back()");
    browser.wait_text("h1", |text| !text.is_empty());
    assert_nowhere(&browser, &secret, "after going back");
    browser.assert_quiet(&[]);

    let profile = browser.close();
    let kept = files(profile.path());
    assert!(kept.len() > 20, "the profile is there to be searched");
    for file in kept.iter().chain(cluster.ids().iter().map(|id| &cluster.node(*id).log)) {
        let text = std::fs::read(file).unwrap_or_default();
        let found = text.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!found, "{} contains the key", file.display());
    }
}

#[test]
fn leaving_a_new_key_needs_a_confirmation_and_the_keyboard_suffices() {
    let cluster = Cluster::start(1);
    let mut browser = signed_in(&cluster, 1);
    browser.go(&console(&cluster, 1, "keys/new"));
    // Name, then the first scope, then Enter sends the form.
    browser.press(&format!("By keyboard{TAB} {ENTER}"));
    let shown = browser.text("#key");
    // Not before the reader confirms that the key is stored.
    browser.click("[data-done] button");
    assert_eq!(browser.text("#key"), shown);
    let asks = "const event = new Event('beforeunload', { cancelable: true }); \
        window.dispatchEvent(event); return event.defaultPrevented";
    assert_eq!(browser.script(asks), json!(true), "the browser asks before leaving");
    browser.click("[data-saved]");
    assert_eq!(
        browser.script(asks),
        json!(false),
        "the browser does not ask after the confirmation"
    );
    browser.click("[data-done] button");
    browser.wait_text("h1", |text| text == "By keyboard");
    // The skip link jumps over the navigation.
    browser.go(&console(&cluster, 1, "keys"));
    browser.script("document.body.focus()");
    browser.press(TAB);
    let first = "return document.activeElement.textContent";
    assert_eq!(browser.script(first), json!("Skip to content"));
    browser.assert_quiet(&[]);
}

#[test]
fn a_key_is_found_changed_rotated_and_revoked_through_different_nodes() {
    let cluster = Cluster::start(3);
    let limits = limit(50, roomy_period_s(60));
    let body =
        json!({"name": "Nightly import", "scope": "write", "owner": "user_42", "limits": limits});
    let key = cluster.create(1, &body);
    for at in 0..55 {
        let other = json!({"name": format!("Other {at:02}"), "scope": "read", "owner": "user_7"});
        cluster.create(1, &other);
    }
    for node in [1, 2, 3, 3, 3] {
        cluster.ask(node, &key.validate()).expect(200);
    }
    let mut browser = signed_in(&cluster, 1);
    // Fifty of 56 keys are on the first page.
    let rows = "return document.querySelectorAll('.keys tbody tr').length";
    assert_eq!(browser.script(rows), json!(50));
    browser.click("a[rel=next]");
    browser.wait_text(".pages", |text| text.contains("Newest"));
    assert_eq!(browser.script(rows), json!(6));
    browser.enter("#search", &format!("night{ENTER}"));
    browser.wait_text(".keys tbody tr", |text| text.contains("Nightly import"));
    assert_eq!(browser.script(rows), json!(1));
    assert!(browser.address().ends_with("?search=night"), "{}", browser.address());
    browser.wait_text(".used span", |text| text == "5 / 50");
    browser.wait_text("[data-last]", |text| text != "–");

    // If a whole key is pasted, only its prefix leaves the browser.
    browser.clear("#search");
    browser.enter("#search", &format!("{}{ENTER}", key.secret));
    wait_until("the key is found by its prefix", super::browser::PAGE, || {
        browser.address().ends_with(&key.secret[..20])
    });
    browser.wait_text(".keys tbody tr", |text| text.contains("Nightly import"));

    // The session continues at another node.
    browser.go(&console(&cluster, 2, &format!("keys/{}", key.id)));
    browser.wait_text(".usage .figure", |text| text.starts_with("5 of 50 in this window"));
    assert!(browser.text(".bars").is_empty());
    let spent =
        "return [...document.querySelectorAll('.nodes-spent .number')].map((n) => n.textContent)";
    assert_eq!(browser.script(spent), json!(["1", "1", "3"]));
    assert!(browser.text(".history").contains("key.create"));
    edit_and_switch(&mut browser, &cluster, &key);
    let rotated = rotate(&mut browser, &cluster, &key);
    revoke(&mut browser, &cluster, &key, &rotated);
    // The wrong name was typed on purpose.
    browser.assert_quiet(&["status of 400"]);
}

fn edit_and_switch(browser: &mut Browser, cluster: &Cluster, key: &Key) {
    browser.click("a[href$='/edit']");
    browser.clear("#name");
    browser.enter("#name", "Nightly import 2");
    browser.clear("#limit-tokens-1");
    browser.enter("#limit-tokens-1", "60");
    browser.click("form.card button.primary");
    let receipt = browser.text(".receipt");
    assert!(receipt.starts_with("Saved on nodes 1, 2 and 3 after"), "{receipt}");
    let record = cluster.admin(1, Request::get(&key.path())).expect(200).json();
    assert_eq!(
        (&record["name"], &record["limits"][0]["tokens"]),
        (&json!("Nightly import 2"), &json!(60))
    );
    assert_eq!((&record["owner"], &record["scope"]), (&json!("user_42"), &json!("write")));
    browser.click("form[action$='/disable'] button");
    browser.wait_text(".receipt", |text| text.starts_with("Disabled on nodes 1, 2 and 3"));
    for node in cluster.ids() {
        cluster.ask(node, &key.validate()).expect(401);
    }
    browser.click("form[action$='/enable'] button");
    browser.wait_text(".receipt", |text| text.starts_with("Enabled"));
    cluster.ask(3, &key.validate()).expect(200);
}

fn rotate(browser: &mut Browser, cluster: &Cluster, key: &Key) -> String {
    browser.click("a[href$='/rotate']");
    browser.click("input[value='3600s']");
    browser.click("form.card button.primary");
    let rotated = browser.text("#key");
    assert_ne!(rotated, key.secret);
    assert!(browser.source().contains("stays valid for one hour"));
    cluster.ask(1, &key.validate()).expect(200);
    cluster.ask(2, &validate(&rotated)).expect(200);
    browser.click("[data-saved]");
    browser.click("[data-done] button");
    browser.wait_text("h1", |text| text == "Nightly import 2");
    rotated
}

fn revoke(browser: &mut Browser, cluster: &Cluster, key: &Key, rotated: &str) {
    browser.go(&console(cluster, 3, &format!("keys/{}/revoke", key.id)));
    let disabled = "return document.querySelector('form.card button').disabled";
    assert_eq!(browser.script(disabled), json!(true), "before the name is typed");
    browser.enter("#confirm", "Nightly");
    assert_eq!(browser.script(disabled), json!(true), "with half of it");
    // Without the script's guard, the server's guard rejects.
    browser.script("document.querySelector('form.card').submit()");
    browser.wait_text(".error", |text| text.contains("not the key’s name"));
    cluster.ask(1, &validate(rotated)).expect(200);
    browser.enter("#confirm", "Nightly import 2");
    browser.click("form.card button.danger");
    let receipt = browser.text(".receipt");
    let revoked = "Nightly import 2 is revoked on nodes 1, 2 and 3 after ";
    assert!(receipt.starts_with(revoked) && receipt.ends_with(" ms."), "{receipt}");
    for node in cluster.ids() {
        cluster.ask(node, &validate(rotated)).expect(401);
        cluster.ask(node, &key.validate()).expect(401);
    }
    browser.go(&console(cluster, 1, &format!("keys/{}", key.id)));
    assert!(browser.text(".facts").contains("Permanently rejected"));
    let history = browser.text(".history");
    for action in ["key.create", "key.update", "key.rotate", "key.revoke"] {
        assert!(history.contains(action), "{action}: {history}");
    }
}

#[test]
fn the_cluster_page_is_live_and_explains_a_loss() {
    let mut cluster = Cluster::start(3);
    let key = cluster.limited_key(5, roomy_period_s(60));
    let mut browser = signed_in(&cluster, 1);
    browser.click("a[href='/console/cluster']");
    browser.wait_text("[data-live-state]", |text| text.ends_with("live"));
    browser.wait_text(".nodes", |text| text.contains("leader") && text.contains("follower"));
    assert!(browser.text(".banner").contains("All 3 nodes answer callers"));
    for node in [1, 2, 3] {
        (0..4).for_each(|_| drop(cluster.ask(node, &key.validate())));
        cluster.ask(node, &validate("nonsense")).expect(401);
    }
    let sums = "const sum = (label) => [...document.querySelectorAll(`.nodes td[data-label=${label}]`)]\
        .reduce((sum, cell) => sum + Number(cell.textContent), 0); \
        return ['Admitted', 'Limited', 'Refused'].map(sum)";
    wait_until("the totals are shown", super::browser::PAGE, || {
        browser.script(sums) == json!([5, 7, 3])
    });
    browser.wait_text("[data-rate=limited]", |text| text != "–");
    let lines = "return document.querySelectorAll('[data-chart=admitted] path').length";
    wait_until("a line for each node is drawn", super::browser::PAGE, || {
        browser.script(lines) == json!(3)
    });
    cluster.node_mut(3).kill();
    browser.wait_text(".banner.degraded", |text| {
        text.contains("Node 3 does not answer node 1.")
            && text.contains("Requests are still answered by nodes 1 and 2.")
    });
    // Every page shows it, with a link.
    browser.go(&console(&cluster, 1, "keys"));
    browser.wait_text(".banner.degraded a", |text| text == "See the cluster");
    cluster.restart(3);
    browser.go(&console(&cluster, 1, "cluster"));
    browser.wait_text("[data-live] .banner", |text| text.contains("All 3 nodes"));
    browser.assert_quiet(&[]);
}

#[test]
fn the_audit_trail_is_filtered_paged_and_exported() {
    let cluster = Cluster::start(3);
    let key = cluster.create(1, &json!({"name": "=1+1", "scope": "read"}));
    for at in 0..60 {
        let change = json!({"name": format!("Name {at}")});
        cluster.admin(2, Request::new("PATCH", &key.path()).json(&change)).expect(200);
    }
    let mut browser = signed_in(&cluster, 3);
    browser.click("a[href='/console/audit']");
    let rows = "return document.querySelectorAll('.audit tbody tr').length";
    wait_until("a page of entries", super::browser::PAGE, || browser.script(rows) == json!(50));
    browser.click("a[rel=next]");
    browser.wait_text(".pages", |text| text.contains("Newest"));
    browser.click("#action option[value='key.create'], #action option:nth-child(2)");
    browser.click(".filters button");
    browser.wait_text(".audit tbody", |text| !text.contains("key.update"));
    assert_eq!(browser.script(rows), json!(1));
    // A time in the reader's zone is sent as UTC; no entry is that old.
    browser.go(&console(&cluster, 3, "audit?until=2020-01-01T00%3A00"));
    browser.wait_text(".empty h2", |text| text == "No matching entry");

    let fetch = |path: &str| {
        let text = format!(
            "const done = arguments[arguments.length - 1]; fetch('/console/audit/export?{path}')\
             .then(async (a) => done([a.headers.get('content-disposition'), await a.text()]))"
        );
        let answer = browser.script_async(&text);
        let part = |at: usize| answer[at].as_str().unwrap_or_default().to_owned();
        (part(0), part(1))
    };
    let (named, csv) = fetch("format=csv&action=key.update");
    assert!(named.contains("fluxgate-audit.csv"), "{named}");
    assert_eq!(csv.lines().count(), 61, "a header line and every entry, over all pages");
    assert!(csv.starts_with("seq,at,action,key_id,actor,from,details\r\n"), "{csv:.100}");
    let formula = [",=", ",\"=", "\n="].into_iter().find(|start| csv.contains(start));
    assert_eq!(formula, None, "no cell is a formula: {csv}");
    let (_, lines) = fetch(&format!("format=jsonl&key={}", key.id));
    let entries: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(entries.len(), 61);
    assert!(entries.iter().all(|entry| entry["key_id"] == key.id.as_str()));
    browser.assert_quiet(&[]);
}

#[test]
fn an_admin_key_sees_its_owners_keys_until_it_is_revoked() {
    let cluster = Cluster::start(3);
    let admin =
        cluster.create(1, &json!({"name": "Team tools", "scope": "admin", "owner": "blue"}));
    cluster.create(1, &json!({"name": "Ours", "scope": "read", "owner": "blue"}));
    let other = cluster.create(1, &json!({"name": "Theirs", "scope": "read", "owner": "red"}));
    let mut browser = Browser::start();
    sign_in(&mut browser, &cluster, 1, &admin.secret);
    let keys = browser.wait_text(".keys tbody", |text| text.contains("Ours"));
    assert!(!keys.contains("Theirs"), "{keys}");
    assert!(browser.text(".who").contains("Team tools"));
    browser.go(&console(&cluster, 2, &format!("keys/{}", other.id)));
    browser.wait_text("h1", |text| text == "No such key");
    browser.go(&console(&cluster, 2, "cluster"));
    browser.wait_text("h1", |text| text.contains("operator’s"));
    browser.go(&console(&cluster, 3, "audit"));
    let audit = browser.text(".audit tbody");
    assert!(!audit.contains(&other.id), "{audit}");
    browser.click(".side a[href='/console/keys']");
    browser.click(".head .primary");
    browser.press(&format!("Made by it{TAB} {ENTER}"));
    let made = browser.text("#key");
    let answer = cluster.ask(2, &validate(&made)).expect(200).json();
    assert_eq!(answer["owner"], "blue");
    browser.click("[data-saved]");
    browser.click("[data-done] button");
    browser.wait_text("h1", |text| text == "Made by it");
    // The key is revoked through node 1; its session ends at node 3.
    cluster.admin(1, Request::new("DELETE", &admin.path())).expect(200);
    browser.go(&console(&cluster, 3, "keys"));
    browser.wait_text(".note", |text| text.contains("The session has ended"));
    sign_in(&mut browser, &cluster, 2, &admin.secret);
    browser.wait_text(".error", |text| text.contains("neither the operator token"));
    // These pages were rejected on purpose.
    browser.assert_quiet(&["status of 404", "status of 403", "status of 401"]);
}
