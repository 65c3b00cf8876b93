//! The code map, paths in documents and comments, the default configuration, scripts, and review
//! dates.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::repository::{files, none, read, root, source};

#[test]
fn the_default_configuration_is_toml_with_every_table() {
    let parsed: toml::Table = read("config/node.toml").parse().expect("config/node.toml is TOML");
    let tables = [
        "admin",
        "cluster",
        "gateway",
        "http",
        "keys",
        "lease",
        "limits",
        "node",
        "peer",
        "raft",
        "telemetry",
    ];
    let missing = tables.iter().filter(|table| parsed.get(**table).is_none_or(|t| !t.is_table()));
    let findings = missing.map(|table| format!("config/node.toml: table [{table}] is missing"));
    none(&findings.collect::<Vec<_>>());
}

/// Year and month of today, UTC.
fn this_month() -> (u64, u64) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    let days = since.as_secs() / 86_400 + 719_468;
    // Days since 0000-03-01 to a civil date, after Howard Hinnant's `civil_from_days`.
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_based = (5 * of_year + 2) / 153;
    let month = if march_based < 10 { march_based + 3 } else { march_based - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month)
}

/// The `YYYY-MM` after the word `Review`.
fn review_month(reason: &str) -> Option<(u64, u64)> {
    let (_, date) = reason.rsplit_once("Review ")?;
    let (year, month) = date.get(..7)?.split_once('-')?;
    Some((year.parse().ok()?, month.parse().ok()?))
}

#[test]
fn accepted_advisories_are_reviewed_in_time() {
    let deny: toml::Table = read("deny.toml").parse().expect("deny.toml is TOML");
    let ignored = deny.get("advisories").and_then(|a| a.get("ignore")).and_then(|i| i.as_array());
    let mut findings = Vec::new();
    for entry in ignored.expect("deny.toml has advisories.ignore") {
        let text = |field| entry.get(field).and_then(|v| v.as_str()).unwrap_or_default();
        match review_month(text("reason")) {
            None => findings.push(format!("deny.toml: {}: no `Review YYYY-MM`", text("id"))),
            Some(month) if month < this_month() => {
                findings.push(format!("deny.toml: {}: review was due in {month:?}", text("id")));
            }
            Some(_) => {}
        }
    }
    none(&findings);
}

/// The files in the code map of ARCHITECTURE.md, as package (`crates/` left out) and name. A row has a
/// package, or none for that of the row before, and parts such as "`a`, `b`: what they answer for".
fn mapped(text: &str) -> BTreeSet<(String, String)> {
    let section = text.split("\n## ").find(|section| section.starts_with("Crates\n"));
    let mut of = String::new();
    let mut mapped = BTreeSet::new();
    for line in section.unwrap_or_default().lines().filter(|line| line.starts_with("| ")) {
        let mut columns = line.split('|').skip(1).map(str::trim);
        let mut column = || columns.next().unwrap_or_default();
        let names = |text: &str| -> Vec<String> {
            text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
        };
        of = names(column()).into_iter().next().unwrap_or(of);
        for part in column().split("; ").filter(|part| part.starts_with('`')) {
            let named = part.split_once(": ").map_or(part, |(named, _)| named);
            mapped.extend(names(named).into_iter().map(|name| (of.clone(), name)));
        }
    }
    mapped
}

#[test]
fn the_code_map_matches_the_files() {
    let mapped = mapped(&read("ARCHITECTURE.md"));
    let exists = |(of, name): &&(String, String)| {
        let package = if of.starts_with("proof/") { of.clone() } else { format!("crates/{of}") };
        let src = root().join(package).join("src");
        let candidates = [format!("{name}.rs"), format!("bin/{name}.rs"), name.clone()];
        candidates.iter().any(|file| src.join(file).exists())
    };
    let missing = mapped.iter().filter(|entry| !exists(entry));
    let mut findings: Vec<String> =
        missing.map(|(of, name)| format!("ARCHITECTURE.md: {of}/{name} does not exist")).collect();
    for (path, (package, file)) in files().iter().filter_map(|path| Some((path, source(path)?))) {
        let Some(name) = file.strip_suffix(".rs").filter(|name| !name.contains('/')) else {
            continue;
        };
        let of = package.strip_prefix("crates/").unwrap_or(package).to_owned();
        let known = ["lib", "main", "tests", "conformance", "commands"].contains(&name);
        if !known && !mapped.contains(&(of, name.to_owned())) {
            findings.push(format!("{path}: not in the code map of ARCHITECTURE.md"));
        }
    }
    none(&findings);
}

/// The words in backticks of a line that look like a path from the root.
fn named_paths(line: &str) -> impl Iterator<Item = &str> {
    let tops = ["config/", "crates/", "docs/", "proof/", "scripts/", "tests/"];
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let quoted = line.split('`').skip(1).step_by(2);
    quoted.filter(move |word| {
        tops.iter().any(|top| word.starts_with(top)) && word.chars().all(is_plain)
    })
}

#[test]
fn paths_in_comments_and_documents_exist() {
    let mut findings = Vec::new();
    let texts = files().into_iter().filter(|path| path.ends_with(".rs") || path.ends_with(".md"));
    for path in texts {
        let is_document = path.ends_with(".md");
        for (at, line) in read(&path).lines().enumerate() {
            let text = if is_document { Some(line) } else { line.split_once("//").map(|(_, c)| c) };
            // A crate's own tests are named from its folder.
            let package = path.split("/src/").next().unwrap_or_default();
            let exists = |named: &str| {
                [root(), root().join(package)].iter().any(|from| from.join(named).exists())
            };
            for named in named_paths(text.unwrap_or_default()).filter(|named| !exists(named)) {
                findings.push(format!("{path}:{}: `{named}` does not exist", at + 1));
            }
        }
    }
    none(&findings);
}

#[test]
fn scripts_stop_at_the_first_error() {
    let scripts = files().into_iter().filter(|path| path.ends_with(".sh") || path == ".ci/run");
    let loose = scripts.filter(|path| !read(path).contains("set -euo pipefail"));
    let findings = loose.map(|path| format!("{path}:1: a script sets -euo pipefail"));
    none(&findings.collect::<Vec<_>>());
}
