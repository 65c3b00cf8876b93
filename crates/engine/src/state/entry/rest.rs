//! What few keys have, and all texts: bytes behind the fixed places of a key.

use std::mem::size_of;

use fluxgate_types::{ClusterMs, KeyId};

use super::{BY_KEY, EXPIRES, OWNED, REVOKED};
use crate::varint;

/// Everything behind the fixed places, in this order.
pub(super) struct Rest<'a> {
    pub(super) created_at: Option<u64>,
    pub(super) revoked_at: Option<ClusterMs>,
    pub(super) expires_at: Option<ClusterMs>,
    pub(super) creator: Option<KeyId>,
    pub(super) revision: u64,
    pub(super) texts: Texts<'a>,
}

/// The texts of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Texts<'a> {
    /// The text before the id in its credential.
    pub head: &'a str,
    /// Its owner.
    pub owner: Option<&'a str>,
    /// Its display name.
    pub name: &'a str,
}

/// Reads what [`Rest`] was packed to. Nothing else is ever read, so it cannot fail.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at_checked(count).unwrap_or((self.0, &[]));
        self.0 = rest;
        taken
    }

    fn number(&mut self) -> u64 {
        varint::take(&mut self.0).unwrap_or_default()
    }

    fn text(&mut self) -> &'a str {
        let bytes = usize::try_from(self.number()).unwrap_or(usize::MAX);
        str::from_utf8(self.take(bytes)).unwrap_or_default()
    }
}

impl<'a> Rest<'a> {
    /// `is_long`: the time of creation is here.
    pub(super) fn read(marks: u8, is_long: bool, bytes: &'a [u8]) -> Self {
        let mut reader = Reader(bytes);
        let has = |mark: u8| marks & mark != 0;
        let created_at = is_long.then(|| reader.number());
        let revoked_at = has(REVOKED).then(|| ClusterMs(reader.number()));
        let expires_at = has(EXPIRES).then(|| ClusterMs(reader.number()));
        let creator = has(BY_KEY).then(|| reader.take(size_of::<KeyId>()).try_into().ok());
        Self {
            created_at,
            revoked_at,
            expires_at,
            creator: creator.flatten().and_then(|chars| KeyId::new(chars).ok()),
            revision: reader.number(),
            texts: Texts {
                head: reader.text(),
                owner: has(OWNED).then(|| reader.text()),
                name: str::from_utf8(reader.0).unwrap_or_default(),
            },
        }
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let times =
            [self.created_at, self.revoked_at.map(|at| at.0), self.expires_at.map(|at| at.0)];
        times.into_iter().flatten().for_each(|time| varint::append(time, &mut bytes));
        bytes.extend(self.creator.iter().flat_map(|id| id.as_bytes()));
        varint::append(self.revision, &mut bytes);
        for text in [Some(self.texts.head), self.texts.owner].into_iter().flatten() {
            varint::append(text.len() as u64, &mut bytes);
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes.extend_from_slice(self.texts.name.as_bytes());
        bytes
    }
}
