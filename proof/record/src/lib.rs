//! The history of a run as its clients and operators saw it, and the judges of the promises to them.
//!
//! Answers for: one format of histories, what may be true of a key at a moment, and one file per
//! promise. Must never look into a node: every harness that records such a history can be judged by it.

pub mod history;
mod judges;
mod knowledge;

pub use judges::{CheckResult, HEAL_MAX, judge};
pub use knowledge::{Knowledge, Outcome, outcome};
