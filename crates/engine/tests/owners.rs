//! Owners: their records, what they change for their keys, and what a snapshot keeps of them.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};

use fluxgate_engine::lease::FirstLease;
use fluxgate_engine::quota::{
    Context, CounterId, Entitlement, Incarnation, Incarnations, Shard, SubjectLimits,
};
use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::state::Registry;
use fluxgate_engine::state::command::{Actor, Batch, Command, CommandError, Outcome, Proposal};
use fluxgate_engine::state::named::{Definition, NamedKind, NamedRow};
use fluxgate_engine::state::snapshot::Restore;
use fluxgate_types::{BootId, BootNs, ClusterMs, Limit, LogIndex, NodeId, SubjectSeed, caps};

const SEED: SubjectSeed = SubjectSeed([3; 16]);

struct Log {
    registry: Registry,
    index: u64,
}

impl Log {
    fn new() -> Self {
        let mut log = Self { registry: Registry::default(), index: 0 };
        let done = log.apply(Actor::System, Command::SetSeed { seed: SEED });
        assert_eq!(done, Outcome::Done);
        log
    }

    fn apply(&mut self, actor: Actor, command: Command) -> Outcome {
        self.index += 1;
        let request = u128::from(self.index);
        let proposal = Proposal { request, actor, presented: None, from: None, command };
        let batch = Batch { at: ClusterMs(self.index * 1_000), proposals: vec![proposal] };
        self.registry.apply(1, LogIndex(self.index), &batch).outcomes.remove(0)
    }

    fn put(&mut self, name: &str, definition: Definition, if_revision: Option<u64>) -> Outcome {
        let (kind, definition) = (NamedKind::Owner, Box::new(definition));
        let command = Command::PutNamed { kind, name: name.into(), definition, if_revision };
        self.apply(Actor::Operator, command)
    }

    fn delete(&mut self, name: &str, if_revision: Option<u64>) -> Outcome {
        let command =
            Command::DeleteNamed { kind: NamedKind::Owner, name: name.into(), if_revision };
        self.apply(Actor::Operator, command)
    }

    /// The names of a page.
    fn page(&self, after: Option<&str>, most: usize) -> Vec<String> {
        let page = self.registry.shared().named.page(NamedKind::Owner, after, most);
        page.iter().map(|named| named.name.to_string()).collect()
    }

    fn digest(&self) -> u64 {
        self.registry.shared().digest().expect("an entry").1
    }
}

fn limited(tokens: u64) -> Definition {
    Definition {
        terms: fluxgate_engine::state::terms::Terms::default(),
        exposes: Vec::new(),
        limits: vec![Limit::new("monthly", tokens, 60_000)],
        enabled: true,
        metadata: vec![("team".into(), "billing".into())],
    }
}

fn row(outcome: Outcome) -> NamedRow {
    let Outcome::Named(row) = outcome else { panic!("{outcome:?}") };
    *row
}

#[test]
fn a_record_is_created_changed_and_deleted() {
    let mut log = Log::new();
    let first = row(log.put("acme", limited(300), None));
    assert_eq!((first.revision, first.created_at), (1, first.changed_at));
    assert_eq!(first.definition, limited(300));
    let second = row(log.put("acme", limited(500), Some(1)));
    assert_eq!((second.revision, second.created_at), (2, first.created_at));
    // The same counter: what was spent stays spent.
    assert_eq!(second.tags, first.tags);
    assert_eq!(log.put("acme", limited(1), Some(1)), Outcome::Refused(CommandError::Revision(2)));
    assert_eq!(log.put("other", limited(1), Some(1)), Outcome::Refused(CommandError::NotFound));
    assert_eq!(log.delete("acme", Some(1)), Outcome::Refused(CommandError::Revision(2)));
    assert_eq!(log.delete("acme", Some(2)), Outcome::Done);
    assert_eq!(log.delete("acme", None), Outcome::Refused(CommandError::NotFound));
    assert_eq!(log.registry.shared().named.count(NamedKind::Owner), 0);
}

