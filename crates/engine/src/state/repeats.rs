//! Commands that were executed before: a repeat gets the first outcome again.

use fluxgate_types::KeyId;

use super::Registry;
use super::command::{Command, CommandError, Outcome};
use super::named::NamedKind;
use super::record::KeyRecord;
use super::row::KeyRow;

/// An outcome as kept for a repeat of its request: it names a key instead of copying it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// This key was created or changed.
    Key(KeyId),
    /// Done.
    Done,
    /// Nothing was changed.
    Refused(CommandError),
    /// This record was created or changed. Since level 4.
    Named {
        /// What it is about.
        kind: NamedKind,
        /// Its name.
        name: Box<str>,
    },
}

impl Remembered {
    /// The part of an outcome to keep; `None` if executing the command twice has the same effect.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Option<Self> {
        match outcome {
            Outcome::Key(record) => Some(Self::Key(record.id)),
            Outcome::Done => Some(Self::Done),
            Outcome::Refused(refusal) => Some(Self::Refused(refusal.clone())),
            Outcome::Named(row) => Some(Self::Named { kind: row.kind, name: row.name.clone() }),
            Outcome::Put(_) => None,
        }
    }
}

impl Registry {
    /// The outcome of a request that was applied before; a key is shown in its current state.
    pub(super) fn repeat(&self, remembered: &Remembered) -> Outcome {
        match remembered {
            Remembered::Key(id) => {
                let shown = self.shared.table.with(id, |entry| shown(&entry.record()));
                shown.unwrap_or(Outcome::Refused(CommandError::NotFound))
            }
            Remembered::Done => Outcome::Done,
            Remembered::Named { kind, name } => self.shown_named(*kind, name),
            Remembered::Refused(refusal) => Outcome::Refused(refusal.clone()),
        }
    }
}

/// Whether executing a command twice may change more or answer differently than executing it once.
/// Complete content (a key with its id and digest, rows, lines) is recognized by itself.
pub(super) fn repeat_would_differ(command: &Command, outcome: &Outcome) -> bool {
    let by_itself = matches!(
        command,
        Command::CreateKey(_)
            | Command::PutKeys { .. }
            | Command::RestoreAudit { .. }
            | Command::RegisterStart { .. }
            | Command::EraseKeys { .. }
            | Command::Once { .. }
    );
    !by_itself && !matches!(outcome, Outcome::Refused(_))
}

pub(super) fn shown(record: &KeyRecord) -> Outcome {
    Outcome::Key(Box::new(KeyRow::from(record)))
}
