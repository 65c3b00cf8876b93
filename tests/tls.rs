//! TLS on real sockets: which callers get in, what the log says about the others, certificates that
//! change while a node runs, and a cluster that is switched to TLS under load.
//!
//! The clients are curl, and `fluxgate` itself: curl has another TLS stack than the one under test.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::certs::{Certs, wait_ready};
use crate::support::cluster::{Cluster, READY_DEADLINE};
use crate::support::command::{fluxgate, run, run_with_input};
use crate::support::keys::limit;
use crate::support::load::Stream;
use crate::support::settings::Settings;
use crate::support::wait::roomy_period_s;
use crate::support::{Key, Request, wait_until};

/// Longest time until changed files are noticed without a signal.
const NOTICE: Duration = Duration::from_secs(20);

#[track_caller]
fn wait_log(cluster: &Cluster, node: u64, words: &[&str]) {
    wait_log_after(cluster, node, 0, words);
}

/// The same, after the first `begin` bytes of the log.
#[track_caller]
fn wait_log_after(cluster: &Cluster, node: u64, begin: usize, words: &[&str]) {
    wait_until(&format!("the log of node {node} has {words:?}"), NOTICE, || {
        let log = cluster.node(node).log_text().split_off(begin);
        log.lines().any(|line| words.iter().all(|word| line.contains(word)))
    });
}

#[test]
fn every_listener_speaks_tls_and_peers_need_certificates() {
    let mut cluster = Cluster::plan(3, |_| {});
    let certs = Certs::make(cluster.dir(), "certs", &[]);
    let foreign = Certs::make(cluster.dir(), "foreign", &[]);
    certs.give_all(&mut cluster);
    for id in cluster.ids() {
        cluster.node_mut(id).spawn();
    }
    for id in cluster.ids() {
        wait_ready(&mut cluster, &certs, id);
    }

    // The command line works with the CA and not without it.
    let admin = format!("https://{}", cluster.node(1).at.admin);
    let words = ["keys", "create", "--name", "tls", "--scope", "read", "--url", &admin];
    let ca = certs.file("ca.pem");
    let (secret, _) = run(&mut fluxgate(&[&words[..], &["--ca-file", &ca]].concat()), 0);
    let (_, rejected) = run(&mut fluxgate(&words), 3);
    assert!(rejected.contains("certificate"), "{rejected}");
    let (_, rejected) = run(fluxgate(&words).env("FLUXGATE_CA_FILE", foreign.file("ca.pem")), 3);
    assert!(rejected.contains("certificate"), "{rejected}");

    // A key created through one node is counted on the others: the peers reach each other.
    let bearer = format!("authorization: Bearer {}", secret.trim());
    let mut admitted = 0;
    for round in 0..105 {
        let to = cluster.gateway(round % 3 + 1);
        let asked = certs.curl(to, "/v1/validate", &["-X", "POST", "-H", &bearer]);
        let (status, body) = asked.unwrap();
        admitted += u64::from(status == 200);
        assert!(status == 200 || status == 429, "{status} {body}");
    }
    // The minute may have ended in between.
    assert!((100..=105).contains(&admitted), "{admitted} of 105");

    // All three listeners answer plaintext callers with an explanation.
    let at = cluster.node(1).at;
    for to in [at.gateway, at.admin, at.peer] {
        let answer = Request::get("/readyz").try_send(to).unwrap();
        answer.expect_error(400, "invalid_request", "this listener speaks TLS: use https");
    }

    // A gateway chooses between HTTP/1.1 and HTTP/2; the other listeners speak HTTP/1.1.
    let version = |to: SocketAddr, offered: &str| {
        let shown = ["-o", "/dev/null", "-w", "%{http_version}\n%{http_code}", offered];
        certs.curl(to, "/readyz", &shown).unwrap()
    };
    assert_eq!(version(at.gateway, "--http2"), (200, "2".to_owned()));
    assert_eq!(version(at.gateway, "--http1.1"), (200, "1.1".to_owned()));
    assert_eq!(version(at.admin, "--http2"), (200, "1.1".to_owned()));

    // The peer listener requires a certificate of the right CA, and TLS 1.3.
    let status = "/peer/v1/status";
    let own = [certs.file("node2.pem"), certs.file("node2.key")];
    let others = [foreign.file("node2.pem"), foreign.file("node2.key")];
    // Rejections are logged at most every few seconds, so retry each until the log has it.
    let rejected = |words: &[&str], why: &str| {
        wait_until("the log has the rejection", NOTICE, || {
            certs.curl(at.peer, status, words).unwrap_err();
            let log = cluster.node(1).log_text();
            log.lines().any(|line| line.contains("listener=\"peer\"") && line.contains(why))
        });
    };
    rejected(&[], "peer sent no certificates");
    rejected(&["--cert", &others[0], "--key", &others[1]], "invalid peer certificate");
    let with_own = ["--cert", &own[0], "--key", &own[1]];
    certs.curl(at.peer, status, &[&with_own[..], &["--tls-max", "1.2"]].concat()).unwrap_err();
    // A certificate does not replace the cluster secret.
    let (code, body) = certs.curl(at.peer, status, &with_own).unwrap();
    assert_eq!(code, 401, "{body}");

    // No node of the cluster was rejected, and no log contains a secret.
    for id in cluster.ids() {
        let log = cluster.node(id).log_text();
        assert!(!log.contains("TLS handshake failed"), "{log}");
        assert!(!log.contains("PRIVATE KEY") && !log.contains(secret.trim()), "{log}");
    }
}

