//! Traces over OTLP/HTTP: a small receiver gets the spans of all nodes in the trace that a gateway
//! began.

#![expect(clippy::unwrap_used, reason = "a test: a failed unwrap is a failed test")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fluxgate_server::{Config, Layers, Node, telemetry};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const TOKEN: &str = "operator-token-of-the-test";

/// The bodies that the receiver got.
type Bodies = Arc<Mutex<Vec<Vec<u8>>>>;

async fn receive(listener: TcpListener, bodies: Bodies) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let bodies = Arc::clone(&bodies);
        tokio::spawn(async move {
            let mut seen = Vec::new();
            let mut buffer = [0u8; 16_384];
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                seen.extend_from_slice(&buffer[..read]);
                let Some(body_at) = find(&seen, b"\r\n\r\n").map(|at| at + 4) else { continue };
                let head = String::from_utf8_lossy(&seen[..body_at]).to_lowercase();
                let length = head.split("content-length: ").nth(1).unwrap();
                let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
                if seen.len() < body_at + length {
                    continue;
                }
                assert!(head.starts_with("post /v1/traces"), "{head}");
                bodies.lock().unwrap().push(seen[body_at..body_at + length].to_vec());
                seen.clear();
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer).await.unwrap();
            }
        });
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn count(bodies: &Bodies, part: &[u8]) -> usize {
    let bodies = bodies.lock().unwrap();
    bodies.iter().map(|body| body.windows(part.len()).filter(|w| *w == part).count()).sum()
}

/// A port that is free at this moment.
async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

fn config(id: usize, ports: &[u16], dir: &std::path::Path, endpoint: &str) -> Config {
    let member =
        |(at, port): (usize, &u16)| format!("{{ id = {}, peer = \"127.0.0.1:{port}\" }}", at + 1);
    let members: Vec<String> = ports.iter().enumerate().map(member).collect();
    let text = format!(
        "[cluster]\nsecret = \"secret-of-the-test-cluster\"\nmembers = [{}]\n[node]\nid = {id}\n\
         data_dir = \"{}\"\n[gateway]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         operator_token = \"{TOKEN}\"\n[peer]\nlisten = \"127.0.0.1:{}\"\n[telemetry]\nlog = \"error\"\n\
         otlp_endpoint = \"{endpoint}\"\ntrace_sample_ratio = 0.0\n",
        members.join(", "),
        dir.join(id.to_string()).display(),
        ports[id - 1],
    );
    Layers::default().with_text(&text, "test").finish().unwrap()
}

async fn create_key(node: &Node) -> String {
    let mut stream = TcpStream::connect(node.addresses().admin).await.unwrap();
    let body = r#"{"name":"traced","scope":"read"}"#;
    let request = format!(
        "POST /v1/keys HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\
         traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_of_a_gateway_continues_in_the_node_and_its_peers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let bodies = Bodies::default();
    tokio::spawn(receive(listener, Arc::clone(&bodies)));
    let dir = tempfile::tempdir().unwrap();
    let ports = [free_port().await, free_port().await, free_port().await];
    let configs: Vec<Config> =
        (1..=3).map(|id| config(id, &ports, dir.path(), &endpoint)).collect();
    let exporter = telemetry::init(&configs[0]).unwrap();
    let mut nodes = Vec::new();
    for config in configs {
        nodes.push(Node::start(config).await.unwrap());
    }
    let ready = async {
        while !nodes.iter().all(Node::is_ready) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ready).await.expect("three nodes are ready");
    // Through every node: two of them forward the proposal to the leader, within the trace.
    for node in &nodes {
        let answer = create_key(node).await;
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }
    tokio::task::spawn_blocking(|| exporter.shutdown()).await.unwrap();
    let id: Vec<u8> =
        (0..16).map(|at| u8::from_str_radix(&TRACE[2 * at..2 * at + 2], 16).unwrap()).collect();
    assert!(
        count(&bodies, &id) >= 5,
        "three requests and two forwarded proposals are in the trace"
    );
    assert!(count(&bodies, b"propose") >= 2, "the peers' spans name their call");
    assert_eq!(count(&bodies, TOKEN.as_bytes()), 0, "no secret in a span");
    for node in nodes {
        node.stop().await;
    }
}
