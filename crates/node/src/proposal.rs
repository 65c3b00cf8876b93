//! Wraps commands for the log.

use fluxgate_engine::state::command::{Actor, Command, Proposal};

use crate::random::fill_random;

/// Wraps a command with a request id of its own, so that a retry applies it only once.
pub fn proposal(actor: Actor, from: Option<Box<str>>, command: Command) -> Proposal {
    let mut id = [0u8; 16];
    // Without randomness there would be no keys either; an id of zeros is refused as a repeat.
    fill_random(&mut id).ok();
    Proposal { request: u128::from_le_bytes(id), actor, presented: None, from, command }
}
