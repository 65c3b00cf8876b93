//! The binary as scripts see it: exit codes, and which output goes where.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use crate::support::binary::binary;

const ADMITTED: &str = r#"{"valid":true,"key_id":"key_Qm2xK9dA3f01","name":"a","owner":null,"scope":"read","limit":100,"remaining":99,"reset":1705747200}"#;
const CREATED: &str = r#"{"key":"fx_live_secret","id":"key_Qm2xK9dA3f01","name":"a","prefix":"fx_live_Qm2xK9dA3f01","scope":"read","owner":null,"limits":[{"name":"requests","tokens":100,"period":"60s"}],"enabled":true,"status":"active","created_at":"2024-01-20T11:20:00Z","created_by":"operator","expires_at":null,"last_used_at":null,"metadata":{},"revision":1,"applied_on":[1,2,3],"waited_ms":4}"#;

/// A listener that gives every request the same answer.
struct Fake {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    fn start(status: u16, headers: &'static str, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                heard.lock().unwrap().push(read_request(&mut stream));
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
                );
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { url, seen }
    }
}

fn read_request(stream: &mut TcpStream) -> String {
    let (mut bytes, mut chunk) = (Vec::new(), [0u8; 4096]);
    loop {
        let read = stream.read(&mut chunk).unwrap();
        bytes.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.trim().parse().unwrap());
            if read == 0 || body.len() >= length {
                return text;
            }
        } else if read == 0 {
            return text;
        }
    }
}

fn fluxgate(words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(words).env_clear().env("FLUXGATE_TOKEN", "operator-secret").stdin(Stdio::null());
    command
}

fn run(words: &[&str]) -> Output {
    fluxgate(words).output().unwrap()
}

