//! The counts by status against a look at every key, over changes, passing time and snapshots.

use std::convert::Infallible;

use fluxgate_engine::state::Registry;
use fluxgate_engine::state::command::{
    Actor, Batch, Command, ImportSource, KeyChange, NewKey, Proposal,
};
use fluxgate_engine::state::record::Status;
use fluxgate_engine::state::snapshot::{KeyRow, Restore};
use fluxgate_types::{ClusterMs, Digest, KeyId, LogIndex, Scope};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Create { key: u8, ends: Option<u64> },
    Enable { key: u8, on: bool },
    End { key: u8, ends: Option<u64> },
    Revoke { key: u8 },
    PutBack { key: u8, ends: Option<u64>, on: bool, revoked: bool },
    Snapshot,
    Count { at: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0u8..12;
    let ends = || proptest::option::weighted(0.7, 1u64..40);
    prop_oneof![
        4 => (key(), ends()).prop_map(|(key, ends)| Step::Create { key, ends }),
        3 => (key(), any::<bool>()).prop_map(|(key, on)| Step::Enable { key, on }),
        3 => (key(), ends()).prop_map(|(key, ends)| Step::End { key, ends }),
        1 => key().prop_map(|key| Step::Revoke { key }),
        1 => (key(), ends(), any::<bool>(), any::<bool>())
            .prop_map(|(key, ends, on, revoked)| Step::PutBack { key, ends, on, revoked }),
        1 => Just(Step::Snapshot),
        // Any order: a clock may be steered back a little.
        4 => (0u64..45).prop_map(|at| Step::Count { at }),
    ]
}

fn id(key: u8) -> KeyId {
    let mut chars = *b"key000000000";
    chars[11] = b'a' + key;
    KeyId::new(chars).expect("letters and digits")
}

fn new(key: u8, expires_at: Option<ClusterMs>) -> Command {
    Command::CreateKey(Box::new(NewKey {
        terms: fluxgate_engine::state::terms::Terms::default(),
        id: id(key),
        prefix: "fx_live_".into(),
        digest: Digest::from_bytes([key; 32]),
        name: "n".into(),
        scope: Scope::Read,
        owner: None,
        limits: None,
        expires_at,
        metadata: Vec::new(),
        idempotency_key: None,
    }))
}

fn change(key: u8) -> KeyChange {
    KeyChange {
        removes: Box::default(),
        plan: None,
        pools: None,
        id: id(key),
        if_revision: None,
        name: None,
        scope: None,
        owner: None,
        limits: None,
        enabled: None,
        expires_at: None,
        metadata: None,
    }
}

fn row(key: u8, ends: Option<u64>, enabled: bool, revoked: bool) -> KeyRow {
    KeyRow {
        terms: fluxgate_engine::state::terms::Terms::default(),
        id: id(key),
        digest: Digest::from_bytes([key; 32]),
        scope: Scope::Read,
        enabled,
        revision: 1,
        created_index: LogIndex(1),
        created_at: ClusterMs(1),
        created_by: Actor::Operator,
        revoked_at: revoked.then_some(ClusterMs(1)),
        expires_at: ends.map(ClusterMs),
        name: "n".into(),
        prefix: "fx_live_".into(),
        owner: None,
        limits: None,
        previous: None,
        metadata: Vec::new(),
        last_used: None,
    }
}

#[derive(Default)]
struct Log {
    registry: Registry,
    index: u64,
}

impl Log {
    fn apply(&mut self, command: Command) {
        self.index += 1;
        let request = u128::from(self.index);
        let actor = Actor::Operator;
        let proposal = Proposal { request, actor, presented: None, from: None, command };
        // One stamp for all: the time of the counts is the reader's.
        let batch = Batch { at: ClusterMs(1), proposals: vec![proposal] };
        self.registry.apply(1, LogIndex(self.index), &batch);
    }

    fn through_a_snapshot(&mut self) {
        let mut restored = Restore::default();
        let Ok(()) = self.registry.freeze().write(|item| {
            restored.take(item).expect("what was written is read");
            Ok::<_, Infallible>(())
        });
        self.registry.install(LogIndex(self.index), restored);
    }

    fn counted(&self, now: ClusterMs) -> [usize; 4] {
        let shared = self.registry.shared();
        loop {
            if let Some(counts) = shared.table.count_by_status(now) {
                return counts;
            }
        }
    }

    fn looked_at(&self, now: ClusterMs) -> [usize; 4] {
        let mut counts = [0; Status::ALL.len()];
        for part in self.registry.shared().table.parts() {
            part.entries().for_each(|entry| counts[entry.status(now) as usize] += 1);
        }
        counts
    }
}

proptest! {
    #[test]
    fn the_counts_are_those_of_a_look_at_every_key(
        steps in proptest::collection::vec(step(), 1..80)
    ) {
        let mut log = Log::default();
        for step in steps {
            match step {
                Step::Create { key, ends } => log.apply(new(key, ends.map(ClusterMs))),
                Step::Enable { key, on } => {
                    log.apply(Command::UpdateKey(Box::new(KeyChange {
                        enabled: Some(on),
                        ..change(key)
                    })));
                }
                Step::End { key, ends } => {
                    log.apply(Command::UpdateKey(Box::new(KeyChange {
                        expires_at: Some(ends.map(ClusterMs)),
                        ..change(key)
                    })));
                }
                Step::Revoke { key } => {
                    log.apply(Command::RevokeKey { id: id(key), if_revision: None });
                }
                Step::PutBack { key, ends, on, revoked } => log.apply(Command::PutKeys {
                    rows: vec![row(key, ends, on, revoked)],
                    origin: ImportSource::Backup,
                }),
                Step::Snapshot => log.through_a_snapshot(),
                Step::Count { at } => {
                    prop_assert_eq!(log.counted(ClusterMs(at)), log.looked_at(ClusterMs(at)));
                }
            }
        }
        prop_assert_eq!(log.counted(ClusterMs(20)), log.looked_at(ClusterMs(20)));
    }
}

/// One call looks at a bounded number of ends; the calls together come to the right counts.
#[test]
fn many_ends_at_once_are_counted_in_pieces() {
    let mut log = Log::default();
    for n in 0..10_000u64 {
        let text = format!("{n:012}");
        let id = KeyId::new(text.as_bytes().try_into().unwrap()).unwrap();
        let mut command = new(0, Some(ClusterMs(10 + n)));
        if let Command::CreateKey(new) = &mut command {
            (new.id, new.digest) = (id, Digest::of(text.as_bytes()));
        }
        log.apply(command);
    }
    let shared = log.registry.shared();
    let far = ClusterMs(1_000_000);
    assert_eq!(shared.table.count_by_status(far), None);
    assert_eq!(log.counted(far), [0, 0, 10_000, 0]);
    assert_eq!(shared.table.count_by_status(ClusterMs(10)), None);
    assert_eq!(log.counted(ClusterMs(10)), [9_999, 0, 1, 0]);
}
