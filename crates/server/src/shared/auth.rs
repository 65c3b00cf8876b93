//! Who may administer: the operator token manages all, an admin key the keys of its owner.

use std::sync::Arc;

use axum::http::HeaderMap;
use fluxgate_api::error::ErrorCode;
use fluxgate_engine::state::command::Actor;
use fluxgate_engine::state::record::{KeyEntry, KeyRecord};
use fluxgate_node::metrics::Endpoint;
use fluxgate_node::state::NodeState;
use fluxgate_types::{Digest, Scope};

use crate::gateway::validate::{Answer, PresentedCredential, Requirement, presented, validate};
use crate::shared::error::ApiError;

/// An administrator, authenticated.
#[derive(Clone, Debug)]
pub(crate) enum Principal {
    /// Holds the operator token.
    Operator,
    /// Holds an API key.
    Key {
        /// The key, as it was when it was presented.
        entry: Arc<KeyEntry>,
        /// Digest of what was presented.
        digest: Digest,
    },
}

/// An administrator and where the call came from: all that a change notes of who made it.
#[derive(Clone, Debug)]
pub(crate) struct RequestContext {
    /// Who.
    pub(crate) who: Principal,
    /// From which address.
    pub(crate) from: Option<Box<str>>,
}

impl Principal {
    /// For the audit trail.
    pub(crate) fn actor(&self) -> Actor {
        match self {
            Self::Operator => Actor::Operator,
            Self::Key { entry, .. } => Actor::Key(entry.record.id),
        }
    }

    /// What was presented, where that was a key.
    pub(crate) fn digest(&self) -> Option<Digest> {
        match self {
            Self::Operator => None,
            Self::Key { digest, .. } => Some(*digest),
        }
    }

    /// Whether this administrator may see and change keys of this owner. A key without an owner
    /// of its own manages no keys but itself.
    pub(crate) fn manages_owner(&self, owner: Option<&str>) -> bool {
        match self {
            Self::Operator => true,
            Self::Key { entry, .. } => entry.record.manages_owner(owner),
        }
    }

    /// Whether this administrator may see and change this key.
    pub(crate) fn manages(&self, record: &KeyRecord) -> bool {
        match self {
            Self::Operator => true,
            Self::Key { entry, .. } => entry.record.manages(record),
        }
    }
}

/// Authenticates a call of the admin listener; `required` is what an API key must have. Calls
/// with an API key count against its limit.
pub(crate) async fn authenticate(
    state: &NodeState,
    headers: &HeaderMap,
    required: Scope,
) -> Result<Principal, ApiError> {
    identify(state, presented(headers), required).await
}

/// Finds out who presents this, wherever it was presented.
pub(crate) async fn identify(
    state: &NodeState,
    in_head: PresentedCredential<'_>,
    required: Scope,
) -> Result<Principal, ApiError> {
    if let (PresentedCredential::One(token), Some(operator)) =
        (in_head, &state.config.operator_token)
        && operator.matches(token)
    {
        return Ok(Principal::Operator);
    }
    let requirement = Requirement::Scope(required);
    let answer = validate(state, in_head, requirement, 1, Endpoint::Admin).await;
    if let (Answer::Admitted(known, _), PresentedCredential::One(token)) = (&answer, in_head) {
        let (entry, digest) = (Arc::clone(&known.entry), Digest::of(token));
        return Ok(Principal::Key { entry, digest });
    }
    Err(answer.into())
}

/// Authenticates a call that only the operator may make.
pub(crate) async fn operator_only(state: &NodeState, headers: &HeaderMap) -> Result<(), ApiError> {
    match authenticate(state, headers, Scope::Admin).await? {
        Principal::Operator => Ok(()),
        Principal::Key { .. } => {
            let message = "This endpoint requires the operator token";
            Err(ApiError::new(ErrorCode::InsufficientScope, message))
        }
    }
}
