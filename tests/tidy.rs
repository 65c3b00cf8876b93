//! The rules of the repository that no compiler checks: crate edges, file heads and lengths, words
//! that must not occur in the code, and dates that have passed.
//!
//! Reads the manifests and the files that git knows or would add, so a file is checked before it is
//! committed. Every finding is `file:line: rule`. A new edge or exception is a line in a table
//! below, with a reason.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// The crates that each shipped crate uses. No shipped crate uses `proof/` or `tests/`; those may
/// use all shipped crates, and each other.
const EDGES: &[(&str, &[&str])] = &[
    ("api", &["types"]),
    ("client", &["api", "types"]),
    ("console", &["api", "types"]),
    ("engine", &["types"]),
    ("fluxgate", &["api", "client", "console", "server", "types"]),
    ("node", &["api", "console", "engine", "peer", "raft", "store", "types", "wire"]),
    ("peer", &["store", "types", "wire"]),
    ("raft", &["engine", "peer", "store", "types", "wire"]),
    ("server", &["api", "console", "engine", "node", "peer", "raft", "store", "types", "wire"]),
    ("store", &[]),
    ("types", &[]),
    ("wire", &["engine", "store", "types"]),
];

/// Dependencies that only some crates may have. A name that ends in `*` is a prefix.
const KEPT: &[(&str, &[&str])] = &[
    ("axum", &["server", "proof/bench"]),
    ("askama", &["console"]),
    ("bincode", &["store"]),
    // A browser, driven only by the tests.
    ("fantoccini", &["tests"]),
    ("openraft*", &["raft"]),
    // In `node` only for the exporter of spans, which accepts no other client.
    ("reqwest", &["client", "node", "peer"]),
    ("sled", &["store"]),
];

/// Longest file, not counting the tests at its end.
const LINES_MAX: usize = 400;
/// Longer files, with reasons.
const LONG_FILES: &[(&str, &str)] = &[
    (
        "proof/fuzz/targets/src/commands.rs",
        "every command and what must hold after it, in one read",
    ),
    ("proof/model/src/counters.rs", "one machine and all that may happen to it, in one read"),
    ("crates/node/src/state.rs", "what all parts of a node share, in one read"),
    ("crates/raft/src/handle.rs", "the whole handle on consensus, its types included"),
];

/// The only file with an unsafe item.
const UNSAFE_FILE: &str = "crates/store/src/durable.rs";

/// Allowed sleeps that do not wait for a condition, or have a deadline, with reasons.
const SLEEPS: &[(&str, &str)] = &[
    ("crates/store/src/memory.rs", "a slow disk, as a fault to inject"),
    ("crates/store/src/sled_backend.rs", "between two tries to lock the database, with a deadline"),
    (
        "crates/store/src/sled_backend/trial.rs",
        "between two tries to lock or remove a copy, with a deadline",
    ),
];

/// Words that must not occur in the code. Written in two parts, because this file is read too.
const WORDS: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "do it, or file an issue"),
    (concat!("FIX", "ME"), "do it, or file an issue"),
    (concat!("to", "do!("), "do it, or file an issue"),
    (concat!("#[", "allow"), "use #[expect(…, reason = …)]"),
    (concat!("#![", "allow"), "use #![expect(…, reason = …)]"),
    (concat!("#[", "ignore"), "a test that does not run proves nothing"),
];

/// Words that must not occur in the engine: time and randomness are arguments there.
const NOT_IN_ENGINE: &[&str] = &[
    "SystemTime",
    "Instant::now",
    "rand::",
    "getrandom",
    "thread_rng",
    "collections::HashMap",
    "std::thread",
];

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("the workspace's folder exists")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn output(command: &mut Command) -> Vec<u8> {
    let output = command.current_dir(root()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?} does not run: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{errors}");
    output.stdout
}

/// The files that git knows or would add, as paths from the root.
fn files() -> Vec<String> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = output(Command::new("git").args(list));
    let listed = String::from_utf8(listed).expect("paths are UTF-8");
    let names: BTreeSet<&str> = listed.split('\0').filter(|name| !name.is_empty()).collect();
    // A deleted file that is not committed yet is listed but does not exist.
    names.into_iter().filter(|name| root().join(name).is_file()).map(str::to_owned).collect()
}

fn rust_files() -> Vec<(String, String)> {
    let rust = files().into_iter().filter(|path| path.ends_with(".rs"));
    let with_text: Vec<_> = rust.map(|path| (path.clone(), read(&path))).collect();
    assert!(with_text.len() > 50, "only {} Rust files found", with_text.len());
    with_text
}

