//! What came with level 3: records are erased, commands are carried out once, the audit trail says what
//! a change was from and to, and keeps its order and numbers over a restore.
#![expect(clippy::unwrap_used, reason = "a test may stop where it fails")]

use fluxgate_engine::state::Registry;
use fluxgate_engine::state::audit::{Action, AuditEntry, NO_SEQ};
use fluxgate_engine::state::command::{
    Actor, Batch, Command, CommandError, ImportSource, KeyChange, NewKey, OneKey, Outcome,
    Proposal, Put,
};
use fluxgate_engine::state::snapshot::{KeyRow, Restore};
use fluxgate_types::{ClusterMs, Digest, KeyId, Limit, LogIndex, Scope, caps};

fn key(n: u64) -> KeyId {
    KeyId::new(format!("{n:012}").as_bytes().try_into().unwrap()).unwrap()
}

fn new(n: u64) -> NewKey {
    NewKey {
        terms: fluxgate_engine::state::terms::Terms::default(),
        id: key(n),
        prefix: "fx_live_".into(),
        digest: Digest::of(&n.to_le_bytes()),
        name: format!("key {n}").into(),
        scope: Scope::Read,
        owner: Some("user_42".into()),
        limits: None,
        expires_at: None,
        metadata: vec![("team".into(), "blue".into())],
        idempotency_key: None,
    }
}

struct Log {
    registry: Registry,
    at: u64,
}

impl Log {
    fn new() -> Self {
        Self { registry: Registry::default(), at: 1_000 }
    }

    fn apply_as(&mut self, actor: Actor, command: Command) -> Outcome {
        self.at += 1;
        let proposal = Proposal {
            request: u128::from(self.at),
            actor,
            presented: None,
            from: Some("127.0.0.1".into()),
            command,
        };
        let batch = Batch { at: ClusterMs(self.at), proposals: vec![proposal] };
        self.registry.apply(1, LogIndex(self.at), &batch).outcomes.remove(0)
    }

    fn apply(&mut self, command: Command) -> Outcome {
        self.apply_as(Actor::Operator, command)
    }

    fn create(&mut self, n: u64) {
        let made = self.apply(Command::CreateKey(Box::new(new(n))));
        assert!(matches!(made, Outcome::Key(_)), "{made:?}");
    }

    fn revoke(&mut self, n: u64) {
        let revoked = self.apply(Command::RevokeKey { id: key(n), if_revision: None });
        assert!(matches!(revoked, Outcome::Key(_)), "{revoked:?}");
    }

    fn erase(&mut self, n: u64) -> Outcome {
        self.apply(Command::EraseKeys { ids: vec![key(n)], ended_before: None })
    }

    fn trail(&self) -> Vec<AuditEntry> {
        self.registry.shared().with_audit(|log| log.entries().map(|e| (**e).clone()).collect())
    }

    /// The newest entry's text.
    fn said(&self) -> String {
        self.trail().last().unwrap().details.to_string()
    }

    fn places(&self) -> Vec<(usize, KeyId)> {
        let shared = self.registry.shared();
        let is_there = |(place, id): &(usize, KeyId)| {
            shared.table.with(id, |entry| entry.seq() as usize == *place) == Some(true)
        };
        shared.table.page(usize::MAX, usize::MAX).into_iter().filter(is_there).collect()
    }

    /// Another node, which got this state as a snapshot.
    fn copy(&self) -> Self {
        let mut restore = Restore::default();
        self.registry.freeze().write(|item| restore.take(item)).unwrap();
        let mut registry = Registry::default();
        registry.install(LogIndex(self.at), restore);
        Self { registry, at: self.at }
    }
}