#[test]
fn gateways_may_have_to_show_certificates_too() {
    let mut cluster = Cluster::plan(1, |_| {});
    let certs = Certs::make(cluster.dir(), "certs", &["--nodes", "1"]);
    let setting = certs.setting(1, Some("client_ca_file"), false);
    let settings = &mut cluster.node_mut(1).settings;
    settings.set("gateway", "tls", &setting).set("admin", "tls", &setting);
    settings.set("admin", "metrics_without_certificate", true);
    cluster.node_mut(1).spawn();
    let (cert, key) = (certs.file("node1.pem"), certs.file("node1.key"));
    let to = cluster.gateway(1);
    wait_until("the node is ready", READY_DEADLINE, || {
        let asked = certs.curl(to, "/readyz", &["--cert", &cert, "--key", &key]);
        asked.is_ok_and(|(status, _)| status == 200)
    });
    // Health probes have no certificate, and may read only the health of the node.
    for path in ["/livez", "/readyz"] {
        assert_eq!(certs.curl(to, path, &[]).unwrap().0, 200, "{path}");
    }
    let (ca, url) = (certs.file("ca.pem"), format!("https://{to}"));
    run(&mut fluxgate(&["healthcheck", "--url", &url, "--ca-file", &ca]), 0);
    let at_admin = cluster.node(1).at.admin;
    let admin = format!("https://{at_admin}");
    let with = ["--ca-file", &ca, "--cert-file", &cert, "--cert-key-file", &key];
    let create = ["keys", "create", "--name", "a", "--scope", "write", "--url", &admin];
    let (made, _) = run(&mut fluxgate(&[&create[..], &with].concat()), 0);
    let key_of_client = made.trim();
    let bearer = format!("Authorization: Bearer {key_of_client}");
    for path in ["/v1/validate", "/v1/authorize/any", "/v1/authorize/nginx/any", "/metrics", "/x"] {
        let (status, body) = certs.curl(to, path, &["-X", "POST", "-H", &bearer]).unwrap();
        assert!(status == 503 && body.contains("requires a client certificate"), "{path}: {body}");
    }
    wait_log(&cluster, 1, &["a caller without a client certificate was refused", "127.0.0.1"]);
    // The file lets Prometheus read metrics without one; the gateway listener has no metrics.
    let (status, body) = certs.curl(at_admin, "/metrics", &[]).unwrap();
    assert!(status == 200 && body.contains("fluxgate_build_info"), "{status}: {body}");
    assert_eq!(certs.curl(at_admin, "/v1/whoami", &[]).unwrap().0, 503);
    // A certificate of another CA is rejected as before.
    let foreign = Certs::make(cluster.dir(), "foreign", &["--nodes", "1"]);
    let others = [foreign.file("node1.pem"), foreign.file("node1.key")];
    certs.curl(to, "/readyz", &["--cert", &others[0], "--key", &others[1]]).unwrap_err();

    // Our own commands can present one, on both listeners.
    let list = [&["keys", "list", "--url", &admin][..], &with].concat();
    run(&mut fluxgate(&list), 0);
    let status = [&["cluster", "status", "--url", &admin][..], &with].concat();
    let (status, _) = run(&mut fluxgate(&status), 0);
    assert!(status.contains("certificates of node 1: admin until 20"), "{status}");
    assert!(status.contains(", gateway until 20"), "{status}");
    let (_, message) = run(&mut fluxgate(&list[..6]), 3);
    assert!(message.contains("requires a client certificate"), "{message}");
    let validate = [&["validate", "--url", &url][..], &with].concat();
    run_with_input(&mut fluxgate(&validate), key_of_client, 0);
    run(
        &mut fluxgate(&["healthcheck", "--url", &admin, "--ca-file", &ca, "--cert-file", &cert]),
        2,
    );
}

