//! Many keys at once: imports from other systems, and backups. JSON lines, one thing on each.
//!
//! Answers for: the shapes of the lines and of the answers to them, and the digest that binds a
//! backup. A backup is a `begin` line, the keys in the order that they were made in, the audit
//! trail, and an `end` line with the SHA-256 of every byte before it.

use std::collections::BTreeMap;

use fluxgate_types::{Digest, KeyId, Scope};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::{IntoParams, ToSchema};

use crate::keys::LimitSpec;
use crate::text::{Text, Time};
use crate::validate::ScopeSchema;

/// The media type of these bodies.
pub const MEDIA_TYPE: &str = "application/x-ndjson";
/// The form of backups that this version writes, and the newest that it reads.
pub const BACKUP_FORMAT: u32 = 2;
/// Most refused lines that one answer names.
pub const REFUSALS_MAX: usize = 1_000;

/// A SHA-256 as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sha256Hex(pub Digest);

impl Sha256Hex {
    /// The digits.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.0.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads the digits, in either case.
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

/// One key of another system: all of it but the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportKey {
    /// SHA-256 of the whole key, in hexadecimal.
    #[schema(value_type = String, min_length = 64, max_length = 64)]
    pub sha256: Sha256Hex,
    /// What the key is for, in words.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// What it may do.
    #[schema(value_type = ScopeSchema)]
    pub scope: Scope,
    /// Whom it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Its limits; the configured default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Vec<LimitSpec>>,
    /// Whether it is switched on; it is when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// When it stops being accepted; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Time>,
    /// Notes; at most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// A line that was not taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedLine {
    /// Which, counted from 1.
    pub line: u64,
    /// Why.
    pub message: String,
}

/// What came of the lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BulkAnswer {
    /// Lines that were taken in.
    pub created: u64,
    /// Lines whose key or entry was there already, and stayed as it is.
    pub known: u64,
    /// Lines that were refused.
    pub refused: u64,
    /// The first thousand of these.
    pub refusals: Vec<RefusedLine>,
}

/// One line of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupLine {
    /// The first.
    Begin(BackupBegin),
    /// A key.
    Key(Box<BackupKey>),
    /// An entry of the audit trail.
    Audit(Box<BackupAudit>),
    /// The last.
    End(BackupEnd),
}

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupBegin {
    /// [`BACKUP_FORMAT`].
    pub format: u32,
    /// The cluster.
    pub cluster: String,
    /// What wrote it.
    pub version: String,
    /// When, in cluster time.
    pub at: Time,
    /// The last entry of the log that is in it.
    pub index: u64,
    /// Keys that follow.
    pub keys: u64,
}

/// A key with its digest, as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupKey {
    /// Its id.
    pub id: Text<KeyId>,
    /// The first characters of the key.
    pub prefix: String,
    /// SHA-256 of the key.
    pub sha256: Sha256Hex,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub scope: Scope,
    /// Whom it belongs to.
    pub owner: Option<String>,
    /// Limits of its own; null where the default holds.
    pub limits: Option<Vec<LimitSpec>>,
    /// Whether it is switched on.
    pub enabled: bool,
    /// Its revision.
    pub revision: u64,
    /// When it was made.
    pub created_at: Time,
    /// By whom.
    pub created_by: String,
    /// When it was revoked.
    pub revoked_at: Option<Time>,
    /// When it ends by itself.
    pub expires_at: Option<Time>,
    /// The secret before the last rotation, in its grace.
    pub previous: Option<BackupPrevious>,
    /// Notes.
    pub metadata: BTreeMap<String, String>,
    /// When it was last seen used.
    pub last_used_at: Option<Time>,
}

/// A secret that was rotated out and still opens its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupPrevious {
    /// Its SHA-256.
    pub sha256: Sha256Hex,
    /// Until when.
    pub until: Time,
}

/// Which backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BackupQuery {
    /// Also from a node that holds no lease: what it has may lack the newest changes.
    #[serde(default)]
    #[param(required = false)]
    pub stale: bool,
}

/// An entry of the audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupAudit {
    /// Its number in the trail; absent in backups of format 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// When.
    pub at: Time,
    /// What.
    pub action: String,
    /// To which key.
    pub key_id: Option<Text<KeyId>>,
    /// By whom.
    pub actor: String,
    /// From which address.
    pub from: Option<String>,
    /// What changed, in words.
    pub details: String,
}

/// What binds a backup: without this line, or with another digest, it is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupEnd {
    /// Lines before this one.
    pub lines: u64,
    /// SHA-256 of every byte before this line.
    pub sha256: Sha256Hex,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_read_back_in_either_case() {
        let digest = Sha256Hex(Digest::of(b"key"));
        assert_eq!(Sha256Hex::parse(&digest.to_text()), Some(digest));
        assert_eq!(Sha256Hex::parse(&digest.to_text().to_uppercase()), Some(digest));
        for wrong in ["", "12", &"g".repeat(64), &"é".repeat(32), &"0".repeat(65)] {
            assert_eq!(Sha256Hex::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_lines_of_a_backup_are_these() {
        let line = BackupLine::End(BackupEnd { lines: 3, sha256: Sha256Hex(Digest::of(b"")) });
        let text = serde_json::to_string(&line).unwrap();
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(text, format!(r#"{{"end":{{"lines":3,"sha256":"{empty}"}}}}"#));
        assert_eq!(serde_json::from_str::<BackupLine>(&text).unwrap(), line);
    }
}