#[test]
fn only_a_record_of_a_key_that_has_ended_is_erased_and_only_by_the_operator() {
    let mut log = Log::new();
    log.create(1);
    assert_eq!(log.erase(1), Outcome::Refused(CommandError::NotEnded(key(1))));
    assert_eq!(log.erase(2), Outcome::Refused(CommandError::NotFound));
    let expires = NewKey { expires_at: Some(ClusterMs(2_000)), ..new(3) };
    log.apply(Command::CreateKey(Box::new(expires)));
    assert_eq!(log.erase(3), Outcome::Refused(CommandError::NotEnded(key(3))));
    log.at = 2_000;
    let by_system = Command::EraseKeys { ids: vec![key(3)], ended_before: None };
    assert_eq!(log.apply_as(Actor::System, by_system), Outcome::Refused(CommandError::Actor));
    assert_eq!(log.erase(3), Outcome::Done);
    log.revoke(1);
    assert_eq!(log.erase(1), Outcome::Done);
    assert!(log.registry.shared().table.is_empty());
    assert_eq!(log.erase(1), Outcome::Refused(CommandError::NotFound));
    // Its id may come back, as that of an imported key does.
    log.create(1);
    assert_eq!(log.registry.shared().table.len(), 1);
}

#[test]
fn the_trail_keeps_the_id_and_nothing_that_stood_in_the_record() {
    let mut log = Log::new();
    log.create(1);
    log.create(2);
    log.revoke(1);
    let before = log.trail();
    assert!(before.iter().any(|entry| entry.details.contains("key 1")));
    log.erase(1);
    let after = log.trail();
    assert_eq!(after.len(), before.len() + 1);
    let last = after.last().unwrap();
    assert_eq!((last.action, last.key_id), (Action::Erased, Some(key(1))));
    for entry in &after {
        assert!(!entry.details.contains("key 1"), "{entry:?}");
    }
    for (old, new) in before.iter().zip(&after) {
        let what =
            |entry: &AuditEntry| (entry.seq, entry.at, entry.action, entry.key_id, entry.actor);
        assert_eq!(what(old), what(new), "who did what when stays");
    }
    assert!(after.iter().any(|entry| entry.details.contains("key 2")), "of others nothing goes");
}

#[test]
fn what_is_purged_by_age_ended_before_that_moment() {
    let mut log = Log::new();
    (1..=3).for_each(|n| log.create(n));
    log.revoke(1);
    let between = ClusterMs(log.at + 1);
    log.at += 10;
    log.revoke(2);
    let ids = vec![key(1), key(2), key(3), key(9)];
    let purge = Command::EraseKeys { ids: ids.clone(), ended_before: Some(between) };
    assert_eq!(
        log.apply(purge.clone()),
        Outcome::Refused(CommandError::Actor),
        "the cluster's alone"
    );
    assert_eq!(log.apply_as(Actor::System, purge), Outcome::Done);
    let left: Vec<KeyId> = log.places().into_iter().map(|(_, id)| id).collect();
    assert_eq!(left, [key(3), key(2)]);
    assert!(log.said().contains(&key(1).to_string()), "{}", log.said());
    let too_many = vec![key(1); caps::ERASED_AT_ONCE_MAX + 1];
    let refused = log.apply(Command::EraseKeys { ids: too_many, ended_before: None });
    assert!(matches!(refused, Outcome::Refused(CommandError::Invalid(_))), "{refused:?}");
}

#[test]
fn places_in_the_list_stay_on_every_node_also_after_a_snapshot() {
    let mut log = Log::new();
    (0..3_000).for_each(|n| log.create(n));
    for n in (0..3_000).filter(|n| n % 3 != 0 || *n > 2_990) {
        log.revoke(n);
        assert_eq!(log.erase(n), Outcome::Done);
    }
    let places = log.places();
    let expected =
        (0..=2_990).filter(|n| n % 3 == 0).rev().map(|n| (usize::try_from(n).unwrap(), key(n)));
    assert_eq!(places, expected.collect::<Vec<_>>());
    let mut copy = log.copy();
    assert_eq!(copy.places(), places);
    for node in [&mut log, &mut copy] {
        node.create(5_000);
        assert_eq!(node.places()[0], (3_000, key(5_000)), "the next place was never used");
    }
    let digest = |log: &Log| log.registry.shared().digest().map(|(_, digest)| digest);
    assert_eq!(digest(&log), digest(&copy));
    let mut empty = Log::new();
    empty.create(1);
    empty.revoke(1);
    empty.erase(1);
    let mut copy = empty.copy();
    copy.create(2);
    assert_eq!(copy.places(), [(1, key(2))], "also where no key is left");
}

