//! A directory that is older than what its node promised, or empty, takes no part; and no other
//! directory is rejected.

use fluxgate_types::NodeId;

use super::Invariant;
use crate::messages::Seen;
use crate::world::{Directory, World};

pub(super) struct Judge;

impl Invariant for Judge {
    fn name(&self) -> &'static str {
        "old_directories_stay_out"
    }

    fn see(&mut self, world: &World, node: NodeId, seen: &Seen) -> Result<(), String> {
        let directory = world.host(node).map(|host| host.directory);
        let is_older = directory == Some(Directory::Older);
        match seen {
            Seen::TookPart if is_older && !world.may_not_be_known(node) => {
                Err(format!("node {node} takes part with a directory that has forgotten promises"))
            }
            // Before a new directory is registered, a node that is behind may not know that an earlier
            // one was removed.
            Seen::Ended(why)
                if directory == Some(Directory::Whole) && world.is_registered(node) =>
            {
                Err(format!("node {node} ends with its own directory: {why:?}"))
            }
            Seen::TookPart
            | Seen::Ended(_)
            | Seen::Decided { .. }
            | Seen::Rejected(_)
            | Seen::Unavailable(_)
            | Seen::Wrote(..)
            | Seen::Moved(_)
            | Seen::AppliedEntry(_)
            | Seen::Renewed(_)
            | Seen::Elected(_)
            | Seen::Stopped => Ok(()),
        }
    }
}
