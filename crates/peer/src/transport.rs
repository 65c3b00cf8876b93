//! Calls to the other nodes, over HTTP with the cluster secret.
//!
//! Answers for: every call has a deadline, a name from a closed list and a bounded answer; the
//! receiver can verify that the call is meant for it. Must never retry: only the caller knows what
//! a repeat means.

mod clients;
mod fault;
#[cfg(feature = "sim")]
mod link;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use fluxgate_store::addresses::Recovered;
use fluxgate_types::{DirId, NodeId, caps};
use fluxgate_wire as wire;
use tokio::time::Instant;

use crate::calls::{Call, Question};
pub use clients::PeerTls;
use clients::{Clients, Habits};
pub use fault::{CallError, Fault, REFUSED_FOR, RefusedFor};
#[cfg(feature = "sim")]
pub use link::{Answered, Link, LinkError};

/// Notified of every call that ended.
pub type CallObserver = Arc<dyn Fn(NodeId, Call, Result<(), &CallError>, Duration) + Send + Sync>;

/// What a transport needs.
#[derive(Clone)]
pub struct TransportOptions {
    pub me: NodeId,
    /// The id of this node's data directory, which every call states: a node that knows this node
    /// with another directory rejects the call.
    pub directory: DirId,
    /// The cluster's name, checked by the receiver.
    pub cluster: String,
    pub secret: String,
    /// Initial addresses of the other nodes; membership changes them later.
    pub addresses: BTreeMap<NodeId, String>,
    /// How calls are encrypted, if they are.
    pub tls: Option<PeerTls>,
    /// Notified of every call.
    pub observer: CallObserver,
    /// Returns the headers that carry the caller's trace; called for each call.
    pub trace_headers: Arc<dyn Fn() -> Vec<(String, String)> + Send + Sync>,
    /// Carries the calls in place of the operating system's network.
    #[cfg(feature = "sim")]
    pub link: Option<Arc<dyn Link>>,
}

impl fmt::Debug for TransportOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportOptions").field("me", &self.me).finish_non_exhaustive()
    }
}

struct Inner {
    options: TransportOptions,
    clients: RwLock<Arc<Clients>>,
    habits: Habits,
    addresses: RwLock<BTreeMap<NodeId, String>>,
    recovered: RwLock<Vec<Recovered>>,
    directories: RwLock<BTreeMap<NodeId, DirId>>,
}

/// A cloneable handle for calls to the other nodes.
#[derive(Clone)]
pub struct Transport {
    inner: Arc<Inner>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("me", &self.inner.options.me).finish_non_exhaustive()
    }
}

