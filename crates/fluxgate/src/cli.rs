//! The tree of commands.
//!
//! Answers for: which commands exist and where each goes. What a command takes and does is in
//! its own file.

use clap::{Parser, Subcommand};

use crate::commands::{
    audit, audit_limits, bench, check_config, cluster, completions, demo, healthcheck, keys,
    openapi, recover, serve, tls, validate,
};
use crate::exit::Exit;

/// Validates API keys and enforces their limits, on every node of a cluster alike
#[derive(Debug, Parser)]
#[command(
    name = "fluxgate",
    version,
    propagate_version = false,
    after_help = "Exit codes:\n  \
        0  done\n  \
        1  refused or failed\n  \
        2  wrong usage\n  \
        3  cluster not reachable\n  \
        4  of serve: consensus stopped, start it again\n\n\
        Example:\n  fluxgate demo"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole cluster on this machine, to try things out
    Demo(demo::Args),
    /// Run one node
    Serve(serve::Args),
    /// Make, read, change and revoke keys
    Keys(keys::Args),
    /// Ask whether a key may pass
    Validate(validate::Args),
    /// Look at the cluster and change it
    Cluster(cluster::Args),
    /// Print what was done, by whom
    Audit(audit::Args),
    /// Put load on validate and check what was admitted against the limits
    Bench(bench::Args),
    /// Check a recorded history: was any window admitted above its limit?
    AuditLimits(audit_limits::Args),
    /// Check a node's configuration
    CheckConfig(check_config::Args),
    /// Repair a stopped node
    Recover(recover::Args),
    /// Ask a node whether it would answer validates
    Healthcheck(healthcheck::Args),
    /// Make certificates to try TLS out
    Tls(tls::Args),
    /// Print the OpenAPI document
    Openapi(openapi::Args),
    /// Print the completions for a shell
    Completions(completions::Args),
}

impl Cli {
    /// Runs the command that was named.
    pub(crate) fn run(&self) -> anyhow::Result<Exit> {
        match &self.command {
            Command::Demo(args) => demo::run(args),
            Command::Serve(args) => serve::run(args),
            Command::Keys(args) => keys::run(args),
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
    fn the_tree_of_commands_is_sound() {
        super::Cli::command().debug_assert();
    }
}
