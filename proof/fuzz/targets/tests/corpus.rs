//! Runs every kept input through its target, and a few thousand changed ones.
//!
//! This runs on the plain toolchain in every run of the tests: inputs that the fuzzer once found
//! stay under test. The changes follow from a fixed seed, so a failure is reproducible; the
//! failing input is printed as text and left in the directory of temporary files.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use fluxgate_fuzz_targets::{TARGETS, Target};
use fluxgate_types::id::mix64;

/// Changed inputs of the targets that are pure.
const CHANGED: usize = 4_000;
/// Changed inputs of the targets that may start a whole node.
const CHANGED_NODE: usize = 400;
/// Longest changed input, as under the fuzzer.
const INPUT_BYTES_MAX: usize = 4_096;
/// Changes of one input.
const EDITS_MAX: u64 = 4;

/// A random generator with a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, count: usize) -> usize {
        self.0 = mix64(self.0);
        usize::try_from(self.0 % count.max(1) as u64).unwrap_or(0)
    }
}

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../libfuzzer")
}

/// The inputs of a target's archive, which `scripts/fuzz.sh` makes.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().expect("a directory");
    let archive = kept().join("corpus").join(format!("{target}.tar.gz"));
    let unpack = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(dir.path()).status();
    assert!(unpack.expect("tar runs").success(), "cannot unpack {}", archive.display());
    inputs(dir.path())
}

/// The inputs of a directory, in the order of their names.
fn inputs(dir: &Path) -> Vec<Vec<u8>> {
    let Ok(listed) = fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<_> = listed.map(|entry| entry.expect("a directory").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("an input")).collect()
}

/// One of the inputs, with bytes changed, removed, inserted or copied from another input.
fn changed(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    let edits = 1 + random.0 % EDITS_MAX;
    for _ in 0..edits {
        let at = random.below(input.len() + 1);
        match random.below(6) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xfe, 0xff][random.below(6)],
            2 if at < input.len() => drop(input.remove(at)),
            3 => input.insert(at, u8::try_from(random.below(256)).unwrap_or(0)),
            4 => input.truncate(at),
            _ => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                let size = random.below(other.len() - from + 1);
                input.splice(at..at, other[from..from + size].iter().copied());
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn try_one(name: &str, target: Target, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        let kept = std::env::temp_dir().join(format!("fluxgate-fuzz-{name}"));
        fs::write(&kept, input).expect("the input is kept");
        let message = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        panic!("{name}: {message}\nkept as {}: {}", kept.display(), input.escape_ascii());
    }
}

fn replay(name: &str, changes: usize) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target");
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "no corpus for {name}");
    for input in corpus.iter().chain(&inputs(&kept().join("findings").join(name))) {
        try_one(name, *target, input);
    }
    let mut random = Random(corpus.len() as u64);
    for _ in 0..changes {
        try_one(name, *target, &changed(&corpus, &mut random));
    }
}

#[test]
fn commands_hold() {
    replay("commands", CHANGED_NODE);
}

#[test]
fn configurations_hold() {
    replay("configuration", CHANGED);
}

#[test]
fn credentials_hold() {
    replay("credential", CHANGED);
}

#[test]
fn http_bodies_hold() {
    replay("http_bodies", CHANGED_NODE);
}

#[test]
fn peer_messages_hold() {
    replay("peer_messages", CHANGED);
}

#[test]
fn records_hold() {
    replay("records", CHANGED);
}

#[test]
fn every_target_has_a_binary_and_a_test() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../libfuzzer/Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("the manifest of the binaries");
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} has no binary");
    }
}
