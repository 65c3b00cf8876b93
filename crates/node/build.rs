//! Notes when the program is built (no wall clock that is right is before it), and from which revision.

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    // Set by who builds the same program twice (<https://reproducible-builds.org/specs/source-date-epoch>).
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo:rerun-if-changed=build.rs");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let given = env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    println!("cargo:rustc-env=FLUXGATE_BUILT_S={}", given.unwrap_or(now));
    if let Some(revision) = revision() {
        println!("cargo:rustc-env=FLUXGATE_REVISION={revision}");
    }
}

/// The commit that a release is built from, unless `FLUXGATE_REVISION` is set. None for a debug build,
/// which every commit would otherwise rebuild.
fn revision() -> Option<String> {
    println!("cargo:rerun-if-env-changed=FLUXGATE_REVISION");
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if env::var_os("FLUXGATE_REVISION").is_some() || !is_release {
        return None;
    }
    let root = Path::new(&env::var_os("CARGO_MANIFEST_DIR")?).join("../..");
    // Written by every commit and checkout; where it is not there, nothing changes either.
    let log = root.join(".git/logs/HEAD");
    if log.exists() {
        println!("cargo:rerun-if-changed={}", log.display());
    }
    let asked = ["rev-parse", "--short=12", "HEAD"];
    let asked = Command::new("git").args(asked).current_dir(&root).output().ok()?;
    let said = asked.status.success().then(|| String::from_utf8(asked.stdout).ok())??;
    Some(said.trim().to_owned())
}
