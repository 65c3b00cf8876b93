//! Keys and audit entries that come in as lines: `POST /v1/keys/import` and `POST
//! /v1/cluster/restore`. Only the operator may call these.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use fluxgate_api::bulk::{
    BackupAudit, BackupKey, BackupLine, BackupOwner, BackupPlan, BackupPool, BulkAnswer, ImportKey,
};
use fluxgate_api::paths;
use fluxgate_api::records::SetOwner;
use fluxgate_api::text::Time;
use fluxgate_engine::state::audit::{self, Action, AuditEntry};
use fluxgate_engine::state::command::{Actor, ImportSource};
use fluxgate_engine::state::named::Definition;
use fluxgate_engine::state::snapshot::KeyRow;
use fluxgate_engine::state::terms::Terms;
use fluxgate_node::state::NodeState;
use fluxgate_types::{ClusterMs, KeyId, LogIndex, caps, credential};
use serde::de::DeserializeOwned;

use super::bulk::{NamedLine, Row, take_in};
use super::keys::fields::{future, limits, limits_beside, metadata, pools, record_name, text};
use super::records::kinds::{Kind, Owners, Plans, Pools};
use crate::shared::auth::Operator;
use crate::shared::body::parse_json;
use crate::shared::error::ApiError;
use crate::shared::respond::Json;

/// Characters in the details of a restored audit entry: more than any version wrote.
const RESTORED_DETAILS_CHARS_MAX: usize = 8 * caps::AUDIT_DETAILS_CHARS_MAX;

pub(super) fn router() -> Router<Arc<NodeState>> {
    Router::new()
        .route(paths::KEYS_IMPORT, post(import))
        .route(paths::CLUSTER_RESTORE, post(restore))
}

