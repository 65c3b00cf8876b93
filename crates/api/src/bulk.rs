//! Many keys at once: imports from other systems, and backups. JSON lines, one object on each.
//!
//! Answers for: the shapes of the lines and of the answers to them, and the digest that seals a
//! backup. A backup is a `begin` line, the keys in the order of their creation, the audit trail,
//! and an `end` line with the SHA-256 of every byte before it.

use std::collections::BTreeMap;

use fluxgate_types::{Digest, KeyId, Scope};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::{IntoParams, ToSchema};

use crate::keys::{LimitEntry, LimitSpec};
use crate::records::{SetPlan, SetPool};
use crate::text::{Text, Time};
use crate::validate::ScopeSchema;

/// The media type of import, backup and restore bodies.
pub const MEDIA_TYPE: &str = "application/x-ndjson";
/// The newest backup format, which this version reads and writes.
pub const BACKUP_FORMAT: u32 = 3;
/// The format of a backup without owners, plans and pools: earlier versions read it too.
pub const BACKUP_FORMAT_WITHOUT_OWNERS: u32 = 2;
/// Most rejected lines that one answer lists.
pub const REFUSALS_MAX: usize = 1_000;

/// A SHA-256, written as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sha256Hex(pub Digest);

impl Sha256Hex {
    /// The 64 digits, in lower case.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.0.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Parses 64 digits, in either case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0u8; 32];
        if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(Self(Digest::from_bytes(bytes)))
    }
}

impl Serialize for Sha256Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

impl<'de> Deserialize<'de> for Sha256Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let wrong =
            || de::Error::invalid_value(de::Unexpected::Other("text"), &"64 hexadecimal digits");
        Self::parse(&text).ok_or_else(wrong)
    }
}

/// One key of another system: everything except the key itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportKey {
    /// SHA-256 of the whole key, in hexadecimal.
    #[schema(value_type = String, min_length = 64, max_length = 64)]
    pub sha256: Sha256Hex,
    /// What the key is for, in words.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// What the key may do.
    #[schema(value_type = ScopeSchema)]
    pub scope: Scope,
    /// The owner of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Limits of the key; the configured default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Vec<LimitSpec>>,
    /// Whether the key is enabled; true when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// When the key expires; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Time>,
    /// Metadata: names and values of the caller's choice; at most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// A rejected line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedLine {
    /// Number of the line, counted from 1.
    pub line: u64,
    /// Why it was rejected.
    pub message: String,
}

/// The outcome of an import or restore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BulkAnswer {
    /// Lines that were imported.
    pub created: u64,
    /// Lines whose key or entry existed already and was left unchanged.
    pub known: u64,
    /// Lines that were rejected.
    pub refused: u64,
    /// The first thousand rejected lines.
    pub refusals: Vec<RefusedLine>,
}

/// One line of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupLine {
    /// The first line.
    Begin(BackupBegin),
    /// One key.
    Key(Box<BackupKey>),
    /// A pool.
    Pool(Box<BackupPool>),
    /// A plan.
    Plan(Box<BackupPlan>),
    /// The record of an owner.
    Owner(Box<BackupOwner>),
    /// An entry of the audit trail.
    Audit(Box<BackupAudit>),
    /// The last line.
    End(BackupEnd),
}

/// The origin and size of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupBegin {
    /// Format of the backup: see [`BACKUP_FORMAT`].
    pub format: u32,
    /// Name of the cluster.
    pub cluster: String,
    /// Version of Fluxgate that wrote the backup.
    pub version: String,
    /// When the backup was made, in cluster time.
    pub at: Time,
    /// Index of the last log entry that the backup includes.
    pub index: u64,
    /// Number of keys that follow.
    pub keys: u64,
}

/// A key with its digest, as it is in the replicated state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupKey {
    /// The key's id.
    pub id: Text<KeyId>,
    /// The start of the key, up to and including its id.
    pub prefix: String,
    /// SHA-256 of the whole key.
    pub sha256: Sha256Hex,
    /// The key's name.
    pub name: String,
    /// What the key may do.
    pub scope: Scope,
    /// The owner of the key.
    pub owner: Option<String>,
    /// Limits of the key; null where those of its plan apply.
    pub limits: Option<Vec<LimitEntry>>,
    /// The plan of the key; absent if it is `default`. Since format 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// The pools of the key; absent if they are those of its plan. Since format 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pools: Option<Vec<String>>,
    /// Whether the key is enabled.
    pub enabled: bool,
    /// The key's revision.
    pub revision: u64,
    /// When the key was created.
    pub created_at: Time,
    /// `operator`, or the id of the admin key that created it.
    pub created_by: String,
    /// When the key was revoked.
    pub revoked_at: Option<Time>,
    /// When the key expires.
    pub expires_at: Option<Time>,
    /// The previous secret, while its grace period lasts.
    pub previous: Option<BackupPrevious>,
    /// Metadata: names and values of the caller's choice.
    pub metadata: BTreeMap<String, String>,
    /// When the key was last used, approximately.
    pub last_used_at: Option<Time>,
}

/// The record of an owner: what all its keys may use together, and whether they are enabled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupOwner {
    /// The owner.
    pub owner: String,
    /// Its limits; none if it has none.
    pub limits: Vec<LimitEntry>,
    /// Its plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Whether its keys are enabled.
    pub enabled: bool,
    /// Metadata: names and values of the caller's choice.
    pub metadata: BTreeMap<String, String>,
}

/// A plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupPlan {
    /// The plan.
    pub plan: String,
    /// What it says.
    pub says: SetPlan,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupPool {
    /// The pool.
    pub pool: String,
    /// What it says.
    pub says: SetPool,
}

/// A secret that was rotated out and is still accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupPrevious {
    /// SHA-256 of the whole previous key.
    pub sha256: Sha256Hex,
    /// When its grace period ends.
    pub until: Time,
}

/// Options of a backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BackupQuery {
    /// Also accept a backup from a node that holds no lease; it may lack the newest changes.
    #[serde(default)]
    #[param(required = false)]
    pub stale: bool,
}

/// An entry of the audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupAudit {
    /// Number of the entry in the trail; absent in backups of format 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// When it happened, in cluster time.
    pub at: Time,
    /// The action, such as `key.create`.
    pub action: String,
    /// The key concerned, if any.
    pub key_id: Option<Text<KeyId>>,
    /// `operator`, `system`, or the id of an admin key.
    pub actor: String,
    /// The client's address, if known.
    pub from: Option<String>,
    /// What changed, in words.
    pub details: String,
}

/// Seals a backup: without this line, or with a digest that does not match, it is invalid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupEnd {
    /// Number of lines before this one.
    pub lines: u64,
    /// SHA-256 of every byte before this line.
    pub sha256: Sha256Hex,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_parse_in_either_case() {
        let digest = Sha256Hex(Digest::of(b"key"));
        assert_eq!(Sha256Hex::parse(&digest.to_text()), Some(digest));
        assert_eq!(Sha256Hex::parse(&digest.to_text().to_uppercase()), Some(digest));
        for wrong in ["", "12", &"g".repeat(64), &"é".repeat(32), &"0".repeat(65)] {
            assert_eq!(Sha256Hex::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_backup_line_has_this_json() {
        let line = BackupLine::End(BackupEnd { lines: 3, sha256: Sha256Hex(Digest::of(b"")) });
        let text = serde_json::to_string(&line).unwrap();
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(text, format!(r#"{{"end":{{"lines":3,"sha256":"{empty}"}}}}"#));
        assert_eq!(serde_json::from_str::<BackupLine>(&text).unwrap(), line);
    }
}
