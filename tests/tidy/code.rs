//! Heads and lengths of files, and code that is banned or belongs in one place.

use std::collections::BTreeMap;

use crate::repository::{code, is_source, none, rust_files, without_comment};

/// Longest file, not counting the tests at its end.
const LINES_MAX: usize = 400;
/// Longer files, with reasons.
const LONG_FILES: &[(&str, &str)] =
    &[("proof/model/src/counters.rs", "one machine and all that may happen to it, in one read")];

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
    let findings = unneeded
        .map(|(path, _)| format!("{path}: an exception in tests/tidy/code.rs without need"));
    none(&findings.collect::<Vec<_>>());
}
