//! Sequences of commands to the replicated state.
//!
//! Two replicas apply the same entries, one of them as the log reads them back; a third starts from
//! a snapshot in the middle and continues from there. All three must reach the same state with the
//! same outcomes, a rejected command must change nothing, and the invariants of the state must hold
//! after every entry.

use std::collections::BTreeMap;

use fluxgate_engine::lease::LeaseTerms;
use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::state::Registry;
use fluxgate_engine::state::audit::{Action, AuditEntry};
use fluxgate_engine::state::cluster_state::StartId;
use fluxgate_engine::state::command::{
    Actor, Batch, Command, ImportSource, KeyChange, NewKey, OneKey, Outcome, Proposal,
};
use fluxgate_engine::state::snapshot::{Item, KeyRow, Restore};
use fluxgate_raft::fuzzing;
use fluxgate_store::codec::{self, Kind};
use fluxgate_types::{
    BootId, ClusterMs, Digest, DirId, KeyId, Limit, LogIndex, NodeId, Scope, caps,
};
use fluxgate_wire::{BatchV1, Shaped as _};

use crate::source::Source;

/// Entries of one input.
const ENTRIES_MAX: usize = 48;
/// Commands of one entry.
const PROPOSALS_MAX: usize = 4;
/// Few names, so that commands meet the same keys.
const NAMES: [&str; 4] = ["a", "bb", "user_42", ""];
const SCOPES: [Scope; 3] = Scope::ALL;
const KEYS: usize = 5;

/// Entries of chosen commands, or whatever entries of the log the bytes decode to.
pub fn commands(data: &[u8]) {
    let mut source = Source::new(data);
    let raw = source.byte() % 4 == 3;
    let mut world = World::default();
    for _ in 0..ENTRIES_MAX {
        if source.is_empty() {
            break;
        }
        let term = 1 + source.below(3) as u64;
        let snapshot = source.once_in(8);
        if raw {
            let bytes = source.bytes(256);
            let Ok(batch) = codec::decode_payload::<BatchV1>(bytes) else { continue };
            let batch = Batch::from_shape(batch);
            world.apply(term, &batch);
        } else {
            let batch = batch(&mut source, world.now);
            world.apply(term, &batch);
        }
        if snapshot {
            world.snapshot();
        }
    }
    world.compare();
    world.snapshot();
    world.compare();
}

#[derive(Default)]
struct World {
    index: u64,
    now: ClusterMs,
    whole: Registry,
    read_back: Registry,
    from_snapshot: Registry,
    /// Idempotency keys that were used, and until when each is remembered.
    used: BTreeMap<Box<str>, ClusterMs>,
}

