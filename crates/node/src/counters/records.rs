//! What the counters take from the replicated records: the limits of a subject, and which keys were
//! erased.

use fluxgate_engine::quota::SubjectLimits;
use fluxgate_engine::state::View;
use fluxgate_types::Subject;

use super::Counters;

/// Erased keys whose counters are dropped before the task yields.
const FORGOTTEN_AT_ONCE: usize = 256;

impl Counters {
    /// Drops what is kept of some keys whose records were erased. False if there were none.
    pub(super) fn forget_erased(&self) -> bool {
        let table = &self.parts.shared.table;
        let erased = table.take_erased(FORGOTTEN_AT_ONCE);
        for key in &erased {
            // A backup may have brought it back.
            if table.with(key, |_| ()).is_none() {
                let subject = Subject::from(*key);
                for subject in [subject, subject.shadow()] {
                    self.on_shard(Self::place(&subject), |shard, _| shard.forget(&subject));
                }
            }
        }
        !erased.is_empty()
    }

    /// The current limits of a subject.
    pub(super) fn limits_of(&self, view: &View, subject: &Subject) -> Option<SubjectLimits> {
        SubjectLimits::find(&self.parts.shared, view, subject)
    }
}
