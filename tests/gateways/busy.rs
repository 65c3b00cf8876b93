//! A node that is well and says 503, as one does that lost its lease since the last health check.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use super::application::Application;
use super::program::{Gateway, Kind};
use super::{Stage, get};
use crate::support::cluster::Cluster;
use crate::support::ports::Port;

/// Enough that each of the three nodes is asked.
const ASKS: u32 = 30;

/// Answers health checks with 200 and all else with our 503; ends with the test's process.
fn busy_node() -> Port {
    let port = Port::claim();
    let listener = TcpListener::bind(port.addr()).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A connection that breaks concerns only who made it.
            thread::spawn(move || stream.and_then(serve));
        }
    });
    port
}

fn serve(stream: TcpStream) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(first) = lines.next().transpose()? {
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        let body = r#"{"error":"unavailable","message":"this node holds no lease"}"#;
        let (status, body) = if first.contains(" /readyz ") {
            ("200 OK", "{}")
        } else {
            ("503 Service Unavailable\r\nRetry-After: 1", body)
        };
        write!(
            writer,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
    }
    Ok(())
}

/// No client sees the 503 of one node while others would answer.
#[track_caller]
fn asks_another_node(kind: Kind) {
    let cluster = Cluster::start(2);
    let busy = busy_node();
    let nodes = [cluster.gateway(1).port(), busy.addr().port(), cluster.gateway(2).port()];
    let application = Application::start();
    let gateway = Gateway::start(kind, &nodes, application.port(), None);
    let stage = Stage { gateway, application, cluster, _claimed: vec![busy] };
    stage.wait_through();
    let key = stage.key("read", 1_000_000);
    for at in 0..ASKS {
        let answer = stage.send(&get("/api/v1/x").bearer(&key.secret));
        assert_eq!(answer.status, 200, "{kind:?}, request {at}: {answer}");
    }
}

// Over gRPC the same is shown by an orderly stop, in `survives_the_loss_of_nodes`.

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
