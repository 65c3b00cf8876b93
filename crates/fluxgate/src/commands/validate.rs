//! `fluxgate validate`: checks whether a key is admitted.

use std::io::Read as _;

use anyhow::Context as _;
use fluxgate_api::ErrorCode;
use fluxgate_api::validate::{BatchBody, BatchResult, ValidateRequest};
use fluxgate_client::{Token, Verdict, VerdictReport};
use fluxgate_types::{ClusterMs, Scope, caps};

use crate::connect::{GatewayArgs, block_on, secret};
use crate::exit::{Exit, Misuse};
use crate::output::OutputArgs;
use crate::values;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The key is read from FLUXGATE_KEY or standard input, never from an argument, which other users could see.\n\
        Exits with 1 when the key is denied.\n\n\
        Example:\n  fluxgate validate --scope write < key.txt"
)]
pub(crate) struct Args {
    #[command(flatten)]
    gateway: GatewayArgs,
    /// Scope that the endpoint requires; by default any valid key passes
    #[arg(long, value_name = "SCOPE", value_parser = values::scope)]
    scope: Option<Scope>,
    /// Tokens that the request costs; 0 checks without spending
    #[arg(long, value_name = "TOKENS")]
    cost: Option<u64>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Requests a verdict and prints it.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let key = match secret(None, "FLUXGATE_KEY")? {
        Some(key) => key,
        None => key_from_stdin()?,
    };
    let request = ValidateRequest { key: None, scope: args.scope, cost: args.cost };
    let client = args.gateway.client()?;
    let report = block_on(async { Ok(client.validate(&key, &request).await?) })?;
    let exit = match report.verdict {
        Verdict::Admitted(_) => Exit::Done,
        Verdict::Denied(_) => Exit::Failed,
    };
    args.output.print(&as_result(&report), |_| text(&report))?;
    Ok(exit)
}

fn key_from_stdin() -> anyhow::Result<Token> {
    let bound = u64::try_from(caps::CREDENTIAL_BYTES_MAX)? + 2;
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(bound)
        .read_to_string(&mut text)
        .context("cannot read the key from standard input")?;
    if text.trim().is_empty() {
        let how = "no key: set FLUXGATE_KEY or write it to standard input";
        return Err(Misuse(how.to_owned()).into());
    }
    Ok(Token::new(&text)?)
}

/// The verdict in the shape of a batch result: status and body in one object.
fn as_result(report: &VerdictReport) -> BatchResult {
    BatchResult {
        status: report.status,
        body: match report.verdict.clone() {
            Verdict::Admitted(answer) => BatchBody::Admitted(answer),
            Verdict::Denied(error) => BatchBody::Denied(error),
        },
    }
}

fn text(report: &VerdictReport) -> String {
    let mut text = match &report.verdict {
        Verdict::Admitted(answer) => {
            let owner = answer
                .owner
                .as_ref()
                .map_or_else(|| "no owner".to_owned(), |owner| format!("owner {owner}"));
            format!(
                "admitted: \"{}\" ({}), {owner}, scope {}",
                answer.name, answer.key_id, answer.scope
            )
        }
        Verdict::Denied(error) => format!("denied: {error}"),
    };
    // An unknown key has no limit of its own: the headers of a 401 show the default limit.
    let is_unknown = matches!(&report.verdict, Verdict::Denied(error)
        if error.error == ErrorCode::AuthenticationFailed);
    if let Some(window) = report.window.filter(|_| !is_unknown) {
        let end = ClusterMs(window.reset.saturating_mul(1_000));
        text += &format!("\n{} of {} left until {end}", window.remaining, window.limit);
    }
    text
}