impl World {
    fn apply(&mut self, term: u64, batch: &Batch) {
        self.index += 1;
        let index = LogIndex(self.index);
        let stored = fuzzing::entry(term, index.0, batch).expect("an entry fits its envelope");
        let stored = fuzzing::batch(&stored).expect("it reads back").expect("it carries a batch");
        assert_eq!(stored, *batch);
        let before = items(&self.whole);
        let keys = records(&before);
        let applied = self.whole.apply(term, index, batch);
        assert_eq!(applied, self.read_back.apply(term, index, &stored), "two replicas");
        assert_eq!(applied, self.from_snapshot.apply(term, index, batch), "a restored replica");
        assert_eq!(applied.outcomes.len(), batch.proposals.len());
        let stamp = self.whole.last_stamp();
        assert!(stamp >= self.now.max(batch.at), "time of the state");
        let jumps = batch.proposals.iter().any(|p| matches!(p.command, Command::SetTime { .. }));
        assert!(jumps || stamp == self.now.max(batch.at), "time jumped without a command");
        self.now = stamp;
        let digest = |registry: &Registry| registry.shared().digest();
        assert_eq!(digest(&self.whole), digest(&self.read_back), "digests of two replicas");
        assert_eq!(digest(&self.whole), digest(&self.from_snapshot), "digest of a restored one");
        let after = items(&self.whole);
        if applied.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Refused(_))) {
            assert_eq!(keys, records(&after), "a rejected command changed a key");
            let passing = |item: &Item| {
                // Expired outcomes are removed by a rejected command, too.
                matches!(
                    item,
                    Item::Outcomes(_)
                        | Item::OutcomesAt(_)
                        | Item::Head { .. }
                        | Item::Cluster { .. }
                )
            };
            let kept = |item: &&Item| !passing(item);
            assert!(
                before.iter().filter(kept).eq(after.iter().filter(kept)),
                "a rejected command changed the state"
            );
        }
        sound(&self.whole, &after);
        revisions(&keys, &records(&after));
        self.idempotency(&keys, batch, &applied.outcomes);
    }

    /// A second use of an idempotency key within a day changes nothing.
    fn idempotency(&mut self, keys: &BTreeMap<KeyId, KeyRow>, batch: &Batch, outcomes: &[Outcome]) {
        let mut revisions: BTreeMap<KeyId, u64> =
            keys.iter().map(|(id, record)| (*id, record.revision)).collect();
        for (proposal, outcome) in batch.proposals.iter().zip(outcomes) {
            // A repeat returns the key unchanged: only a new revision is a change.
            let changed = match outcome {
                Outcome::Key(record) => revisions
                    .insert(record.id, record.revision)
                    .is_none_or(|known| known < record.revision),
                Outcome::Done | Outcome::Put(_) | Outcome::Refused(_) => false,
            };
            let key = match &proposal.command {
                Command::CreateKey(new) => new.idempotency_key.as_ref(),
                Command::RotateKey { idempotency_key, .. } => idempotency_key.as_ref(),
                Command::UpdateKey(_)
                | Command::RevokeKey { .. }
                | Command::SetDefaults { .. }
                | Command::SetShareMap { .. }
                | Command::RegisterNode { .. }
                | Command::RemoveNode { .. }
                | Command::PutKeys { .. }
                | Command::RestoreAudit { .. }
                | Command::SetLevel { .. }
                | Command::SetTerms { .. }
                | Command::RegisterStart { .. }
                | Command::EraseKeys { .. }
                | Command::Note { .. }
                | Command::SetTime { .. } => None,
                Command::Once { key, .. } => Some(key),
            };
            let Some(key) = key.filter(|_| changed) else { continue };
            let until = self.used.insert(key.clone(), self.now + caps::IDEMPOTENCY_TTL_MS);
            assert!(until.is_none_or(|until| until <= self.now), "done twice: {key}");
        }
    }

    /// The third replica starts again from the first one's snapshot, encoded as in a file.
    fn snapshot(&mut self) {
        let mut restore = Restore::default();
        for item in items(&self.whole) {
            let bytes =
                codec::encode(Kind::SnapshotChunk, 1, &item.to_shape()).expect("an item fits");
            let read = codec::decode(Kind::SnapshotChunk, 1, &bytes).expect("it reads back");
            let read = Item::from_shape(read);
            assert_eq!(read, item);
            restore.take(read).expect("our own snapshot is valid");
        }
        assert!(restore.is_complete());
        self.from_snapshot.install(LogIndex(self.index), restore);
    }

    fn compare(&self) {
        let digest = |registry: &Registry| registry.shared().digest();
        let of_whole = digest(&self.whole);
        assert_eq!(of_whole, digest(&self.read_back), "two replicas");
        assert!(
            of_whole.is_none() || of_whole == digest(&self.from_snapshot),
            "a restored replica"
        );
        let whole = items(&self.whole);
        assert_eq!(whole, items(&self.read_back), "two replicas");
        assert_eq!(whole, items(&self.from_snapshot), "snapshot and tail, against all entries");
    }
}

fn items(registry: &Registry) -> Vec<Item> {
    let mut items = Vec::new();
    let written: Result<(), ()> = registry.freeze().write(|item| {
        items.push(item);
        Ok(())
    });
    written.expect("the sink takes all");
    items
}

fn records(items: &[Item]) -> BTreeMap<KeyId, KeyRow> {
    let rows = items.iter().filter_map(|item| match item {
        Item::Keys(rows) => Some(rows),
        Item::Head { .. }
        | Item::Cluster { .. }
        | Item::LimitTags(_)
        | Item::Audit(_)
        | Item::Idempotency(_)
        | Item::IdempotencyOf(_)
        | Item::Places(_)
        | Item::Outcomes(_)
        | Item::OutcomesAt(_) => None,
    });
    rows.flatten().map(|row| (row.id, row.clone())).collect()
}

/// The invariants of the state.
fn sound(registry: &Registry, items: &[Item]) {
    let shared = registry.shared();
    let view = shared.view();
    assert!(view.share_maps.iter().all(ShareMap::is_sound));
    assert!(view.share_maps.windows(2).all(|pair| pair[0].from < pair[1].from));
    if !view.defaults.is_empty() {
        let limits: Vec<Limit> = view.defaults.iter().map(|spec| spec.limit.clone()).collect();
        assert_eq!(Limit::check_all(&limits), Ok(()), "default limits");
    }
    let records = records(items);
    assert_eq!(records.len(), shared.table.len());
    for record in records.values() {
        if let Some(limits) = &record.limits {
            assert_eq!(Limit::check_all(limits), Ok(()), "limits of a key");
        }
        let entry = shared.table.get(&record.id).expect("a listed key exists");
        assert!(record.revoked_at.is_none() || record.previous.is_none(), "revoked with a grace");
        assert_eq!(entry.record.revision, record.revision);
    }
    shared.with_audit(|log| {
        let seqs: Vec<u64> = log.entries().map(|entry| entry.seq).collect();
        assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "the trail is out of order");
    });
}

