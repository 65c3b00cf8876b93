//! Which crate may use which, and which crate owns a dependency.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::repository::{none, output, root};

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
        let rule = |what: String| {
            format!("crates/{of}/Cargo.toml: {what} (EDGES in tests/tidy/crates.rs)")
        };
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
fn the_engine_knows_no_format() {
    let serde = dependencies().remove("engine").unwrap_or_default();
    let serde = serde.into_iter().filter(|(name, _)| name.starts_with("serde"));
    let findings =
        serde.map(|(name, _)| format!("crates/engine/Cargo.toml: `{name}`: shapes are in wire"));
    none(&findings.collect::<Vec<_>>());
}
