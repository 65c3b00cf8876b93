//! What a review of the replicated state and of lease terms found, as it ought to be.
#![expect(clippy::unwrap_used, reason = "a test may stop where it fails")]

use fluxgate_engine::lease::{Granter, LeaseHolder, LeaseTerms, TermsWatch};
use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::state::Registry;
use fluxgate_engine::state::cluster_state::StartId;
use fluxgate_engine::state::command::{
    Actor, Batch, Command, CommandError, KeyChange, NewKey, Outcome, Proposal,
};
use fluxgate_engine::state::snapshot::Restore;
use fluxgate_types::{
    BootId, BootNs, ClusterMs, Digest, DirId, KeyId, Limit, LogIndex, NodeId, Scope, caps,
};

fn key(n: u64) -> KeyId {
    let text = format!("{n:012}");
    KeyId::new(text.as_bytes().try_into().unwrap()).unwrap()
}

fn new(n: u64, scope: Scope, owner: &str) -> Command {
    Command::CreateKey(Box::new(NewKey {
        terms: fluxgate_engine::state::terms::Terms::default(),
        id: key(n),
        prefix: "fx_live_".into(),
        digest: Digest::from_bytes([u8::try_from(n % 251).unwrap(); 32]),
        name: "n".into(),
        scope,
        owner: Some(owner.into()),
        limits: None,
        expires_at: None,
        metadata: Vec::new(),
        idempotency_key: None,
    }))
}

