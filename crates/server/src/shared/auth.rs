//! Who may administer: the operator token manages all keys, an admin key the keys of its owner.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use fluxgate_api::error::ErrorCode;
use fluxgate_engine::state::command::Actor;
use fluxgate_engine::state::entry::KeyEntry;
use fluxgate_node::metrics::Endpoint;
use fluxgate_node::state::NodeState;
use fluxgate_types::{Cost, Digest, Scope};

use crate::gateway::validate::{Answer, PresentedCredential, Requirement, presented, validate};
use crate::shared::client_addr::client_addr;
use crate::shared::error::ApiError;

/// An authenticated administrator.
#[derive(Clone, Debug)]
pub(crate) enum Principal {
    /// Presented the operator token.
    Operator,
    /// Presented an API key.
    Key {
        /// The key, as it was when it was presented.
        entry: KeyEntry,
        /// Digest of the presented credential.
        digest: Digest,
    },
}

/// An administrator and the address of the client: what the audit trail records of a caller.
///
/// As an argument of a handler it authenticates the request, which needs scope `admin`, BEFORE the
/// handler reads anything else.
#[derive(Clone, Debug)]
pub(crate) struct RequestContext {
    pub(crate) principal: Principal,
    pub(crate) client_addr: Option<IpAddr>,
}

impl RequestContext {
    /// The client's address as the audit trail records it.
    pub(crate) fn client_addr_text(&self) -> Option<Box<str>> {
        self.client_addr.map(|address| address.to_string().into())
    }
}

impl FromRequestParts<Arc<NodeState>> for RequestContext {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<NodeState>,
    ) -> Result<Self, ApiError> {
        let principal = authenticate(state, &parts.headers, Scope::Admin).await?;
        Ok(Self { principal, client_addr: client_addr(parts) })
    }
}

/// The operator. As an argument of a handler it rejects everyone who does not present the operator
/// token, BEFORE the handler reads anything else.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    /// The client's address as the audit trail records it.
    pub(crate) client_addr: Option<Box<str>>,
}

impl FromRequestParts<Arc<NodeState>> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<NodeState>,
    ) -> Result<Self, ApiError> {
        let caller = RequestContext::from_request_parts(parts, state).await?;
        caller.principal.only_operator("This endpoint requires the operator token")?;
        Ok(Self { client_addr: caller.client_addr_text() })
    }
}

impl Principal {
    /// The name in the audit trail.
    pub(crate) fn actor(&self) -> Actor {
        match self {
            Self::Operator => Actor::Operator,
            Self::Key { entry, .. } => Actor::Key(entry.id()),
        }
    }

    /// Fails with this message unless it is the operator.
    pub(crate) fn only_operator(&self, message: &'static str) -> Result<(), ApiError> {
        match self {
            Self::Operator => Ok(()),
            Self::Key { .. } => Err(ApiError::new(ErrorCode::InsufficientScope, message)),
        }
    }

    /// Digest of the presented credential; `None` for the operator token.
    pub(crate) fn digest(&self) -> Option<Digest> {
        match self {
            Self::Operator => None,
            Self::Key { digest, .. } => Some(*digest),
        }
    }

    /// Whether this administrator may see and change keys of this owner. A key without an owner
    /// manages no keys but itself.
    pub(crate) fn manages_owner(&self, owner: Option<&str>) -> bool {
        match self {
            Self::Operator => true,
            Self::Key { entry, .. } => entry.manages_owner(owner),
        }
    }

    /// Whether this administrator may see and change this key.
    pub(crate) fn manages(&self, key: &KeyEntry) -> bool {
        match self {
            Self::Operator => true,
            Self::Key { entry, .. } => entry.manages(key),
        }
    }
}

/// Authenticates a call of the admin listener; an API key must have scope `required`. Calls with an
/// API key count against its limit.
pub(crate) async fn authenticate(
    state: &NodeState,
    headers: &HeaderMap,
    required: Scope,
) -> Result<Principal, ApiError> {
    identify(state, presented(headers), required).await
}

/// Authenticates a credential, whether it came in a header or in a form.
pub(crate) async fn identify(
    state: &NodeState,
    presented: PresentedCredential<'_>,
    required: Scope,
) -> Result<Principal, ApiError> {
    if let (PresentedCredential::One(token), Some(operator)) =
        (presented, &state.config.operator_token)
        && operator.matches(token)
    {
        return Ok(Principal::Operator);
    }
    let requirement = Requirement::Scope(required);
    let answer = validate(state, presented, requirement, Cost::ONE, Endpoint::Admin).await;
    if let (Answer::Admitted(key, _), PresentedCredential::One(token)) = (&answer, presented) {
        let (entry, digest) = (key.entry.clone(), Digest::of(token));
        return Ok(Principal::Key { entry, digest });
    }
    Err(answer.into())
}
