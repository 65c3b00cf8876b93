//! A key as a node keeps it: one piece of memory, because a node keeps a million of them.
//!
//! Answers for: what is packed is unpacked the same, and a validate reads what it needs in place.
//! What every key has is in fixed places. What few keys have, and all texts, follow behind them.

mod rest;

use std::fmt;
use std::mem::size_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fluxgate_types::{ClusterMs, Digest, KeyId, LogIndex, Scope};
use triomphe::ThinArc;

use self::rest::Rest;
pub use self::rest::Texts;
use super::actor::Actor;
use super::governing::{Governing, SharedLimits};
use super::record::{KeyRecord, Metadata, Previous, Status, USE_NOTED_MS};
use super::terms::Terms;

/// A key in the table: its record, and the only fact of it that is not replicated, when this node
/// last saw the key used. A copy is another pointer to it.
#[derive(Clone)]
pub struct KeyEntry(ThinArc<Fixed, u8>);

/// What every key has. The order of the fields leaves no gaps.
struct Fixed {
    digest: Digest,
    last_used_ms: AtomicU64,
    created_index: LogIndex,
    // Shared by the keys with the same limits, plan and pools. None: the plan `default`.
    governing: Option<Arc<Governing>>,
    rare: Option<Box<Rare>>,
    id: KeyId,
    seq: u32,
    created_at: [u8; SHORT_BYTES],
    marks: u8,
}

/// What few keys have.
struct Rare {
    previous: Option<Box<Previous>>,
    metadata: Option<Box<Metadata>>,
}

const _: () = assert!(size_of::<Fixed>() == 88, "a million of these are kept");

// Marks: the scope in two bits, the creator in two, and what the rest holds.
const SCOPE: u8 = 0b11;
const BY_KEY: u8 = 0b01 << 2;
const BY_SYSTEM: u8 = 0b10 << 2;
const ENABLED: u8 = 1 << 4;
const REVOKED: u8 = 1 << 5;
const EXPIRES: u8 = 1 << 6;
const OWNED: u8 = 1 << 7;

/// Bytes of a time of creation. A time from [`LONG_FROM`] on is behind the fixed places, and here is
/// `LONG`.
const SHORT_BYTES: usize = 6;
const LONG: [u8; SHORT_BYTES] = [0xff; SHORT_BYTES];
const LONG_FROM: u64 = (1 << (8 * SHORT_BYTES)) - 1;

fn scope_mark(scope: Scope) -> u8 {
    match scope {
        Scope::Read => 0,
        Scope::Write => 1,
        Scope::Admin => 2,
    }
}

impl KeyEntry {
    /// Packs a record; `last_used` is carried over when a record changes.
    #[must_use]
    pub fn new(record: &KeyRecord, last_used: Option<ClusterMs>) -> Self {
        Self::sharing(record, last_used, Governing::of(record).map(Arc::new))
    }

    /// The same, with what governs other keys too.
    pub(super) fn sharing(
        record: &KeyRecord,
        last_used: Option<ClusterMs>,
        governing: Option<Arc<Governing>>,
    ) -> Self {
        let is_short = record.created_at.0 < LONG_FROM;
        let [.., a, b, c, d, e, f] = record.created_at.0.min(LONG_FROM).to_be_bytes();
        let mut marks = scope_mark(record.scope);
        for (mark, is_set) in [
            (BY_KEY, matches!(record.created_by, Actor::Key(_))),
            (BY_SYSTEM, record.created_by == Actor::System),
            (ENABLED, record.enabled),
            (REVOKED, record.revoked_at.is_some()),
            (EXPIRES, record.expires_at.is_some()),
            (OWNED, record.owner.is_some()),
        ] {
            marks |= if is_set { mark } else { 0 };
        }
        let rest = Rest {
            created_at: (!is_short).then_some(record.created_at.0),
            revoked_at: record.revoked_at,
            expires_at: record.expires_at,
            creator: if let Actor::Key(id) = record.created_by { Some(id) } else { None },
            revision: record.revision,
            texts: Texts { head: &record.head, owner: record.owner.as_deref(), name: &record.name },
        };
        let is_rare = record.previous.is_some() || record.metadata.is_some();
        let rare = || Rare { previous: record.previous.clone(), metadata: record.metadata.clone() };
        let fixed = Fixed {
            digest: record.digest,
            last_used_ms: AtomicU64::new(last_used.map_or(0, |at| at.0)),
            created_index: record.created_index,
            governing,
            rare: is_rare.then(|| Box::new(rare())),
            id: record.id,
            seq: record.seq,
            created_at: [a, b, c, d, e, f],
            marks,
        };
        Self(ThinArc::from_header_and_slice(fixed, &rest.write()))
    }

