//! The help of every command, in one file that can be reviewed.

use std::process::Command;

use crate::support::binary::binary;

/// Every command, in the order of the file.
const COMMANDS: [&str; 51] = [
    "",
    "demo",
    "serve",
    "keys",
    "keys create",
    "keys list",
    "keys show",
    "keys update",
    "keys rotate",
    "keys revoke",
    "keys erase",
    "keys usage",
    "keys import",
    "keys export",
    "owners",
    "owners list",
    "owners show",
    "owners set",
    "owners delete",
    "plans",
    "plans list",
    "plans show",
    "plans set",
    "plans delete",
    "pools",
    "pools list",
    "pools show",
    "pools set",
    "pools delete",
    "validate",
    "cluster",
    "cluster status",
    "cluster add-node",
    "cluster remove-node",
    "cluster hand-over",
    "cluster set-time",
    "cluster backup",
    "cluster restore",
    "audit",
    "bench",
    "audit-limits",
    "check-config",
    "recover",
    "recover addresses",
    "healthcheck",
    "tls",
    "tls dev",
    "openapi",
    "completions",
    "help keys",
    "help cluster hand-over",
];

fn help(command: &str) -> String {
    let mut words: Vec<&str> = command.split_whitespace().collect();
    if words.first() != Some(&"help") {
        words.push("--help");
    }
    let output = Command::new(binary()).args(&words).env_clear().output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{command}");
    assert!(output.stderr.is_empty(), "{command}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names in the list of subcommands of a help text.
fn listed(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("    "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_help_of_every_command_matches_the_file() {
    let mut all = String::new();
    for command in COMMANDS.iter().filter(|command| !command.starts_with("help")) {
        let line = format!("fluxgate {command}");
        all += &format!("===== {} --help\n\n{}\n", line.trim_end(), help(command));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/help.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &all).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == all,
        "tests/golden/help.txt is out of date; after reading what changed, run\n    \
         UPDATE_GOLDEN=1 cargo nextest run -p fluxgate-tests -E 'test(help)'"
    );
}

#[test]
fn every_command_ends_its_help_with_an_example() {
    for command in COMMANDS {
        let help = help(command);
        let (_, example) = help.rsplit_once("Example:\n").expect(command);
        let lines: Vec<&str> = example.lines().collect();
        assert!(lines.len() == 1 && lines[0].contains("fluxgate "), "{command}: {lines:?}");
    }
}

#[test]
fn no_command_is_missing_from_this_test() {
    for (parent, least) in
        [("", 4), ("keys", 4), ("cluster", 4), ("plans", 4), ("pools", 4), ("tls", 1)]
    {
        let names = listed(&help(parent));
        assert!(names.len() >= least, "{names:?}");
        for name in names {
            let command = format!("{parent} {name}");
            assert!(COMMANDS.contains(&command.trim()), "{command}");
        }
    }
}
