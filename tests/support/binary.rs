//! The path of the program under test.

use std::path::PathBuf;

/// The `fluxgate` that every test runs: `FLUXGATE_BIN`, which nextest sets after it has built the
/// program (scripts/lib/binary-for-tests.sh), or the one beside this test's own binary.
pub(crate) fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("FLUXGATE_BIN") {
        return named.into();
    }
    let tests = std::env::current_exe().unwrap();
    let built = tests.parent().and_then(|deps| deps.parent()).map(|out| out.join("fluxgate"));
    built.filter(|path| path.is_file()).unwrap_or_else(|| {
        panic!(
            "no program to test: run cargo nextest, or cargo build -p fluxgate before cargo test"
        )
    })
}
