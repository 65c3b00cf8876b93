//! Notes when the program is built: no wall clock that is right is before it.

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    // Set by who builds the same program twice (<https://reproducible-builds.org/specs/source-date-epoch>).
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo:rerun-if-changed=build.rs");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    println!("cargo:rustc-env=FLUXGATE_BUILT_S={}", given.unwrap_or(now));
}
