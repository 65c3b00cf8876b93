//! What few keys have, and all texts: bytes behind the fixed places of a key.

use std::mem::size_of;

use fluxgate_types::{ClusterMs, KeyId};
use integer_encoding::VarInt as _;

use super::{BY_KEY, EXPIRES, OWNED, REVOKED};

/// Everything behind the fixed places, in this order.
pub(super) struct Rest<'a> {
    pub(super) created_at: Option<u64>,
    pub(super) revoked_at: Option<ClusterMs>,
    pub(super) expires_at: Option<ClusterMs>,
    pub(super) creator: Option<KeyId>,
    pub(super) revision: u64,
    pub(super) head: &'a str,
    pub(super) owner: Option<&'a str>,
    pub(super) name: &'a str,
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
        let (number, bytes) = u64::decode_var(self.0).unwrap_or_default();
        self.take(bytes);
        number
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
            head: reader.text(),
            owner: has(OWNED).then(|| reader.text()),
            name: str::from_utf8(reader.0).unwrap_or_default(),
        }
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let number = |bytes: &mut Vec<u8>, number: u64| {
            bytes.extend_from_slice(&number.encode_var_vec());
        };
        let times =
            [self.created_at, self.revoked_at.map(|at| at.0), self.expires_at.map(|at| at.0)];
        times.into_iter().flatten().for_each(|time| number(&mut bytes, time));
        bytes.extend(self.creator.iter().flat_map(|id| id.as_bytes()));
        number(&mut bytes, self.revision);
        for text in [Some(self.head), self.owner].into_iter().flatten() {
            number(&mut bytes, text.len() as u64);
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes.extend_from_slice(self.name.as_bytes());
        bytes
    }
}