    /// Unpacks the record.
    #[must_use]
    pub fn record(&self) -> KeyRecord {
        let (fixed, rest) = (self.fixed(), self.rest());
        let [a, b, c, d, e, f] = fixed.created_at;
        let short = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        let rare = fixed.rare.as_deref();
        KeyRecord {
            id: fixed.id,
            digest: fixed.digest,
            seq: fixed.seq,
            scope: self.scope(),
            enabled: self.has(ENABLED),
            revision: rest.revision,
            created_index: fixed.created_index,
            created_at: ClusterMs(rest.created_at.unwrap_or(short)),
            created_by: match rest.creator {
                Some(id) => Actor::Key(id),
                None if self.has(BY_SYSTEM) => Actor::System,
                None => Actor::Operator,
            },
            revoked_at: rest.revoked_at,
            expires_at: rest.expires_at,
            name: rest.texts.name.into(),
            head: rest.texts.head.into(),
            owner: rest.texts.owner.map(Into::into),
            limits: self.own_limits().cloned(),
            terms: self.terms().cloned().unwrap_or_default(),
            previous: rare.and_then(|rare| rare.previous.clone()),
            metadata: rare.and_then(|rare| rare.metadata.clone()),
        }
    }

    fn fixed(&self) -> &Fixed {
        &self.0.header.header
    }

    fn rest(&self) -> Rest<'_> {
        let fixed = self.fixed();
        Rest::read(fixed.marks, fixed.created_at == LONG, &self.0.slice)
    }

    fn has(&self, mark: u8) -> bool {
        self.fixed().marks & mark != 0
    }

    /// Its public id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.fixed().id
    }

    /// Digest of its credential.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.fixed().digest
    }

    /// Place in the order of creation.
    #[must_use]
    pub fn seq(&self) -> u32 {
        self.fixed().seq
    }

    /// Its scope.
    #[must_use]
    pub fn scope(&self) -> Scope {
        match self.fixed().marks & SCOPE {
            0 => Scope::Read,
            1 => Scope::Write,
            _ => Scope::Admin,
        }
    }

    /// Counts up with each change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.rest().revision
    }

    /// Log position of its creation.
    #[must_use]
    pub fn created_index(&self) -> LogIndex {
        self.fixed().created_index
    }

    /// Whether it was revoked.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.has(REVOKED)
    }

    /// Its texts, read at once.
    #[must_use]
    pub fn texts(&self) -> Texts<'_> {
        self.rest().texts
    }

    /// Its display name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.texts().name
    }

    /// Its owner.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        self.texts().owner
    }

    /// The last byte of the key in memory: reading it loads all of it.
    #[must_use]
    pub fn last_byte(&self) -> u8 {
        self.0.slice.last().copied().unwrap_or(0)
    }

    /// The credential before the last rotation, in its grace.
    #[must_use]
    pub fn previous(&self) -> Option<&Previous> {
        self.fixed().rare.as_ref()?.previous.as_deref()
    }

    /// What governs it, if that is more than the plan `default`.
    #[must_use]
    pub fn governing(&self) -> Option<&Governing> {
        self.fixed().governing.as_deref()
    }

    /// Its own limits.
    #[must_use]
    pub fn own_limits(&self) -> Option<&SharedLimits> {
        self.governing()?.own()
    }

    /// What it names besides its own limits, if anything may be named.
    #[must_use]
    pub fn terms(&self) -> Option<&Terms> {
        Some(self.governing()?.terms())
    }

    /// The status of the key at `now`.
    #[must_use]
    pub fn status(&self, now: ClusterMs) -> Status {
        let expires_at = if self.has(EXPIRES) { self.rest().expires_at } else { None };
        Status::at(now, self.is_revoked(), expires_at, self.has(ENABLED))
    }

    /// When the key ended: was revoked, or expired before `now`.
    #[must_use]
    pub fn ended_at(&self, now: ClusterMs) -> Option<ClusterMs> {
        let rest = self.rest();
        let expired = rest.expires_at.filter(|end| *end <= now);
        rest.revoked_at.into_iter().chain(expired).min()
    }

    /// Whether a credential with this digest is valid for the key at `now`.
    #[must_use]
    pub fn opens(&self, digest: &Digest, now: ClusterMs) -> bool {
        self.digest().matches(digest)
            || self.previous().is_some_and(|p| p.digest.matches(digest) && now < p.until)
    }

    /// The first characters of its credential, safe to show.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("{}{}", self.texts().head, self.id().as_str())
    }

    /// Whether the bearer of this key, of scope admin, may see and change another key: keys of the
    /// same owner, and itself.
    #[must_use]
    pub fn manages(&self, other: &Self) -> bool {
        self.id() == other.id() || self.manages_owner(other.owner())
    }

    /// Whether the bearer of this key, of scope admin, may create keys of this owner.
    #[must_use]
    pub fn manages_owner(&self, owner: Option<&str>) -> bool {
        self.has(OWNED) && self.owner() == owner
    }

    /// When the key was last used, as far as this incarnation knows.
    #[must_use]
    pub fn last_used(&self) -> Option<ClusterMs> {
        let at = self.fixed().last_used_ms.load(Ordering::Relaxed);
        (at > 0).then_some(ClusterMs(at))
    }

    /// Records a use at `now`. True if it is the first use in this minute of cluster time.
    pub fn touch(&self, now: ClusterMs) -> bool {
        let last_used_ms = &self.fixed().last_used_ms;
        // Load first: otherwise every core would write one cache line for a busy key.
        if last_used_ms.load(Ordering::Relaxed) >= now.0 {
            return false;
        }
        let before = last_used_ms.fetch_max(now.0, Ordering::Relaxed);
        before / USE_NOTED_MS < now.0 / USE_NOTED_MS
    }
}

