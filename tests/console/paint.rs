//! How soon pages are painted.
//!
//! As a test: every page is painted and reports when. As a benchmark, by
//! `scripts/bench/console.sh`: how soon, on a cluster that the script has filled. A slow page does
//! not fail here.

use fluxgate_types::caps;
use serde_json::json;

use super::browser::{Browser, ENTER};
use crate::support::cluster::{Cluster, OPERATOR};

/// The URL of the benchmark's cluster, and its operator token.
const AT: &str = "FLUXGATE_CONSOLE_AT";
const TOKEN: &str = "FLUXGATE_TOKEN";
/// How often each page is loaded.
const LOADS: usize = 9;

/// A page's first paint and its first byte, milliseconds after the request, and its weight.
const TIMES: &str = "const [page] = performance.getEntriesByType('navigation'); \
    const [paint] = performance.getEntriesByName('first-contentful-paint'); \
    const files = performance.getEntriesByType('resource'); \
    return paint && [paint.startTime, page.responseEnd - page.requestStart, \
        [page, ...files].reduce((sum, entry) => sum + entry.transferSize, 0)]";

/// Loads a page with an empty cache, and returns the result of `TIMES`.
#[track_caller]
fn load(browser: &Browser, address: &str) -> [f64; 3] {
    browser.go(address);
    crate::support::wait_for("the page is painted", super::browser::PAGE, || {
        let times = browser.script(TIMES);
        Some([times[0].as_f64()?, times[1].as_f64()?, times[2].as_f64()?])
    })
}

#[test]
fn every_page_reports_when_it_is_painted() {
    let (own, at, token) = match std::env::var(AT) {
        Ok(at) => (None, at, std::env::var(TOKEN).expect("the operator token")),
        Err(_) => {
            let cluster = Cluster::start(1);
            for at in 0..caps::LIST_PAGE_DEFAULT + 10 {
                let owner = format!("user_{}", at % 7);
                let key = json!({"name": format!("moved {at}"), "scope": "read", "owner": owner});
                cluster.create(1, &key);
            }
            let at = format!("http://{}", cluster.node(1).at.admin);
            (Some(cluster), at, OPERATOR.to_owned())
        }
    };
    let mut browser = Browser::start();
    browser.go(&format!("{at}/console/"));
    browser.enter("#token", &format!("{token}{ENTER}"));
    browser.wait_text("h1", |text| text.starts_with("API Keys"));
    let link = "return document.querySelector('.keys tbody a').pathname";
    let key = browser.script(link).as_str().unwrap().to_owned();
    let rows = "return document.querySelectorAll('tbody tr').length";
    browser.devtools("Network.setCacheDisabled", &json!({"cacheDisabled": true}));
    println!(
        "page                                     first paint, ms      node's answer, ms   kB"
    );
    println!("                                       median     worst      median     worst");
    for page in [
        "/console/keys",
        "/console/keys?owner=user_5",
        "/console/keys?search=moved+1",
        "/console/keys?search=no-key-is-called-so",
        "/console/keys?status=revoked",
        "/console/keys/new",
        &key,
        "/console/audit",
        "/console/cluster",
    ] {
        let mut loads: Vec<_> =
            (0..LOADS).map(|_| load(&browser, &format!("{at}{page}"))).collect();
        loads.sort_by(|a, b| a[0].total_cmp(&b[0]));
        let [paint, _, weight] = loads[LOADS / 2];
        let worst = loads[LOADS - 1][0];
        loads.sort_by(|a, b| a[1].total_cmp(&b[1]));
        let (answer, slowest) = (loads[LOADS / 2][1], loads[LOADS - 1][1]);
        println!(
            "{page:<36}{paint:>9.0}{worst:>10.0}{answer:>12.1}{slowest:>10.1}{:>10.1}",
            weight / 1_000.0
        );
        assert!(paint > 0.0 && weight > 0.0, "{page}");
        if page == "/console/keys" {
            assert_eq!(browser.script(rows), json!(caps::LIST_PAGE_DEFAULT), "a page is full");
        }
    }
    drop(own);
}
