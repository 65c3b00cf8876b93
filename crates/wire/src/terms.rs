//! Shapes of what level 4 adds to keys: it comes beside the earlier shapes, which do not change.

use fluxgate_engine::state::command::{Command, ImportSource, KeyChange, NewKey, OneKey};
use fluxgate_engine::state::named::Definition;
use fluxgate_engine::state::snapshot::KeyRow;
use fluxgate_engine::state::terms::Terms;
use fluxgate_types::Limit;
use serde::{Deserialize, Serialize};

use crate::shape::{ShapeOf, Shaped, shape};

shape! {
    /// See [`Terms`].
    struct TermsV4 of Terms {
        plan: Option<Box<str>>,
        pools: Option<Box<[Box<str>]>>,
        removes: Box<[Box<str>]>,
    }
}

/// Terms with the marks of the limits beside them, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkedV4 {
    terms: TermsV4,
    marks: Vec<u8>,
}

impl MarkedV4 {
    pub(crate) fn of(terms: &Terms, limits: Option<&[Limit]>) -> Self {
        Self { terms: terms.to_shape(), marks: marks_of(limits.unwrap_or_default()) }
    }

    /// The terms; the marks go into the limits.
    fn mark(self, limits: Option<&mut Vec<Limit>>) -> Terms {
        mark(limits.map_or(&mut [], |limits| limits), &self.marks);
        Terms::from_shape(self.terms)
    }
}

fn marks_of(limits: &[Limit]) -> Vec<u8> {
    limits.iter().map(Limit::marks).collect()
}

/// Marks that no limit has, of damaged or hostile bytes, are left out.
fn mark(limits: &mut [Limit], marks: &[u8]) {
    for (limit, marks) in limits.iter_mut().zip(marks) {
        if let Some(marked) = limit.clone().marked(*marks) {
            *limit = marked;
        }
    }
}

/// What a change of a key changes besides the earlier fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedTermsV4 {
    plan: Option<Option<Box<str>>>,
    pools: Option<Option<Box<[Box<str>]>>>,
    removes: Box<[Box<str>]>,
    marks: Vec<u8>,
}

/// Commands about keys whose content is of level 4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MarkedCommandV4 {
    /// [`Command::CreateKey`].
    Create { key: Box<ShapeOf<NewKey>>, marked: MarkedV4 },
    /// [`Command::UpdateKey`].
    Update { change: Box<ShapeOf<KeyChange>>, marked: ChangedTermsV4 },
    /// [`Command::PutKeys`].
    Put { rows: Vec<(ShapeOf<KeyRow>, MarkedV4)>, origin: ShapeOf<ImportSource> },
    /// [`Command::Once`] that creates a key.
    Once { key: Box<str>, content: u64, new: Box<ShapeOf<NewKey>>, marked: MarkedV4 },
}

fn marked_new(key: ShapeOf<NewKey>, marked: MarkedV4) -> NewKey {
    let mut key = NewKey::from_shape(key);
    key.terms = marked.mark(key.limits.as_mut());
    key
}

pub(crate) fn marked_row(row: ShapeOf<KeyRow>, marked: MarkedV4) -> KeyRow {
    let mut row = KeyRow::from_shape(row);
    row.terms = marked.mark(row.limits.as_mut());
    row
}

impl MarkedCommandV4 {
    /// The shape of a command whose content is of level 4.
    pub(crate) fn of(command: &Command) -> Option<Self> {
        if let Command::CreateKey(key) = command
            && !key.is_plain()
        {
            return Some(Self::Create {
                key: Box::new(key.as_ref().to_shape()),
                marked: MarkedV4::of(&key.terms, key.limits.as_deref()),
            });
        }
        if let Command::UpdateKey(change) = command
            && !change.is_plain()
        {
            let limits = change.limits.iter().flatten().next();
            let marked = ChangedTermsV4 {
                plan: change.plan.clone(),
                pools: change.pools.clone(),
                removes: change.removes.clone(),
                marks: marks_of(limits.map_or(&[], Vec::as_slice)),
            };
            return Some(Self::Update { change: Box::new(change.as_ref().to_shape()), marked });
        }
        if let Command::PutKeys { rows, origin } = command
            && !rows.iter().all(KeyRow::is_plain)
        {
            let marked = |row: &KeyRow| MarkedV4::of(&row.terms, row.limits.as_deref());
            return Some(Self::Put {
                rows: rows.iter().map(|row| (row.to_shape(), marked(row))).collect(),
                origin: origin.to_shape(),
            });
        }
        if let Command::Once { key, content, command: OneKey::Create(new) } = command
            && !new.is_plain()
        {
            return Some(Self::Once {
                key: key.clone(),
                content: *content,
                new: Box::new(new.as_ref().to_shape()),
                marked: MarkedV4::of(&new.terms, new.limits.as_deref()),
            });
        }
        None
    }

    pub(crate) fn into_command(self) -> Command {
        match self {
            Self::Create { key, marked } => Command::CreateKey(Box::new(marked_new(*key, marked))),
            Self::Update { change, marked } => {
                let mut change = KeyChange::from_shape(*change);
                let limits = change.limits.iter_mut().flatten().next();
                mark(limits.map_or(&mut [], Vec::as_mut_slice), &marked.marks);
                let ChangedTermsV4 { plan, pools, removes, .. } = marked;
                Command::UpdateKey(Box::new(KeyChange { plan, pools, removes, ..change }))
            }
            Self::Put { rows, origin } => Command::PutKeys {
                rows: rows.into_iter().map(|(row, marked)| marked_row(row, marked)).collect(),
                origin: ImportSource::from_shape(origin),
            },
            Self::Once { key, content, new, marked } => {
                let command = OneKey::Create(Box::new(marked_new(*new, marked)));
                Command::Once { key, content, command }
            }
        }
    }
}

/// The shape of a [`Definition`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefinitionV4 {
    limits: Vec<ShapeOf<Limit>>,
    marked: MarkedV4,
    exposes: Vec<Box<str>>,
    enabled: bool,
    metadata: Vec<(Box<str>, Box<str>)>,
}

impl Shaped for Definition {
    type Shape = DefinitionV4;

    fn to_shape(&self) -> DefinitionV4 {
        DefinitionV4 {
            limits: self.limits.to_shape(),
            marked: MarkedV4::of(&self.terms, Some(&self.limits)),
            exposes: self.exposes.clone(),
            enabled: self.enabled,
            metadata: self.metadata.clone(),
        }
    }

    fn from_shape(shape: DefinitionV4) -> Self {
        let DefinitionV4 { limits, marked, exposes, enabled, metadata } = shape;
        let mut limits = Vec::from_shape(limits);
        let terms = marked.mark(Some(&mut limits));
        Self { limits, terms, exposes, enabled, metadata }
    }
}
