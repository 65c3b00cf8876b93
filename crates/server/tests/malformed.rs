//! A request below `/v1/authorize` that is not valid HTTP, at a node that may not decide: nginx asks
//! the next node only if it sees the 503.

#![expect(clippy::unwrap_used, reason = "a test: a failed unwrap is a failed test")]

use std::net::SocketAddr;

use fluxgate_server::{Config, Layers, Node};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The configuration of a node whose two peers do not exist: it never holds a lease.
fn config(dir: &std::path::Path) -> Config {
    let text = format!(
        "[cluster]\nsecret = \"secret-of-the-test-cluster\"\nmembers = [\
         {{ id = 1, peer = \"127.0.0.1:1\" }}, {{ id = 2, peer = \"127.0.0.1:2\" }}, \
         {{ id = 3, peer = \"127.0.0.1:3\" }}]\n[node]\nid = 1\ndata_dir = \"{}\"\n\
         [gateway]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         operator_token = \"operator-token-of-the-test\"\n[peer]\nlisten = \"127.0.0.1:0\"\n\
         [telemetry]\nlog = \"error\"\n",
        dir.display(),
    );
    Layers::default().with_text(&text, "test").finish().unwrap()
}

/// The answer to a request whose header name has a space.
async fn answer(to: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\na b: c\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_request_gets_the_503_of_a_node_without_a_lease() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(config(dir.path())).await.unwrap();
    let gateway = node.addresses().gateway;
    for (path, status) in [
        ("/v1/authorize/any", 503),
        ("/v1/authorize/nginx/any", 403),
        ("/v1/authorize/nginx/retry/any", 503),
    ] {
        let answer = answer(gateway, path).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        assert!(answer.contains("retry-after: 1\r\n"), "{path}: {answer}");
        let is_nginx = path.contains("nginx");
        assert_eq!(answer.contains("x-auth-status: 503\r\n"), is_nginx, "{path}: {answer}");
        assert_eq!(
            answer.ends_with("\r\n\r\n"),
            is_nginx,
            "{path}: only nginx gets no body: {answer}"
        );
    }
    node.stop().await;
}