#[test]
fn certificates_are_reloaded_without_a_restart() {
    let mut cluster = Cluster::plan(1, |_| {});
    let first = Certs::make(cluster.dir(), "certs", &["--nodes", "1"]);
    let second = Certs::make(cluster.dir(), "second", &["--nodes", "1"]);
    let own = first.setting(1, None, false);
    cluster.node_mut(1).settings.set("gateway", "tls", own);
    cluster.node_mut(1).spawn();
    wait_ready(&mut cluster, &first, 1);
    let to = cluster.gateway(1);
    let serves = |certs: &Certs| certs.curl(to, "/readyz", &[]).is_ok();
    let replace = |name: &str| fs::copy(second.0.join(name), first.0.join(name)).unwrap();

    // An incomplete change is logged once and ignored.
    replace("node1.pem");
    cluster.node(1).signal(Signal::HUP);
    wait_log(&cluster, 1, &["ERROR", "certificates not reloaded", "fit together"]);
    assert!(serves(&first), "the old certificate is still served");
    cluster.node(1).signal(Signal::HUP);

    // The complete change is loaded, here without a signal.
    let old_ca = Certs(cluster.dir().join("old"));
    fs::create_dir(&old_ca.0).unwrap();
    fs::copy(first.0.join("ca.pem"), old_ca.0.join("ca.pem")).unwrap();
    replace("node1.key");
    wait_until("the new certificate is served", NOTICE, || serves(&second));
    assert!(!serves(&old_ca), "the old certificate is not served any more");
    let log = cluster.node(1).log_text();
    assert_eq!(log.matches("certificates not reloaded").count(), 1, "{log}");
    assert_eq!(log.matches("certificates reloaded").count(), 1, "{log}");

    // An expired certificate does not replace a valid one.
    second.again(&["--nodes", "1", "--days=-1"]);
    replace("node1.key");
    replace("node1.pem");
    cluster.node(1).signal(Signal::HUP);
    let words =
        ["ERROR", "listener=\"gateway\"", "certificates not reloaded", "node1.pem` has expired"];
    wait_log(&cluster, 1, &words);
    assert!(serves(&second), "the valid certificate is still served");

    // At a start there is no other certificate: it is served, and an error is logged.
    cluster.node_mut(1).stop();
    cluster.node_mut(1).spawn();
    wait_log(&cluster, 1, &["ERROR", "listener=\"gateway\"", "has expired: callers"]);
    wait_until("the expired one is served", NOTICE, || {
        second.curl(to, "/readyz", &[]).is_err_and(|complaint| complaint.contains("expired"))
    });
    let complaint = second.curl(to, "/readyz", &[]).unwrap_err();
    assert!(complaint.contains("expired"), "{complaint}");
    let admin = Request::get("/metrics").send(cluster.node(1).at.admin).expect(200).text();
    let line = admin.lines().find(|line| {
        line.starts_with("fluxgate_tls_certificate_expiry_timestamp_seconds{listener=\"gateway\"}")
    });
    let ends: u64 = line.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let ago = now.as_secs() - ends;
    assert!((86_000..90_000).contains(&ago), "ended {ago} s ago");
}

/// Fails unless the other two nodes are undisturbed.
#[track_caller]
fn assert_others_well(cluster: &Cluster, key: &Key) {
    for id in [1, 2] {
        cluster.ask(id, &key.validate()).expect(200);
    }
}

#[test]
fn nodes_with_expired_and_foreign_certificates_are_kept_out_and_named() {
    let mut cluster = Cluster::plan(3, |_| {});
    let certs = Certs::make(cluster.dir(), "certs", &[]);
    let expired = Certs(cluster.dir().join("expired"));
    fs::create_dir(&expired.0).unwrap();
    for name in ["ca.pem", "ca.key"] {
        fs::copy(certs.0.join(name), expired.0.join(name)).unwrap();
    }
    expired.again(&["--days=-1"]);
    let foreign = Certs::make(cluster.dir(), "foreign", &[]);
    for id in cluster.ids() {
        certs.give_peer(&mut cluster, id, false);
        cluster.node_mut(id).spawn();
    }
    cluster.wait_ready();
    let key = cluster.limited_key(1_000_000, roomy_period_s(60));

    for (wrong, why) in [(&expired, "expired"), (&foreign, "invalid peer certificate")] {
        cluster.node_mut(3).stop();
        wrong.give_peer(&mut cluster, 3, false);
        let begins = [1, 2].map(|id| (id, cluster.node(id).log_text().len()));
        cluster.node_mut(3).spawn();
        for (id, begin) in begins {
            let words = ["WARN", "TLS handshake failed", "node=3", why];
            wait_log_after(&cluster, id, begin, &words);
        }
        assert_others_well(&cluster, &key);
        assert_ne!(cluster.node(3).ready().map(|answer| answer.status).ok(), Some(200));
    }
    wait_log(&cluster, 3, &["ERROR", "listener=\"peer\"", "has expired"]);

    cluster.node_mut(3).stop();
    certs.give_peer(&mut cluster, 3, false);
    cluster.restart(3);
    cluster.ask(3, &key.validate()).expect(200);
}

