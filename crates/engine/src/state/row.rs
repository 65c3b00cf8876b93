//! A key as one row: in snapshots, imports and backups, and between nodes.

use fluxgate_types::{ClusterMs, Digest, KeyId, Limit, LogIndex, Mode, Scope, Scopes};

use super::actor::Actor;
use super::record::{KeyRecord, LimitSpec, Previous};
use super::terms::Terms;

/// A key as it is written to disk and sent between nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// See [`KeyRecord`], for every field.
    pub id: KeyId,
    /// Digest of the credential.
    pub digest: Digest,
    /// Scope.
    pub scope: Scope,
    /// Whether it is enabled.
    pub enabled: bool,
    /// Revision.
    pub revision: u64,
    /// Log position of the creation.
    pub created_index: LogIndex,
    /// Time of creation.
    pub created_at: ClusterMs,
    /// Creator.
    pub created_by: Actor,
    /// Time of revocation.
    pub revoked_at: Option<ClusterMs>,
    /// Time of expiry.
    pub expires_at: Option<ClusterMs>,
    /// Name.
    pub name: Box<str>,
    /// First characters of the credential.
    pub prefix: Box<str>,
    /// Owner.
    pub owner: Option<Box<str>>,
    /// Its own limits.
    pub limits: Option<Vec<Limit>>,
    /// What it names besides them. Since level 4.
    pub terms: Terms,
    /// Digest and end of the rotated-out credential.
    pub previous: Option<(Digest, ClusterMs)>,
    /// Free text pairs.
    pub metadata: Vec<(Box<str>, Box<str>)>,
    /// When a node last saw it used, as far as the writer knew.
    pub last_used: Option<ClusterMs>,
}

impl From<&KeyRecord> for KeyRow {
    fn from(record: &KeyRecord) -> Self {
        Self {
            id: record.id,
            digest: record.digest,
            scope: record.scope,
            enabled: record.enabled,
            revision: record.revision,
            created_index: record.created_index,
            created_at: record.created_at,
            created_by: record.created_by,
            revoked_at: record.revoked_at,
            expires_at: record.expires_at,
            name: record.name.clone(),
            prefix: record.prefix().into(),
            owner: record.owner.clone(),
            limits: record.own_limits(),
            terms: record.terms.clone(),
            previous: record.previous.as_ref().map(|p| (p.digest, p.until)),
            metadata: record.metadata.as_ref().map(|m| m.to_vec()).unwrap_or_default(),
            last_used: None,
        }
    }
}

impl KeyRow {
    /// The same row without what level 4 adds.
    #[must_use]
    pub fn into_plain(mut self) -> Self {
        for limit in self.limits.iter_mut().flatten() {
            (limit.scopes, limit.mode) = (Scopes::default(), Mode::default());
        }
        Self { terms: Terms::default(), ..self }
    }

    /// Whether it says nothing of level 4.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.terms.is_empty() && Limit::are_plain(self.limits.as_deref())
    }

    /// The record at place `seq` of the order of creation. `None` if the limits are invalid.
    #[must_use]
    pub fn into_record(self, seq: u32) -> Option<KeyRecord> {
        let limits = match self.limits {
            Some(limits) => Some(LimitSpec::all(&limits)?),
            None => None,
        };
        let metadata = (!self.metadata.is_empty()).then(|| Box::new(self.metadata.into()));
        Some(KeyRecord {
            id: self.id,
            digest: self.digest,
            seq,
            scope: self.scope,
            enabled: self.enabled,
            revision: self.revision,
            created_index: self.created_index,
            created_at: self.created_at,
            created_by: self.created_by,
            revoked_at: self.revoked_at,
            expires_at: self.expires_at,
            name: self.name,
            head: self.prefix.strip_suffix(self.id.as_str()).unwrap_or("").into(),
            owner: self.owner,
            limits,
            terms: self.terms,
            previous: self.previous.map(|(digest, until)| Box::new(Previous { digest, until })),
            metadata,
        })
    }
}
