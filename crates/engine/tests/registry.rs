//! The registry against a plain map, and a snapshot with the entries behind it against a replay of
//! all of them.

use std::collections::BTreeMap;
use std::convert::Infallible;

use fluxgate_engine::state::Registry;
use fluxgate_engine::state::command::{
    Actor, Batch, Command, CommandError, KeyChange, NewKey, Outcome, Proposal,
};
use fluxgate_engine::state::snapshot::{Item, Restore};
use fluxgate_types::{ClusterMs, Digest, KeyId, LogIndex, Scope};
use proptest::prelude::*;

/// What is asked, in small numbers, so that the same keys, owners and secrets meet again and again.
#[derive(Clone, Debug)]
enum Ask {
    Create {
        key: u8,
        secret: u8,
        scope: u8,
        owner: u8,
    },
    Update {
        key: u8,
        enabled: Option<bool>,
        scope: Option<u8>,
        owner: Option<u8>,
        guard: Option<u8>,
    },
    Rotate {
        key: u8,
        secret: u8,
        grace_ms: u64,
        guard: Option<u8>,
    },
    Revoke {
        key: u8,
        guard: Option<u8>,
    },
}

/// Who asks: the operator, or the holder of a key with what is presented as its secret.
#[derive(Clone, Copy, Debug)]
enum Who {
    Operator,
    Key { key: u8, secret: u8 },
}

fn id(key: u8) -> KeyId {
    let mut chars = *b"key000000000";
    chars[11] = b'a' + key;
    KeyId::new(chars).expect("letters and digits")
}

fn digest(secret: u8) -> Digest {
    Digest::from_bytes([secret; 32])
}

fn scope(of: u8) -> Scope {
    [Scope::Read, Scope::Write, Scope::Admin][usize::from(of % 3)]
}

fn owner(of: u8) -> Option<Box<str>> {
    (of > 0).then(|| format!("owner{of}").into())
}

fn ask() -> impl Strategy<Value = Ask> {
    let guard = || proptest::option::weighted(0.3, 1u8..5);
    prop_oneof![
        3 => (0u8..5, 0u8..8, 0u8..3, 0u8..3)
            .prop_map(|(key, secret, scope, owner)| Ask::Create { key, secret, scope, owner }),
        3 => (
            0u8..5,
            proptest::option::of(any::<bool>()),
            proptest::option::of(0u8..3),
            proptest::option::of(0u8..3),
            guard(),
        )
            .prop_map(|(key, enabled, scope, owner, guard)| Ask::Update { key, enabled, scope, owner, guard }),
        2 => (0u8..5, 0u8..8, prop_oneof![Just(0u64), 1u64..5_000], guard())
            .prop_map(|(key, secret, grace_ms, guard)| Ask::Rotate { key, secret, grace_ms, guard }),
        1 => (0u8..5, guard()).prop_map(|(key, guard)| Ask::Revoke { key, guard }),
    ]
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        2 => Just(Who::Operator),
        1 => (0u8..5, 0u8..8).prop_map(|(key, secret)| Who::Key { key, secret }),
    ]
}

/// A key, as simply as it can be said.
#[derive(Clone, Debug)]
struct Simple {
    secret: u8,
    old: Option<(u8, u64)>,
    scope: u8,
    owner: u8,
    enabled: bool,
    revoked: bool,
    revision: u8,
}

type Map = BTreeMap<u8, Simple>;

/// The key that asks and its owner; none for the operator. An error where it may not.
fn admin(map: &Map, at: u64, who: Who) -> Result<Option<(u8, u8)>, &'static str> {
    let Who::Key { key, secret } = who else { return Ok(None) };
    let Some(actor) = map.get(&key) else { return Err("actor") };
    let opens =
        actor.secret == secret || actor.old.is_some_and(|(old, until)| old == secret && at < until);
    let valid = opens && actor.enabled && !actor.revoked && actor.scope == 2;
    if valid { Ok(Some((key, actor.owner))) } else { Err("actor") }
}

/// The key, if the caller may change it.
fn managed(
    map: &Map,
    at: u64,
    who: Who,
    key: u8,
    guard: Option<u8>,
) -> Result<Simple, &'static str> {
    let Some(of) = map.get(&key) else { return Err("not found") };
    if let Some((actor, owner)) = admin(map, at, who)?
        && actor != key
        && (owner == 0 || owner != of.owner)
    {
        return Err("not found");
    }
    if guard.is_some_and(|revision| revision != of.revision) {
        return Err("revision");
    }
    Ok(of.clone())
}

