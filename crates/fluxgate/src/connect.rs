//! How a command connects to the cluster and authenticates.
//!
//! Answers for: URLs from `--url` or the environment, and tokens from a file or the environment. A
//! secret is never read from an argument, because arguments are visible in process lists and shell
//! histories.

use std::future::Future;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use fluxgate_client::{Ca, Client, Identity, Options, Token, Trust};

use crate::exit::Misuse;

/// The certificates of TLS connections.
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// CA that issued the nodes' certificates, PEM; by default the CAs of the system
    #[arg(long, value_name = "FILE", env = "FLUXGATE_CA_FILE", hide_env_values = true)]
    ca_file: Option<PathBuf>,
    /// Certificate for listeners that require one, PEM; with --cert-key-file
    #[arg(
        long,
        value_name = "FILE",
        env = "FLUXGATE_CERT_FILE",
        hide_env_values = true,
        requires = "cert_key_file"
    )]
    cert_file: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(
        long,
        value_name = "FILE",
        env = "FLUXGATE_CERT_KEY_FILE",
        hide_env_values = true,
        requires = "cert_file"
    )]
    cert_key_file: Option<PathBuf>,
}

impl TrustArgs {
    /// Creates a client of these listeners.
    pub(crate) fn client(
        &self,
        urls: &[impl AsRef<str>],
        token: Option<Token>,
        options: Options,
    ) -> anyhow::Result<Client> {
        let read = |file: &Path| {
            std::fs::read(file).with_context(|| format!("cannot read `{}`", file.display()))
        };
        let ca = match &self.ca_file {
            None => None,
            Some(file) => {
                let shown = file.display();
                Some(Ca::new(&read(file)?).with_context(|| format!("in `{shown}`"))?)
            }
        };
        let identity = match (&self.cert_file, &self.cert_key_file) {
            (Some(cert), Some(key)) => {
                let shown = cert.display();
                let identity = Identity::new(&read(cert)?, &read(key)?);
                Some(identity.with_context(|| format!("in `{shown}`"))?)
            }
            _ => None,
        };
        Ok(Client::with_trust(urls, token, options, Trust { ca, identity })?)
    }
}

/// How to reach the admin listeners.
#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// URL of an admin listener; repeat it for more nodes [env: FLUXGATE_URL, comma separated]
    #[arg(
        long,
        value_name = "URL",
        env = "FLUXGATE_URL",
        hide_env = true,
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7201"
    )]
    url: Vec<String>,
    /// File with the operator token or an admin key; by default the token is read from
    /// FLUXGATE_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
}

impl AdminArgs {
    /// Creates a client that presents the token.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        admin_client(&self.url, self.token_file.as_deref(), &self.trust)
    }
}

/// Creates a client of admin listeners that presents the token from a file or the environment.
pub(crate) fn admin_client(
    urls: &[String],
    token_file: Option<&Path>,
    trust: &TrustArgs,
) -> anyhow::Result<Client> {
    let token = secret(token_file, "FLUXGATE_TOKEN")?.ok_or_else(|| {
        Misuse("no token: set FLUXGATE_TOKEN or use --token-file FILE".to_owned())
    })?;
    trust.client(urls, Some(token), Options::default())
}

/// How to reach the gateway listeners.
#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    /// URL of a gateway listener; repeat it for more nodes [env: FLUXGATE_GATEWAY_URL, comma
    /// separated]
    #[arg(
        long,
        value_name = "URL",
        env = "FLUXGATE_GATEWAY_URL",
        hide_env = true,
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7101"
    )]
    pub(crate) url: Vec<String>,
    /// File with the gateways' own token, if required; by default it is read from
    /// FLUXGATE_GATEWAY_TOKEN
    #[arg(long, value_name = "FILE")]
    gateway_token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
}

impl GatewayArgs {
    /// Creates a client that asks the next node when one fails.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        self.trust.client(&self.url, self.token()?, Options::default())
    }

    /// Creates one client per node, each of which only asks that node.
    pub(crate) fn client_per_node(&self, options: Options) -> anyhow::Result<Vec<Client>> {
        let token = self.token()?;
        let client = |url| self.trust.client(&[url], token.clone(), options);
        self.url.iter().map(client).collect()
    }

    fn token(&self) -> anyhow::Result<Option<Token>> {
        secret(self.gateway_token_file.as_deref(), "FLUXGATE_GATEWAY_TOKEN")
    }
}

/// Reads a secret from a file, otherwise from the environment.
pub(crate) fn secret(file: Option<&Path>, variable: &str) -> anyhow::Result<Option<Token>> {
    if let Some(file) = file {
        let shown = file.display();
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read `{shown}`"))?;
        let token = Token::new(&text).with_context(|| format!("in `{shown}`"))?;
        return Ok(Some(token));
    }
    match std::env::var(variable) {
        Ok(text) if !text.trim().is_empty() => {
            let token = Token::new(&text).with_context(|| format!("in {variable}"))?;
            Ok(Some(token))
        }
        Ok(_) | Err(std::env::VarError::NotPresent) => Ok(None),
        Err(error @ std::env::VarError::NotUnicode(_)) => {
            // The message of the error would contain the value.
            drop(error);
            anyhow::bail!("{variable} is not text")
        }
    }
}

/// Creates the runtime of a command's calls. Connections kept alive belong to the runtime that
/// opened them.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.context("cannot start the runtime")
}

/// Runs a command's calls on a new runtime.
pub(crate) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    runtime()?.block_on(future)
}

/// The same on all cores, for a command that generates load.
pub(crate) fn block_on_all_cores<T>(
    future: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(future)
}