async fn import(
    State(state): State<Arc<NodeState>>,
    Operator { client_addr }: Operator,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<BulkAnswer>, ApiError> {
    let source = ImportSource::Import;
    let answer = take_in(&state, client_addr, &headers, body, source, imported).await?;
    Ok(Json(StatusCode::OK, answer))
}

async fn restore(
    State(state): State<Arc<NodeState>>,
    Operator { client_addr }: Operator,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<BulkAnswer>, ApiError> {
    let source = ImportSource::Backup;
    let answer = take_in(&state, client_addr, &headers, body, source, restored).await?;
    Ok(Json(StatusCode::OK, answer))
}

/// Reads a line as JSON. The error contains no part of the line, which may contain a secret.
fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    parse_json("line", line).map_err(|error| error.message.into_owned())
}

/// Reads a line of an import. The digest of a credential, whatever its shape, determines the key's id.
fn imported(state: &NodeState, line: &[u8]) -> Result<Row, String> {
    let key: ImportKey = parse(line)?;
    let digest = key.sha256.0;
    let id = KeyId::of_imported(&digest);
    let (prefix, environment) = (&state.config.key_prefix, &state.config.key_environment);
    let owner = key.owner.map(|owner| text("owner", &owner, caps::OWNER_CHARS_MAX)).transpose()?;
    Ok(Row::Key(Box::new(KeyRow {
        id,
        digest,
        scope: key.scope,
        enabled: key.enabled.unwrap_or(true),
        revision: 1,
        created_index: LogIndex(0),
        created_at: ClusterMs(0),
        created_by: Actor::Operator,
        revoked_at: None,
        expires_at: key.expires_at.map(|at| future(state.now(), at.0)).transpose()?,
        name: text("name", &key.name, caps::NAME_CHARS_MAX)?,
        // The prefix after its first rotation: only the key's holder knows its present one.
        prefix: credential::shown_prefix(prefix, environment, &id).into(),
        owner,
        limits: key.limits.map(limits).transpose()?,
        terms: Terms::default(),
        previous: None,
        metadata: key.metadata.as_ref().map(metadata).transpose()?.unwrap_or_default(),
        last_used: None,
    })))
}

fn actor(text: &str) -> Result<Actor, String> {
    match text {
        "operator" => Ok(Actor::Operator),
        "system" => Ok(Actor::System),
        id => id
            .parse()
            .map(Actor::Key)
            .map_err(|_| "actor: must be `operator`, `system` or the id of a key".to_owned()),
    }
}

/// Reads a line of a backup that contains a key or an audit entry.
fn restored(_: &NodeState, line: &[u8]) -> Result<Row, String> {
    match parse(line)? {
        BackupLine::Key(key) => Ok(Row::Key(Box::new(record_of(*key)?))),
        BackupLine::Audit(entry) => Ok(Row::Audit(Box::new(entry_of(*entry)?))),
        BackupLine::Owner(owner) => owner_of(*owner),
        BackupLine::Plan(plan) => {
            let BackupPlan { plan, says } = *plan;
            named::<Plans>(&plan, Plans::definition(says)?)
        }
        BackupLine::Pool(pool) => {
            let BackupPool { pool, says } = *pool;
            named::<Pools>(&pool, Pools::definition(says)?)
        }
        BackupLine::Begin(_) | BackupLine::End(_) => {
            Err("the first and last line of a backup are not sent".to_owned())
        }
    }
}

fn record_of(key: BackupKey) -> Result<KeyRow, String> {
    let time = |at: Option<Time>| at.map(|at| at.0);
    if key.prefix.len() > caps::CREDENTIAL_BYTES_MAX {
        return Err("prefix: too long".to_owned());
    }
    let plan = key.plan.map(|plan| record_name("plan", &plan)).transpose()?;
    let pools = key.pools.as_deref().map(pools).transpose()?;
    let own = key.limits.map(|own| limits_beside(own, plan.is_some())).transpose()?;
    let (limits, removes) = own.unzip();
    Ok(KeyRow {
        id: key.id.0,
        digest: key.sha256.0,
        scope: key.scope,
        enabled: key.enabled,
        revision: key.revision,
        created_index: LogIndex(0),
        created_at: key.created_at.0,
        created_by: actor(&key.created_by)?,
        revoked_at: time(key.revoked_at),
        expires_at: time(key.expires_at),
        name: text("name", &key.name, caps::NAME_CHARS_MAX)?,
        prefix: key.prefix.into(),
        owner: key.owner.map(|owner| text("owner", &owner, caps::OWNER_CHARS_MAX)).transpose()?,
        limits: limits.filter(|limits| !limits.is_empty()),
        terms: Terms { plan, pools, removes: removes.unwrap_or_default() },
        previous: key.previous.map(|previous| (previous.sha256.0, previous.until.0)),
        metadata: metadata(&key.metadata)?,
        last_used: time(key.last_used_at),
    })
}

fn owner_of(owner: BackupOwner) -> Result<Row, String> {
    let BackupOwner { owner, limits, plan, enabled, metadata } = owner;
    let says = SetOwner { limits, plan, enabled, metadata };
    named::<Owners>(&owner, Owners::definition(says)?)
}

fn named<K: Kind>(name: &str, definition: Definition) -> Result<Row, String> {
    let line = NamedLine { kind: K::KIND, name: K::name(name)?, definition };
    Ok(Row::Named(Box::new(line)))
}

fn entry_of(entry: BackupAudit) -> Result<AuditEntry, String> {
    let action = Action::ALL.into_iter().find(|action| action.as_str() == entry.action);
    let is_plain = |text: &str, chars_max: usize| {
        text.chars().count() <= chars_max && !text.chars().any(char::is_control)
    };
    if !is_plain(&entry.details, RESTORED_DETAILS_CHARS_MAX) {
        return Err(format!(
            "details: must be at most {RESTORED_DETAILS_CHARS_MAX} characters, none of control"
        ));
    }
    if entry.from.as_deref().is_some_and(|from| from.parse::<std::net::IpAddr>().is_err()) {
        return Err("from: must be an address such as 10.0.0.4".to_owned());
    }
    Ok(AuditEntry {
        seq: entry.seq.unwrap_or(audit::NO_SEQ),
        at: entry.at.0,
        action: action.ok_or_else(|| "action: not known to this version".to_owned())?,
        key_id: entry.key_id.map(|id| id.0),
        actor: actor(&entry.actor)?,
        from: entry.from.map(Into::into),
        details: entry.details.into(),
    })
}