#[test]
fn a_rejected_record_changes_nothing() {
    let mut log = Log::new();
    row(log.put("acme", limited(300), None));
    let before = (log.page(None, 9), log.registry.shared().named.count(NamedKind::Owner));
    let twice = Limit::new("a", 1, 1_000);
    for definition in [
        Definition { limits: vec![twice.clone(), twice], ..limited(1) },
        Definition { limits: vec![Limit::new("a", 0, 1_000)], ..limited(1) },
        Definition { limits: vec![Limit::new("A b", 1, 1_000)], ..limited(1) },
        Definition {
            limits: (0..=caps::LIMITS_PER_KEY_MAX)
                .map(|n| Limit::new(format!("l{n}"), 1, 1_000))
                .collect(),
            ..limited(1)
        },
    ] {
        let outcome = log.put("acme", definition, None);
        assert!(matches!(outcome, Outcome::Refused(CommandError::Invalid(_))), "{outcome:?}");
    }
    for name in ["", &"x".repeat(caps::OWNER_CHARS_MAX + 1)] {
        let outcome = log.put(name, limited(1), None);
        assert!(matches!(outcome, Outcome::Refused(CommandError::Invalid(_))), "{outcome:?}");
    }
    let (kind, name, if_revision) = (NamedKind::Owner, "acme", None);
    for actor in [Actor::System, Actor::Key("key_abcdefghijkl".parse().expect("an id"))] {
        let definition = Box::new(limited(1));
        let put = Command::PutNamed { kind, name: name.into(), definition, if_revision };
        assert_eq!(log.apply(actor, put), Outcome::Refused(CommandError::Actor));
        let delete = Command::DeleteNamed { kind, name: name.into(), if_revision };
        assert_eq!(log.apply(actor, delete), Outcome::Refused(CommandError::Actor));
    }
    assert_eq!((log.page(None, 9), log.registry.shared().named.count(NamedKind::Owner)), before);
}

#[test]
fn the_first_seed_counts_and_only_the_cluster_sets_it() {
    let mut log = Log::new();
    let other = SubjectSeed([4; 16]);
    assert_eq!(log.apply(Actor::System, Command::SetSeed { seed: other }), Outcome::Done);
    assert_eq!(log.registry.shared().view().seed, Some(SEED));
    let refused = log.apply(Actor::Operator, Command::SetSeed { seed: other });
    assert_eq!(refused, Outcome::Refused(CommandError::Actor));
    let mut unseeded = Log { registry: Registry::default(), index: 0 };
    let refused = unseeded.put("acme", limited(1), None);
    assert!(matches!(refused, Outcome::Refused(CommandError::Invalid(_))), "{refused:?}");
}

#[test]
fn pages_are_in_the_order_of_names_and_continue_after_any_name() {
    let mut log = Log::new();
    for name in ["b", "d", "a", "c", "ä", "e"] {
        row(log.put(name, limited(1), None));
    }
    assert_eq!(log.page(None, 9), ["a", "b", "c", "d", "e", "ä"]);
    assert_eq!(log.page(None, 2), ["a", "b"]);
    assert_eq!(log.page(Some("b"), 2), ["c", "d"]);
    // The place stays when its record is deleted.
    log.delete("b", None);
    assert_eq!(log.page(Some("b"), 2), ["c", "d"]);
    assert_eq!(log.page(Some("ä"), 2), [""; 0]);
}

