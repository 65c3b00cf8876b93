//! The binary against a real cluster: the output of its commands, and their exit codes.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::cluster::{Cluster, GATEWAY, OPERATOR};
use crate::support::command::{fluxgate, run, run_with_input};
use crate::support::ports::Port;
use crate::support::{Request, wait_for, wait_until};

#[test]
fn the_command_line_creates_uses_changes_and_revokes_a_key() {
    let cluster = Cluster::start(3);
    let create = [
        "keys",
        "create",
        "--name",
        "Production Sync",
        "--scope",
        "write",
        "--owner",
        "user_42",
        "--limit",
        "7/600s",
        "--metadata",
        "team=blue",
    ];
    let (key, record) = run(&mut cluster.cli(1, &create), 0);
    let key = key.trim_end();
    assert!(key.starts_with("fx_live_") && key.len() == 70, "{key}");
    assert!(record.contains("nodes 1, 2, 3") && !record.contains(key), "{record}");
    let id = format!("key_{}", &key[8..20]);

    let (verdict, _) = run_with_input(&mut cluster.cli(2, &["validate"]), key, 0);
    assert!(
        verdict.starts_with(&format!(
            "admitted: \"Production Sync\" ({id}), owner user_42, scope write"
        )),
        "{verdict}"
    );
    let (shown, _) = run(&mut cluster.cli(3, &["keys", "show", &id]), 0);
    assert!(shown.contains("requests=7/600s") && shown.contains("team=blue"), "{shown}");
    let (list, _) = run(&mut cluster.cli(3, &["keys", "list", "--output", "json"]), 0);
    assert_eq!(serde_json::from_str::<Value>(&list).unwrap()["keys"][0]["id"], id.as_str());
    let (usage, _) = run(&mut cluster.cli(1, &["keys", "usage", &id, "--output", "json"]), 0);
    assert_eq!(serde_json::from_str::<Value>(&usage).unwrap()["limits"][0]["spent"], 1);
    run(&mut cluster.cli(1, &["keys", "usage", &id]), 0);

    let (updated, _) = run(
        &mut cluster.cli(2, &["keys", "update", &id, "--scope", "read", "--output", "json"]),
        0,
    );
    assert_eq!(serde_json::from_str::<Value>(&updated).unwrap()["scope"], "read");
    let (rotated, _) = run(&mut cluster.cli(2, &["keys", "rotate", &id]), 0);
    let (denied, _) = run_with_input(&mut cluster.cli(1, &["validate"]), key, 1);
    assert!(denied.contains("authentication_failed"), "{denied}");
    run_with_input(&mut cluster.cli(1, &["validate"]), &rotated, 0);
    run(&mut cluster.cli(1, &["keys", "revoke", &id]), 0);
    run_with_input(&mut cluster.cli(1, &["validate"]), &rotated, 1);
    run(&mut cluster.cli(1, &["keys", "show", "key_000000000000"]), 1);
}