/// Restarts a node with a setting, after an orderly stop, and waits until it is ready.
fn turn(cluster: &mut Cluster, id: u64, certs: &Certs, accept_plain: bool) {
    cluster.node_mut(id).stop();
    certs.give_peer(cluster, id, accept_plain);
    cluster.restart(id);
}

#[test]
fn a_plaintext_cluster_is_switched_to_tls_node_by_node_without_an_outage() {
    let mut cluster = Cluster::start(3);
    let certs = Certs::make(cluster.dir(), "certs", &[]);
    let ample = cluster.limited_key(1_000_000, roomy_period_s(120));
    let stream = Stream::start(&cluster.addresses(), &[ample.validate()], 50);
    let mut down = Vec::new();
    for accept_plain in [true, false] {
        for id in cluster.ids() {
            let from = std::time::Instant::now();
            turn(&mut cluster, id, &certs, accept_plain);
            down.push((id, from, std::time::Instant::now()));
            // A write needs a majority and every node that answers.
            cluster.wait_write(id, Duration::from_secs(5));
        }
    }
    let samples = stream.finish();
    let bad = samples.iter().filter(|sample| sample.status() != 200).filter(|sample| {
        // A node that is being restarted does not answer.
        !down.iter().any(|(id, from, to)| {
            *id == sample.node && sample.answered >= *from && sample.asked <= *to
        })
    });
    let bad: Vec<_> = bad.map(|sample| (sample.node, sample.status())).collect();
    assert!(bad.is_empty(), "{} of {}: {bad:?}", bad.len(), samples.len());
    cluster.assert_none_degraded();

    // From here on plaintext calls are rejected, and all nodes still reach each other.
    for id in cluster.ids() {
        let answer = Request::post("/peer/v1/status").try_send(cluster.node(id).at.peer).unwrap();
        answer.expect_code(400, "invalid_request");
    }
    let counted = cluster
        .create(1, &json!({"name": "n", "scope": "read", "limits": limit(90, roomy_period_s(60))}));
    let admitted = (0..120).filter(|at| cluster.ask(at % 3 + 1, &counted.validate()).status == 200);
    assert_eq!(admitted.count(), 90);
}

#[test]
fn invalid_tls_files_are_found_before_the_start() {
    let cluster = Cluster::plan(1, |_| {});
    let certs = Certs::make(cluster.dir(), "certs", &["--nodes", "2"]);
    let [one, two, ca] = ["node1.pem", "node2.key", "ca.pem"].map(|name| certs.file(name));
    let key = certs.file("node1.key");
    for (section, setting, complaint) in [
        ("gateway", format!("{{ cert_file = {one:?}, key_file = {two:?} }}"), "fit together"),
        ("gateway", format!("{{ cert_file = {one:?} }}"), "tls.key_file: must name a file"),
        (
            "gateway",
            format!("{{ cert_file = {key:?}, key_file = {key:?} }}"),
            "holds no certificate",
        ),
        ("admin", format!("{{ cert_file = {one:?}, key_file = {one:?} }}"), "no private key"),
        (
            "admin",
            format!("{{ cert_file = \"/nowhere\", key_file = {key:?} }}"),
            "cannot read `/nowhere`",
        ),
        ("admin", format!("{{ cert_fle = {one:?} }}"), "did you mean `cert_file`?"),
        (
            "peer",
            format!("{{ cert_file = {one:?}, key_file = {key:?} }}"),
            "tls.ca_file: must name a file",
        ),
        (
            "peer",
            format!(
                "{{ cert_file = {one:?}, key_file = {key:?}, ca_file = {ca:?}, accept_plain = 1 }}"
            ),
            "true or false",
        ),
        ("peer", "true".to_owned(), "must be {"),
    ] {
        let mut settings = Settings::default();
        settings.lay(&cluster.node(1).settings).set(section, "tls", &setting);
        let file = cluster.dir().join("wrong.toml");
        fs::write(&file, settings.to_toml()).unwrap();
        let (_, message) =
            run(&mut fluxgate(&["check-config", "--config", &file.display().to_string()]), 2);
        assert!(message.contains(complaint) && message.contains(section), "{setting}: {message}");
    }
}
