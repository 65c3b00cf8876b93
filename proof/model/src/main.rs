//! `fluxgate-model`: checks the models and their broken variants, and prints a table.

use std::time::Instant;

use clap::Parser;
use fluxgate_engine::fault::Mutation;
use fluxgate_model::Broken;
use fluxgate_model::counters::Counters;
use fluxgate_model::leases::Leases;
use fluxgate_model::maps::Maps;
use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// Checks the protocol's three small machines exhaustively.
#[derive(Debug, Parser)]
#[command(name = "fluxgate-model")]
struct Cli {
    /// Uses larger bounds: minutes instead of seconds
    #[arg(long)]
    large: bool,
    /// Number of threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Checks only models whose name begins with this
    #[arg(long, default_value = "")]
    only: String,
    /// Shows the steps of each counterexample
    #[arg(long)]
    steps: bool,
}

struct CheckResult {
    model: &'static str,
    variant: String,
    states: usize,
    depth: usize,
    seconds: f64,
    finding: String,
    right: bool,
}

/// Visits every state. Right: an unbroken model violates nothing and reaches all that it should; a
/// broken one violates something.
fn check<M>(name: &'static str, model: M, broken: Option<Broken>, cli: &Cli) -> CheckResult
where
    M: Model + Send + Sync + 'static,
    M::State: std::hash::Hash + Send + Sync + Clone + PartialEq + std::fmt::Debug,
    M::Action: Send + Sync + PartialEq + Clone + std::fmt::Debug,
{
    let begun = Instant::now();
    let properties = model.properties();
    let until = match broken {
        Some(_) => HasDiscoveries::AnyFailures,
        None => HasDiscoveries::All,
    };
    let checker = model.checker().threads(cli.threads).finish_when(until).spawn_bfs().join();
    let discoveries = checker.discoveries();
    let of = |wanted: Expectation| {
        let all = properties.iter().filter(move |property| property.expectation == wanted);
        all.map(|property| property.name).collect::<Vec<_>>()
    };
    let violated: Vec<_> =
        of(Expectation::Always).into_iter().filter(|name| discoveries.contains_key(name)).collect();
    let unseen: Vec<_> = of(Expectation::Sometimes)
        .into_iter()
        .filter(|name| !discoveries.contains_key(name))
        .collect();
    let steps =
        |name: &str| discoveries.get(name).map_or(0, |path| path.clone().into_actions().len());
    let (finding, right) = match broken {
        None if !violated.is_empty() => (format!("VIOLATED: {}", violated.join(", ")), false),
        None if !unseen.is_empty() => (format!("never: {}", unseen.join(", ")), false),
        None => (format!("holds: {}", of(Expectation::Always).join(", ")), true),
        Some(_) if violated.is_empty() => ("NOT NOTICED".to_owned(), false),
        Some(_) => {
            let all = violated.iter().map(|name| format!("{name} in {} steps", steps(name)));
            (all.collect::<Vec<_>>().join(", "), true)
        }
    };
    if cli.steps || (broken.is_none() && !violated.is_empty()) {
        for name in &violated {
            let path = discoveries.get(name).cloned().map(stateright::Path::into_actions);
            say(&format!("{name}: {path:?}"));
        }
    }
    CheckResult {
        model: name,
        variant: broken.map_or_else(|| "unbroken".to_owned(), Broken::name),
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        seconds: begun.elapsed().as_secs_f64(),
        finding,
        right,
    }
}

// Bounds for a minute or two, and (with `--large`) for a machine with time and memory.

fn leases(broken: Option<Broken>, large: bool) -> Leases {
    let (ticks, writes) = if large { (3, 1) } else { (2, 1) };
    Leases { broken, nodes: 2, ticks, writes, elections: 1 }
}

fn maps(broken: Option<Broken>, large: bool) -> Maps {
    let ticks = if large { 4 } else { 3 };
    Maps { broken, ticks, elections: 1 }
}

fn counters(broken: Option<Broken>, large: bool) -> Counters {
    let (requests, crashes, repeats, gossips, messages) =
        if large { (4, 1, 1, 2, 4) } else { (3, 1, 1, 1, 3) };
    Counters { broken, nodes: 2, tokens: 2, requests, crashes, repeats, gossips, messages }
}

fn variants() -> [(&'static str, Vec<Broken>); 3] {
    let engine = |all: &[Mutation]| all.iter().copied().map(Broken::Engine).collect::<Vec<_>>();
    let mut of_leases = engine(&[
        Mutation::NoBarrier,
        Mutation::GrantWithoutIndex,
        Mutation::LeaseTableEmpty,
        Mutation::SpendWithoutLease,
        Mutation::FirstContactCounts,
    ]);
    of_leases.extend([Broken::LeaseFromAnswer, Broken::NoQuorum, Broken::NoDriftMargin]);
    let mut of_maps = engine(&[Mutation::MapAtOnce]);
    of_maps.push(Broken::MapTooSoon);
    let of_counters = engine(&[
        Mutation::TransferAddsTotals,
        Mutation::RestartRuleForgotten,
        Mutation::ClockMarginForgotten,
        Mutation::IncarnationsIgnored,
        Mutation::DenyWithoutProof,
        Mutation::BurnedCountedTwice,
    ]);
    [("leases", of_leases), ("maps", of_maps), ("counters", of_counters)]
}

#[expect(clippy::print_stdout, reason = "a command's result")]
fn say(text: &str) {
    println!("{text}");
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["model", "variant", "states", "depth", "seconds", "result"]);
    let (mut passed, mut failed) = (0, 0);
    for (name, broken) in variants() {
        if !name.starts_with(&cli.only) {
            continue;
        }
        // Without the feature the engine cannot be broken.
        let broken = broken.into_iter().filter(|_| cfg!(feature = "mutations")).map(Some);
        for variant in [None].into_iter().chain(broken) {
            let large = cli.large;
            let result = match name {
                "leases" => check(name, leases(variant, large), variant, &cli),
                "maps" => check(name, maps(variant, large), variant, &cli),
                _ => check(name, counters(variant, large), variant, &cli),
            };
            if result.right {
                passed += 1
            } else {
                failed += 1
            }
            say(&format!(
                "{} {}: {} states, {:.1} s: {}",
                result.model, result.variant, result.states, result.seconds, result.finding
            ));
            table.add_row([
                result.model.to_owned(),
                result.variant,
                result.states.to_string(),
                result.depth.to_string(),
                format!("{:.1}", result.seconds),
                result.finding,
            ]);
        }
    }
    say(&format!("\n{table}\n\n{passed} passed, {failed} failed"));
    if failed == 0 { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}