#[test]
fn a_new_key_goes_into_a_new_file_and_overwrites_none() {
    let cluster = Cluster::start(1);
    let file = cluster.dir().join("key.txt");
    let at = file.to_str().unwrap();
    let create = ["keys", "create", "--name", "n", "--scope", "read", "--idempotency-key", "x1"];
    let into = |at| [&create[..], &["--key-file", at]].concat();
    let (record, message) = run(&mut cluster.cli(1, &into(at)), 0);
    let key = std::fs::read_to_string(&file).unwrap();
    assert!(!format!("{record}{message}").contains(key.trim()), "{record}{message}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!((mode & 0o777, key.lines().count()), (0o600, 1));
    run_with_input(&mut cluster.cli(1, &["validate"]), &key, 0);
    let id = format!("key_{}", &key[8..20]);
    assert!(record.contains(&id), "{record}");

    // No key is created if it could not be stored, and no file is overwritten.
    let (_, message) = run(&mut cluster.cli(1, &into(at)), 1);
    assert!(message.contains("key.txt") && !message.contains("already_done"), "{message}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), key);
    let nowhere = cluster.dir().join("no/such/folder").join("key.txt");
    let before = run(&mut cluster.cli(1, &["keys", "list", "--output", "json"]), 0).0;
    let other = ["keys", "create", "--name", "n", "--scope", "read", "--key-file"];
    run(&mut cluster.cli(1, &[&other[..], &[nowhere.to_str().unwrap()]].concat()), 1);
    assert_eq!(run(&mut cluster.cli(1, &["keys", "list", "--output", "json"]), 0).0, before);

    // A repeat names the key that it created and the next step, and leaves no empty file behind.
    let second = cluster.dir().join("second.txt");
    let (_, message) = run(&mut cluster.cli(1, &into(second.to_str().unwrap())), 1);
    assert!(message.contains(&id) && message.contains("rotate"), "{message}");
    assert!(!second.exists());
    // Without --key-file the shell truncates the file before the command starts.
    std::fs::write(&second, &key).unwrap();
    let mut emptied = cluster.cli(1, &create);
    emptied.stdout(std::fs::File::create(&second).unwrap()).stderr(Stdio::piped());
    let output = emptied.output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && message.contains("--key-file"), "{message}");

    let rotate = ["keys", "rotate", &id, "--key-file", second.to_str().unwrap()];
    run(&mut cluster.cli(1, &rotate), 1);
    std::fs::remove_file(&second).unwrap();
    run(&mut cluster.cli(1, &rotate), 0);
    let rotated = std::fs::read_to_string(&second).unwrap();
    run_with_input(&mut cluster.cli(1, &["validate"]), &rotated, 0);
}

#[test]
fn the_audit_trail_is_read_page_by_page() {
    let cluster = Cluster::start(1);
    let made: Vec<_> = (0..3).map(|_| cluster.write_key()).collect();
    let audit = |words: &[&str]| {
        let words = [&["audit", "--output", "json"], words].concat();
        let (text, _) = run(&mut cluster.cli(1, &words), 0);
        serde_json::from_str::<Value>(&text).unwrap()["entries"].as_array().unwrap().clone()
    };
    let all = audit(&["--limit", "10000"]);
    let seqs: Vec<u64> = all.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] == pair[1] + 1), "newest first: {seqs:?}");
    let creates = audit(&["--action", "key.create"]);
    assert_eq!(creates.len(), 3);
    let of_one = audit(&["--key", &made[1].id, "--actor", "operator"]);
    assert_eq!((of_one.len(), &of_one[0]["key_id"]), (1, &Value::from(&*made[1].id)));
    assert!(audit(&["--actor", "key_AAAAAAAAAAAA"]).is_empty());

    let (table, message) = run(&mut cluster.cli(1, &["audit", "--limit", "2"]), 0);
    assert!(table.starts_with("SEQ") && table.lines().count() == 3, "{table}");
    let cursor = message.trim().rsplit_once(' ').unwrap().1;
    assert_eq!(audit(&["--limit", "1", "--cursor", cursor])[0]["seq"], seqs[2]);
    run(&mut cluster.cli(1, &["audit", "--limit", "0"]), 2);
}

#[test]
fn the_status_is_a_table_and_the_same_as_json() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    // A node's knowledge of the others is a moment old.
    wait_until("node 2 knows that all are ready", Duration::from_secs(10), || {
        let nodes = cluster.view(2).map(|view| view["nodes"].as_array().unwrap().clone());
        nodes.is_some_and(|nodes| nodes.iter().all(|node| node["ready"] == true))
    });
    let (text, _) = run(&mut cluster.cli(2, &["cluster", "status"]), 0);
    let mut lines = text.lines();
    let first = lines.next().unwrap();
    assert!(
        first.starts_with(&format!(
            "cluster fluxcascade, seen by node 2: leader node {leader} in term "
        )),
        "{text}"
    );
    assert_eq!(
        lines.nth(1).unwrap().split_whitespace().collect::<Vec<_>>(),
        [
            "NODE", "ROLE", "READY", "TERM", "APPLIED", "LAG", "LEASE", "SHARE", "CLOCK", "DISK",
            "TLS", "VERSION", "PEER"
        ],
        "{text}"
    );
    let rows: Vec<&str> = lines.by_ref().take(3).collect();
    for (at, row) in rows.iter().enumerate() {
        let node = cluster.addresses()[at];
        let role = if node.id == leader { "leader" } else { "follower" };
        assert!(row.starts_with(&format!("{}     {role}", node.id)), "{text}");
        assert!(
            row.contains(" yes ") && row.contains("33.3%") && row.ends_with(&node.peer.to_string()),
            "{text}"
        );
    }
    let (json, _) = run(&mut cluster.cli(2, &["cluster", "status", "--output", "json"]), 0);
    let view: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&view["cluster"], &view["node_id"]), (&"fluxcascade".into(), &2.into()), "{json}");
    assert_eq!(view["nodes"].as_array().unwrap().len(), 3, "{json}");
    let (ready, _) =
        run(&mut fluxgate(&["healthcheck", "--url", &format!("http://{}", cluster.gateway(3))]), 0);
    assert_eq!(ready, "node 3 is ready\n");
}

