//! A node refuses to start on a wrong directory or configuration, and changes nothing.
//!
//! Data directories of other nodes, newer or damaged ones; configurations with mistakes, all
//! reported at once; and a full disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::support::cluster::{Cluster, operator};
use crate::support::command::{fluxgate, run};
use crate::support::disk::SmallDisk;
use crate::support::{Request, wait_until};

/// Every file below a directory, with its content.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else {
                found.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// A stopped node of a cluster of one, which created a key named `marker-of-the-damage`.
fn used() -> Cluster {
    let mut cluster = Cluster::start(1);
    for _ in 0..5 {
        cluster.create(1, &json!({"name": "marker-of-the-damage", "scope": "read"}));
    }
    cluster.node_mut(1).stop();
    cluster
}

/// Fails unless the node refuses to start, prints these words, and leaves its data as it is.
#[track_caller]
fn assert_refuses_to_start(cluster: &Cluster, code: i32, words: &[&str]) {
    let before = contents(&cluster.node(1).data_dir);
    let (_, message) = run(&mut cluster.node(1).command(), code);
    for word in words {
        assert!(message.contains(word), "`{word}` is not printed: {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
    let after = contents(&cluster.node(1).data_dir);
    let changed: Vec<_> = before
        .keys()
        .chain(after.keys())
        .filter(|path| before.get(*path) != after.get(*path))
        .collect();
    assert!(changed.is_empty(), "changed: {changed:?}");
}

#[test]
fn a_directory_in_use_is_rejected() {
    let mut cluster = Cluster::start(1);
    let key = cluster.write_key();
    let (_, message) = {
        let mut second = crate::support::node::Node::new(
            cluster.node(1).at,
            cluster.dir(),
            cluster.node(1).settings.clone(),
        );
        second.config = cluster.dir().join("second.toml");
        let mut other = Cluster::plan(1, |_| {});
        let at = other.node_mut(1).at;
        second
            .settings
            .text("gateway", "listen", at.gateway)
            .text("admin", "listen", at.admin)
            .text("peer", "listen", at.peer);
        run(&mut second.command(), 1)
    };
    assert!(message.contains("in use"), "{message}");
    cluster.ask(1, &key.validate()).expect(200);
    cluster.node_mut(1).stop();
}

#[test]
fn a_directory_of_another_cluster_is_rejected() {
    let mut cluster = used();
    cluster.node_mut(1).settings.text("cluster", "name", "another");
    assert_refuses_to_start(&cluster, 1, &["another", "fluxcascade"]);
}

#[test]
fn a_directory_of_another_node_is_rejected() {
    let mut cluster = used();
    let members = format!("[{{ id = 7, peer = \"{}\" }}]", cluster.node(1).at.peer);
    cluster.node_mut(1).settings.set("node", "id", 7).set("cluster", "members", members);
    assert_refuses_to_start(&cluster, 1, &["node 1", "node 7"]);
}

#[test]
fn a_newer_directory_is_rejected() {
    let mut cluster = used();
    let version = cluster.node(1).data_dir.join("VERSION");
    let text = fs::read_to_string(&version).unwrap();
    fs::write(&version, text.replace("format 1", "format 2")).unwrap();
    assert_refuses_to_start(&cluster, 1, &["2", "newer"]);
    fs::write(&version, text).unwrap();
    cluster.restart(1);
}

#[test]
fn a_flipped_byte_in_acknowledged_data_is_rejected() {
    let cluster = used();
    let marker = b"marker-of-the-damage";
    let mut found = 0;
    for (path, bytes) in contents(&cluster.node(1).data_dir) {
        let Some(at) = bytes.windows(marker.len()).position(|part| part == marker) else {
            continue;
        };
        found += 1;
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
        assert_refuses_to_start(&cluster, 1, &["damaged"]);
        fs::write(&path, &bytes).unwrap();
    }
    assert!(found > 0, "no file holds the marker");
    let mut cluster = cluster;
    cluster.restart(1);
}

#[test]
fn a_flipped_byte_in_a_small_file_is_rejected() {
    let mut cluster = used();
    let files = [("VERSION", 1), ("IDENTITY", 1), ("HOLDINGS", 1), ("CLOCK", 1), ("HARDSTATE", 2)];
    for (name, slots) in files {
        let path = cluster.node(1).data_dir.join(name);
        let bytes = fs::read(&path).unwrap();
        // A power cut may tear one of two slots, so only damage in both counts.
        let slot = bytes.len() / slots;
        for at in [0, slot / 20, slot.min(40) - 10] {
            let mut damaged = bytes.clone();
            for first in (0..bytes.len()).step_by(slot) {
                damaged[first + at] ^= 1;
            }
            fs::write(&path, &damaged).unwrap();
            assert_refuses_to_start(&cluster, 1, &[name, "damaged"]);
            fs::write(&path, &bytes).unwrap();
        }
    }
    cluster.restart(1);
}

#[test]
fn a_truncated_or_missing_log_is_rejected() {
    let mut cluster = used();
    let log = cluster.node(1).data_dir.join("sled");
    let aside = cluster.dir().join("aside");
    fs::rename(&log, &aside).unwrap();
    assert_refuses_to_start(&cluster, 1, &["damaged"]);
    fs::rename(&aside, &log).unwrap();
    cluster.restart(1);
}

#[test]
fn all_mistakes_of_a_configuration_are_reported_at_once() {
    let mut cluster = Cluster::plan(3, |_| {});
    let settings = &mut cluster.node_mut(1).settings;
    settings
        .set("node", "idd", 3)
        .text("gatewey", "listen", "127.0.0.1:1")
        .text("lease", "duration", "soon")
        .text("cluster", "secret_file", "/nonexistent/secret")
        .set("http", "max_body_bytes", 1)
        .set("limits", "default", "[{ name = \"x\", tokens = 0, period = \"60s\" }]");
    let expected = [
        "unknown setting `node.idd`; did you mean `id`?",
        "unknown section `[gatewey]`; did you mean `gateway`?",
        "lease.duration",
        "/nonexistent/secret",
        "http.max_body_bytes",
        "limits.default",
    ];
    let node = cluster.node(1);
    let (_, served) = run(&mut node.command(), 2);
    let config = node.config.to_str().unwrap().to_owned();
    let (printed, checked) = run(&mut fluxgate(&["check-config", "--config", &config]), 2);
    assert!(printed.is_empty(), "{printed}");
    for message in [served, checked] {
        for word in expected {
            assert!(message.contains(word), "`{word}` is not printed: {message}");
        }
    }
    assert!(!node.data_dir.exists(), "a directory was created");
}

#[test]
fn a_sound_configuration_is_shown_with_its_secrets_masked() {
    let cluster = Cluster::plan(3, Cluster::gateway_token_file);
    let _ = cluster.node(2).command();
    let config = cluster.node(2).config.to_str().unwrap().to_owned();
    let (shown, _) = run(&mut fluxgate(&["check-config", "--config", &config]), 0);
    assert!(shown.contains("id = 2") && shown.contains("lease"), "{shown}");
    for secret in ["operator-token", "gateway-token", "cluster-secret"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    let mut by_environment = fluxgate(&["check-config", "--config", &config]);
    let (shown, _) = run(by_environment.env("FLUXGATE__LEASE__DURATION", "5s"), 0);
    assert!(shown.contains("duration = \"5s\""), "{shown}");
}

#[test]
fn two_addresses_for_one_node_are_a_mistake() {
    let mut cluster = Cluster::plan(3, |_| {});
    cluster.node_mut(2).settings.text("peer", "advertise", "127.0.0.2:19203");
    let (_, message) = run(&mut cluster.node(2).command(), 2);
    assert!(message.contains("peer.advertise") && message.contains("cluster.members"), "{message}");
    let at = cluster.node(2).at.peer;
    cluster.node_mut(2).settings.text("peer", "advertise", at);
    let _ = cluster.node(2).command();
    let config = cluster.node(2).config.to_str().unwrap().to_owned();
    run(&mut fluxgate(&["check-config", "--config", &config]), 0);
}

#[test]
fn a_failed_start_names_the_port_in_use() {
    let cluster = Cluster::plan(1, |_| {});
    let taken = std::net::TcpListener::bind(cluster.gateway(1)).unwrap();
    let (_, message) = run(&mut cluster.node(1).command(), 1);
    assert!(message.contains(&taken.local_addr().unwrap().to_string()), "{message}");
    assert!(!message.contains("panicked"), "{message}");
}

#[test]
fn a_full_disk_stops_only_writes_until_there_is_room() {
    let mut cluster = Cluster::plan(1, |_| {});
    let Some(disk) = SmallDisk::mount(cluster.dir().join("disk"), 64 * 1024 * 1024) else {
        return;
    };
    let data_dir = disk.0.join("data");
    cluster.node_mut(1).settings.text("node", "data_dir", data_dir.display());
    cluster.node_mut(1).data_dir = data_dir;
    cluster.node_mut(1).spawn();
    cluster.wait_ready();
    let key = cluster.limited_key(1_000_000, 600);
    let ballast = disk.fill();
    let create = Request::post("/v1/keys").json(&json!({"name": "x".repeat(90), "scope": "read"}));
    let mut made = Vec::new();
    wait_until("writes are rejected", Duration::from_secs(30), || {
        let answer = cluster.admin(1, create.clone());
        match answer.status {
            201 => made.push(crate::support::Key::of(&answer)),
            503 => {}
            _ => panic!("{answer}"),
        }
        answer.status == 503
    });
    for _ in 0..50 {
        cluster.ask(1, &key.validate()).expect(200);
    }
    let rejected = operator(create).send(cluster.node(1).at.admin).expect(503);
    rejected.number("retry-after");
    rejected.assert_two_fields();
    fs::remove_file(ballast).unwrap();
    cluster.wait_write(1, Duration::from_secs(15));
    cluster.node_mut(1).assert_alive();
    for key in made {
        cluster.ask(1, &key.validate()).expect(200);
    }
    // Before the disk is unmounted.
    cluster.node_mut(1).stop();
    drop(disk);
}