#[test]
fn a_command_is_carried_out_once_and_another_content_is_rejected() {
    let mut log = Log::new();
    let once = |n: u64, content: u64| Command::Once {
        key: "x1".into(),
        content,
        command: OneKey::Create(Box::new(new(n))),
    };
    assert!(matches!(log.apply(once(1, 7)), Outcome::Key(_)));
    assert_eq!(log.apply(once(2, 7)), Outcome::Refused(CommandError::AlreadyDone(key(1))));
    assert_eq!(log.apply(once(2, 8)), Outcome::Refused(CommandError::OtherContent(key(1))));
    // The same proposal again, as after a lost answer: it is shown what it made.
    assert!(matches!(log.apply(once(1, 7)), Outcome::Key(_)));
    let mut copy = log.copy();
    assert_eq!(copy.apply(once(2, 8)), Outcome::Refused(CommandError::OtherContent(key(1))));
    copy.at += caps::IDEMPOTENCY_TTL_MS;
    assert!(matches!(copy.apply(once(2, 8)), Outcome::Key(_)), "a day later it is free");
    // One that was used before level 3 has no content to compare.
    let old = NewKey { idempotency_key: Some("x2".into()), ..new(4) };
    log.apply(Command::CreateKey(Box::new(old)));
    let again =
        Command::Once { key: "x2".into(), content: 1, command: OneKey::Create(Box::new(new(5))) };
    assert_eq!(log.apply(again), Outcome::Refused(CommandError::AlreadyDone(key(4))));
}

