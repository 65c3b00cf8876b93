//! The fuzz targets: one function each, which panics on a finding.
//!
//! The same functions run in two places: under libFuzzer with coverage (`proof/fuzz/libfuzzer`, by
//! `scripts/fuzz.sh`), and over the kept inputs in every run of the tests (`tests/corpus.rs`). An
//! input decides everything that happens: no clock, no randomness, no network.
//!
//! A rejection is never a finding. A finding is a panic, or a promise that a target asserts beside
//! the call that could break it.

mod commands;
mod configuration;
mod credential;
mod host;
mod http_bodies;
mod peer_messages;
mod records;
mod session;
mod source;

pub use commands::commands;
pub use configuration::configuration;
pub use credential::credential;
pub use http_bodies::http_bodies;
pub use peer_messages::peer_messages;
pub use records::records;

/// One target.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: [(&str, Target); 6] = [
    ("commands", commands),
    ("configuration", configuration),
    ("credential", credential),
    ("http_bodies", http_bodies),
    ("peer_messages", peer_messages),
    ("records", records),
];
