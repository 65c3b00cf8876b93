//! `fluxgate keys update`: change what is named, leave the rest.

use fluxgate_api::Time;
use fluxgate_api::keys::{LimitSpec, UpdateKey};
use fluxgate_types::{KeyId, Scope};

use crate::connect::{AdminArgs, block_on};
use crate::exit::Exit;
use crate::output::OutputArgs;
use crate::values;

/// What `keys update` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "What is not named stays as it is.\n\n\
        Example:\n  fluxgate keys update key_Qm2xK9dA3f01 --scope read --no-expiry --if-revision 3")]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub(super) struct Args {
    /// The key's id
    #[arg(value_name = "ID")]
    id: KeyId,
    /// A new name
    #[arg(long, value_name = "TEXT", group = "change")]
    name: Option<String>,
    /// A new scope: read, write or admin
    #[arg(long, value_name = "SCOPE", value_parser = values::scope, group = "change")]
    scope: Option<Scope>,
    /// A new owner
    #[arg(long, value_name = "TEXT", group = "change")]
    owner: Option<String>,
    /// Remove the owner
    #[arg(long, conflicts_with = "owner", group = "change")]
    no_owner: bool,
    /// New limits in place of all old ones; repeat it for more than one
    #[arg(long, value_name = "[NAME=]TOKENS/PERIOD", value_parser = values::limit, group = "change")]
    limit: Vec<LimitSpec>,
    /// Back to the cluster's limits
    #[arg(long, conflicts_with = "limit", group = "change")]
    default_limits: bool,
    /// Enable the key
    #[arg(long, group = "change")]
    enable: bool,
    /// Switch it off
    #[arg(long, conflicts_with = "enable", group = "change")]
    disable: bool,
    /// A new expiry, such as 2027-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", group = "change")]
    expires_at: Option<Time>,
    /// Never expires
    #[arg(long, conflicts_with = "expires_at", group = "change")]
    no_expiry: bool,
    /// New notes in place of all old ones; repeat it for more than one
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::note, group = "change")]
    metadata: Vec<(String, String)>,
    /// No notes
    #[arg(long, conflicts_with = "metadata", group = "change")]
    no_metadata: bool,
    /// Only if the record is still at this revision
    #[arg(long, value_name = "N")]
    if_revision: Option<u64>,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Changes the key and prints its record.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let change = change(args);
    let client = args.admin.client()?;
    let written = block_on(async {
        let call = client.update_key(args.id, &change, args.if_revision);
        Ok(call.await?)
    })?;
    args.output.print(&written, super::written_text)?;
    Ok(Exit::Done)
}

/// `Some(None)` clears, `None` leaves.
fn change(args: &Args) -> UpdateKey {
    let enabled = match (args.enable, args.disable) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    };
    let limits = (!args.limit.is_empty()).then(|| Some(args.limit.clone()));
    let metadata =
        (!args.metadata.is_empty()).then(|| Some(args.metadata.iter().cloned().collect()));
    UpdateKey {
        name: args.name.clone(),
        scope: args.scope,
        owner: args.owner.clone().map(Some).or(args.no_owner.then_some(None)),
        limits: limits.or(args.default_limits.then_some(None)),
        enabled,
        expires_at: args.expires_at.map(Some).or(args.no_expiry.then_some(None)),
        metadata: metadata.or(args.no_metadata.then_some(None)),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Result<UpdateKey, clap::Error> {
        let line = ["update", "key_Qm2xK9dA3f01"].iter().chain(words);
        Line::try_parse_from(line).map(|line| change(&line.args))
    }

    #[test]
    fn what_is_named_changes_and_the_rest_stays() {
        let change = parse(&["--no-owner", "--disable", "--limit", "5/60s"]).unwrap();
        assert_eq!(
            serde_json::to_string(&change).unwrap(),
            r#"{"owner":null,"limits":[{"name":"requests","tokens":5,"period":"60s"}],"enabled":false}"#
        );
        let change = parse(&["--default-limits", "--no-expiry", "--no-metadata"]).unwrap();
        assert_eq!(
            serde_json::to_string(&change).unwrap(),
            r#"{"limits":null,"expires_at":null,"metadata":null}"#
        );
    }

    #[test]
    fn nothing_and_contradictions_are_wrong_usage() {
        assert!(parse(&[]).is_err());
        assert!(parse(&["--if-revision", "3"]).is_err());
        assert!(parse(&["--enable", "--disable"]).is_err());
        assert!(parse(&["--owner", "a", "--no-owner"]).is_err());
    }
}
