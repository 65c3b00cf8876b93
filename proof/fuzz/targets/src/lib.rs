//! What the fuzzer runs: one function for each target, which panics on a finding.
//!
//! The same functions run in two places: behind libFuzzer with coverage (`fuzz/`, by
//! `scripts/fuzz.sh`), and over the kept inputs in every run of the tests (`tests/corpus.rs`).
//! An input decides everything that happens: no clock, no randomness, no network.
//!
//! A refusal is never a finding. What is: a panic anywhere below, and a broken promise that a
//! target states beside the call that could break it.

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