/// What the rules say, on a map: the key as it is then, or the name of the refusal.
fn expect(map: &mut Map, at: u64, who: Who, ask: &Ask) -> Result<u8, &'static str> {
    match *ask {
        Ask::Create { key, secret, scope, owner } => {
            if let Some(known) = map.get(&key) {
                return if known.secret == secret { Ok(key) } else { Err("taken") };
            }
            if let Some((_, of)) = admin(map, at, who)?
                && (of == 0 || of != owner)
            {
                return Err("actor");
            }
            let new = Simple {
                secret,
                old: None,
                scope,
                owner,
                enabled: true,
                revoked: false,
                revision: 1,
            };
            map.insert(key, new);
        }
        Ask::Update { key, enabled, scope, owner, guard } => {
            let mut new = managed(map, at, who, key, guard)?;
            if new.revoked {
                return Err("revoked");
            }
            new.enabled = enabled.unwrap_or(new.enabled);
            new.scope = scope.unwrap_or(new.scope);
            new.owner = owner.unwrap_or(new.owner);
            // An administrator's key gives keys to its own owner only, and itself no other rights.
            if let Some((actor, of)) = admin(map, at, who)? {
                let before = map.get(&key).cloned().ok_or("not found")?;
                let given = new.owner != before.owner;
                let itself = actor == key && (given || new.scope != before.scope);
                if itself || (given && (of == 0 || of != new.owner)) {
                    return Err("actor");
                }
            }
            new.revision += 1;
            map.insert(key, new);
        }
        Ask::Rotate { key, secret, grace_ms, guard } => {
            if map.get(&key).is_some_and(|known| known.secret == secret) {
                return Ok(key);
            }
            let mut new = managed(map, at, who, key, guard)?;
            if new.revoked {
                return Err("revoked");
            }
            new.old = (grace_ms > 0).then_some((new.secret, at + grace_ms));
            new.secret = secret;
            new.revision += 1;
            map.insert(key, new);
        }
        Ask::Revoke { key, guard } => {
            let mut new = managed(map, at, who, key, guard)?;
            if !new.revoked {
                new.revoked = true;
                new.old = None;
                new.revision += 1;
                map.insert(key, new);
            }
        }
    }
    Ok(key_of(ask))
}

fn key_of(ask: &Ask) -> u8 {
    match *ask {
        Ask::Create { key, .. }
        | Ask::Update { key, .. }
        | Ask::Rotate { key, .. }
        | Ask::Revoke { key, .. } => key,
    }
}

fn command(ask: &Ask) -> Command {
    match *ask {
        Ask::Create { key, secret, scope: of, owner: whose } => {
            Command::CreateKey(Box::new(NewKey {
                terms: fluxgate_engine::state::terms::Terms::default(),
                id: id(key),
                prefix: format!("fx_test_{}", id(key).as_str()).into(),
                digest: digest(secret),
                name: "test".into(),
                scope: scope(of),
                owner: owner(whose),
                limits: None,
                expires_at: None,
                metadata: Vec::new(),
                idempotency_key: None,
            }))
        }
        Ask::Update { key, enabled, scope: of, owner: whose, guard } => {
            Command::UpdateKey(Box::new(KeyChange {
                removes: Box::default(),
                plan: None,
                pools: None,
                id: id(key),
                if_revision: guard.map(u64::from),
                name: None,
                scope: of.map(scope),
                owner: whose.map(owner),
                limits: None,
                enabled,
                expires_at: None,
                metadata: None,
            }))
        }
        Ask::Rotate { key, secret, grace_ms, guard } => Command::RotateKey {
            id: id(key),
            digest: digest(secret),
            grace_ms,
            idempotency_key: None,
            if_revision: guard.map(u64::from),
        },
        Ask::Revoke { key, guard } => {
            Command::RevokeKey { id: id(key), if_revision: guard.map(u64::from) }
        }
    }
}

fn batch(number: u64, at: u64, who: Who, ask: &Ask) -> Batch {
    let (actor, presented) = match who {
        Who::Operator => (Actor::Operator, None),
        Who::Key { key, secret } => (Actor::Key(id(key)), Some(digest(secret))),
    };
    let request = u128::from(number) + 1;
    let proposal = Proposal { request, actor, presented, from: None, command: command(ask) };
    Batch { at: ClusterMs(at), proposals: vec![proposal] }
}