/// A key disappears only after its end, a revision never falls, and a revoked key never changes.
fn revisions(before: &BTreeMap<KeyId, KeyRow>, after: &BTreeMap<KeyId, KeyRow>) {
    for (id, old) in before {
        let Some(new) = after.get(id) else {
            assert!(
                old.revoked_at.is_some() || old.expires_at.is_some(),
                "a key disappeared before its end"
            );
            continue;
        };
        assert!(new.revision >= old.revision, "a revision fell");
        assert!(new.revision > old.revision || new == old, "changed under the same revision");
        assert!(old.revoked_at.is_none() || new == old, "a revoked key changed");
    }
}

fn batch(source: &mut Source<'_>, now: ClusterMs) -> Batch {
    let at = match source.byte() {
        ahead @ 0..=199 => now + u64::from(ahead) * 1_000,
        200..=219 => ClusterMs(now.0.saturating_sub(source.short())),
        220..=249 => now + source.short() * 60_000,
        250..=253 => now + caps::IDEMPOTENCY_TTL_MS,
        _ => ClusterMs(source.number()),
    };
    let count = 1 + source.below(PROPOSALS_MAX);
    Batch { at, proposals: (0..count).map(|_| proposal(source)).collect() }
}

fn proposal(source: &mut Source<'_>) -> Proposal {
    let actor = match source.below(8) {
        0 => Actor::System,
        1 | 2 => Actor::Key(key(source)),
        _ => Actor::Operator,
    };
    Proposal {
        request: u128::from(source.short()),
        actor,
        presented: source.once_in(3).then(|| digest(source)),
        from: source.once_in(4).then(|| "127.0.0.1".into()),
        command: command(source),
    }
}

fn command(source: &mut Source<'_>) -> Command {
    match source.below(21) {
        0..=2 => Command::CreateKey(Box::new(new_key(source))),
        3 | 4 => Command::UpdateKey(Box::new(change(source))),
        5 | 6 => Command::RotateKey {
            id: key(source),
            digest: digest(source),
            grace_ms: source.number(),
            idempotency_key: idempotency(source),
            if_revision: revision(source),
        },
        7 => Command::RevokeKey { id: key(source), if_revision: revision(source) },
        8 => Command::SetDefaults { limits: limits(source) },
        9 => {
            let from = ClusterMs(source.number());
            let count = source.below(4);
            let node = |source: &mut Source<'_>| (NodeId(source.number()), source.byte().into());
            let nodes = (0..count).map(|_| node(source)).collect();
            Command::SetShareMap { map: ShareMap { from, nodes }, term: 1 + source.below(3) as u64 }
        }
        10 => Command::RegisterNode {
            node: NodeId(source.below(4) as u64),
            dir_id: DirId(source.below(2) as u64),
        },
        11 => Command::RemoveNode { node: NodeId(source.below(4) as u64) },
        12 => {
            let count = source.below(4);
            let origin =
                if source.once_in(2) { ImportSource::Import } else { ImportSource::Backup };
            Command::PutKeys { rows: (0..count).map(|_| row(source)).collect(), origin }
        }
        13 => Command::SetLevel { level: u32::from(source.byte() % 5) },
        14 => Command::SetTerms {
            terms: LeaseTerms { lease_ms: source.short(), clock_error_ms_max: source.short() },
        },
        15 => Command::RegisterStart {
            node: NodeId(source.below(4) as u64),
            dir_id: DirId(source.below(2) as u64),
            start_id: StartId {
                boot: BootId(source.below(4) as u64),
                nonce: source.below(2) as u64,
            },
        },
        16 => Command::SetTime { to: ClusterMs(source.number()) },
        17 => {
            let count = source.below(4);
            let ended_before = source.once_in(3).then(|| ClusterMs(source.number()));
            Command::EraseKeys { ids: (0..count).map(|_| key(source)).collect(), ended_before }
        }
        18 => {
            let command = if source.once_in(2) {
                let new = NewKey { idempotency_key: None, ..new_key(source) };
                OneKey::Create(Box::new(new))
            } else {
                let (id, digest) = (key(source), digest(source));
                let if_revision = revision(source);
                let end_previous = source.once_in(2);
                OneKey::Rotate { id, digest, grace_ms: source.number(), if_revision, end_previous }
            };
            let content = u64::from(source.byte() % 2);
            Command::Once { key: source.pick(&NAMES).into(), content, command }
        }
        19 => {
            Command::Note { action: source.pick(&Action::ALL), details: source.pick(&NAMES).into() }
        }
        _ => {
            let count = source.below(4);
            Command::RestoreAudit { lines: (0..count).map(|_| line(source)).collect() }
        }
    }
}

