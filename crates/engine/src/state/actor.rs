//! The principal that requested a change. Written to disk and sent by position, as commands are.

use fluxgate_types::KeyId;

/// The principal that requested a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// The operator token.
    Operator,
    /// An API key of scope admin.
    Key(KeyId),
    /// The cluster itself.
    System,
}