fn name(refusal: &CommandError) -> &'static str {
    match refusal {
        CommandError::NotFound => "not found",
        CommandError::IdTaken => "taken",
        CommandError::Revision(_) => "revision",
        CommandError::Revoked => "revoked",
        CommandError::Actor => "actor",
        CommandError::AlreadyDone(_)
        | CommandError::Invalid(_)
        | CommandError::OtherDirectory(_)
        | CommandError::OlderStart { .. }
        | CommandError::OtherContent(_)
        | CommandError::NotEnded(_)
        | CommandError::InUse(_)
        | CommandError::Promised(_)
        | CommandError::Removed(_) => "other",
    }
}

fn items(registry: &Registry) -> Vec<Item> {
    let mut items = Vec::new();
    let written: Result<(), Infallible> = registry.freeze().write(|item| {
        items.push(item);
        Ok(())
    });
    match written {
        Ok(()) => items,
        Err(never) => match never {},
    }
}

fn restored(items: &[Item]) -> Registry {
    let mut restore = Restore::default();
    for item in items {
        restore.take(item.clone()).expect("what was written can be read");
    }
    assert!(restore.is_complete());
    let mut registry = Registry::default();
    registry.install(LogIndex(0), restore);
    registry
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_registry_is_what_the_map_is(
        asks in proptest::collection::vec((who(), ask(), 0u64..2_000), 1..60),
    ) {
        let (mut registry, mut map) = (Registry::default(), Map::new());
        let mut at = 1_000;
        for (number, (who, ask, later)) in asks.iter().enumerate() {
            at += later;
            let number = number as u64;
            let applied = registry.apply(1, LogIndex(number + 1), &batch(number, at, *who, ask));
            let expected = expect(&mut map, at, *who, ask);
            match (&applied.outcomes[0], expected) {
                (Outcome::Key(record), Ok(key)) => {
                    let simple = &map[&key];
                    prop_assert_eq!(record.id, id(key));
                    prop_assert_eq!(record.digest, digest(simple.secret));
                    prop_assert_eq!(record.revision, u64::from(simple.revision));
                    prop_assert_eq!(record.enabled, simple.enabled);
                    prop_assert_eq!(record.revoked_at.is_some(), simple.revoked);
                    prop_assert_eq!(record.scope, scope(simple.scope));
                    prop_assert_eq!(&record.owner, &owner(simple.owner));
                }
                (Outcome::Refused(refusal), Err(expected)) => {
                    prop_assert_eq!(name(refusal), expected, "{:?}", ask);
                }
                (outcome, expected) => {
                    prop_assert!(false, "{:?}: {:?}, expected {:?}", ask, outcome, expected);
                }
            }
            for (key, simple) in &map {
                for secret in 0..8 {
                    let opens = registry
                        .shared()
                        .table
                        .with(&id(*key), |entry| entry.opens(&digest(secret), ClusterMs(at)));
                    let expected = simple.secret == secret
                        || simple.old.is_some_and(|(old, until)| old == secret && at < until);
                    prop_assert_eq!(opens, Some(expected), "key {} secret {}", key, secret);
                }
            }
        }
    }

    #[test]
    fn a_snapshot_and_what_follows_is_the_same_as_all_of_it(
        asks in proptest::collection::vec((who(), ask(), 0u64..2_000), 1..60),
        cut: prop::sample::Index,
        repeats in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        // Some requests come twice: their outcomes must be remembered over the snapshot.
        let mut numbers: Vec<usize> = (0..asks.len()).collect();
        numbers.extend(repeats.iter().map(|repeat| repeat.index(asks.len())));
        let cut = cut.index(numbers.len());
        let entry = |place: usize| {
            let (who, ask, _) = &asks[numbers[place]];
            let at = 1_000 + 700 * place as u64;
            (LogIndex(place as u64 + 1), batch(numbers[place] as u64, at, *who, ask))
        };
        let mut whole = Registry::default();
        let mut part = None;
        for place in 0..numbers.len() {
            if place == cut {
                part = Some(restored(&items(&whole)));
            }
            let (index, batch) = entry(place);
            let outcome = whole.apply(1, index, &batch);
            if let Some(part) = &mut part {
                prop_assert_eq!(part.apply(1, index, &batch), outcome);
            }
        }
        let part = part.expect("the cut is within");
        prop_assert_eq!(items(&part), items(&whole));
    }
}
