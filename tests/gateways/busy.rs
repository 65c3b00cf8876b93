//! A node that looks healthy and answers 503, like a node that lost its lease since the last health
//! check.

use super::application::{Application, Seen};
use super::program::{Kind, Lines};
use super::{Stage, get};
use crate::support::cluster::Cluster;

/// Enough that each of the three nodes gets one.
const ASKS: u32 = 30;

fn busy(seen: &Seen) -> (&'static str, &'static str, &'static str) {
    let body = r#"{"error":"unavailable","message":"this node holds no lease"}"#;
    if seen.line.ends_with(" /readyz") {
        ("200 OK", "", "{}")
    } else {
        ("503 Service Unavailable", "Retry-After: 1\r\n", body)
    }
}

/// No client sees the 503 of one node while others would answer.
#[track_caller]
fn asks_another_node(kind: Kind) {
    let (cluster, busy) = (Cluster::start(2), Application::answering(busy));
    let nodes = [cluster.gateway(1).port(), busy.port(), cluster.gateway(2).port()];
    let stage = Stage::before(cluster, kind, &nodes, Vec::new(), Lines::AsTheyStand);
    let key = stage.key("read", 1_000_000);
    for at in 0..ASKS {
        let answer = stage.send(&get("/api/v1/x").bearer(&key.secret));
        assert_eq!(answer.status, 200, "{kind:?}, request {at}: {answer}");
    }
    assert!(busy.seen().iter().any(|seen| seen.line.contains("/v1/authorize/")), "{kind:?}");
}

// Over gRPC an orderly stop shows the same, in `survives_the_loss_of_nodes`.

#[test]
fn nginx() {
    asks_another_node(Kind::Nginx);
}

#[test]
fn envoy() {
    asks_another_node(Kind::Envoy);
}

#[test]
fn traefik() {
    asks_another_node(Kind::Traefik);
}

#[test]
fn caddy() {
    asks_another_node(Kind::Caddy);
}

#[test]
fn haproxy() {
    asks_another_node(Kind::Haproxy);
}
