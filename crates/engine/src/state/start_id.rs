//! The identity of one start of a node: the replicated state keeps the newest one of every node.

use fluxgate_types::BootId;

/// One start of a node on a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StartId {
    /// Counts up by one at each start.
    pub boot: BootId,
    /// Random: two copies of one directory would count to the same number.
    pub nonce: u64,
}
