//! Keys and actors as administrators see them.

use fluxgate_api::keys::{EffectiveLimit, KeyRecord, KeyStatus, LimitSpec};
use fluxgate_api::text::Text;
use fluxgate_engine::state::command::Actor;
use fluxgate_engine::state::entry::KeyEntry;
use fluxgate_engine::state::in_force::Source;
use fluxgate_engine::state::record::{self, Status};
use fluxgate_engine::state::{Shared, View};
use fluxgate_node::state::NodeState;
use fluxgate_types::{ClusterMs, KEY_ID_PREFIX};

/// The name of an actor in answers.
pub(crate) fn actor_text(actor: Actor) -> String {
    match actor {
        Actor::Operator => "operator".to_owned(),
        Actor::Key(id) => id.to_string(),
        Actor::System => "system".to_owned(),
    }
}

/// Whether `text` is the name of this actor. Allocates nothing.
pub(crate) fn is_actor(actor: Actor, text: &str) -> bool {
    match actor {
        Actor::Operator => text == "operator",
        Actor::Key(id) => text.strip_prefix(KEY_ID_PREFIX) == Some(id.as_str()),
        Actor::System => text == "system",
    }
}

/// The record of a key now.
pub(crate) fn shown(state: &NodeState, entry: &KeyEntry) -> KeyRecord {
    key_view(&state.shared, &state.shared.view(), state.now(), entry)
}

/// The limits in force for a key, with their sources.
pub(crate) fn effective(shared: &Shared, entry: &KeyEntry) -> Vec<EffectiveLimit> {
    let shown = |(spec, source): (record::LimitSpec, Source)| {
        let from = match source {
            Source::Own => "key".to_owned(),
            Source::Plan(name) => format!("plan:{name}"),
        };
        EffectiveLimit::new(LimitSpec::from(&spec.limit), from)
    };
    shared.sources_of(entry).into_iter().map(shown).collect()
}

/// The record of a key at `now`.
pub(crate) fn key_view(
    shared: &Shared,
    view: &View,
    now: ClusterMs,
    entry: &KeyEntry,
) -> KeyRecord {
    let record = entry.record();
    let limits = shared.with_in_force(view, entry, |limits, shadow, _| {
        let all = limits.iter().chain(shadow.iter());
        all.map(|spec| LimitSpec::from(&spec.limit)).collect()
    });
    let terms = &record.terms;
    let pools = terms.pools.as_ref().map(|pools| pools.iter().map(ToString::to_string).collect());
    let pairs = record.metadata.as_ref().map(|pairs| pairs.iter()).into_iter().flatten();
    KeyRecord {
        id: Text(record.id),
        name: record.name.to_string(),
        prefix: record.prefix(),
        scope: record.scope,
        owner: record.owner.as_ref().map(ToString::to_string),
        limits,
        plan: terms.plan.as_ref().map(ToString::to_string),
        pools,
        effective: None,
        enabled: record.enabled,
        status: status(entry.status(now)),
        created_at: Text(record.created_at),
        created_by: actor_text(record.created_by),
        expires_at: record.expires_at.map(Text),
        last_used_at: entry.last_used().map(Text),
        previous_valid_until: previous_valid_until(entry, now).map(Text),
        metadata: pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        revision: record.revision,
    }
}

/// Until when the previous secret is accepted; `None` if it is not accepted now.
pub(crate) fn previous_valid_until(entry: &KeyEntry, now: ClusterMs) -> Option<ClusterMs> {
    let is_active = entry.status(now) == Status::Active;
    let until = entry.previous().map(|previous| previous.until);
    until.filter(|until| is_active && now < *until)
}

/// A status in the words of the contract.
pub(crate) fn status(status: Status) -> KeyStatus {
    match status {
        Status::Active => KeyStatus::Active,
        Status::Disabled => KeyStatus::Disabled,
        Status::Expired => KeyStatus::Expired,
        Status::Revoked => KeyStatus::Revoked,
    }
}