#[test]
fn a_command_asks_the_next_node_when_one_is_down() {
    let mut cluster = Cluster::start(3);
    cluster.node_mut(1).stop();
    let urls: Vec<String> =
        cluster.addresses().iter().map(|at| format!("http://{}", at.admin)).collect();
    let mut create = cluster.cli(1, &["keys", "create", "--name", "a", "--scope", "read"]);
    let (key, _) = run(create.env("FLUXGATE_URL", urls.join(",")), 0);
    run_with_input(&mut cluster.cli(1, &["validate"]), &key, 0);
    run(&mut cluster.cli(1, &["keys", "list"]), 3);
    run(&mut cluster.cli(2, &["cluster", "remove-node", "9"]), 1);
}

#[test]
fn a_wrong_token_is_rejected_and_a_missing_one_is_wrong_usage() {
    let cluster = Cluster::start(1);
    let (_, message) =
        run(cluster.cli(1, &["keys", "list"]).env("FLUXGATE_TOKEN", "not-the-operator-token"), 1);
    assert!(message.contains("authentication_failed"), "{message}");
    run(cluster.cli(1, &["keys", "list"]).env_remove("FLUXGATE_TOKEN"), 2);
    let file = cluster.dir().join("token");
    std::fs::write(&file, format!("{OPERATOR}\n")).unwrap();
    let words = ["keys", "list", "--token-file", file.to_str().unwrap()];
    run(cluster.cli(1, &words).env_remove("FLUXGATE_TOKEN"), 0);
}

#[test]
fn a_bench_finds_every_window_exact_and_its_history_passes_the_audit() {
    let cluster = Cluster::start_with(3, Cluster::gateway_token_file);
    let history = cluster.dir().join("history.jsonl");
    let history = history.to_str().unwrap();
    for shape in ["even", "sticky", "skew", "burst"] {
        let words = [
            "bench",
            "--keys",
            "3",
            "--limit",
            "20/2s",
            "--rate",
            "150",
            "--duration",
            "3s",
            "--shape",
            shape,
            "--history",
            history,
            "--output",
            "json",
        ];
        let mut bench = cluster.cli(1, &words);
        let (report, _) = run(bench.env("FLUXGATE_GATEWAY_TOKEN", GATEWAY), 0);
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["requests"], 450, "{report}");
        assert_eq!(
            (&report["windows"]["over_limit"], &report["windows"]["short"]),
            (&0.into(), &0.into()),
            "{shape}: {report}"
        );
        assert!(report["verdicts"]["limited"].as_u64().unwrap() > 0, "{report}");
        let (audit, _) = run(&mut fluxgate(&["audit-limits", history]), 0);
        assert!(audit.starts_with("450 records, ") && audit.ends_with("over limit 0\n"), "{audit}");
    }
    let (text, _) = run(
        cluster
            .cli(1, &["bench", "--duration", "1s", "--rate", "50"])
            .env("FLUXGATE_GATEWAY_TOKEN", GATEWAY),
        0,
    );
    assert!(text.contains("admitted"), "{text}");
    let left =
        cluster.admin(1, Request::get("/v1/keys?status=active&owner=fluxgate-bench")).expect(200);
    assert_eq!(left.json()["keys"], serde_json::json!([]), "{left}");
    cluster.assert_none_degraded();
}

#[test]
fn completions_exist_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (script, _) = run(&mut fluxgate(&["completions", shell]), 0);
        assert!(script.contains("fluxgate") && script.contains("healthcheck"), "{shell}");
    }
    run(&mut fluxgate(&["completions", "cmd"]), 2);
}

/// A demo process, ended when dropped.
struct Demo(Child);

impl Demo {
    fn start(words: &[&str]) -> (Self, BufReader<std::process::ChildStdout>) {
        let mut command = fluxgate(words);
        let mut child = command
            .env("TMPDIR", std::env::temp_dir())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        (Self(child), stdout)
    }

