//! How nodes call each other.
//!
//! Answers for: every call is declared once ([`Call`]), has a deadline, a bounded answer and the
//! cluster secret, and names the node and the data directory that it is meant for. Must never
//! retry, and never decide what a message means.

mod calls;
pub mod process;
mod transport;

pub use calls::{Call, ConsensusCall, Question, Questions, questions};
#[cfg(feature = "sim")]
pub use transport::{Answered, Link, LinkError};
pub use transport::{
    CallError, CallObserver, Fault, PeerTls, REFUSED_FOR, RefusedFor, Transport, TransportOptions,
};