fn run_with_input(words: &[&str], input: &str) -> Output {
    let mut child = fluxgate(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[track_caller]
fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
}

/// A URL where no server listens.
fn closed() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn wrong_usage_exits_with_two_and_prints_no_data() {
    for words in [
        &["nonsense"][..],
        &[],
        &["keys", "show", "not-an-id"],
        &["keys", "create", "--name", "a", "--scope", "owner"],
        &["keys", "update", "key_Qm2xK9dA3f01"],
        &["keys", "list", "--url", "nowhere"],
        &["cluster", "add-node", "0", "--peer", "a:1"],
        &["audit-limits", "--limit", "3"],
        &["validate"],
    ] {
        let output = run(words);
        assert_exit(&output, 2);
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{words:?}");
    }
    let mut without_token = fluxgate(&["keys", "list"]);
    let output = without_token.env_remove("FLUXGATE_TOKEN").output().unwrap();
    assert_exit(&output, 2);
    assert!(stderr(&output).contains("FLUXGATE_TOKEN"));
}

#[test]
fn an_unreachable_cluster_exits_with_three() {
    let url = closed();
    for words in [
        &["keys", "list", "--url", &url][..],
        &["cluster", "status", "--url", &url],
        &["healthcheck", "--url", &url],
    ] {
        let output = run(words);
        assert_exit(&output, 3);
        assert!(stderr(&output).contains(&url), "{words:?}");
    }
}

#[test]
fn a_rejection_exits_with_one_and_prints_the_reason() {
    let body = r#"{"error":"not_found","message":"key `key_Qm2xK9dA3f01` not found"}"#;
    let node = Fake::start(404, "", body);
    let output = run(&["keys", "show", "key_Qm2xK9dA3f01", "--url", &node.url]);
    assert_exit(&output, 1);
    assert_eq!(
        stderr(&output),
        "fluxgate: key `key_Qm2xK9dA3f01` not found (not_found, status 404)\n"
    );
    assert!(output.stdout.is_empty());
    let seen = node.seen.lock().unwrap();
    assert!(seen[0].contains("authorization: Bearer operator-secret\r\n"));
}

#[test]
fn a_new_key_is_alone_on_standard_output() {
    let node = Fake::start(201, "", CREATED);
    let create = ["keys", "create", "--name", "a", "--scope", "read", "--url", &node.url];
    let output = run(&create);
    assert_exit(&output, 0);
    assert_eq!(stdout(&output), "fx_live_secret\n");
    let shown = stderr(&output);
    assert!(shown.contains("key_Qm2xK9dA3f01") && shown.contains("nodes 1, 2, 3"));
    assert!(!shown.contains("fx_live_secret"));

    let output = run(&[&create[..], &["--output", "json"]].concat());
    assert_exit(&output, 0);
    let printed: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
    let sent: serde_json::Value = serde_json::from_str(CREATED).unwrap();
    assert_eq!(printed, sent);
    assert!(output.stderr.is_empty());
}

#[test]
fn a_verdict_is_an_exit_code_and_the_key_is_never_shown() {
    let node = Fake::start(200, "", ADMITTED);
    let output = run_with_input(&["validate", "--url", &node.url], "fx_live_mine\n");
    assert_exit(&output, 0);
    assert!(stdout(&output).starts_with("admitted: \"a\" (key_Qm2xK9dA3f01)"));
    assert!(node.seen.lock().unwrap()[0].contains("authorization: Bearer fx_live_mine\r\n"));

    let headers =
        "x-ratelimit-limit: 100\r\nx-ratelimit-remaining: 0\r\nx-ratelimit-reset: 1705747200\r\n";
    let body = r#"{"error":"rate_limit_exceeded","message":"Rate limit exceeded. Try again in 45 seconds."}"#;
    let node = Fake::start(429, headers, body);
    let mut denied = fluxgate(&["validate", "--url", &node.url]);
    let output = denied.env("FLUXGATE_KEY", "fx_live_mine").output().unwrap();
    assert_exit(&output, 1);
    assert_eq!(
        stdout(&output),
        "denied: Rate limit exceeded. Try again in 45 seconds. (rate_limit_exceeded)\n\
         0 of 100 left until 2024-01-20T10:40:00Z\n"
    );
    assert!(!stdout(&output).contains("fx_live_mine") && output.stderr.is_empty());
}

#[test]
fn readiness_is_an_exit_code() {
    let ready = Fake::start(200, "", r#"{"status":"ok","node_id":2}"#);
    let output = run(&["healthcheck", "--url", &ready.url]);
    assert_exit(&output, 0);
    assert_eq!(stdout(&output), "node 2 is ready\n");

    let body = r#"{"error":"unavailable","message":"no lease"}"#;
    let unready = Fake::start(503, "retry-after: 1\r\n", body);
    let output = run(&["healthcheck", "--url", &unready.url]);
    assert_exit(&output, 1);
    assert!(stderr(&output).contains("no lease"));
}

#[test]
fn an_audit_exits_with_one_when_a_window_is_over_its_limit() {
    let line = r#"{"key":"k","time":1,"node":1,"verdict":"admitted","reset":60,"limit":1}"#;
    let fine = run_with_input(&["audit-limits"], &format!("{line}\n"));
    assert_exit(&fine, 0);
    assert_eq!(stdout(&fine), "1 records, 1 admitted; windows checked 1 / over limit 0\n");
    let over = run_with_input(&["audit-limits", "-"], &format!("{line}\n{line}\n"));
    assert_exit(&over, 1);
    assert!(stdout(&over).contains("over limit 1\n"), "{over:?}");
    let wrong = run_with_input(&["audit-limits"], &format!("{line}\nx\n"));
    assert_exit(&wrong, 1);
    assert!(stderr(&wrong).contains("line 2 "), "{wrong:?}");
}

#[test]
fn a_bench_counts_the_answers() {
    let headers =
        "x-ratelimit-limit: 100\r\nx-ratelimit-remaining: 99\r\nx-ratelimit-reset: 1705747200\r\n";
    let node = Fake::start(200, headers, ADMITTED);
    let dir = std::env::temp_dir().join(format!("fluxgate-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (keys, history) = (dir.join("keys"), dir.join("history"));
    std::fs::write(&keys, "fx_live_mine\n").unwrap();
    let output = run(&[
        "bench",
        "--url",
        &node.url,
        "--keys-file",
        keys.to_str().unwrap(),
        "--rate",
        "50",
        "--duration",
        "1s",
        "--history",
        history.to_str().unwrap(),
        "--output",
        "json",
    ]);
    assert_exit(&output, 0);
    let report: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(report["requests"], 50);
    assert_eq!(report["verdicts"]["admitted"], 50);
    assert_eq!(report["windows"]["checked"], 1);
    assert_eq!(report["windows"]["over_limit"], 0);
    assert!(output.stderr.is_empty(), "{output:?}");

    let kept = std::fs::read_to_string(&history).unwrap();
    assert_eq!(kept.lines().count(), 50);
    assert!(!kept.contains("fx_live_mine"));
    let audit = run(&["audit-limits", history.to_str().unwrap()]);
    assert_exit(&audit, 0);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn the_document_is_printed_byte_for_byte() {
    let output = run(&["openapi"]);
    assert_exit(&output, 0);
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/api/openapi.json");
    assert!(stdout(&output) == std::fs::read_to_string(kept).unwrap());
}

#[test]
fn a_reader_that_closes_the_pipe_causes_no_panic() {
    for words in [&["openapi"][..], &["completions", "bash"], &["--help"]] {
        let mut child =
            fluxgate(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_exit(&output, 0);
        assert!(output.stderr.is_empty(), "{output:?}");
    }
}

#[test]
fn a_key_that_cannot_be_printed_is_a_failure() {
    let node = Fake::start(201, "", CREATED);
    let create = ["keys", "create", "--name", "a", "--scope", "read", "--url", &node.url];
    let mut child =
        fluxgate(&create).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_exit(&output, 1);
    assert!(stderr(&output).contains("fluxgate keys rotate key_Qm2xK9dA3f01"));
}
