//! Commands made of the bytes of an input.

use fluxgate_engine::lease::LeaseTerms;
use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::state::audit::{Action, AuditEntry};
use fluxgate_engine::state::cluster_state::StartId;
use fluxgate_engine::state::command::{
    Actor, Batch, Command, ImportSource, KeyChange, NewKey, OneKey, Proposal,
};
use fluxgate_engine::state::governing::DEFAULT_PLAN;
use fluxgate_engine::state::named::{Definition, NamedKind};
use fluxgate_engine::state::snapshot::KeyRow;
use fluxgate_engine::state::terms::Terms;
use fluxgate_types::{
    BootId, ClusterMs, Digest, DirId, KeyId, Limit, LogIndex, NodeId, Scope, SubjectSeed, caps,
};

use crate::source::Source;

/// Commands of one entry.
const PROPOSALS_MAX: usize = 4;
/// Few names, so that commands meet the same keys.
const NAMES: [&str; 4] = ["a", "bb", "user_42", ""];
const SCOPES: [Scope; 3] = Scope::ALL;
const KEYS: usize = 5;

/// An entry: its stamp and some commands.
pub(super) fn batch(source: &mut Source<'_>, now: ClusterMs) -> Batch {
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
    match source.below(24) {
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
        8 => Command::SetDefaults { limits: configured(source) },
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
        21..=23 => of_names(source),
        _ => {
            let count = source.below(4);
            Command::RestoreAudit { lines: (0..count).map(|_| line(source)).collect() }
        }
    }
}

fn of_names(source: &mut Source<'_>) -> Command {
    match source.below(3) {
        0 => Command::SetSeed { seed: SubjectSeed([source.byte() % 2; 16]) },
        1 => Command::PutNamed {
            kind: source.pick(&NamedKind::ALL),
            name: record(source),
            definition: Box::new(Definition {
                terms: terms(source),
                exposes: (0..source.below(2)).map(|_| source.pick(&NAMES).into()).collect(),
                limits: if source.once_in(3) { Vec::new() } else { limits(source) },
                enabled: source.once_in(2),
                metadata: metadata(source),
            }),
            if_revision: revision(source),
        },
        _ => Command::DeleteNamed {
            kind: source.pick(&NamedKind::ALL),
            name: record(source),
            if_revision: revision(source),
        },
    }
}

/// The name of a record: few, so that keys name records that exist.
fn record(source: &mut Source<'_>) -> Box<str> {
    if source.once_in(2) { DEFAULT_PLAN.into() } else { source.pick(&NAMES).into() }
}

fn terms(source: &mut Source<'_>) -> Terms {
    if source.once_in(2) {
        return Terms::default();
    }
    Terms {
        plan: source.once_in(2).then(|| record(source)),
        pools: source.once_in(3).then(|| (0..source.below(4)).map(|_| record(source)).collect()),
        removes: (0..source.below(3)).map(|_| source.pick(&NAMES).into()).collect(),
    }
}

fn row(source: &mut Source<'_>) -> KeyRow {
    let new = new_key(source);
    KeyRow {
        terms: new.terms,
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
        terms: terms(source),
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
    let Terms { plan, pools, removes } = terms(source);
    KeyChange {
        removes,
        plan: source.once_in(2).then_some(plan),
        pools: source.once_in(2).then_some(pools),
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

/// As in a configuration, which has no marks.
fn configured(source: &mut Source<'_>) -> Vec<Limit> {
    limits(source).into_iter().filter_map(|limit| limit.marked(0)).collect()
}

fn limits(source: &mut Source<'_>) -> Vec<Limit> {
    let count = source.below(10);
    let limit = |source: &mut Source<'_>| {
        let name = source.pick(&["requests", "bulk", "a", "b", "c", "d", "e", "f", "", "Ü"]);
        let tokens = source.number();
        let limit = Limit::new(name, tokens, source.number().saturating_mul(1_000));
        let marks = if source.once_in(4) { source.byte() } else { 0 };
        limit.clone().marked(marks).unwrap_or(limit)
    };
    (0..count).map(|_| limit(source)).collect()
}

fn metadata(source: &mut Source<'_>) -> Vec<(Box<str>, Box<str>)> {
    let count = source.below(3);
    (0..count).map(|_| (source.pick(&NAMES).into(), source.pick(&NAMES).into())).collect()
}
