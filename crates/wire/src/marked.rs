//! Commands and outcomes: as their frozen shapes, and where those leave something out, beside it.

use fluxgate_engine::state::command::{Command, Outcome};
use fluxgate_engine::state::named::NamedRow;

use crate::shape::Shaped;
use crate::state::{CommandV1, OutcomeV1};
use crate::terms::{MarkedCommandV4, MarkedV4, marked_row};

impl Shaped for Command {
    type Shape = CommandV1;

    fn to_shape(&self) -> CommandV1 {
        MarkedCommandV4::of(self)
            .map_or_else(|| CommandV1::plain(self), |marked| CommandV1::Marked(Box::new(marked)))
    }

    fn from_shape(shape: CommandV1) -> Self {
        shape.into_plain()
    }
}

impl Shaped for Outcome {
    type Shape = OutcomeV1;

    fn to_shape(&self) -> OutcomeV1 {
        match self {
            Self::Key(row) if row.is_plain() => OutcomeV1::Key(row.to_shape()),
            Self::Key(row) => OutcomeV1::MarkedKey(
                row.to_shape(),
                MarkedV4::of(&row.terms, row.limits.as_deref()),
            ),
            Self::Done => OutcomeV1::Done,
            Self::Refused(why) => OutcomeV1::Refused(why.to_shape()),
            Self::Put(rows) => OutcomeV1::Put(rows.to_shape()),
            Self::Named(row) => OutcomeV1::Named(row.to_shape()),
        }
    }

    fn from_shape(shape: OutcomeV1) -> Self {
        match shape {
            OutcomeV1::Key(row) => Self::Key(Box::from_shape(row)),
            OutcomeV1::MarkedKey(row, marked) => Self::Key(Box::new(marked_row(*row, marked))),
            OutcomeV1::Done => Self::Done,
            OutcomeV1::Refused(why) => Self::Refused(Shaped::from_shape(why)),
            OutcomeV1::Put(rows) => Self::Put(Vec::from_shape(rows)),
            OutcomeV1::Named(row) => Self::Named(Box::<NamedRow>::from_shape(row)),
        }
    }
}