    fn interrupt(&mut self) -> std::process::ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        wait_for("the demo ends", Duration::from_secs(20), || self.0.try_wait().unwrap())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A gateway port for which all nine ports of a demo of three nodes are claimed.
fn demo_ports() -> (u16, Vec<std::net::TcpListener>) {
    wait_for("nine ports are free", Duration::from_secs(10), || {
        let claimed = Port::claim();
        let first = claimed.addr().port();
        let all = (0..3).flat_map(|at| [first + at, first + 100 + at, first + 200 + at]);
        let listeners: Option<Vec<_>> =
            all.map(|port| std::net::TcpListener::bind(("127.0.0.1", port)).ok()).collect();
        Some((first, listeners?))
    })
}

#[test]
fn the_demo_prints_one_line_of_the_documented_shape_and_serves_it() {
    let (port, listeners) = demo_ports();
    drop(listeners);
    let (mut demo, mut stdout) = Demo::start(&["demo", "--port", &port.to_string(), "--json"]);
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let shown: Value =
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let names: Vec<&String> = shown.as_object().unwrap().keys().collect();
    assert_eq!(names, ["nodes", "operator_token", "keys"], "{line}");
    let nodes = shown["nodes"].as_array().unwrap();
    for (at, node) in nodes.iter().enumerate() {
        let at = u16::try_from(at).unwrap();
        let expected = format!(
            r#"{{"id":{},"gateway":"http://127.0.0.1:{}","admin":"http://127.0.0.1:{}"}}"#,
            at + 1,
            port + at,
            port + 100 + at
        );
        assert_eq!(node.to_string(), expected, "{line}");
    }
    assert_eq!(nodes.len(), 3);
    for scope in ["read", "write", "admin"] {
        for at in 0..3 {
            let gateway = SocketAddr::from(([127, 0, 0, 1], port + at));
            let answer = Request::post("/v1/validate")
                .bearer(shown["keys"][scope].as_str().unwrap())
                .send(gateway);
            assert_eq!(answer.expect(200).json()["scope"], scope);
        }
    }
    let admin = SocketAddr::from(([127, 0, 0, 1], port + 100));
    let operator = shown["operator_token"].as_str().unwrap();
    Request::get("/v1/cluster").bearer(operator).send(admin).expect(200);
    assert_eq!(demo.interrupt().code(), Some(0));
    line.clear();
    assert_eq!(stdout.read_line(&mut line).unwrap(), 0, "more than one line: {line}");
}

#[test]
fn the_demo_explains_itself_and_stays_up() {
    let (port, listeners) = demo_ports();
    drop(listeners);
    let (mut demo, stdout) = Demo::start(&["demo", "--port", &port.to_string()]);
    let story: Arc<Mutex<String>> = Arc::default();
    let message = Arc::clone(&story);
    let reader = std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            message.lock().unwrap().push_str(&(line + "\n"));
        }
    });
    wait_until("the demo prints curl commands to try", Duration::from_secs(60), || {
        assert!(demo.0.try_wait().unwrap().is_none(), "it has ended");
        story.lock().unwrap().contains("curl")
    });
    for at in 0..3 {
        let gateway = SocketAddr::from(([127, 0, 0, 1], port + at));
        Request::get("/readyz").send(gateway).expect(200);
    }
    assert_eq!(demo.interrupt().code(), Some(0));
    reader.join().unwrap();
    let story = story.lock().unwrap();
    for word in ["429", "curl", "fx_live_", &format!("127.0.0.1:{port}")] {
        assert!(story.contains(word), "`{word}` is not printed: {story}");
    }
}

#[test]
fn the_node_notifies_its_supervisor_of_ready_watchdog_and_stopping() {
    let cluster = Cluster::plan(1, |_| {});
    let path = cluster.dir().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut child = cluster
        .node(1)
        .command()
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "400000")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let message = || {
        let mut bytes = [0; 256];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    };
    let ready = message();
    assert!(ready.lines().any(|line| line == "READY=1"), "{ready}");
    for _ in 0..3 {
        assert_eq!(message(), "WATCHDOG=1\n");
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let last = wait_for("it notifies that it stops", Duration::from_secs(20), || {
        Some(message()).filter(|message| message != "WATCHDOG=1\n")
    });
    assert!(last.lines().any(|line| line == "STOPPING=1"), "{last}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
