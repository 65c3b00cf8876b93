//! `GET /v1/whoami`: the presented credential.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use fluxgate_api::paths;
use fluxgate_api::text::Text;
use fluxgate_api::usage::{CredentialKind, Whoami};
use fluxgate_node::state::NodeState;
use fluxgate_types::Scope;

use crate::shared::auth::{Principal, authenticate};
use crate::shared::error::ApiError;
use crate::shared::respond::Json;

pub(super) fn router() -> Router<Arc<NodeState>> {
    Router::new().route(paths::WHOAMI, get(whoami))
}

async fn whoami(
    State(state): State<Arc<NodeState>>,
    headers: HeaderMap,
) -> Result<Json<Whoami>, ApiError> {
    let whoami = match authenticate(&state, &headers, Scope::Read).await? {
        Principal::Operator => Whoami {
            kind: CredentialKind::Operator,
            key_id: None,
            name: None,
            scope: Scope::Admin,
            owner: None,
        },
        Principal::Key { entry, .. } => Whoami {
            kind: CredentialKind::Key,
            key_id: Some(Text(entry.id())),
            name: Some(entry.name().to_owned()),
            scope: entry.scope(),
            owner: entry.owner().map(str::to_owned),
        },
    };
    Ok(Json(StatusCode::OK, whoami))
}
