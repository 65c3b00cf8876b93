//! Calls a Fluxgate cluster over HTTP.
//!
//! Answers for: asking the next node when one does not answer or cannot serve, within one
//! deadline, and for never doing a thing twice: what is not harmless when repeated is repeated
//! only when it surely was not done. Must never print a token or follow a redirect with one, and
//! knows nothing of the server but the contract in `fluxgate-api`.
//!
//! One [`Client`] speaks to one listener of each node: its URLs are admin listeners for the
//! calls in `admin`, gateway listeners for those in `gateway`.
#![warn(missing_docs)]

mod admin;
mod bulk;
mod error;
mod gateway;
mod transport;

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

pub use bulk::Download;
pub use error::Error;
pub use gateway::{Verdict, VerdictReport, Window};

/// A token or key that a client presents. Cannot be printed.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Takes a token, without the white space around it that a file brings along.
    ///
    /// # Errors
    /// When it is empty or holds what no header can carry.
    pub fn new(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::BadToken);
        }
        Ok(Self(text.to_owned()))
    }

    /// The token itself, to be sent.
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

/// The certificates of the CA that nodes must be certified by.
#[derive(Clone, Debug)]
pub struct Ca(Vec<reqwest::Certificate>);

impl Ca {
    /// Reads PEM.
    ///
    /// # Errors
    /// When it holds no certificate.
    pub fn new(pem: &[u8]) -> Result<Self, Error> {
        match reqwest::Certificate::from_pem_bundle(pem) {
            Ok(certificates) if !certificates.is_empty() => Ok(Self(certificates)),
            Ok(_) | Err(_) => Err(Error::BadCa),
        }
    }
}

/// The certificate that a client presents, with its key.
#[derive(Clone, Debug)]
pub struct Identity(reqwest::Identity);

impl Identity {
    /// Reads PEM: the certificate, those between it and its CA, and the private key.
    ///
    /// # Errors
    /// When one of them is missing.
    pub fn new(cert: &[u8], key: &[u8]) -> Result<Self, Error> {
        let pem = [cert, b"\n", key].concat();
        reqwest::Identity::from_pem(&pem).map(Self).map_err(|_| Error::BadIdentity)
    }
}

/// Whom a client trusts, and who it is.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Nodes must be certified by this CA instead of one that the system knows.
    pub ca: Option<Ca>,
    /// Presented to listeners that require a certificate.
    pub identity: Option<Identity>,
}

/// How long and how often a client tries.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// For one call, all tries and pauses together.
    pub deadline: Duration,
    /// For one try at one node; half of it where another node may be asked for the same.
    pub attempt_timeout: Duration,
    /// Whether a call that fails is tried again at all.
    pub retry: bool,
}

impl Default for Options {
    /// Longer than an election and a write barrier that waits for a lost node's lease together, and one
    /// try as long as a node takes for a request (`http.request_timeout`).
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
    /// The node that answered last is asked first. Only a hint, so any order will do.
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

    /// The same, with its own deadlines.
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

    /// The same, with certificates of its own choice.
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
        // The one that is linked; another part of the process may have said so before.
        rustls::crypto::ring::default_provider().install_default().ok();
        let plain = urls.iter().all(|url| url.starts_with("http://"));
        // Plain calls need no list of CAs, which a machine may lack.
        let trusted = match trust.ca {
            Some(Ca(certificates)) => Some(certificates),
            None => plain.then(Vec::new),
        };
        // A proxy from the environment or a redirect would carry the token to a third party.
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

    /// The URLs that it calls.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        &self.urls
    }
}

/// Checks a URL and takes the slash off its end.
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
