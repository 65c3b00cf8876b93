//! How long an idempotency key is remembered, and by which snapshot.

use std::convert::Infallible;

use fluxgate_engine::state::Registry;
use fluxgate_engine::state::command::{
    Actor, Batch, Command, CommandError, NewKey, Outcome, Proposal,
};
use fluxgate_engine::state::snapshot::{Item, Restore};
use fluxgate_types::{ClusterMs, Digest, KeyId, LogIndex, Scope, caps};

fn key(n: u64) -> KeyId {
    let text = format!("{n:012}");
    KeyId::new(text.as_bytes().try_into().expect("12 digits")).expect("digits")
}

fn with(n: u64, idempotency: &str) -> Command {
    Command::CreateKey(Box::new(NewKey {
        terms: fluxgate_engine::state::terms::Terms::default(),
        id: key(n),
        prefix: "fx_live_".into(),
        digest: Digest::from_bytes([(n % 251).to_le_bytes()[0]; 32]),
        name: "n".into(),
        scope: Scope::Read,
        owner: Some("a".into()),
        limits: None,
        expires_at: None,
        metadata: Vec::new(),
        idempotency_key: Some(idempotency.into()),
    }))
}

struct Log(Registry, u64);

impl Log {
    fn apply(&mut self, request: u128, actor: Actor, command: Command) -> Outcome {
        self.1 += 1;
        let proposal = Proposal { request, actor, presented: None, from: None, command };
        let batch = Batch { at: ClusterMs(self.1), proposals: vec![proposal] };
        self.0.apply(1, LogIndex(self.1), &batch).outcomes.remove(0)
    }
}

/// An idempotency key that was used again after a day is remembered for a day.
#[test]
fn an_idempotency_key_that_is_used_again_is_remembered_as_long_as_any() {
    let mut log = Log(Registry::default(), 0);
    log.apply(1, Actor::Operator, with(1, "again"));
    log.1 += caps::IDEMPOTENCY_TTL_MS;
    assert!(matches!(log.apply(2, Actor::Operator, with(2, "again")), Outcome::Key(_)));
    // Some more than half of what may be remembered; none of it is a day old.
    for n in 0..caps::IDEMPOTENCY_KEYS_MAX as u64 {
        log.apply(1_000 + u128::from(n), Actor::Operator, with(10 + n, &format!("k{n}")));
        if n == caps::IDEMPOTENCY_KEYS_MAX as u64 - 3 {
            let known = log.apply(9, Actor::Operator, with(3, "again"));
            assert!(
                matches!(known, Outcome::Refused(CommandError::AlreadyDone(_))),
                "within the bound"
            );
        }
    }
}

/// A snapshot holds each key once, and one of an older program, which wrote a key that was used
/// again twice, is the same state.
#[test]
fn a_snapshot_names_each_idempotency_key_once() {
    let mut log = Log(Registry::at_level(2), 0);
    log.apply(1, Actor::Operator, with(1, "again"));
    log.apply(2, Actor::Operator, with(2, "between"));
    log.1 += caps::IDEMPOTENCY_TTL_MS;
    log.apply(3, Actor::Operator, with(3, "again"));
    let items = |registry: &Registry| {
        let mut items = Vec::new();
        let Ok(()) = registry.freeze().write(|item| {
            items.push(item);
            Ok::<_, Infallible>(())
        });
        items
    };
    let rows = |items: &[Item]| {
        let rows = items.iter().filter_map(|item| match item {
            Item::Idempotency(rows) => Some(rows.clone()),
            Item::Head { .. }
            | Item::Cluster { .. }
            | Item::LimitTags(_)
            | Item::OutcomesAt(_)
            | Item::Places(_)
            | Item::Seed(_)
            | Item::Named(_)
            | Item::KeyTerms(_)
            | Item::IdempotencyOf(_)
            | Item::Keys(_)
            | Item::Audit(_)
            | Item::Outcomes(_) => None,
        });
        rows.flatten().collect::<Vec<_>>()
    };
    let mut written = items(&log.0);
    let (_, expires, id) = rows(&written).remove(0);
    assert_eq!(rows(&written), [("again".into(), expires, id)]);
    // As an older program would have written it.
    for item in &mut written {
        if let Item::Idempotency(rows) = item {
            rows.insert(0, rows[0].clone());
        }
    }
    let mut restored = Restore::default();
    written.into_iter().for_each(|item| restored.take(item).unwrap());
    log.0.install(LogIndex(log.1), restored);
    assert_eq!(rows(&items(&log.0)), [("again".into(), expires, id)]);
}
