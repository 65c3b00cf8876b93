//! Sequences of commands to the replicated state.
//!
//! Two replicas apply the same entries, one of them as the log reads them back; a third starts from
//! a snapshot in the middle and continues from there. All three must reach the same state with the
//! same outcomes, a rejected command must change nothing, and the invariants of the state must hold
//! after every entry.

mod made;

use std::collections::BTreeMap;

use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::state::Registry;
use fluxgate_engine::state::command::{Batch, Command, Outcome};
use fluxgate_engine::state::governing::DEFAULT_PLAN;
use fluxgate_engine::state::snapshot::{Item, KeyRow, Restore};
use fluxgate_raft::fuzzing;
use fluxgate_store::codec::{self, Kind};
use fluxgate_types::{ClusterMs, KeyId, Limit, LogIndex, caps};
use fluxgate_wire::{BatchV1, Shaped as _};

use crate::source::Source;

/// Entries of one input.
const ENTRIES_MAX: usize = 48;

/// Runs entries of chosen commands, or the entries that the bytes decode to.
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
            let batch = made::batch(&mut source, world.now);
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
                Outcome::Done | Outcome::Put(_) | Outcome::Named(_) | Outcome::Refused(_) => false,
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
                | Command::SetSeed { .. }
                | Command::PutNamed { .. }
                | Command::DeleteNamed { .. }
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
        | Item::Seed(_)
        | Item::Named(_)
        | Item::KeyTerms(_)
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
        for (kind, name) in record.terms.named() {
            assert!(shared.record(kind, name).is_some(), "a {kind:?} that does not exist");
            assert!(shared.uses(kind, name).0 > 0, "a use that is not counted");
        }
        if view.seed.is_some() && shared.plan(DEFAULT_PLAN).is_some() {
            assert!(!shared.sources_of(&entry).is_empty(), "a key without a limit");
        }
        assert!(record.revoked_at.is_none() || record.previous.is_none(), "revoked with a grace");
        assert_eq!(entry.revision(), record.revision);
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
        let made = |row: &KeyRow| (row.created_index, row.created_at, row.created_by);
        let ended = old.revoked_at.is_some() || old.expires_at.is_some();
        if ended && made(old) != made(new) {
            // Erased, and made again in the same entry.
            continue;
        }
        assert!(new.revision >= old.revision, "a revision fell");
        assert!(new.revision > old.revision || new == old, "changed under the same revision");
        assert!(old.revoked_at.is_none() || new == old, "a revoked key changed");
    }
}
