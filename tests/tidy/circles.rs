//! No circles of files inside a crate: of two files one uses the other, never both.
//!
//! Reads `crate::` and `super::` paths. A file and the files in its folder are one subject, so what
//! they use of each other does not count.

use std::collections::{BTreeMap, BTreeSet};

use crate::repository::{code, none, rust_files, source, without_comment};

/// Allowed circles: the files that may be in one, as paths from the root, and the reason.
const CIRCLES: &[(&[&str], &str)] = &[
    (
        &["crates/fluxgate/src/cli.rs", "crates/fluxgate/src/commands/completions.rs"],
        "completions are generated from the whole tree of commands",
    ),
    (
        &[
            "crates/node/src/metrics/catalog.rs",
            "crates/node/src/metrics/page.rs",
            "crates/node/src/metrics/table.rs",
        ],
        "the page is the test of the other two, which describe their entries for it",
    ),
    (
        &[
            "crates/store/src/addresses.rs",
            "crates/store/src/data_dir.rs",
            "crates/store/src/starts.rs",
        ],
        "a data directory checks these files when it opens, and reads and writes them later",
    ),
    (
        &["proof/cluster/src/checks.rs", "proof/cluster/src/world.rs"],
        "the world calls every check, and a check sees the whole world",
    ),
    (
        &["proof/sim/src/invariants.rs", "proof/sim/src/world.rs"],
        "the world calls every invariant, and an invariant sees the whole world",
    ),
];

/// A module as its path in the crate: empty for the crate's root.
type Module = Vec<String>;

/// The modules of a package by path, with the files and the lines of code.
type Package = BTreeMap<Module, (String, String)>;

fn module(file: &str) -> Option<Module> {
    let name = file.strip_suffix(".rs").filter(|name| !name.starts_with("bin/"))?;
    let root = ["lib", "main"].contains(&name);
    Some(if root { Vec::new() } else { name.split('/').map(str::to_owned).collect() })
}

/// Each package with its modules, tests left out.
fn packages() -> BTreeMap<String, Package> {
    let mut packages: BTreeMap<String, Package> = BTreeMap::new();
    for (path, text) in rust_files() {
        let Some((package, file)) = source(&path) else { continue };
        let Some(module) = module(file).filter(|module| !is_test(module)) else { continue };
        let lines: Vec<&str> = code(&text).map(|(_, line)| without_comment(line)).collect();
        let package = packages.entry(package.to_owned()).or_default();
        package.insert(module, (path.clone(), lines.join("\n")));
    }
    packages
}

fn is_test(module: &[String]) -> bool {
    module.iter().any(|part| part == "tests")
}

/// The paths after `crate::` and `super::` in a module's code, from the crate's root.
fn paths(text: &str, from: &Module) -> Vec<Module> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::").chain(text.match_indices("super::")) {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let mut base = if text[at..].starts_with("crate") { Vec::new() } else { from.clone() };
        let mut rest = &text[at..];
        while let Some(after) = rest.strip_prefix("super::") {
            base.pop();
            rest = after;
        }
        rest = rest.strip_prefix("crate::").unwrap_or(rest);
        leaves(&base, rest, &mut found);
    }
    found
}

/// The paths of a tree such as `a::{b, c::D}`, each with its beginning.
fn leaves(base: &Module, tree: &str, found: &mut Vec<Module>) {
    let tree = tree.trim_start();
    if let Some(list) = tree.strip_prefix('{') {
        let (mut depth, mut start) = (0_usize, 0);
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                ',' if depth == 0 => {
                    leaves(base, &list[start..at], found);
                    start = at + 1;
                }
                '}' if depth == 0 => {
                    leaves(base, &list[start..at], found);
                    return;
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
        return;
    }
    let end = tree.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(tree.len());
    let (name, rest) = tree.split_at(end);
    if name.is_empty() {
        return;
    }
    let mut path = base.clone();
    path.push(name.to_owned());
    match rest.strip_prefix("::") {
        Some(rest) => leaves(&path, rest, found),
        None => found.push(path),
    }
}

/// The module that a path leads into: the longest one that exists.
fn target<'a>(package: &'a Package, path: &Module) -> Option<&'a Module> {
    (0..=path.len()).rev().find_map(|end| package.get_key_value(&path[..end]).map(|(m, _)| m))
}

fn is_one_subject(a: &Module, b: &Module) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

/// The modules that each module of a package uses.
fn edges(package: &Package) -> BTreeMap<&Module, BTreeSet<&Module>> {
    let used = package.iter().map(|(from, (_, text))| {
        let paths = paths(text, from);
        let targets = paths.iter().filter_map(|path| target(package, path));
        (from, targets.filter(|to| !is_one_subject(from, to)).collect())
    });
    used.collect()
}

fn reached<'a>(
    edges: &BTreeMap<&'a Module, BTreeSet<&'a Module>>,
    from: &'a Module,
) -> BTreeSet<&'a Module> {
    let mut found = BTreeSet::new();
    let mut next = vec![from];
    while let Some(module) = next.pop() {
        for to in edges.get(module).into_iter().flatten() {
            if found.insert(*to) {
                next.push(to);
            }
        }
    }
    found
}

/// The circles of a package: the files of each, sorted.
fn circles(package: &Package) -> BTreeSet<Vec<&str>> {
    let edges = edges(package);
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        edges.keys().map(|module| (*module, reached(&edges, module))).collect();
    let file = |module: &Module| package.get(module).map_or("", |(path, _)| path.as_str());
    let mut circles = BTreeSet::new();
    for (module, others) in &reached {
        if !others.contains(*module) {
            continue;
        }
        let same = others
            .iter()
            .filter(|other| reached.get(**other).is_some_and(|reached| reached.contains(*module)));
        circles.insert(same.map(|module| file(module)).collect());
    }
    circles
}

#[test]
fn files_of_a_crate_use_each_other_in_one_direction() {
    let packages = packages();
    let found: BTreeSet<Vec<&str>> = packages.values().flat_map(circles).collect();
    let is_in = |circle: &[&str], row: &[&str]| circle.iter().all(|file| row.contains(file));
    let is_allowed = |circle: &[&str]| CIRCLES.iter().any(|(row, _)| is_in(circle, row));
    let new = found.iter().filter(|circle| !is_allowed(circle));
    let mut findings: Vec<String> =
        new.map(|circle| format!("{}: these files use each other", circle.join(", "))).collect();
    let unneeded = CIRCLES.iter().filter(|(row, _)| !found.iter().any(|circle| is_in(circle, row)));
    findings.extend(unneeded.map(|(row, _)| format!("{row:?}: no circle: take it off CIRCLES")));
    none(&findings);
}

#[test]
fn a_circle_is_found_through_lists_and_parents() {
    let file = |path: &str, text: &str| {
        let module = path.split("::").filter(|part| !part.is_empty());
        (module.map(str::to_owned).collect(), (format!("{path}.rs"), text.to_owned()))
    };
    let package: Package = [
        file("", "mod a; mod b;"),
        file("a", "mod x;\nuse crate::{b::Thing, c};"),
        file("a::x", "use super::super::b;\nuse super::One;"),
        file("b", "fn f() { crate::a::x::g() }"),
        file("c", "use crate::b::{self, Thing};"),
    ]
    .into();
    let circle: BTreeSet<Vec<&str>> = [vec!["a::x.rs", "b.rs"]].into();
    assert_eq!(circles(&package), circle);
}
