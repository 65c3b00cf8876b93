//! Calls a Fluxgate cluster over HTTP.
//!
//! Answers for: asking the next node when one does not answer or cannot serve, within one deadline,
//! and never doing anything twice: a call that is not safe to repeat is repeated only if it was
//! certainly not executed. Must never print a token or follow a redirect with one. Knows only the
//! contract in `fluxgate-api`, nothing else about the server.
//!
//! A [`Client`] talks to one listener of each node: its URLs are admin listeners for the calls in
//! `admin` and `records`, and gateway listeners for those in `gateway`.
#![warn(missing_docs)]

mod admin;
mod bulk;
mod error;
mod gateway;
mod records;
mod transport;

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

pub use bulk::Download;
pub use error::Error;
pub use gateway::{Verdict, VerdictReport, Window};

/// A token or key that a client presents. It cannot be printed.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Wraps a token, without surrounding white space, which files often contain.
    ///
    /// # Errors
    /// When it is empty or contains characters that a header cannot carry.
    pub fn new(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::BadToken);
        }
        Ok(Self(text.to_owned()))
    }

    /// The token in the clear, for sending.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The certificates of the CA that must have issued the nodes' certificates.
#[derive(Clone, Debug)]
pub struct Ca(Vec<reqwest::Certificate>);

impl Ca {
    /// Parses one or more PEM certificates.
    ///
    /// # Errors
    /// When it contains no certificate.
    pub fn new(pem: &[u8]) -> Result<Self, Error> {
        match reqwest::Certificate::from_pem_bundle(pem) {
            Ok(certificates) if !certificates.is_empty() => Ok(Self(certificates)),
            Ok(_) | Err(_) => Err(Error::BadCa),
        }
    }
}

/// The certificate that a client presents, with its private key.
#[derive(Clone, Debug)]
pub struct Identity(reqwest::Identity);

impl Identity {
    /// Parses PEM: the certificate, intermediate certificates, and the private key.
    ///
    /// # Errors
    /// When one of them is missing.
    pub fn new(cert: &[u8], key: &[u8]) -> Result<Self, Error> {
        let pem = [cert, b"\n", key].concat();
        reqwest::Identity::from_pem(&pem).map(Self).map_err(|_| Error::BadIdentity)
    }
}

/// The CA that a client trusts, and its own certificate.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The only CA to trust; if absent, the CAs of the system.
    pub ca: Option<Ca>,
    /// The certificate for listeners that require one.
    pub identity: Option<Identity>,
}

/// Time limits and retries of a client.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Time limit of one call, including all attempts and pauses.
    pub deadline: Duration,
    /// Time limit of one attempt at one node; half of it if another node can be asked for the same.
    pub attempt_timeout: Duration,
    /// Whether a failed call is retried at all.
    pub retry: bool,
}

impl Default for Options {
    /// The deadline exceeds an election plus a write that waits for a lost node's lease; one
    /// attempt lasts longer than a node takes for a request (`http.request_timeout`).
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(15),
            attempt_timeout: Duration::from_secs(12),
            retry: true,
        }
    }
}

/// Calls the nodes at its URLs.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    urls: Vec<String>,
    /// Index of the node that answered last, which is asked first. Only a hint, so relaxed ordering
    /// suffices.
    preferred: AtomicUsize,
    token: Option<Token>,
    options: Options,
}

impl Client {
    /// A client of the listeners at these URLs, such as `http://127.0.0.1:7201`.
    ///
    /// # Errors
    /// When there is no URL, or one is not an `http` or `https` URL.
    pub fn new<U: AsRef<str>>(urls: &[U], token: Option<Token>) -> Result<Self, Error> {
        Self::with_options(urls, token, Options::default())
    }

    /// The same with other time limits.
    ///
    /// # Errors
    /// When there is no URL, or one is not an `http` or `https` URL.
    pub fn with_options<U: AsRef<str>>(
        urls: &[U],
        token: Option<Token>,
        options: Options,
    ) -> Result<Self, Error> {
        Self::with_trust(urls, token, options, Trust::default())
    }

    /// The same with a CA and a client certificate.
    ///
    /// # Errors
    /// When there is no URL, or one is not an `http` or `https` URL.
    pub fn with_trust<U: AsRef<str>>(
        urls: &[U],
        token: Option<Token>,
        options: Options,
        trust: Trust,
    ) -> Result<Self, Error> {
        let urls: Vec<String> =
            urls.iter().map(|url| base_url(url.as_ref())).collect::<Result<_, _>>()?;
        if urls.is_empty() {
            return Err(Error::NoUrl);
        }
        // Installs the provider that is linked in. An error means that one is installed already.
        rustls::crypto::ring::default_provider().install_default().ok();
        let plain = urls.iter().all(|url| url.starts_with("http://"));
        // Plain HTTP needs no CAs, and a machine may have none.
        let trusted = match trust.ca {
            Some(Ca(certificates)) => Some(certificates),
            None => plain.then(Vec::new),
        };
        // A proxy from the environment or a redirect would send the token to a third party.
        let builder = match trusted {
            Some(certificates) => reqwest::Client::builder().tls_certs_only(certificates),
            None => reqwest::Client::builder(),
        };
        let builder = match trust.identity {
            Some(Identity(identity)) => builder.identity(identity),
            None => builder,
        };
        let http = builder
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(options.attempt_timeout.min(Duration::from_secs(2)))
            .build()
            .map_err(|error| Error::unexpected(None, error::chain(&error)))?;
        Ok(Self { http, urls, preferred: AtomicUsize::new(0), token, options })
    }

    /// The URLs of the nodes, without trailing slashes.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        &self.urls
    }
}

/// Validates a URL and removes its trailing slash.
fn base_url(text: &str) -> Result<String, Error> {
    let wrong = |reason: String| Error::BadUrl { url: text.to_owned(), reason };
    let url = reqwest::Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("expected http:// or https://".to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("a URL must not carry credentials".to_owned()));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("a URL must not carry a query or fragment".to_owned()));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests;
