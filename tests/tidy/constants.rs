//! A constant that a shipped crate defines is not defined again by what judges it: the judge would
//! keep the old value when the crate changes.

use std::collections::BTreeMap;

use crate::repository::{code, none, rust_files};

/// Allowed second definitions: the file, the constant, and the reason.
const REPEATED: &[(&str, &str, &str)] = &[
    ("proof/bench/src/bin/append-sync.rs", "BYTES_MAX", "the largest record of this bench"),
    ("proof/chaos/src/inject_scenario.rs", "LOOK", "how often this loop polls"),
    ("proof/chaos/src/process.rs", "RESTART_CODE", "an exit code of the interface"),
    ("tests/contract.rs", "ALPHABET", "the contract, written out"),
    ("tests/exit_codes.rs", "ADMITTED", "an answer of the contract, written out"),
];

/// The constants of a file that fit on one line: name and value.
fn constants(text: &str) -> impl Iterator<Item = (usize, &str, String)> {
    code(text).filter_map(|(line, code)| {
        let (_, declared) = code.split_once("const ")?;
        let (name, rest) = declared.split_once(": ")?;
        let (_, value) = rest.split_once(" = ")?;
        let is_name =
            name.chars().all(|c| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit());
        let value = value.trim().strip_suffix(';')?;
        is_name.then(|| (line, name, value.replace('_', "")))
    })
}

/// The constants of the shipped crates by name and value, with the file of each.
fn shipped(files: &[(String, String)]) -> BTreeMap<(&str, String), &str> {
    let crates = files.iter().filter(|(path, _)| path.starts_with("crates/"));
    let all = crates.filter(|(path, _)| path.contains("/src/")).flat_map(|(path, text)| {
        constants(text).map(move |(_, name, value)| ((name, value), path.as_str()))
    });
    all.collect()
}

#[test]
fn judges_use_the_constants_of_the_crates() {
    let files = rust_files();
    let shipped = shipped(&files);
    let judges =
        files.iter().filter(|(path, _)| path.starts_with("proof/") || path.starts_with("tests/"));
    let mut findings = Vec::new();
    let mut allowed = vec![false; REPEATED.len()];
    for (path, text) in judges {
        for (line, name, value) in constants(text) {
            let Some(origin) = shipped.get(&(name, value)) else { continue };
            match REPEATED.iter().position(|(file, word, _)| file == path && *word == name) {
                Some(at) => allowed[at] = true,
                None => findings.push(format!("{path}:{line}: `{name}` is defined in {origin}")),
            }
        }
    }
    let unneeded = REPEATED.iter().zip(allowed).filter(|(_, allowed)| !allowed);
    findings.extend(unneeded.map(|((path, name, _), _)| {
        format!("{path}: `{name}` is no second definition: take it off REPEATED")
    }));
    none(&findings);
}

#[test]
fn a_constant_is_read_with_its_value() {
    let text = "pub const A_MAX: u64 = 1_000;\nconst fn f() {}\nconst B: &str = \"b\";\n";
    let found: Vec<_> = constants(text).collect();
    assert_eq!(found, [(1, "A_MAX", "1000".to_owned()), (3, "B", "\"b\"".to_owned())]);
}
