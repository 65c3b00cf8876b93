//! What a request with a credential is charged to: its key, its owner and its pools.

use std::sync::Arc;

use fluxgate_engine::quota::{LookedUp, SubjectLimits, Which};
use fluxgate_engine::state::entry::KeyEntry;
use fluxgate_engine::state::named::NamedKind;
use fluxgate_engine::state::record::{LimitSpec, Status};
use fluxgate_node::counters::Charged;
use fluxgate_node::state::NodeState;
use fluxgate_types::credential::CredentialError;
use fluxgate_types::{ClusterMs, Cost, Credential, Digest, KeyId, Subject, caps};
use smallvec::SmallVec;

use super::rate_limit::{Bearer, Policy};

/// A key whose credential matched.
#[derive(Clone, Debug)]
pub(crate) struct MatchedKey {
    pub(crate) entry: KeyEntry,
}

/// What a request is charged to besides its key.
#[derive(Clone, Debug)]
pub(crate) struct Beside {
    pub(super) bearer: Bearer,
    pub(super) subject: Subject,
    pub(super) known: LookedUp,
}

/// Limits in mode shadow that count a request, of one subject.
#[derive(Clone, Debug)]
pub(crate) struct Shadowed {
    /// The subject itself.
    pub(super) subject: Subject,
    pub(super) known: LookedUp,
    pub(super) bearer: Bearer,
}

/// What a request takes from each subject, and their limits: those of them that are meant.
///
/// # Errors
/// If a cost is never allowed.
pub(super) fn charges(
    known: &LookedUp,
    key: Subject,
    others: &[Beside],
    which: Which,
    cost: Cost,
) -> Result<(Vec<Charged>, Vec<Policy>), String> {
    let (mut charged, mut all) = (Vec::new(), Vec::new());
    let own = Beside { bearer: Bearer::Key, subject: key, known: known.clone() };
    for Beside { bearer, subject, known } in std::iter::once(own).chain(others.iter().cloned()) {
        let known = known.only(which);
        if known.limits.specs.is_empty() {
            continue;
        }
        if let Some(message) = over_every_limit(&bearer, &known.limits.specs, cost) {
            return Err(message);
        }
        all.push(Policy { bearer, limits: Arc::clone(&known.limits.specs) });
        charged.push(Charged { subject, known, cost });
    }
    Ok((charged, all))
}

/// A key that a credential opens, and what its requests are charged to.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) key: MatchedKey,
    pub(crate) known: LookedUp,
    /// Its owner and its pools, if they have limits.
    pub(crate) others: Vec<Beside>,
    /// The limits in mode shadow of all of them.
    pub(crate) shadows: Vec<Shadowed>,
}

/// Finds the active key that a credential opens now.
pub(crate) fn look_up(state: &NodeState, text: &[u8], now: ClusterMs) -> Option<Found> {
    let (digest, id) = match Credential::parse(text) {
        Ok(credential) => (credential.digest, Some(credential.key_id)),
        // Most likely a typing error: no look-up is needed.
        Err(CredentialError::Checksum) => return None,
        // An imported key may have any shape.
        Err(CredentialError::Length | CredentialError::Shape) => {
            let bounded = (1..=caps::CREDENTIAL_BYTES_MAX).contains(&text.len());
            (bounded.then(|| Digest::of(text))?, None)
        }
    };
    // Read BEFORE everything that the limits are taken from, so that a later change shows in the
    // revision.
    let revision = state.shared.table.revision();
    let view = state.shared.view_now();
    let looked_up = |limits| LookedUp { limits, revision, which: Which::All };
    let open = |entry: &KeyEntry| {
        let valid = entry.opens(&digest, now) && entry.status(now) == Status::Active;
        valid.then(|| {
            state.shared.with_in_force(&view, entry, |limits, shadow, pools| {
                let of = |specs: &Arc<[LimitSpec]>| {
                    let (created, specs) = (entry.created_index(), Arc::clone(specs));
                    looked_up(SubjectLimits { created, specs })
                };
                let shadow = (!shadow.is_empty()).then(|| of(shadow));
                let pools: SmallVec<[Subject; caps::POOLS_PER_KEY_MAX]> = pools.into();
                (MatchedKey { entry: entry.clone() }, of(limits), shadow, pools)
            })
        })
    };
    let table = &state.shared.table;
    let found = id.and_then(|id| table.with(&id, open).flatten());
    let (key, known, shadow, pools) =
        found.or_else(|| table.with(&KeyId::of_imported(&digest), open).flatten())?;
    let subject = key.entry.id().into();
    let shadow = shadow.map(|known| Shadowed { subject, known, bearer: Bearer::Key });
    let mut found = Found { key, known, others: Vec::new(), shadows: shadow.into_iter().collect() };
    let owner = state.shared.owner_of(&view, &found.key.entry);
    if owner.as_ref().is_some_and(|owner| !owner.enabled) {
        return None;
    }
    let pools = pools.iter().filter_map(|pool| state.shared.named.get(pool));
    for record in owner.into_iter().chain(pools) {
        let subject = record.subject;
        let of = |shadow| looked_up(SubjectLimits::of_record(&state.shared, &record, shadow));
        let (known, shadow) = (of(false), of(true));
        let bearer = match record.kind {
            NamedKind::Pool => Bearer::Pool(record),
            NamedKind::Owner | NamedKind::Plan => Bearer::Owner,
        };
        if !shadow.limits.specs.is_empty() {
            let bearer = bearer.clone();
            found.shadows.push(Shadowed { subject, known: shadow, bearer });
        }
        if !known.limits.specs.is_empty() {
            found.others.push(Beside { bearer, subject, known });
        }
    }
    Some(found)
}

/// A cost above the tokens of a whole window can never be admitted: the request is invalid, and a
/// 429 would promise that waiting helps.
pub(super) fn over_every_limit(
    bearer: &Bearer,
    limits: &[LimitSpec],
    cost: Cost,
) -> Option<String> {
    let smallest = limits.iter().map(|spec| &spec.limit).min_by_key(|l| l.tokens)?;
    (cost.0 > smallest.tokens).then(|| {
        format!(
            "cost: {cost} is more than the limit `{}` of {} ever allows",
            bearer.name_of(limits, &smallest.name),
            smallest.tokens
        )
    })
}
