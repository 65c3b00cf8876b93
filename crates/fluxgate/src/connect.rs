//! How a command finds the cluster and proves who is asking.
//!
//! Answers for: URLs from `--url` or the environment, and tokens from a file or the environment.
//! A secret is never taken from an argument: arguments show in process lists and shell histories.

use std::future::Future;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use fluxgate_client::{Ca, Client, Identity, Options, Token, Trust};

use crate::exit::Misuse;

/// Whom a command believes to be a node.
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// The CA that certified the nodes, PEM; by default those that the system knows
    #[arg(long, value_name = "FILE", env = "FLUXGATE_CA_FILE", hide_env_values = true)]
    ca_file: Option<PathBuf>,
    /// The certificate to present where a listener requires one, PEM; with --cert-key-file
    #[arg(
        long,
        value_name = "FILE",
        env = "FLUXGATE_CERT_FILE",
        hide_env_values = true,
        requires = "cert_key_file"
    )]
    cert_file: Option<PathBuf>,
    /// Its private key, PEM
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
    /// A client of these listeners.
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

/// Where administrators' calls go.
#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// An admin listener; repeat it to name more nodes [env: FLUXGATE_URL, comma separated]
    #[arg(
        long,
        value_name = "URL",
        env = "FLUXGATE_URL",
        hide_env = true,
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7201"
    )]
    url: Vec<String>,
    /// The operator token or an admin key; without it the token is read from FLUXGATE_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
}

impl AdminArgs {
    /// A client that presents the token.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        admin_client(&self.url, self.token_file.as_deref(), &self.trust)
    }
}

/// A client of admin listeners that presents the token from a file or the environment.
pub(crate) fn admin_client(
    urls: &[String],
    token_file: Option<&Path>,
    trust: &TrustArgs,
) -> anyhow::Result<Client> {
    let token = secret(token_file, "FLUXGATE_TOKEN")?.ok_or_else(|| {
        Misuse("no token: set FLUXGATE_TOKEN or give --token-file FILE".to_owned())
    })?;
    trust.client(urls, Some(token), Options::default())
}

/// Where gateways' calls go.
#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    /// A gateway listener; repeat it to name more nodes [env: FLUXGATE_GATEWAY_URL, comma separated]
    #[arg(
        long,
        value_name = "URL",
        env = "FLUXGATE_GATEWAY_URL",
        hide_env = true,
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7101"
    )]
    pub(crate) url: Vec<String>,
    /// The gateways' own token, where one is required; else read from FLUXGATE_GATEWAY_TOKEN
    #[arg(long, value_name = "FILE")]
    gateway_token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
}

impl GatewayArgs {
    /// A client that asks the next node when one fails.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        self.trust.client(&self.url, self.token()?, Options::default())
    }

    /// One client per node, each of which asks its node and no other.
    pub(crate) fn client_per_node(&self, options: Options) -> anyhow::Result<Vec<Client>> {
        let token = self.token()?;
        let client = |url| self.trust.client(&[url], token.clone(), options);
        self.url.iter().map(client).collect()
    }

    fn token(&self) -> anyhow::Result<Option<Token>> {
        secret(self.gateway_token_file.as_deref(), "FLUXGATE_GATEWAY_TOKEN")
    }
}

/// A secret from a file, else from the environment.
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
            // The error's own text would show the value.
            drop(error);
            anyhow::bail!("{variable} is not text")
        }
    }
}

/// A runtime for a command's calls: connections that are kept live on the one that made them.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.context("cannot start the runtime")
}

/// Runs a command's calls on a runtime of its own.
pub(crate) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    runtime()?.block_on(future)
}

/// The same on all cores, for a command that makes load.
pub(crate) fn block_on_all_cores<T>(
    future: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(future)
}