#[test]
fn a_snapshot_keeps_owners_and_the_digest_tells_states_apart() {
    let mut log = Log::new();
    let empty = log.digest();
    for n in 0..100 {
        row(log.put(&format!("owner {n}"), limited(n + 1), None));
    }
    row(log.put("owner 7", Definition { enabled: false, ..limited(9) }, None));
    log.delete("owner 8", None);
    let mut restore = Restore::default();
    let Ok(()) = log.registry.freeze().write(|item| {
        restore.take(item).expect("our own snapshot");
        Ok::<(), Infallible>(())
    });
    let mut other = Registry::default();
    other.install(LogIndex(log.index), restore);
    let (mine, theirs) = (log.registry.shared(), other.shared());
    assert_eq!(theirs.digest(), mine.digest());
    assert_eq!(theirs.view().seed, Some(SEED));
    let all = |shared: &fluxgate_engine::state::Shared| {
        let page = shared.named.page(NamedKind::Owner, None, 1_000);
        page.iter().map(|named| NamedRow::from(&**named)).collect::<Vec<_>>()
    };
    assert_eq!(all(&theirs), all(&mine));
    assert_eq!(theirs.named.count(NamedKind::Owner), 99);
    let before = log.digest();
    row(log.put("owner 9", Definition { enabled: false, ..limited(10) }, None));
    assert_ne!(log.digest(), before);
    for n in 0..100 {
        log.delete(&format!("owner {n}"), None);
    }
    assert_eq!(log.digest(), empty, "the same as if they had never been");
}

/// A node has spent from a counter of an owner and crashed. If the record is deleted and made again
/// within the window, the node may not use its share a second time.
#[test]
fn a_record_made_again_gives_no_second_share_after_a_crash() {
    let mut log = Log::new();
    row(log.put("acme", limited(300), None));
    assert_eq!(log.delete("acme", None), Outcome::Done);
    row(log.put("acme", limited(300), None));
    let shared = log.registry.shared();
    let named = shared.named.get(&NamedKind::Owner.subject(&SEED, "acme")).expect("a record");
    let nodes = vec![(NodeId(1), 1)];
    let mut view = (*shared.view()).clone();
    view.share_maps = vec![ShareMap { from: ClusterMs(0), nodes }];
    let now = ClusterMs(log.index * 1_000);
    let mut incarnations = Incarnations::default();
    incarnations.note(NodeId(1), BootId(2));
    let incarnation = Incarnation {
        me: NodeId(1),
        // Its first lease came after the old record, and before the new one.
        entitlement: Some(Entitlement::After { from: now + 60_000, index: LogIndex(2) }),
        first_lease: Some(FirstLease { at: now, index: LogIndex(2) }),
        carryover: None,
        reached: ClusterMs(0),
        incarnations_tag: incarnations.tag(),
        incarnations,
        peers: Vec::new(),
        clock_error_ms_max: 1_000,
    };
    let context = Context {
        boot: BootNs(0),
        now,
        leased: true,
        horizon: ClusterMs(u64::MAX),
        view: &view,
        incarnation: &incarnation,
    };
    let limits = SubjectLimits::of_record(&log.registry.shared(), &named, false);
    let spec = &limits.specs[0];
    let window = spec.limit.window_at(now).number;
    let counter = CounterId { subject: named.subject, limit: spec.tag, window };
    let opened = Shard::would_observe(&context, &limits, spec, &counter).expect("it may be opened");
    assert!(!opened.usable);
    // That of a record which cannot have existed before is usable.
    let fresh = SubjectLimits { created: named.created_index, ..limits.clone() };
    assert!(Shard::would_observe(&context, &fresh, spec, &counter).expect("as above").usable);
}

/// A record that is changed is there at every moment: without it, the keys of a disabled owner would be
/// accepted.
#[test]
fn a_changed_record_is_never_missing() {
    let mut log = Log::new();
    row(log.put("acme", Definition { enabled: false, ..limited(300) }, None));
    let shared = log.registry.shared();
    let subject = NamedKind::Owner.subject(&SEED, "acme");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0_u64;
            while !done.load(Ordering::Relaxed) {
                assert!(shared.named.get(&subject).is_some_and(|named| !named.enabled));
                reads += 1;
            }
            reads
        });
        for n in 0..20_000 {
            let definition = Definition { enabled: false, ..limited(1 + n % 9) };
            row(log.put("acme", definition, None));
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().expect("it was there at every read") > 0);
    });
    assert_eq!(
        (shared.named.count(NamedKind::Owner), log.page(None, 9)),
        (1, vec!["acme".to_owned()])
    );
}
