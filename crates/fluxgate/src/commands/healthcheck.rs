//! `fluxgate healthcheck`: checks that a node is ready. For containers and supervisors.
//!
//! Asks once and does not wait: the caller repeats the check.

use std::time::Duration;

use fluxgate_client::{Error, Options};

use crate::connect::{TrustArgs, block_on};
use crate::exit::Exit;
use crate::{output, values};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exits with 0 when the node would answer validate requests, 1 when it would not, 3 when it cannot be reached.\n\n\
        Example:\n  fluxgate healthcheck --url http://127.0.0.1:7201"
)]
pub(crate) struct Args {
    /// URL of a gateway or admin listener of the node
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7101")]
    url: String,
    /// Longest time to wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = values::duration)]
    timeout: Duration,
    #[command(flatten)]
    trust: TrustArgs,
}

/// Asks the node once.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let options = Options { deadline: args.timeout, attempt_timeout: args.timeout, retry: false };
    let client = args.trust.client(&[&args.url], None, options)?;
    match block_on(async { Ok(client.ready().await) })? {
        Ok(health) => {
            output::data(&format!("node {} is ready", health.node_id))?;
            Ok(Exit::Done)
        }
        // Here "not ready" is a valid answer, not a failure to get one.
        Err(rejected @ Error::Refused { .. }) => {
            output::notice(&format!("fluxgate: not ready: {rejected}"));
            Ok(Exit::Failed)
        }
        Err(error) => Err(error.into()),
    }
}