#[test]
fn the_audit_trail_says_what_a_change_replaced() {
    let mut log = Log::new();
    log.create(1);
    let limit = |tokens| Limit::new("requests", tokens, 60_000);
    let none = KeyChange {
        removes: Box::default(),
        plan: None,
        pools: None,
        id: key(1),
        if_revision: None,
        name: None,
        scope: None,
        owner: None,
        limits: None,
        enabled: None,
        expires_at: None,
        metadata: None,
    };
    let mut change = |change: KeyChange| {
        log.apply(Command::UpdateKey(Box::new(change)));
        log.said()
    };
    assert_eq!(
        change(KeyChange { name: Some("b".into()), ..none.clone() }),
        r#"name: "key 1" → "b""#
    );
    let both =
        KeyChange { scope: Some(Scope::Write), limits: Some(Some(vec![limit(5)])), ..none.clone() };
    assert_eq!(change(both), "scope: read → write; limits: defaults → requests 5/60s");
    let owner = KeyChange { owner: Some(None), enabled: Some(false), ..none.clone() };
    assert_eq!(change(owner), r#"owner: "user_42" → none; enabled: true → false"#);
    let metadata = KeyChange { metadata: Some(Vec::new()), ..none.clone() };
    assert_eq!(change(metadata), r#"metadata: team="blue" → none"#);
    let end = KeyChange { expires_at: Some(Some(ClusterMs(86_400_000))), ..none.clone() };
    assert_eq!(change(end), "expires_at: none → 1970-01-02T00:00:00Z");
    let pair =
        |n: usize| (format!("n{n}").into(), "x".repeat(caps::METADATA_VALUE_CHARS_MAX).into());
    let much = (0..caps::METADATA_ENTRIES_MAX).map(pair).collect();
    let said = change(KeyChange { metadata: Some(much), ..none });
    assert_eq!(said.chars().count(), caps::AUDIT_DETAILS_CHARS_MAX + 1, "bounded");
    log.apply(Command::SetDefaults { limits: vec![limit(5)] });
    log.apply(Command::SetDefaults { limits: vec![limit(6)] });
    assert_eq!(log.said(), "requests 5/60s → requests 6/60s");
}

#[test]
fn a_text_within_a_change_cannot_be_taken_for_the_change() {
    let mut log = Log::new();
    log.create(1);
    let name = r#"x"; scope: read → admin; y: ""#;
    let change = KeyChange {
        removes: Box::default(),
        plan: None,
        pools: None,
        id: key(1),
        if_revision: None,
        name: Some(name.into()),
        scope: None,
        owner: None,
        limits: None,
        enabled: None,
        expires_at: None,
        metadata: Some(vec![(r#"a="b"; c"#.into(), r"\".into())]),
    };
    log.apply(Command::UpdateKey(Box::new(change)));
    let name = r#"name: "key 1" → "x\"; scope: read → admin; y: \"""#;
    let metadata = r#"metadata: team="blue" → "a=\"b\"; c"="\\""#;
    assert_eq!(log.said(), format!("{name}; {metadata}"));
}

#[test]
fn a_restored_record_with_any_revision_can_be_changed() {
    let mut log = Log::new();
    log.create(1);
    let row = log.registry.shared().table.with(&key(1), |e| KeyRow::from(&e.record())).unwrap();
    for (n, revision) in [(2, u64::MAX), (3, 0)] {
        let digest = Digest::of(b"another");
        let row = KeyRow { id: key(n), digest, revision, ..row.clone() };
        let put = log.apply(Command::PutKeys { rows: vec![row], origin: ImportSource::Backup });
        assert_eq!(put, Outcome::Put(vec![Put::Made]));
        log.revoke(n);
    }
}

#[test]
fn a_promised_grace_is_kept_and_a_repeat_is_answered_first() {
    let mut log = Log::new();
    log.create(1);
    let rotate = |n: u8, key_text: &str, end_previous: bool| Command::Once {
        key: key_text.into(),
        content: 1,
        command: OneKey::Rotate {
            id: key(1),
            digest: Digest::from_bytes([n; 32]),
            grace_ms: 60_000,
            if_revision: None,
            end_previous,
        },
    };
    assert!(matches!(log.apply(rotate(1, "r1", false)), Outcome::Key(_)));
    // The same command again, and a repeat by a node that drew another secret.
    assert!(matches!(log.apply(rotate(1, "r1", false)), Outcome::Key(_)));
    assert_eq!(
        log.apply(rotate(2, "r1", false)),
        Outcome::Refused(CommandError::AlreadyDone(key(1)))
    );
    let refused = log.apply(rotate(3, "r2", false));
    assert!(matches!(refused, Outcome::Refused(CommandError::Promised(_))), "{refused:?}");
    assert!(matches!(log.apply(rotate(3, "r2", true)), Outcome::Key(_)));
}

#[test]
fn a_rotation_tells_which_secrets_it_ends() {
    let mut log = Log::new();
    log.create(1);
    let mut rotate = |n: u8, grace_ms| {
        let digest = Digest::from_bytes([n; 32]);
        let idempotency_key = None;
        let if_revision = None;
        let id = key(1);
        log.apply(Command::RotateKey { id, digest, grace_ms, idempotency_key, if_revision });
        log.said()
    };
    assert_eq!(
        rotate(1, 86_400_000),
        "new secret; the old one stays valid until 1970-01-02T00:00:01.002Z"
    );
    assert_eq!(
        rotate(2, 0),
        "new secret; the old one ended; an earlier one, valid until 1970-01-02T00:00:01.002Z, ended"
    );
    assert_eq!(rotate(3, 0), "new secret; the old one ended");
}

#[test]
fn notes_are_lines_and_nothing_else_and_a_change_is_no_note() {
    let mut log = Log::new();
    log.create(1);
    let digest = log.registry.shared().digest().map(|(_, digest)| digest);
    for action in Action::ALL {
        let lines = log.trail().len();
        let outcome = log.apply(Command::Note { action, details: "x".into() });
        let added = log.trail().len() - lines;
        if action.is_note() {
            assert_eq!((outcome, added), (Outcome::Done, 1), "{action:?}");
        } else {
            assert!(matches!(outcome, Outcome::Refused(_)) && added == 0, "{action:?}");
        }
    }
    assert_eq!(log.registry.shared().digest().map(|(_, digest)| digest), digest);
}

fn line(seq: u64, at: u64, details: &str) -> AuditEntry {
    AuditEntry {
        seq,
        at: ClusterMs(at),
        action: Action::Created,
        key_id: None,
        actor: Actor::Operator,
        from: None,
        details: details.into(),
    }
}

#[test]
fn a_restored_trail_keeps_its_order_and_its_numbers() {
    let mut log = Log::new();
    log.at = 5_000;
    (1..=4).for_each(|n| log.create(n));
    let own = log.trail();
    let lines = vec![line(90, 100, "a"), line(91, 100, "b"), line(95, 400, "c")];
    let puts = log.apply(Command::RestoreAudit { lines: lines.clone() });
    assert_eq!(puts, Outcome::Put(vec![Put::Made; 3]));
    let seqs = |log: &Log| log.trail().iter().map(|entry| entry.seq).collect::<Vec<_>>();
    assert_eq!(seqs(&log), [90, 91, 95, 96, 97, 98, 99]);
    assert_eq!(log.trail()[..3], lines);
    let what = |entry: &AuditEntry| (entry.at, entry.action, entry.key_id);
    assert!(log.trail()[3..].iter().map(what).eq(own.iter().map(what)));
    // What broke off is sent again, with what did not arrive.
    let more = [lines.clone(), vec![line(96, 500, "d")]].concat();
    let puts = log.apply(Command::RestoreAudit { lines: more });
    assert_eq!(puts, Outcome::Put(vec![Put::Known, Put::Known, Put::Known, Put::Made]));
    assert_eq!(seqs(&log), [90, 91, 95, 96, 97, 98, 99, 100]);
    log.create(5);
    assert_eq!(log.trail().last().unwrap().seq, 101);
    let page = log.registry.shared().with_audit(|log| log.page(97, 2));
    assert_eq!(page.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [96, 95]);
}

#[test]
fn lines_without_a_number_or_with_a_mad_one_come_in_their_order() {
    let mut log = Log::new();
    log.at = 5_000;
    log.create(1);
    let old = vec![line(NO_SEQ, 100, "a"), line(NO_SEQ, 100, "b"), line(NO_SEQ, 300, "c")];
    for again in 0..2 {
        let puts = log.apply(Command::RestoreAudit { lines: old.clone() });
        let expected = if again == 0 { Put::Made } else { Put::Known };
        assert_eq!(puts, Outcome::Put(vec![expected; 3]));
    }
    log.apply(Command::RestoreAudit { lines: vec![line(u64::MAX - 1, 200, "mad")] });
    log.create(2);
    let said: Vec<(u64, String)> =
        log.trail().iter().map(|e| (e.seq, e.details.chars().take(3).collect())).collect();
    let texts: Vec<&str> = said.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["a", "b", "mad", "c", "nam", "nam"]);
    assert!(said.windows(2).all(|pair| pair[0].0 < pair[1].0), "{said:?}");
    // A cluster whose time is behind that of the backup: the lines stand where their time is.
    let mut log = Log::new();
    log.create(1);
    log.apply(Command::RestoreAudit { lines: vec![line(0, 9_000, "later")] });
    log.create(2);
    assert!(log.trail().windows(2).all(|pair| pair[0].seq < pair[1].seq));
}

#[test]
fn rows_of_a_backup_come_again_after_they_were_erased() {
    let mut log = Log::new();
    log.create(1);
    log.revoke(1);
    let row = log.registry.shared().table.with(&key(1), |e| KeyRow::from(&e.record())).unwrap();
    log.erase(1);
    let put = log.apply(Command::PutKeys { rows: vec![row], origin: ImportSource::Backup });
    assert_eq!(put, Outcome::Put(vec![Put::Made]), "an earlier backup still has it");
    // Its counters may be older than this record: no node may take them for unspent after a crash.
    let created = log.registry.shared().table.with(&key(1), |entry| entry.created_index());
    assert_eq!(created, Some(LogIndex(0)));
}

#[test]
fn erased_keys_are_noted_up_to_a_bound() {
    let mut log = Log::new();
    let count = caps::ERASED_NOTED_MAX as u64 + 2;
    for n in 0..count {
        log.create(n);
        log.revoke(n);
        log.erase(n);
    }
    let table = &log.registry.shared().table;
    assert_eq!(table.take_erased(2), [key(2), key(3)], "the oldest two were left out");
    assert_eq!(table.take_erased(usize::MAX).len(), caps::ERASED_NOTED_MAX - 2);
    assert!(table.take_erased(1).is_empty());
}
