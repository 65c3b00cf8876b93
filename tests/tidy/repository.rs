//! Reads the repository: the files that git knows or would add, and the manifests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("the workspace's folder exists")
}

pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

pub(crate) fn output(command: &mut Command) -> Vec<u8> {
    let output = command.current_dir(root()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?} does not run: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{errors}");
    output.stdout
}

/// The files that git knows or would add, as paths from the root.
pub(crate) fn files() -> Vec<String> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = output(Command::new("git").args(list));
    let listed = String::from_utf8(listed).expect("paths are UTF-8");
    let names: BTreeSet<&str> = listed.split('\0').filter(|name| !name.is_empty()).collect();
    // A deleted file that is not committed yet is listed but does not exist.
    names.into_iter().filter(|name| root().join(name).is_file()).map(str::to_owned).collect()
}

pub(crate) fn rust_files() -> Vec<(String, String)> {
    let rust = files().into_iter().filter(|path| path.ends_with(".rs"));
    let with_text: Vec<_> = rust.map(|path| (path.clone(), read(&path))).collect();
    assert!(with_text.len() > 50, "only {} Rust files found", with_text.len());
    with_text
}

/// The package and the file under its `src`, unless it is a test.
pub(crate) fn source(path: &str) -> Option<(&str, &str)> {
    let (package, file) = path.split_once("/src/")?;
    let top = ["crates/", "proof/"].iter().any(|top| package.starts_with(top));
    top.then_some((package, file))
}

pub(crate) fn is_source(path: &str) -> bool {
    source(path).is_some()
}

/// The lines before the tests at the end, numbered from 1.
pub(crate) fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
    });
    let end = tests.unwrap_or(lines.len());
    lines.into_iter().take(end).enumerate().map(|(at, line)| (at + 1, line))
}

pub(crate) fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

pub(crate) fn none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}
