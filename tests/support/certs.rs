//! Certificates of a test cluster, and curl as the client that trusts them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cluster::{Cluster, READY_DEADLINE};
use super::command::{fluxgate, run};
use super::wait_until;

/// A directory of certificates, all of one CA.
#[derive(Clone, Debug)]
pub(crate) struct Certs(pub(crate) PathBuf);

impl Certs {
    /// Creates a CA and certificates for three nodes with `fluxgate tls dev`.
    pub(crate) fn make(dir: &Path, name: &str, words: &[&str]) -> Self {
        let certs = Self(dir.join(name));
        certs.again(words);
        certs
    }

    /// Issues the nodes' certificates again, by the same CA.
    pub(crate) fn again(&self, words: &[&str]) {
        let dir = self.0.display().to_string();
        let words = [&["tls", "dev", "--force", "--dir", &dir][..], words].concat();
        run(&mut fluxgate(&words), 0);
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// The `tls` setting of a node.
    pub(crate) fn setting(&self, node: u64, ca: Option<&str>, accept_plain: bool) -> String {
        let (cert, key) =
            (self.file(&format!("node{node}.pem")), self.file(&format!("node{node}.key")));
        let ca = ca.map(|name| format!(", {name} = {:?}", self.file("ca.pem")));
        let plain = if accept_plain { ", accept_plain = true" } else { "" };
        format!("{{ cert_file = {cert:?}, key_file = {key:?}{}{plain} }}", ca.unwrap_or_default())
    }

    /// Configures a node's peer listener with the certificates of this directory.
    pub(crate) fn give_peer(&self, cluster: &mut Cluster, node: u64, accept_plain: bool) {
        let setting = self.setting(node, Some("ca_file"), accept_plain);
        cluster.node_mut(node).settings.set("peer", "tls", setting);
    }

    /// Configures all listeners of all nodes with the certificates of this directory.
    pub(crate) fn give_all(&self, cluster: &mut Cluster) {
        for id in cluster.ids() {
            self.give_peer(cluster, id, false);
            let own = self.setting(id, None, false);
            let settings = &mut cluster.node_mut(id).settings;
            settings.set("gateway", "tls", &own).set("admin", "tls", &own);
        }
    }

    /// Sends a request with curl that trusts the CA of this directory.
    pub(crate) fn curl(
        &self,
        to: SocketAddr,
        path: &str,
        words: &[&str],
    ) -> Result<(u16, String), String> {
        let ca = self.file("ca.pem");
        let words = [&["--cacert", &ca][..], words].concat();
        curl(&format!("https://{to}{path}"), &words)
    }
}

/// Sends a request with curl; returns the status and the body, or curl's error.
fn curl(url: &str, words: &[&str]) -> Result<(u16, String), String> {
    let output = Command::new("curl")
        .args(["-sS", "--noproxy", "*", "--max-time", "10", "-w", "\n%{http_code}"])
        .args(words)
        .arg(url)
        .output()
        .unwrap_or_else(|error| {
            panic!("curl does not start ({error}): run scripts/setup-tests.sh")
        });
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match text.rsplit_once('\n') {
        Some((body, status)) if output.status.success() => {
            Ok((status.parse().unwrap(), body.to_owned()))
        }
        _ => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Waits until a node is ready, over TLS.
#[track_caller]
pub(crate) fn wait_ready(cluster: &mut Cluster, certs: &Certs, id: u64) {
    wait_until(&format!("node {id} is ready"), READY_DEADLINE, || {
        cluster.node_mut(id).assert_alive();
        let to = cluster.gateway(id);
        certs.curl(to, "/readyz", &[]).is_ok_and(|(status, _)| status == 200)
    });
}
