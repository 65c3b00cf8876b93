//! The tree of commands.
//!
//! Answers for: which commands exist, and which function runs each. Arguments and behaviour of a
//! command are in its own file.

use clap::{Parser, Subcommand};

use crate::commands::{
    audit, audit_limits, bench, check_config, cluster, completions, demo, healthcheck, keys,
    openapi, owners, plans, pools, recover, serve, tls, validate,
};
use crate::exit::Exit;

/// Validates API keys and enforces their limits, identically on every node of a cluster
#[derive(Debug, Parser)]
#[command(
    name = "fluxgate",
    version,
    propagate_version = false,
    after_help = "Exit codes:\n  \
        0  done\n  \
        1  rejected or failed\n  \
        2  wrong usage\n  \
        3  cluster not reachable\n  \
        4  serve only: consensus stopped or the disk is full; start it again\n\n\
        Example:\n  fluxgate demo"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole cluster on this machine, to try it out
    Demo(demo::Args),
    /// Run one node
    Serve(serve::Args),
    /// Create, read, change and revoke keys
    Keys(keys::Args),
    /// Set what all keys of an owner may use together
    Owners(owners::Args),
    /// Set the limits that many keys and owners have
    Plans(plans::Args),
    /// Set what all requests of several keys may use together
    Pools(pools::Args),
    /// Check whether a key is admitted
    Validate(validate::Args),
    /// Show and change the cluster
    Cluster(cluster::Args),
    /// Print the audit trail
    Audit(audit::Args),
    /// Put load on the cluster and check the admissions against the limits
    Bench(bench::Args),
    /// Check a recorded history for windows above their limit
    AuditLimits(audit_limits::Args),
    /// Check a node's configuration
    CheckConfig(check_config::Args),
    /// Repair a stopped node
    Recover(recover::Args),
    /// Ask a node whether it is ready
    Healthcheck(healthcheck::Args),
    /// Create certificates for trying out TLS
    Tls(tls::Args),
    /// Print the OpenAPI document
    Openapi(openapi::Args),
    /// Print the completion script of a shell
    Completions(completions::Args),
}

impl Cli {
    pub(crate) fn run(&self) -> anyhow::Result<Exit> {
        match &self.command {
            Command::Demo(args) => demo::run(args),
            Command::Serve(args) => serve::run(args),
            Command::Keys(args) => keys::run(args),
            Command::Owners(args) => owners::run(args),
            Command::Plans(args) => plans::run(args),
            Command::Pools(args) => pools::run(args),
            Command::Validate(args) => validate::run(args),
            Command::Cluster(args) => cluster::run(args),
            Command::Audit(args) => audit::run(args),
            Command::Bench(args) => bench::run(args),
            Command::AuditLimits(args) => audit_limits::run(args),
            Command::CheckConfig(args) => check_config::run(args),
            Command::Recover(args) => recover::run(args),
            Command::Healthcheck(args) => healthcheck::run(args),
            Command::Tls(args) => tls::run(args),
            Command::Openapi(args) => openapi::run(args),
            Command::Completions(args) => completions::run(args),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_tree_is_valid() {
        super::Cli::command().debug_assert();
    }
}