fn row(source: &mut Source<'_>) -> KeyRow {
    let new = new_key(source);
    KeyRow {
        id: new.id,
        digest: new.digest,
        scope: new.scope,
        enabled: source.once_in(2),
        revision: source.number(),
        created_index: LogIndex(source.number()),
        created_at: ClusterMs(source.number()),
        created_by: Actor::System,
        revoked_at: source.once_in(3).then(|| ClusterMs(source.number())),
        expires_at: new.expires_at,
        name: new.name,
        prefix: new.prefix,
        owner: new.owner,
        limits: new.limits,
        previous: source.once_in(3).then(|| (digest(source), ClusterMs(source.number()))),
        metadata: new.metadata,
        last_used: source.once_in(3).then(|| ClusterMs(source.number())),
    }
}

fn line(source: &mut Source<'_>) -> AuditEntry {
    AuditEntry {
        seq: source.number(),
        at: ClusterMs(source.number()),
        action: source.pick(&Action::ALL),
        key_id: source.once_in(2).then(|| key(source)),
        actor: Actor::Operator,
        from: None,
        details: source.pick(&NAMES).into(),
    }
}

fn new_key(source: &mut Source<'_>) -> NewKey {
    let id = key(source);
    let prefix = match source.below(3) {
        0 => String::new(),
        1 => format!("fx_live_{}", id.as_str()),
        _ => "imported".to_owned(),
    };
    NewKey {
        id,
        prefix: prefix.into(),
        digest: digest(source),
        name: source.pick(&NAMES).into(),
        scope: source.pick(&SCOPES),
        owner: owner(source),
        limits: source.once_in(3).then(|| limits(source)),
        expires_at: source.once_in(3).then(|| ClusterMs(source.number())),
        metadata: metadata(source),
        idempotency_key: idempotency(source),
    }
}

fn change(source: &mut Source<'_>) -> KeyChange {
    KeyChange {
        id: key(source),
        if_revision: revision(source),
        name: source.once_in(2).then(|| source.pick(&NAMES).into()),
        scope: source.once_in(3).then(|| source.pick(&SCOPES)),
        owner: source.once_in(3).then(|| owner(source)),
        limits: source.once_in(3).then(|| source.once_in(2).then(|| limits(source))),
        enabled: source.once_in(3).then(|| source.once_in(2)),
        expires_at: source
            .once_in(3)
            .then(|| source.once_in(2).then(|| ClusterMs(source.number()))),
        metadata: source.once_in(3).then(|| metadata(source)),
    }
}

fn key(source: &mut Source<'_>) -> KeyId {
    let number = source.below(KEYS);
    format!("key_00000000000{number}").parse().expect("an id")
}

fn digest(source: &mut Source<'_>) -> Digest {
    Digest::of(&[source.byte() % 8])
}

fn owner(source: &mut Source<'_>) -> Option<Box<str>> {
    source.once_in(2).then(|| source.pick(&NAMES).into())
}

fn idempotency(source: &mut Source<'_>) -> Option<Box<str>> {
    source.once_in(3).then(|| source.pick(&NAMES).into())
}

fn revision(source: &mut Source<'_>) -> Option<u64> {
    source.once_in(4).then(|| u64::from(source.byte() % 4))
}

fn limits(source: &mut Source<'_>) -> Vec<Limit> {
    let count = source.below(10);
    let limit = |source: &mut Source<'_>| Limit {
        name: source.pick(&["requests", "bulk", "a", "b", "c", "d", "e", "f", "", "Ü"]).into(),
        tokens: source.number(),
        period_ms: source.number().saturating_mul(1_000),
    };
    (0..count).map(|_| limit(source)).collect()
}

fn metadata(source: &mut Source<'_>) -> Vec<(Box<str>, Box<str>)> {
    let count = source.below(3);
    (0..count).map(|_| (source.pick(&NAMES).into(), source.pick(&NAMES).into())).collect()
}