/// The package and the file under its `src`, unless it is a test.
fn source(path: &str) -> Option<(&str, &str)> {
    let (package, file) = path.split_once("/src/")?;
    let top = ["crates/", "proof/"].iter().any(|top| package.starts_with(top));
    top.then_some((package, file))
}

fn is_source(path: &str) -> bool {
    source(path).is_some()
}

/// The lines before the tests at the end, numbered from 1.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
    });
    let end = tests.unwrap_or(lines.len());
    lines.into_iter().take(end).enumerate().map(|(at, line)| (at + 1, line))
}

fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

fn none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// The direct dependencies of each package: its name in the tables, then name and kind.
fn dependencies() -> BTreeMap<String, Vec<(String, String)>> {
    // Without transitive dependencies: a full resolve needs crates of other platforms, which are
    // not downloaded.
    let arguments = ["metadata", "--format-version", "1", "--no-deps", "--offline", "--locked"];
    let found = output(Command::new(env!("CARGO")).args(arguments));
    let found: Value = serde_json::from_slice(&found).expect("cargo metadata is JSON");
    let packages = found["packages"].as_array().expect("cargo metadata lists packages");
    packages.iter().map(direct).collect()
}

/// The name of a shipped crate is its folder's name, that of any other package its folder's path.
fn direct(package: &Value) -> (String, Vec<(String, String)>) {
    let text = |value: &Value| value.as_str().unwrap_or("normal").to_owned();
    let used = package["dependencies"].as_array().expect("a package lists its dependencies");
    let used = used.iter().map(|d| (text(&d["name"]), text(&d["kind"]))).collect();
    let manifest = text(&package["manifest_path"]);
    let folder = Path::new(&manifest).parent().expect("a manifest has a folder");
    let folder = folder.strip_prefix(root()).expect("a package is in the repository");
    let folder = folder.to_string_lossy().into_owned();
    (folder.strip_prefix("crates/").map(str::to_owned).unwrap_or(folder), used)
}

fn ours(name: &str) -> Option<&str> {
    if name == "fluxgate" { Some(name) } else { name.strip_prefix("fluxgate-") }
}

fn row<'a>(table: &'a [(&str, &'a [&'a str])], name: &str) -> Option<BTreeSet<&'a str>> {
    table.iter().find(|(of, _)| *of == name).map(|(_, row)| row.iter().copied().collect())
}

#[test]
fn shipped_crates_use_each_other_as_in_the_table() {
    let mut findings = Vec::new();
    let found = dependencies();
    for (of, used) in found.iter().filter(|(of, _)| !of.contains('/') && *of != "tests") {
        let rule =
            |what: String| format!("crates/{of}/Cargo.toml: {what} (EDGES in tests/tidy.rs)");
        let of_kind = |dev: bool| -> BTreeSet<&str> {
            let used = used.iter().filter(|(_, kind)| (kind == "dev") == dev);
            used.filter_map(|(name, _)| ours(name)).collect()
        };
        let Some(expected) = row(EDGES, of) else {
            findings.push(rule("this crate is not in the table".to_owned()));
            continue;
        };
        let is = of_kind(false);
        for edge in is.symmetric_difference(&expected) {
            let verb = if is.contains(edge) { "must not use" } else { "does not use" };
            findings.push(rule(format!("{of} {verb} {edge}")));
        }
        for edge in of_kind(true).iter().filter(|edge| !expected.contains(*edge)) {
            findings.push(rule(format!("the tests of {of} must not use {edge}")));
        }
    }
    let missing = EDGES.iter().filter(|(of, _)| !found.contains_key(*of));
    findings.extend(missing.map(|(of, _)| format!("crates/{of}: in EDGES, not in the workspace")));
    none(&findings);
}

#[test]
fn some_dependencies_belong_to_one_crate() {
    let mut findings = Vec::new();
    for (of, used) in dependencies() {
        for (name, _) in used {
            let kept = KEPT.iter().find(|(kept, _)| match kept.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => *kept == name,
            });
            if let Some((_, places)) = kept.filter(|(_, places)| !places.contains(&of.as_str())) {
                findings
                    .push(format!("crates/{of}/Cargo.toml: `{name}` belongs to {places:?} only"));
            }
        }
    }
    none(&findings);
}

#[test]
fn a_file_begins_with_its_purpose() {
    let headless = rust_files().into_iter().filter(|(_, text)| !text.starts_with("//! "));
    let findings =
        headless.map(|(path, _)| format!("{path}:1: a file begins with //! and its purpose"));
    none(&findings.collect::<Vec<_>>());
}

