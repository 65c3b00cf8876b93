//! Traces and logs as a collector and a log store see them: the trace of the incoming request,
//! sampling, and that an unreachable collector costs requests nothing.

use std::io::{BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::cluster::{Cluster, operator};
use crate::support::ports::Port;
use crate::support::wait::roomy_period_s;
use crate::support::{Request, wait_for};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The header of a gateway that takes part in this trace, and samples it or does not.
fn traced(request: Request, sampled: bool) -> Request {
    let flags = if sampled { "01" } else { "00" };
    request.header("traceparent", &format!("00-{TRACE}-00f067aa0ba902b7-{flags}"))
}

/// A collector that stores what it receives.
struct Collector {
    port: Port,
    bodies: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    fn start() -> Self {
        let port = Port::claim();
        let listener = TcpListener::bind(port.addr()).unwrap();
        let bodies: Arc<Mutex<Vec<u8>>> = Arc::default();
        let kept = Arc::clone(&bodies);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream);
                    while let Some(length) = head(&mut reader) {
                        let mut body = vec![0; length];
                        if reader.read_exact(&mut body).is_err() {
                            return;
                        }
                        kept.lock().unwrap().extend(body);
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                        reader.get_mut().write_all(answer).unwrap();
                    }
                });
            }
        });
        Self { port, bodies }
    }

    /// How often these bytes occur in the recorded bodies.
    fn count(&self, part: &[u8]) -> usize {
        self.bodies.lock().unwrap().windows(part.len()).filter(|window| *window == part).count()
    }
}

/// Reads the head of a request; returns the length of the body that follows.
fn head(reader: &mut impl std::io::BufRead) -> Option<usize> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim().to_lowercase();
        if line.is_empty() {
            return Some(length);
        }
        if let Some(text) = line.strip_prefix("content-length:") {
            length = text.trim().parse().ok()?;
        }
    }
}

fn trace_bytes() -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&TRACE[2 * at..2 * at + 2], 16).unwrap();
    (0..16).map(digits).collect()
}

#[test]
fn a_log_line_names_the_trace_of_its_request() {
    let cluster = Cluster::start_with(1, |settings| {
        settings.text("telemetry", "log_format", "json").text("telemetry", "log", "debug");
    });
    let at = cluster.node(1).at.admin;
    traced(operator(Request::get("/v1/keys")), true).send(at).expect(200);
    let line = wait_for("the line is there", Duration::from_secs(10), || {
        let log = cluster.node(1).log_text();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| {
            line["fields"]["message"] == "answered" && line["span"]["http.route"] == "/v1/keys"
        })
    });
    assert_eq!(line["span"]["trace_id"], TRACE, "{line}");
    // Each line is JSON, and one without a trace names none.
    operator(Request::get("/v1/audit")).send(at).expect(200);
    let log = cluster.node(1).log_text();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let other = line["span"]["http.route"] == "/v1/audit";
        assert!(!other || line["span"].get("trace_id").is_none(), "{line}");
    }
}

#[test]
fn a_gateways_sampling_decision_comes_before_the_ratio() {
    let collector = Collector::start();
    let endpoint = format!("http://{}", collector.port.addr());
    let mut cluster = Cluster::start_with(1, |settings| {
        settings.text("telemetry", "otlp_endpoint", &endpoint);
        settings.set("telemetry", "trace_sample_ratio", "0.0");
    });
    let key = cluster.limited_key(1_000_000, roomy_period_s(60));
    for _ in 0..20 {
        cluster.ask(1, &key.validate()).expect(200);
        cluster.ask(1, &traced(key.validate(), false)).expect(200);
    }
    for _ in 0..7 {
        cluster.ask(1, &traced(key.validate(), true)).expect(200);
    }
    // Queued spans are sent when the node stops.
    cluster.node_mut(1).stop();
    assert_eq!(collector.count(&trace_bytes()), 7, "exactly the sampled ones");
    assert_eq!(collector.count(b"POST /v1/validate"), 2 * 7, "the name and the route of each");
    assert_eq!(collector.count(key.secret.as_bytes()), 0);
}

#[test]
fn a_write_is_one_trace_over_the_entry_node_and_the_leader() {
    let collector = Collector::start();
    let mut cluster = Cluster::start_with(3, |settings| {
        settings.text("telemetry", "otlp_endpoint", format!("http://{}", collector.port.addr()));
        settings.set("telemetry", "trace_sample_ratio", "0.0");
    });
    let follower = cluster.others(cluster.leader())[0];
    let body = serde_json::json!({"name": "traced", "scope": "read"});
    let create = operator(Request::post("/v1/keys").json(&body));
    traced(create, true).send(cluster.node(follower).at.admin).expect(201);
    for id in cluster.ids() {
        cluster.node_mut(id).stop();
    }
    // The call at the follower, the one that forwards it, and no other: heartbeats and gossip
    // belong to no request.
    assert_eq!(collector.count(b"/v1/keys"), 2, "the name and the route");
    assert_eq!(collector.count(b"propose"), 2, "the name and the call");
    assert_eq!(collector.count(&trace_bytes()), 2);
    assert_eq!(collector.count(b"append"), 0);
}

#[test]
fn an_unreachable_collector_costs_requests_nothing() {
    // One rejects connections, one accepts them and never answers.
    let (closed, silent) = (Port::claim(), Port::claim());
    let listener = TcpListener::bind(silent.addr()).unwrap();
    for endpoint in [closed.addr(), silent.addr()] {
        let mut cluster = Cluster::start_with(1, |settings| {
            settings.text("telemetry", "otlp_endpoint", format!("http://{endpoint}"));
            settings.set("telemetry", "trace_sample_ratio", "1.0");
        });
        let key = cluster.limited_key(1_000_000, roomy_period_s(60));
        // More spans than the queue holds.
        let mut slowest = Duration::ZERO;
        for _ in 0..6_000 {
            let began = Instant::now();
            cluster.ask(1, &key.validate()).expect(200);
            slowest = slowest.max(began.elapsed());
        }
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
        cluster.node_mut(1).stop();
    }
    drop(listener);
}
