//! `fluxgate keys update`: changes the fields that are given, and leaves the rest unchanged.

use fluxgate_api::Time;
use fluxgate_api::keys::{LimitSpec, UpdateKey};
use fluxgate_types::{KeyId, Scope};

use crate::connect::{AdminArgs, block_on};
use crate::exit::Exit;
use crate::output::OutputArgs;
use crate::values;

#[derive(Debug, clap::Args)]
#[command(after_help = "Fields that are not given are left unchanged.\n\n\
        Example:\n  fluxgate keys update key_Qm2xK9dA3f01 --scope read --no-expiry --if-revision 3")]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub(super) struct Args {
    /// Id of the key
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
    /// New limits that replace all existing ones; repeatable
    #[arg(long, value_name = "[NAME=]TOKENS/PERIOD", value_parser = values::limit, group = "change")]
    limit: Vec<LimitSpec>,
    /// A limit of the plan that does not apply to the key; replaces all own limits, too; repeatable
    #[arg(long, value_name = "LIMIT", group = "change")]
    without: Vec<String>,
    /// Return to the limits of the plan
    #[arg(long, conflicts_with_all = ["limit", "without"], group = "change")]
    default_limits: bool,
    /// A new plan
    #[arg(long, value_name = "PLAN", group = "change")]
    plan: Option<String>,
    /// Return to the plan `default`
    #[arg(long, conflicts_with = "plan", group = "change")]
    no_plan: bool,
    /// New pools that its requests are charged to, in place of those of the plan; repeatable
    #[arg(long, value_name = "POOL", group = "change")]
    pool: Vec<String>,
    /// Return to the pools of the plan
    #[arg(long, conflicts_with = "pool", group = "change")]
    no_pools: bool,
    /// Enable the key
    #[arg(long, group = "change")]
    enable: bool,
    /// Disable the key
    #[arg(long, conflicts_with = "enable", group = "change")]
    disable: bool,
    /// A new expiry, such as 2027-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", group = "change")]
    expires_at: Option<Time>,
    /// Remove the expiry
    #[arg(long, conflicts_with = "expires_at", group = "change")]
    no_expiry: bool,
    /// New metadata that replaces all existing entries; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::metadata_entry, group = "change")]
    metadata: Vec<(String, String)>,
    /// Remove all metadata
    #[arg(long, conflicts_with = "metadata", group = "change")]
    no_metadata: bool,
    /// Change the key only if it is still at this revision
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

/// The request. `Some(None)` clears a field, `None` leaves it unchanged.
fn change(args: &Args) -> UpdateKey {
    let enabled = match (args.enable, args.disable) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    };
    let entries = values::entries(&args.limit, &args.without);
    let limits = (!entries.is_empty()).then_some(Some(entries));
    let pools = (!args.pool.is_empty()).then(|| Some(args.pool.clone()));
    let metadata =
        (!args.metadata.is_empty()).then(|| Some(args.metadata.iter().cloned().collect()));
    UpdateKey {
        name: args.name.clone(),
        scope: args.scope,
        owner: args.owner.clone().map(Some).or(args.no_owner.then_some(None)),
        limits: limits.or(args.default_limits.then_some(None)),
        plan: args.plan.clone().map(Some).or(args.no_plan.then_some(None)),
        pools: pools.or(args.no_pools.then_some(None)),
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
    fn only_given_fields_change() {
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
    fn empty_and_contradictory_changes_are_wrong_usage() {
        assert!(parse(&[]).is_err());
        assert!(parse(&["--if-revision", "3"]).is_err());
        assert!(parse(&["--enable", "--disable"]).is_err());
        assert!(parse(&["--owner", "a", "--no-owner"]).is_err());
    }
}
