//! `fluxgate healthcheck`: is the node ready? For containers and supervisors.
//!
//! Asks once and does not wait: whoever calls it calls it again.

use std::time::Duration;

use fluxgate_client::{Error, Options};

use crate::connect::{TrustArgs, block_on};
use crate::exit::Exit;
use crate::{output, values};

/// What `healthcheck` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exits with 0 when the node would answer validates, 1 when it would not, 3 when it cannot be asked.\n\n\
        Example:\n  fluxgate healthcheck --url http://127.0.0.1:7201"
)]
pub(crate) struct Args {
    /// A listener of the node, for gateways or administrators
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7101")]
    url: String,
    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = values::duration)]
    timeout: Duration,
    #[command(flatten)]
    trust: TrustArgs,
}

/// Asks once.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let options = Options { deadline: args.timeout, attempt_timeout: args.timeout, retry: false };
    let client = args.trust.client(&[&args.url], None, options)?;
    match block_on(async { Ok(client.ready().await) })? {
        Ok(health) => {
            output::data(&format!("node {} is ready", health.node_id))?;
            Ok(Exit::Done)
        }
        // Here "not ready" is the answer, and not the lack of one.
        Err(refused @ Error::Refused { .. }) => {
            output::notice(&format!("fluxgate: not ready: {refused}"));
            Ok(Exit::Failed)
        }
        Err(error) => Err(error.into()),
    }
}
