//! Who may administer: the operator token manages all, an admin key the keys of its owner.

use std::sync::Arc;

use axum::http::HeaderMap;
use fluxgate_api::error::ErrorCode;
use fluxgate_engine::registry::command::Actor;
use fluxgate_engine::registry::record::{KeyEntry, KeyRecord};
use fluxgate_types::{Digest, Scope};

use super::refused::Refused;
use super::validate::{Answer, Presented, Requirement, presented};
use crate::core::Core;
use crate::metrics::Endpoint;

/// An administrator, authenticated.
#[derive(Clone, Debug)]
pub(crate) enum Administrator {
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
pub(crate) struct Caller {
    /// Who.
    pub(crate) who: Administrator,
    /// From which address.
    pub(crate) from: Option<Box<str>>,
}

impl Administrator {
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
    core: &Core,
    headers: &HeaderMap,
    required: Scope,
) -> Result<Administrator, Refused> {
    identify(core, presented(headers), required).await
}

/// Finds out who presents this, wherever it was presented.
pub(crate) async fn identify(
    core: &Core,
    in_head: Presented<'_>,
    required: Scope,
) -> Result<Administrator, Refused> {
    if let (Presented::One(token), Some(operator)) = (in_head, &core.config.operator_token)
        && operator.matches(token)
    {
        return Ok(Administrator::Operator);
    }
    let requirement = Requirement::Scope(required);
    let answer = core.validate(in_head, requirement, 1, Endpoint::Admin).await;
    if let (Answer::Admitted(known, _), Presented::One(token)) = (&answer, in_head) {
        let (entry, digest) = (Arc::clone(&known.entry), Digest::of(token));
        return Ok(Administrator::Key { entry, digest });
    }
    Err(answer.into())
}

/// Authenticates a call that only the operator may make.
pub(crate) async fn operator_only(core: &Core, headers: &HeaderMap) -> Result<(), Refused> {
    match authenticate(core, headers, Scope::Admin).await? {
        Administrator::Operator => Ok(()),
        Administrator::Key { .. } => {
            let message = "This endpoint requires the operator token";
            Err(Refused::new(ErrorCode::InsufficientScope, message))
        }
    }
}