fn change(n: u64) -> KeyChange {
    KeyChange {
        removes: Box::default(),
        plan: None,
        pools: None,
        id: key(n),
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

struct Log(Registry, u64);

impl Log {
    fn apply(&mut self, request: u128, actor: Actor, command: Command) -> Outcome {
        self.1 += 1;
        let presented = match actor {
            Actor::Key(id) => self.0.shared().table.get(&id).map(|e| *e.digest()),
            Actor::Operator | Actor::System => None,
        };
        let proposal = Proposal { request, actor, presented, from: None, command };
        let batch = Batch { at: ClusterMs(self.1), proposals: vec![proposal] };
        self.0.apply(1, LogIndex(self.1), &batch).outcomes.remove(0)
    }
}

/// The HTTP layer looks at the caller as it was when it came; the log must look again, as it does for
/// a creation.
#[test]
fn an_admin_key_gives_no_key_to_an_owner_that_it_does_not_manage() {
    let mut log = Log(Registry::default(), 0);
    log.apply(1, Actor::Operator, new(1, Scope::Admin, "a"));
    // Created under another owner: refused.
    let made = log.apply(2, Actor::Key(key(1)), new(2, Scope::Read, "b"));
    assert_eq!(made, Outcome::Refused(CommandError::Actor));
    // The key gives itself to owner `b`, and manages all that is b's from then on.
    let owner = Some(Some("b".into()));
    let moved = log.apply(
        3,
        Actor::Key(key(1)),
        Command::UpdateKey(Box::new(KeyChange { owner, ..change(1) })),
    );
    assert_eq!(moved, Outcome::Refused(CommandError::Actor));
}

/// A proposal that is tried again gets its first outcome, as long as its client may try.
#[test]
fn a_repeat_changes_nothing_however_many_writes_came_between() {
    let mut log = Log(Registry::default(), 0);
    log.apply(1, Actor::Operator, new(1, Scope::Read, "a"));
    let rename = |name: &str| {
        Command::UpdateKey(Box::new(KeyChange { name: Some(name.into()), ..change(1) }))
    };
    log.apply(2, Actor::Operator, rename("first"));
    log.apply(3, Actor::Operator, rename("second"));
    for n in 0..caps::REQUEST_IDS_MAX as u128 {
        log.apply(100 + n, Actor::Operator, Command::RevokeKey { id: key(9), if_revision: None });
    }
    // The answer to 2 was lost; its node tries again.
    log.apply(2, Actor::Operator, rename("first"));
    let name = log.0.shared().table.get(&key(1)).unwrap().record().name;
    assert_eq!(&*name, "second");
}

/// A lease lasts as long as its granter's configuration says; the next leader must wait that long.
#[test]
fn a_new_leader_with_a_shorter_lease_counts_the_longer_leases_of_its_predecessor() {
    let old = LeaseTerms { lease_ms: 10_000, clock_error_ms_max: 1_000 };
    let new = LeaseTerms { lease_ms: 3_000, clock_error_ms_max: 1_000 };
    let at = |ms: u64| BootNs(0).plus_ms(ms);
    let nodes = || (1..=3).map(NodeId);
    // Node 1 leads with the old setting and grants node 3 a lease. Then it is gone.
    let mut first = Granter::new(old, NodeId(1), at(0), nodes(), None);
    let grant = first.grant(at(20_000), NodeId(3), LogIndex(5), LogIndex(5), 0);
    let mut holder = LeaseHolder::default();
    holder.handle_grant(at(20_000), &grant, LogIndex(5));
    // Node 2 was restarted with the new setting and is elected half a second later. It leads, so it
    // has applied whatever terms the leader before it granted by.
    let mut log = Log(Registry::default(), 0);
    let terms = |terms| Command::SetTerms { terms };
    assert_eq!(log.apply(1, Actor::System, terms(old)), Outcome::Done);
    let mut watch = TermsWatch::new(new);
    watch.observe(at(20_000), &log.0.shared().cluster().terms);
    assert_eq!(log.apply(2, Actor::System, terms(new)), Outcome::Done);
    watch.observe(at(20_500), &log.0.shared().cluster().terms);
    assert_eq!(watch.in_force(), new);
    let mut second = Granter::new(watch.cautious(at(20_500)), NodeId(2), at(20_500), nodes(), None);
    second.handle_committed(LogIndex(6));
    let acknowledged = at(20_500 + 3_000);
    let waits_for = second.holders(LogIndex(6), acknowledged);
    let safe = waits_for.iter().any(|(node, until)| *node == NodeId(3) && holder.until() <= *until);
    assert!(safe, "node 3 answers without entry 6 until {:?}; {waits_for:?}", holder.until());
    // Once the longer leases have ended the shorter ones count.
    let later = at(40_000);
    assert_eq!(watch.cautious(later), new);
}

fn limits(list: &[(&str, u64, u64)]) -> Option<Option<Vec<Limit>>> {
    let limit =
        |(name, tokens, period_ms): &(&str, u64, u64)| Limit::new(*name, *tokens, *period_ms);
    Some(Some(list.iter().map(limit).collect()))
}

/// The tags of the key's limits after a change.
fn tags(log: &mut Log, request: u128, list: &[(&str, u64, u64)]) -> Vec<u32> {
    let update = KeyChange { limits: limits(list), ..change(1) };
    let outcome = log.apply(request, Actor::Operator, Command::UpdateKey(Box::new(update)));
    assert!(matches!(outcome, Outcome::Key(_)), "{outcome:?}");
    own_tags(&log.0)
}

fn own_tags(registry: &Registry) -> Vec<u32> {
    let entry = registry.shared().table.get(&key(1)).unwrap();
    entry.own_limits().unwrap().iter().map(|spec| spec.tag).collect()
}

/// The state after a snapshot was written and read.
fn through_a_snapshot(registry: &Registry, applied: u64) -> Registry {
    let mut restore = Restore::default();
    registry.freeze().write(|item| restore.take(item)).unwrap();
    let mut copy = Registry::at_level(1);
    copy.install(LogIndex(applied), restore);
    copy
}

#[test]
fn a_renamed_limit_keeps_its_counters_and_a_changed_period_begins_new_ones() {
    let mut log = Log(Registry::default(), 0);
    log.apply(1, Actor::Operator, new(1, Scope::Read, "a"));
    let first = tags(&mut log, 2, &[("minute", 5, 60_000), ("second", 2, 1_000)]);
    let renamed = tags(&mut log, 3, &[("m", 5, 60_000), ("second", 3, 1_000)]);
    assert_eq!(renamed, first);
    // The old name again, beside the renamed one: a limit of its own, with a counter of its own.
    let both = tags(&mut log, 4, &[("minute", 5, 60_000), ("m", 9, 60_000)]);
    assert_eq!(both[1], first[0]);
    assert_ne!(both[0], first[0]);
    let longer = tags(&mut log, 5, &[("m", 5, 61_000)]);
    assert!(!both.contains(&longer[0]) && !first.contains(&longer[0]));
    let again = tags(&mut log, 6, &[("x", 5, 61_000)]);
    assert_eq!(again, longer);
    // Tags that no name gives are in the snapshot.
    assert_eq!(own_tags(&through_a_snapshot(&log.0, log.1)), longer);
}

#[test]
fn an_admin_key_changes_no_rights_of_its_own() {
    let mut log = Log(Registry::default(), 0);
    log.apply(1, Actor::Operator, new(1, Scope::Admin, "a"));
    log.apply(2, Actor::Operator, new(2, Scope::Read, "a"));
    let refused = Outcome::Refused(CommandError::Actor);
    for (n, own) in [
        KeyChange { scope: Some(Scope::Read), ..change(1) },
        KeyChange { limits: limits(&[("requests", 1_000_000, 1_000)]), ..change(1) },
        KeyChange { expires_at: Some(Some(ClusterMs(9_000_000))), ..change(1) },
        KeyChange { owner: Some(None), ..change(1) },
    ]
    .into_iter()
    .enumerate()
    {
        let done = log.apply(10 + n as u128, Actor::Key(key(1)), Command::UpdateKey(Box::new(own)));
        assert_eq!(done, refused);
    }
    // Its name, and the limits of another key of its owner, it may change.
    for own in [
        KeyChange { name: Some("better".into()), ..change(1) },
        KeyChange { limits: limits(&[("requests", 9, 1_000)]), ..change(2) },
    ] {
        let request = 20 + u128::from(own.name.is_some());
        let done = log.apply(request, Actor::Key(key(1)), Command::UpdateKey(Box::new(own)));
        assert!(matches!(done, Outcome::Key(_)), "{done:?}");
    }
}

fn start(node: u64, dir: u64, boot: u64, nonce: u64) -> Command {
    let start_id = StartId { boot: BootId(boot), nonce };
    Command::RegisterStart { node: NodeId(node), dir_id: DirId(dir), start_id }
}

#[test]
fn an_older_directory_and_a_copy_of_one_are_rejected() {
    let mut log = Log(Registry::default(), 0);
    let mut request = 0;
    let mut started = |node, dir, boot, nonce| {
        request += 1;
        log.apply(request, Actor::System, start(node, dir, boot, nonce))
    };
    let older = |newest| {
        Outcome::Refused(CommandError::OlderStart { node: NodeId(3), newest: BootId(newest) })
    };
    assert_eq!(started(3, 30, 1, 111), Outcome::Done);
    assert_eq!(started(3, 30, 1, 111), Outcome::Done, "the same start again");
    assert_eq!(started(3, 30, 1, 112), older(1), "another start with the same number");
    assert_eq!(
        started(3, 30, 4, 113),
        Outcome::Done,
        "the cluster may have missed starts in between"
    );
    assert_eq!(started(3, 30, 3, 114), older(4));
    let other = Outcome::Refused(CommandError::OtherDirectory(NodeId(3)));
    assert_eq!(started(3, 31, 9, 115), other);
}

#[test]
fn a_removed_id_is_used_again_by_a_new_directory_that_counts_on() {
    let mut log = Log(Registry::default(), 0);
    log.apply(1, Actor::System, start(3, 30, 5, 111));
    log.apply(2, Actor::Operator, Command::RemoveNode { node: NodeId(3) });
    let gone = log.apply(3, Actor::System, start(3, 30, 6, 112));
    assert_eq!(gone, Outcome::Refused(CommandError::Removed(NodeId(3))));
    let low = log.apply(4, Actor::System, start(3, 31, 1, 113));
    let newest = BootId(5);
    assert_eq!(low, Outcome::Refused(CommandError::OlderStart { node: NodeId(3), newest }));
    assert_eq!(log.apply(5, Actor::System, start(3, 31, 6, 114)), Outcome::Done);
    let view = log.0.shared().view();
    assert!(!view.nodes[&NodeId(3)].removed && view.nodes[&NodeId(3)].dir_id == DirId(31));
    // The directory that was removed is now one of another node.
    let other = Outcome::Refused(CommandError::OtherDirectory(NodeId(3)));
    assert_eq!(log.apply(6, Actor::System, start(3, 30, 7, 115)), other);
}

#[test]
fn equal_states_have_equal_digests_and_different_ones_do_not() {
    let run = |name: &str| {
        let mut log = Log(Registry::default(), 0);
        log.apply(1, Actor::Operator, new(1, Scope::Admin, "a"));
        log.apply(2, Actor::Operator, new(2, Scope::Read, "b"));
        log.apply(3, Actor::System, start(1, 10, 1, 9));
        let renamed = KeyChange { name: Some(name.into()), ..change(2) };
        log.apply(4, Actor::Operator, Command::UpdateKey(Box::new(renamed)));
        log
    };
    let (mut one, mut two) = (run("x"), run("y"));
    let digest = |log: &Log| log.0.shared().digest().unwrap();
    assert_ne!(digest(&one), digest(&two));
    assert_eq!(digest(&one), digest(&run("x")));
    let back = KeyChange { name: Some("x".into()), ..change(2) };
    two.apply(5, Actor::Operator, Command::UpdateKey(Box::new(back.clone())));
    one.apply(5, Actor::Operator, Command::UpdateKey(Box::new(back)));
    assert_eq!(digest(&one), digest(&two));
    // A registry from a snapshot has the same digest at once, and after further entries.
    let mut copied = Log(through_a_snapshot(&one.0, one.1), one.1);
    assert_eq!(digest(&one), digest(&copied));
    // The state after an entry without a command is the one before; what is not applied is not known.
    one.0.pass(LogIndex(6));
    (one.1, copied.1) = (6, 6);
    let (at, newest) = digest(&one);
    assert_eq!((at, Some(newest)), (LogIndex(6), copied.0.shared().digest_at(LogIndex(5))));
    assert_eq!(one.0.shared().digest_at(LogIndex(7)), None);
    assert_eq!(copied.0.shared().digest_at(LogIndex(6)), None);
    assert_eq!(copied.0.shared().digest_at(LogIndex(4)), None);
    for log in [&mut one, &mut copied] {
        log.apply(7, Actor::Operator, Command::RevokeKey { id: key(2), if_revision: None });
    }
    assert_eq!(digest(&one), digest(&copied));
    assert_eq!(one.0.shared().digest_at(LogIndex(7)), copied.0.shared().digest_at(LogIndex(7)));
}

#[test]
fn superseded_maps_and_terms_go_with_time() {
    let mut log = Log(Registry::default(), 0);
    let map = |from, nodes: &[u64]| Command::SetShareMap {
        map: ShareMap {
            from: ClusterMs(from),
            nodes: nodes.iter().map(|n| (NodeId(*n), 1)).collect(),
        },
        term: 1,
    };
    let terms =
        |lease_ms| Command::SetTerms { terms: LeaseTerms { lease_ms, clock_error_ms_max: 1_000 } };
    log.apply(1, Actor::System, map(0, &[1, 2, 3]));
    log.apply(2, Actor::System, map(10_000, &[1, 2]));
    log.apply(3, Actor::System, terms(10_000));
    log.apply(4, Actor::System, terms(3_000));
    // Terms and maps stay: no time has passed, cluster time has only been set forward.
    let now = log.0.last_stamp() + 5_000_000;
    log.apply(5, Actor::Operator, Command::SetTime { to: now });
    assert_eq!(log.0.last_stamp(), now);
    assert_eq!(log.0.shared().cluster().terms.len(), 2);
    log.1 = now.0 + 1_000_000;
    log.apply(6, Actor::Operator, Command::RevokeKey { id: key(9), if_revision: None });
    assert_eq!(log.0.shared().cluster().terms.len(), 1);
    assert_eq!(log.0.shared().view().share_maps.len(), 1);
    let back = log.apply(7, Actor::Operator, Command::SetTime { to: ClusterMs(5) });
    assert!(matches!(back, Outcome::Refused(CommandError::Invalid(_))));
}
