//! Who may administer: the operator token manages all, an admin key the keys of its owner.

use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;
use fluxgate_api::error::{ErrorBody, ErrorCode};
use fluxgate_engine::registry::command::Actor;
use fluxgate_engine::registry::record::{KeyEntry, KeyRecord};
use fluxgate_types::{Digest, Scope};

use super::respond;
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
) -> Result<Administrator, Box<Response<Body>>> {
    let in_head = presented(headers);
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
    Err(Box::new(answer.into_response(core)))
}

/// Authenticates a call that only the operator may make.
pub(crate) async fn operator_only(
    core: &Core,
    headers: &HeaderMap,
) -> Result<(), Box<Response<Body>>> {
    match authenticate(core, headers, Scope::Admin).await? {
        Administrator::Operator => Ok(()),
        Administrator::Key { .. } => {
            let message = "This endpoint requires the operator token";
            Err(Box::new(respond::error(&ErrorBody::new(ErrorCode::InsufficientScope, message))))
        }
    }
}