#[test]
fn no_file_is_too_long() {
    let mut findings = Vec::new();
    for (path, text) in rust_files().iter().filter(|(path, _)| is_source(path)) {
        let lines = code(text).count();
        let excused = LONG_FILES.iter().any(|(long, _)| long == path);
        if lines > LINES_MAX && !excused {
            findings
                .push(format!("{path}:{LINES_MAX}: {lines} lines, at most {LINES_MAX}: split it"));
        }
    }
    none(&findings);
}

#[test]
fn some_words_do_not_occur_in_the_code() {
    let mut findings = Vec::new();
    for (path, text) in rust_files() {
        for (at, line) in text.lines().enumerate() {
            for (word, instead) in WORDS.iter().filter(|(word, _)| line.contains(word)) {
                findings.push(format!("{path}:{}: `{word}`: {instead}", at + 1));
            }
        }
        for (at, line) in code(&text).filter(|(_, line)| line.contains("thread::sleep")) {
            if is_source(&path) && !SLEEPS.iter().any(|(file, _)| *file == path) {
                findings
                    .push(format!("{path}:{at}: wait for a condition, with a deadline: {line}"));
            }
        }
    }
    none(&findings);
}

#[test]
fn unsafe_code_is_in_one_file() {
    let word = concat!("un", "safe");
    let forms = [" {", " fn", " impl", " extern", " trait", "("].map(|end| format!("{word}{end}"));
    let mut findings = Vec::new();
    for (path, text) in rust_files().iter().filter(|(path, _)| path != UNSAFE_FILE) {
        for (at, line) in text.lines().enumerate() {
            if forms.iter().any(|form| without_comment(line).contains(form)) {
                findings
                    .push(format!("{path}:{}: {word} code belongs in {UNSAFE_FILE} only", at + 1));
            }
        }
    }
    none(&findings);
}

#[test]
fn the_engine_reads_no_clock_and_no_randomness() {
    let mut findings = Vec::new();
    for (path, text) in
        rust_files().iter().filter(|(path, _)| path.starts_with("crates/engine/src/"))
    {
        for (at, line) in text.lines().enumerate() {
            for word in NOT_IN_ENGINE.iter().filter(|word| without_comment(line).contains(*word)) {
                findings.push(format!("{path}:{}: `{word}`: pass it as an argument", at + 1));
            }
        }
    }
    none(&findings);
}

#[test]
fn exceptions_are_still_needed() {
    let files: BTreeMap<String, String> = rust_files().into_iter().collect();
    let long =
        |path: &&(&str, &str)| files.get(path.0).is_none_or(|t| code(t).count() <= LINES_MAX);
    let sleeps =
        |path: &&(&str, &str)| files.get(path.0).is_none_or(|t| !t.contains("thread::sleep"));
    let unneeded = LONG_FILES.iter().filter(long).chain(SLEEPS.iter().filter(sleeps));
    let findings =
        unneeded.map(|(path, _)| format!("{path}: an exception in tests/tidy.rs without need"));
    none(&findings.collect::<Vec<_>>());
}

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

/// The files in the code map of ARCHITECTURE.md, as package (`crates/` left out) and name.
fn mapped(text: &str) -> BTreeSet<(String, String)> {
    let section = text.split("\n## ").find(|section| section.starts_with("Crates\n"));
    let mut of = String::new();
    let mut mapped = BTreeSet::new();
    for line in section.unwrap_or_default().lines().filter(|line| line.starts_with("| ")) {
        let mut columns = line.split('|').skip(1);
        let mut names = || {
            let column = columns.next().unwrap_or_default();
            column.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
        };
        of = names().into_iter().next().unwrap_or(of);
        mapped.extend(names().into_iter().map(|name| (of.clone(), name)));
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
fn the_engine_knows_no_format() {
    let serde = dependencies().remove("engine").unwrap_or_default();
    let serde = serde.into_iter().filter(|(name, _)| name.starts_with("serde"));
    let findings =
        serde.map(|(name, _)| format!("crates/engine/Cargo.toml: `{name}`: shapes are in wire"));
    none(&findings.collect::<Vec<_>>());
}

#[test]
fn scripts_stop_at_the_first_error() {
    let scripts = files().into_iter().filter(|path| path.ends_with(".sh") || path == ".ci/run");
    let loose = scripts.filter(|path| !read(path).contains("set -euo pipefail"));
    let findings = loose.map(|path| format!("{path}:1: a script sets -euo pipefail"));
    none(&findings.collect::<Vec<_>>());
}