impl fmt::Debug for KeyEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (record, last_used) = (self.record(), self.last_used());
        f.debug_struct("KeyEntry").field("record", &record).field("last_used", &last_used).finish()
    }
}

#[cfg(test)]
mod tests {
    use fluxgate_types::Limit;
    use proptest::prelude::*;
    use proptest::strategy::ValueTree as _;

    use super::*;
    use crate::state::record::LimitSpec;

    fn time() -> impl Strategy<Value = ClusterMs> {
        let edges = [0, 1, (1 << 48) - 2, (1 << 48) - 1, 1 << 48, u64::MAX];
        prop_oneof![
            any::<u64>(),
            1_700_000_000_000..1_800_000_000_000u64,
            prop::sample::select(edges.to_vec()),
        ]
        .prop_map(ClusterMs)
    }

    fn text() -> impl Strategy<Value = Box<str>> {
        prop_oneof!["", "\\PC{0,12}", "\\PC{120,300}"].prop_map(|text| text.as_str().into())
    }

    fn id() -> impl Strategy<Value = KeyId> {
        "[0-9A-Za-z]{12}".prop_map(|id| KeyId::new(id.as_bytes().try_into().unwrap()).unwrap())
    }

    fn terms() -> impl Strategy<Value = Terms> {
        let names = || prop::collection::vec(text(), 0..3);
        (prop::option::of(text()), prop::option::of(names()), names()).prop_map(
            |(plan, pools, removes)| Terms {
                plan,
                pools: pools.map(Into::into),
                removes: removes.into(),
            },
        )
    }

    fn record() -> impl Strategy<Value = KeyRecord> {
        let creator =
            prop_oneof![Just(Actor::Operator), Just(Actor::System), id().prop_map(Actor::Key),];
        let limits = prop::collection::vec(1..9u64, 0..3);
        let limits = prop::option::of(limits.prop_map(|tokens| {
            let limit = |tokens: &u64| LimitSpec::new(Limit::new("l", *tokens, 1_000));
            tokens.iter().map(limit).collect()
        }));
        let previous = prop::option::of((any::<[u8; 4]>(), time()));
        let fixed = (id(), any::<[u8; 8]>(), any::<u32>(), 0..3usize, any::<bool>(), any::<u64>());
        let times = (any::<u64>(), time(), prop::option::of(time()), prop::option::of(time()));
        let texts = (text(), text(), prop::option::of(text()), creator);
        let rare = (limits, previous, prop::collection::vec((text(), text()), 0..3), terms());
        (fixed, times, texts, rare).prop_map(|(fixed, times, texts, rare)| {
            let (limits, previous, pairs, terms) = rare;
            KeyRecord {
                id: fixed.0,
                digest: Digest::of(&fixed.1),
                seq: fixed.2,
                scope: Scope::ALL[fixed.3],
                enabled: fixed.4,
                revision: fixed.5,
                created_index: LogIndex(times.0),
                created_at: times.1,
                created_by: texts.3,
                revoked_at: times.2,
                expires_at: times.3,
                name: texts.0,
                head: texts.1,
                owner: texts.2,
                limits,
                terms,
                previous: previous
                    .map(|(text, until)| Box::new(Previous { digest: Digest::of(&text), until })),
                metadata: (!pairs.is_empty()).then(|| Box::new(pairs.into())),
            }
        })
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked_the_same(
            record in record(),
            used in prop::option::of(1..u64::MAX),
            now in time(),
        ) {
            let used = used.map(ClusterMs);
            let entry = KeyEntry::new(&record, used);
            prop_assert_eq!(&entry.record(), &record);
            prop_assert_eq!(entry.last_used(), used);
            let is_revoked = record.revoked_at.is_some();
            let status = Status::at(now, is_revoked, record.expires_at, record.enabled);
            prop_assert_eq!(entry.status(now), status);
            prop_assert_eq!((entry.name(), entry.owner()), (&*record.name, record.owner.as_deref()));
            prop_assert_eq!(entry.revision(), record.revision);
            prop_assert_eq!(entry.prefix(), record.prefix());
            prop_assert_eq!(entry.own_limits(), record.limits.as_ref());
            prop_assert_eq!(entry.previous(), record.previous.as_deref());
            let is_over = is_revoked || status == Status::Expired;
            prop_assert_eq!(entry.ended_at(now).is_some(), is_over);
        }
    }

    #[test]
    fn a_use_is_noted_once_a_minute() {
        let id = KeyId::new(*b"abcdefghijkl").unwrap();
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let record = record().new_tree(&mut runner).unwrap().current();
        let entry = KeyEntry::new(&KeyRecord { id, ..record }, None);
        let noted =
            [60_000, 60_000, 119_999, 120_000, 100_000].map(|at| entry.touch(ClusterMs(at)));
        assert_eq!(noted, [true, false, false, true, false]);
        assert_eq!(entry.clone().last_used(), Some(ClusterMs(120_000)));
    }
}
