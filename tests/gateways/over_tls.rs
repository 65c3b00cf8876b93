//! The same gateways before nodes that accept only TLS.

use std::path::Path;
use std::time::Duration;

use super::application;
use super::program::{Gateway, Kind, Lines};
use super::{Stage, asked_ports, get};
use crate::support::certs::{Certs, wait_ready};
use crate::support::cluster::Cluster;
use crate::support::wait_until;

/// The longest until a gateway has read its routes.
const ROUTES: Duration = Duration::from_secs(10);

/// An admission, a denial and the exact limit over TLS, over few connections and through the loss
/// of a node; and no admission if another CA signed the nodes' certificates.
#[track_caller]
pub(super) fn asks_over_tls(kind: Kind) {
    let mut cluster = Cluster::plan(3, |_| {});
    let certs = Certs::make(cluster.dir(), "certs", &[]);
    let foreign = Certs::make(cluster.dir(), "foreign", &[]);
    let (nodes, claimed) = asked_ports(&mut cluster, kind);
    for id in cluster.ids() {
        let own = certs.setting(id, None, false);
        cluster.node_mut(id).settings.set("gateway", "tls", own);
        cluster.node_mut(id).spawn();
    }
    for id in cluster.ids() {
        wait_ready(&mut cluster, &certs, id);
    }
    let ca = certs.file("ca.pem");
    let mut stage = Stage::before(cluster, kind, &nodes, claimed, Lines::Tls(Path::new(&ca)));

    passes_and_denies(&mut stage, kind);

    // Nodes with certificates of another CA: every request is denied.
    let ample = stage.key("read", 1_000_000);
    let ca = foreign.file("ca.pem");
    let port = stage.application.port();
    stage.gateway = Gateway::start(kind, &nodes, port, Lines::Tls(Path::new(&ca)));
    stage.application.forget();
    // Traefik answers 404 until it has read its routes.
    wait_until("the gateway has its routes", ROUTES, || {
        stage.send(&get("/api/v1/x").bearer(&ample.secret)).status != 404
    });
    for _ in 0..3 {
        let answer = stage.send(&get("/api/v1/x").bearer(&ample.secret));
        assert_eq!(answer.status, 503, "{kind:?}: {answer}");
    }
    assert!(stage.application.seen().is_empty(), "{kind:?} let a request through");
}

/// An admission, a denial and the exact limit, over few connections and through the loss of a node.
#[track_caller]
pub(super) fn passes_and_denies(stage: &mut Stage, kind: Kind) {
    let key = stage.key("read", 100);
    let (answer, seen) = stage.pass(&get("/api/v1/x").bearer(&key.secret));
    assert_eq!((answer.status, answer.text().as_str()), (200, application::BODY), "{answer}");
    seen[0].assert_knows(&key);
    let (answer, seen) = stage.pass(&get("/api/v1/x"));
    answer.assert_denied(401, "authentication_failed", "Invalid or missing API key");
    assert!(seen.is_empty(), "{seen:?}");

    let connections = stage.gateway.connections();
    let asked = (0..149).map(|_| stage.send(&get("/api/v1/x").bearer(&key.secret)).status);
    let asked: Vec<u16> = asked.collect();
    let of = |status: u16| asked.iter().filter(|&&found| found == status).count();
    assert_eq!((of(200), of(429)), (99, 50), "{kind:?}: {asked:?}");
    // Earlier connections may have ended in the meantime.
    let opened = stage.gateway.connections().saturating_sub(connections);
    assert!(opened <= 6, "{kind:?} opened {opened} connections to the nodes for 149 requests");

    stage.cluster.node_mut(2).kill();
    let ample = stage.key("read", 1_000_000);
    for at in 0..40 {
        let answer = stage.send(&get("/api/v1/x").bearer(&ample.secret));
        assert_eq!(answer.status, 200, "{kind:?}, request {at}: {answer}");
    }
}
