//! The gateways with HTTP/2 to the nodes, without TLS.

use std::io::Read as _;
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use super::over_tls::passes_and_denies;
use super::program::{Gateway, Kind, Lines};
use super::{Stage, get};
use crate::support::wait_until;

/// What a connection of HTTP/2 begins with (RFC 9113, section 3.4).
const BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest time until a gateway has opened a connection to a node.
const CONTACT: Duration = Duration::from_secs(10);

/// The same as over HTTP/1.1, and nothing else than HTTP/2.
#[track_caller]
fn asks_over_http2(kind: Kind) {
    let mut stage = Stage::set_with(kind, Lines::Http2);
    passes_and_denies(&mut stage, kind);
    speaks_only_http2(kind, stage.application.port());
}

/// Before nodes that answer nothing, connections begin with the preface and none with a line of
/// HTTP/1.1, and no request passes.
#[track_caller]
fn speaks_only_http2(kind: Kind, application: u16) {
    let (port, begun) = record_beginnings();
    let gateway = Gateway::start(kind, &[port; 3], application, Lines::Http2);
    // Traefik answers 404 until it has read its routes.
    wait_until("the gateway denies", CONTACT, || {
        let answer = get("/api/v1/x").send(gateway.address());
        assert!([503, 404].contains(&answer.status), "{kind:?}: {answer}");
        answer.status == 503
    });
    let first = begun.recv_timeout(CONTACT).unwrap();
    let begun: Vec<Vec<u8>> = std::iter::once(first).chain(begun.try_iter()).collect();
    assert!(begun.iter().any(|bytes| bytes == BEGINNING), "{kind:?}: {begun:?}");
    // HAProxy sends frames alone on a connection that it is about to close; no line of HTTP/1.1
    // begins like one.
    let is_line = |bytes: &Vec<u8>| bytes.first().is_some_and(u8::is_ascii_uppercase);
    let lines: Vec<_> =
        begun.iter().filter(|bytes| is_line(bytes) && !BEGINNING.starts_with(bytes)).collect();
    assert!(lines.is_empty(), "{kind:?} speaks HTTP/1.1: {lines:?}");
}

/// A port whose connections are closed once they have begun, and with which bytes each began.
fn record_beginnings() -> (u16, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, (send, begun)) = (listener.local_addr().unwrap().port(), channel());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut bytes = Vec::new();
            let read = stream.and_then(|stream| {
                stream.set_read_timeout(Some(CONTACT))?;
                stream.take(BEGINNING.len() as u64).read_to_end(&mut bytes)
            });
            // A check that only connects sends nothing.
            if read.is_ok() && !bytes.is_empty() && send.send(bytes).is_err() {
                return;
            }
        }
    });
    (port, begun)
}

#[test]
fn envoy() {
    asks_over_http2(Kind::Envoy);
}

#[test]
fn traefik() {
    asks_over_http2(Kind::Traefik);
}

#[test]
fn caddy() {
    asks_over_http2(Kind::Caddy);
}

#[test]
fn haproxy() {
    asks_over_http2(Kind::Haproxy);
}