impl Transport {
    /// Makes a transport; opens no connection yet.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(mut options: TransportOptions) -> Result<Self, String> {
        let clients = Clients::new(options.tls.take())?;
        let addresses = RwLock::new(options.addresses.clone());
        Ok(Self {
            inner: Arc::new(Inner {
                options,
                clients: RwLock::new(Arc::new(clients)),
                habits: Habits::default(),
                addresses,
                recovered: RwLock::default(),
                directories: RwLock::default(),
            }),
        })
    }

    /// Sets the encryption of later calls; those in flight end as they began.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn set_tls(&self, tls: PeerTls) -> Result<(), String> {
        let clients = Arc::new(Clients::new(Some(tls))?);
        *self.inner.clients.write().unwrap_or_else(PoisonError::into_inner) = clients;
        Ok(())
    }

    /// Sets addresses that replace those in the log, as long as the log has the address in
    /// `instead_of`, or any address if `instead_of` is `None`.
    pub fn set_recovered(&self, recovered: Vec<Recovered>) {
        for one in &recovered {
            let mut addresses =
                self.inner.addresses.write().unwrap_or_else(PoisonError::into_inner);
            addresses.insert(NodeId(one.node), one.address.clone());
        }
        *self.inner.recovered.write().unwrap_or_else(PoisonError::into_inner) = recovered;
    }

    /// Sets a node's address from the log.
    pub fn set_address(&self, node: NodeId, address: &str) {
        let recovered = self.inner.recovered.read().unwrap_or_else(PoisonError::into_inner);
        let counts = |one: &&Recovered| {
            let applies = one.instead_of.as_ref().is_none_or(|instead_of| instead_of == address);
            one.node == node.0 && applies
        };
        let address = recovered.iter().find(counts).map_or(address, |one| one.address.as_str());
        let mut addresses = self.inner.addresses.write().unwrap_or_else(PoisonError::into_inner);
        if addresses.get(&node).is_none_or(|known| known != address) {
            addresses.insert(node, address.to_owned());
        }
    }

    /// Sets the data directory by which the cluster knows a node: calls name it, and a node on
    /// another directory rejects them.
    pub fn set_directory(&self, node: NodeId, directory: DirId) {
        let mut known = self.inner.directories.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(node, directory);
    }

    /// Removes a node's directory, because the node was removed.
    pub fn forget_directory(&self, node: NodeId) {
        self.inner.directories.write().unwrap_or_else(PoisonError::into_inner).remove(&node);
    }

    fn directory(&self, node: NodeId) -> Option<DirId> {
        let known = self.inner.directories.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&node).copied()
    }

    /// Why the last call to a node was not served; `None` if it was, or none has ended yet.
    #[must_use]
    pub fn fault(&self, node: NodeId) -> Option<Fault> {
        self.inner.habits.fault(node)
    }

    /// Whether calls to a node are encrypted now.
    #[must_use]
    pub fn is_encrypted(&self, node: NodeId) -> bool {
        let tls = self.inner.clients.read().unwrap_or_else(PoisonError::into_inner).tls;
        match tls {
            None => false,
            Some(false) => true,
            Some(true) => !self.inner.habits.is_plain(node),
        }
    }

    /// The address of a node, if known.
    #[must_use]
    pub fn address(&self, node: NodeId) -> Option<String> {
        let addresses = self.inner.addresses.read().unwrap_or_else(PoisonError::into_inner);
        addresses.get(&node).cloned()
    }

    /// Calls a node and waits for its answer, at most `timeout`.
    ///
    /// # Errors
    /// Says whether the call can have been carried out.
    pub async fn call(
        &self,
        node: NodeId,
        call: Call,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        self.call_at(node, None, call, body, timeout).await
    }

    /// Sends a question in the shape of its version, and decodes the answer.
    ///
    /// # Errors
    /// As for [`Transport::call`]; [`CallError::Broken`] if the answer cannot be decoded.
    pub async fn ask<Q: Question>(
        &self,
        node: NodeId,
        question: &Q,
        timeout: Duration,
    ) -> Result<Q::Answer, CallError> {
        self.ask_at(node, None, question, timeout).await
    }

    /// The same at an address that may differ from the node's known one.
    ///
    /// # Errors
    /// As for [`Transport::ask`].
    pub async fn ask_at<Q: Question>(
        &self,
        node: NodeId,
        address: Option<&str>,
        question: &Q,
        timeout: Duration,
    ) -> Result<Q::Answer, CallError> {
        let broken = |cause: String| CallError::Broken { node, cause };
        let body = wire::encode_as(Q::VERSION, question).map_err(|e| broken(e.to_string()))?;
        let answer = self.call_at(node, address, Q::CALL, body, timeout).await?;
        wire::decode_as(Q::VERSION, &answer).map_err(|error| broken(error.to_string()))
    }

    /// Calls a node at an address that may differ from its known one.
    ///
    /// # Errors
    /// As for [`Transport::call`].
    pub async fn call_at(
        &self,
        node: NodeId,
        address: Option<&str>,
        call: Call,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        let begun = Instant::now();
        let answer = tokio::time::timeout(timeout, self.send(node, address, call, body));
        let result = answer.await.unwrap_or(Err(CallError::Timeout { node }));
        let outcome = result.as_ref().map(|_| ());
        self.inner.habits.note(node, outcome);
        (self.inner.options.observer)(node, call, outcome, begun.elapsed());
        result
    }

    async fn send(
        &self,
        node: NodeId,
        address: Option<&str>,
        call: Call,
        body: Vec<u8>,
    ) -> Result<Bytes, CallError> {
        // A caller that asks which node answers cannot know its directory.
        let directory = self.directory(node).filter(|_| call != Call::Introduce);
        let headers = self.headers(node, directory);
        #[cfg(feature = "sim")]
        if let Some(link) = &self.inner.options.link {
            let path = format!("/peer/v1/{}", call.as_str());
            return link::send(link.as_ref(), node, path, headers, body).await;
        }
        let unreachable = |cause: String| CallError::Unreachable { node, cause };
        let address = address.map(str::to_owned).or_else(|| self.address(node));
        let address = address.ok_or_else(|| unreachable("no address".to_owned()))?;
        let clients =
            Arc::clone(&self.inner.clients.read().unwrap_or_else(PoisonError::into_inner));
        let habits = &self.inner.habits;
        let post = |scheme: &str, body: Vec<u8>| {
            let url = format!("{scheme}://{address}/peer/v1/{}", call.as_str());
            let mut request = clients.of(call.is_consensus()).post(url).body(body);
            for (name, value) in &headers {
                request = request.header(name, value);
            }
            request.send()
        };
        let sent = match clients.tls {
            None => post("http", body).await,
            Some(true) if habits.is_plain(node) => post("http", body).await,
            Some(false) => post("https", body).await,
            Some(true) => match post("https", body.clone()).await {
                // Not connected, so nothing was carried out: perhaps the node does not speak TLS
                // yet.
                Err(error) if error.is_connect() => {
                    let plain = post("http", body).await;
                    if plain.is_ok() {
                        habits.note_plain(node);
                        plain
                    } else {
                        Err(error)
                    }
                }
                sent => sent,
            },
        };
        let broken = |cause: String| CallError::Broken { node, cause };
        let mut response = sent.map_err(|error| {
            // A rejected or failed connect never carried the call; any other failure may have.
            let unsent = error.is_connect();
            let cause = habits.cause(node, error);
            if unsent { unreachable(cause) } else { broken(cause) }
        })?;
        let status = response.status().as_u16();
        if status != 200 {
            let why = response.headers().get(REFUSED_FOR).and_then(|why| why.to_str().ok());
            let why = why.and_then(RefusedFor::from_word);
            return Err(CallError::Refused { node, status, why });
        }
        let mut answer = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| broken(error.without_url().to_string()))?
        {
            if answer.len() + chunk.len() > caps::PEER_MESSAGE_BYTES_MAX {
                return Err(broken("answer too large".to_owned()));
            }
            answer.extend_from_slice(&chunk);
        }
        Ok(answer.into())
    }

    /// The headers of every call to a node: caller, addressee and cluster.
    fn headers(&self, node: NodeId, directory: Option<DirId>) -> Vec<(String, String)> {
        let options = &self.inner.options;
        let named = |name: &str, value: String| (name.to_owned(), value);
        let mut headers = vec![
            named("authorization", format!("Bearer {}", options.secret)),
            named("x-fluxgate-cluster", options.cluster.clone()),
            named("x-fluxgate-from", options.me.to_string()),
            named("x-fluxgate-to", node.to_string()),
            named("x-fluxgate-from-directory", options.directory.0.to_string()),
        ];
        headers.extend(directory.map(|id| named("x-fluxgate-directory", id.0.to_string())));
        headers.extend((options.trace_headers)());
        headers
    }
}
