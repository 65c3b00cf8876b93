//! A Prometheus process with our files, adapted to this test's ports and to shorter times, and its
//! HTTP API.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::cluster::Cluster;
use crate::support::ports::Port;
use crate::support::{Request, wait_until};

/// Longest start on a busy machine.
const START: Duration = Duration::from_secs(30);
/// Divisor of every `for:` in the test: 30 s, after which most alerts are critical, become 1 s.
pub(super) const SCALE: u32 = 30;

/// The text of a file in `config/`.
pub(super) fn read_config(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The configuration with the admin listeners of these nodes instead of the demo's, and a round of
/// one second instead of fifteen.
fn moved(text: &str, cluster: &Cluster) -> String {
    let replace = |text: String, (from, to): (String, String)| {
        assert_eq!(text.matches(&from).count(), 1, "`{from}` does not occur once");
        text.replace(&from, &to)
    };
    let targets = cluster.ids().into_iter().map(|id| {
        (format!("- 127.0.0.1:{}\n", 7200 + id), format!("- {}\n", cluster.node(id).at.admin))
    });
    let paces =
        [("scrape_interval", "15s"), ("scrape_timeout", "10s"), ("evaluation_interval", "15s")];
    let paces = paces.map(|(name, pace)| (format!(" {name}: {pace}\n"), format!(" {name}: 1s\n")));
    targets.chain(paces).fold(text.to_owned(), replace)
}

/// The rules with every `for:` divided by [`SCALE`]; at least a second.
fn quickened(text: &str) -> String {
    let line = |line: &str| match line.split_once("for: ") {
        Some((before, time)) if before.trim().is_empty() => {
            let (number, unit) = time.split_at(time.len() - 1);
            let unit_s = match unit {
                "s" => 1,
                "m" => 60,
                "h" => 3_600,
                other => panic!("`{other}` in `{line}` is not a unit"),
            };
            let seconds = (number.parse::<u32>().unwrap() * unit_s / SCALE).max(1);
            format!("{before}for: {seconds}s\n")
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

#[derive(Debug)]
pub(super) struct Prometheus {
    child: Child,
    port: Port,
    dir: TempDir,
}

impl Prometheus {
    pub(super) fn start(cluster: &Cluster) -> Self {
        let dir = TempDir::with_prefix("fluxgate-prometheus-").unwrap();
        let write = |name: &str, text: String| fs::write(dir.path().join(name), text).unwrap();
        fs::create_dir(dir.path().join("prometheus")).unwrap();
        write("prometheus.yml", moved(&read_config("prometheus.yml"), cluster));
        for name in ["prometheus/recording.yml", "prometheus/alerts.yml"] {
            write(name, quickened(&read_config(name)));
        }
        let port = Port::claim();
        let log = File::create(dir.path().join("log")).unwrap();
        let child = Command::new("prometheus")
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"])
            .arg(format!("--web.listen-address={}", port.addr()))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("prometheus does not start ({error}): run scripts/setup-tests.sh")
        });
        let mut prometheus = Self { child, port, dir };
        wait_until("Prometheus is ready", START, || {
            if let Some(status) = prometheus.child.try_wait().unwrap() {
                panic!("prometheus has ended: {status}\n{}", prometheus.log());
            }
            let ready = Request::get("/-/ready").try_send(prometheus.port.addr());
            ready.is_ok_and(|answer| answer.status == 200)
        });
        prometheus
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// `data` of a successful answer.
    #[track_caller]
    fn data(&self, request: &Request) -> Value {
        let answer = request.send(self.port.addr());
        let mut json = answer.json();
        assert_eq!(json["status"], "success", "{request:?}: {answer}");
        json["data"].take()
    }

    /// The labels and values of a query at this moment, without values that are no numbers.
    #[track_caller]
    pub(super) fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let bytes = query.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let form = "application/x-www-form-urlencoded";
        let request = Request::post("/api/v1/query").header("content-type", form);
        let data = self.data(&request.body(format!("query={bytes}")));
        assert_eq!(data["resultType"], "vector", "{query}");
        let found = data["result"].as_array().unwrap().iter().map(|series| {
            let value: f64 = series["value"][1].as_str().unwrap().parse().unwrap();
            (series["metric"].clone(), value)
        });
        found.filter(|(_, value)| !value.is_nan()).collect()
    }

    /// The number of nodes that Prometheus scrapes successfully.
    #[track_caller]
    pub(super) fn targets_up(&self) -> usize {
        let data = self.data(&Request::get("/api/v1/targets"));
        let targets = data["activeTargets"].as_array().unwrap();
        targets.iter().filter(|target| target["health"] == "up").count()
    }

    fn raw_rules(&self) -> Vec<Value> {
        let data = self.data(&Request::get("/api/v1/rules"));
        let groups = data["groups"].as_array().unwrap();
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }

    /// Name and query of every rule.
    pub(super) fn rules(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let rules = self.raw_rules();
        rules.iter().map(|rule| (text(&rule["name"]), text(&rule["query"]))).collect()
    }

    /// Whether every rule was evaluated. A rule that cannot be evaluated fails the test.
    #[track_caller]
    pub(super) fn rules_are_well(&self) -> bool {
        let rules = self.raw_rules();
        for rule in &rules {
            assert!(rule["health"] != "err", "{}: {}", rule["name"], rule["lastError"]);
        }
        rules.iter().all(|rule| rule["health"] == "ok")
    }

    /// The labels of an alert's firing instances.
    #[track_caller]
    pub(super) fn firing(&self, name: &str) -> Vec<Value> {
        let data = self.data(&Request::get("/api/v1/alerts"));
        let alerts = data["alerts"].as_array().unwrap().iter();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        let labels = firing.map(|alert| alert["labels"].clone());
        labels.filter(|labels| labels["alertname"] == name).collect()
    }

    /// The alerts that fired at any time in the last `seconds`.
    #[track_caller]
    pub(super) fn fired_within(&self, seconds: u32) -> BTreeSet<String> {
        let fired = format!(
            r#"count by (alertname) (count_over_time(ALERTS{{alertstate="firing"}}[{seconds}s]))"#
        );
        let names = self.query(&fired).into_iter();
        names.map(|(labels, _)| labels["alertname"].as_str().unwrap().to_owned()).collect()
    }

    /// Saves Prometheus' pages of targets and alerts for a person, in the folder that
    /// `FLUXGATE_TEST_SAVE` names.
    pub(super) fn save(&self, moment: &str) {
        let Some(folder) = std::env::var_os("FLUXGATE_TEST_SAVE") else { return };
        for page in ["targets", "alerts"] {
            let answer = Request::get(&format!("/api/v1/{page}")).send(self.port.addr());
            let path = Path::new(&folder).join(format!("{moment}-{page}.json"));
            fs::write(path, answer.body).unwrap();
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- the log of Prometheus\n{}", self.log());
        }
    }
}

#[test]
fn only_waits_become_shorter() {
    let rules = "      - alert: A\n        expr: a for: 5m\n        for: 5m\n        for: 15s\n";
    let quick = "      - alert: A\n        expr: a for: 5m\n        for: 10s\n        for: 1s\n";
    assert_eq!(quickened(rules), quick);
}
