//! Keys on their way in and out: import, backup, restore. The operator's alone.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode};
use bytes::Bytes;
use fluxgate_api::bulk::{
    BACKUP_FORMAT, BackupAudit, BackupBegin, BackupEnd, BackupKey, BackupLine, BackupPrevious,
    BackupQuery, ImportKey, MEDIA_TYPE, Sha256Hex,
};
use fluxgate_api::error::ErrorCode;
use fluxgate_api::keys::LimitSpec;
use fluxgate_api::text::{Text, Time};
use fluxgate_engine::state::audit::{self, Action, AuditEntry};
use fluxgate_engine::state::command::{Actor, ImportSource};
use fluxgate_engine::state::snapshot::{Frozen, Item, KeyRow};
use fluxgate_node::state::{BACKUPS_MAX, NodeState};
use fluxgate_peer::process;
use fluxgate_types::{ClusterMs, Digest, KeyId, LogIndex, caps, credential};
use serde::de::DeserializeOwned;
use sha2::Digest as _;
use tokio::sync::mpsc;

use crate::admin::bulk::{Row, take_in};
use crate::admin::keys::actor_text;
use crate::admin::keys::fields::{future, limits, metadata, text};
use crate::admin::listing::query;
use crate::admin::origin;
use crate::shared::auth::operator_only;
use crate::shared::error::ApiError;
use crate::shared::pipe::Pipe;
use crate::shared::respond;

/// Most characters of what a restored audit entry says: more than any version wrote.
const RESTORED_DETAILS_CHARS_MAX: usize = 8 * caps::AUDIT_DETAILS_CHARS_MAX;
/// Bytes that are sent in one piece.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that wait for a slow reader.
const PIECES_MAX: usize = 4;
/// A reader that takes nothing for so long has gone.
const STALLED: Duration = Duration::from_secs(60);

/// `POST /v1/keys/import`.
pub(crate) async fn import(
    State(state): State<Arc<NodeState>>,
    request: Request<Body>,
) -> Response<Body> {
    let taken = lines(&state, request, ImportSource::Import, imported).await;
    taken.unwrap_or_else(|refused| refused.into_response(&state))
}

/// `POST /v1/cluster/restore`.
pub(crate) async fn restore(
    State(state): State<Arc<NodeState>>,
    request: Request<Body>,
) -> Response<Body> {
    let taken = lines(&state, request, ImportSource::Backup, restored).await;
    taken.unwrap_or_else(|refused| refused.into_response(&state))
}

async fn lines(
    state: &Arc<NodeState>,
    request: Request<Body>,
    origin: ImportSource,
    read: fn(&NodeState, &[u8]) -> Result<Row, String>,
) -> Result<Response<Body>, ApiError> {
    let (parts, body) = request.into_parts();
    operator_only(state, &parts.headers).await?;
    let answer = take_in(state, &parts, body, origin, read).await?;
    Ok(respond::json(StatusCode::OK, &answer))
}

/// A line as JSON. What serde says would show the line, and a secret may stand in a wrong one.
fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    crate::shared::body::parse_json("line", line).map_err(|error| error.message)
}

/// A line of an import. A credential of any shape leads to its record by its digest.
fn imported(state: &NodeState, line: &[u8]) -> Result<Row, String> {
    let asked: ImportKey = parse(line)?;
    let digest = asked.sha256.0;
    let id = KeyId::of_imported(&digest);
    let (prefix, environment) = (&state.config.key_prefix, &state.config.key_environment);
    let owner =
        asked.owner.map(|owner| text("owner", &owner, caps::OWNER_CHARS_MAX)).transpose()?;
    Ok(Row::Key(Box::new(KeyRow {
        id,
        digest,
        scope: asked.scope,
        enabled: asked.enabled.unwrap_or(true),
        revision: 1,
        created_index: LogIndex(0),
        created_at: ClusterMs(0),
        created_by: Actor::Operator,
        revoked_at: None,
        expires_at: asked.expires_at.map(|at| future(state, at.0)).transpose()?,
        name: text("name", &asked.name, caps::NAME_CHARS_MAX)?,
        // What its first rotation will show: the key itself is known to its holder alone.
        prefix: credential::shown_prefix(prefix, environment, &id).into(),
        owner,
        limits: asked.limits.map(limits).transpose()?,
        previous: None,
        metadata: asked.metadata.as_ref().map(metadata).transpose()?.unwrap_or_default(),
        last_used: None,
    })))
}

fn actor(text: &str) -> Result<Actor, String> {
    match text {
        "operator" => Ok(Actor::Operator),
        "system" => Ok(Actor::System),
        id => id.parse().map(Actor::Key).map_err(|_| "who did it is not known".to_owned()),
    }
}

/// A line of a backup that holds a key or an audit entry.
fn restored(_: &NodeState, line: &[u8]) -> Result<Row, String> {
    match parse(line)? {
        BackupLine::Key(key) => Ok(Row::Key(Box::new(record_of(*key)?))),
        BackupLine::Audit(entry) => Ok(Row::Audit(Box::new(entry_of(*entry)?))),
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
        limits: key.limits.map(limits).transpose()?,
        previous: key.previous.map(|previous| (previous.sha256.0, previous.until.0)),
        metadata: metadata(&key.metadata)?,
        last_used: time(key.last_used_at),
    })
}

fn key_of(row: KeyRow) -> BackupKey {
    let previous = row
        .previous
        .map(|(digest, until)| BackupPrevious { sha256: Sha256Hex(digest), until: Text(until) });
    let pairs = row.metadata.iter();
    BackupKey {
        id: Text(row.id),
        prefix: row.prefix.to_string(),
        sha256: Sha256Hex(row.digest),
        name: row.name.to_string(),
        scope: row.scope,
        owner: row.owner.map(Into::into),
        limits: row.limits.map(|limits| limits.iter().map(LimitSpec::from).collect()),
        enabled: row.enabled,
        revision: row.revision,
        created_at: Text(row.created_at),
        created_by: actor_text(row.created_by),
        revoked_at: row.revoked_at.map(Text),
        expires_at: row.expires_at.map(Text),
        previous,
        metadata: pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        last_used_at: row.last_used.map(Text),
    }
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

fn audit_of(entry: &AuditEntry) -> BackupAudit {
    BackupAudit {
        seq: Some(entry.seq),
        at: Text(entry.at),
        action: entry.action.as_str().to_owned(),
        key_id: entry.key_id.map(Text),
        actor: actor_text(entry.actor),
        from: entry.from.as_ref().map(ToString::to_string),
        details: entry.details.to_string(),
    }
}

/// `GET /v1/cluster/backup`: the state as it is now, while the cluster works on.
pub(crate) async fn backup(
    State(state): State<Arc<NodeState>>,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    if let Err(refused) = operator_only(&state, &parts.headers).await {
        return refused.into_response(&state);
    }
    let stale = match query::<BackupQuery>(&parts) {
        Ok(BackupQuery { stale }) => stale,
        Err(refused) => return refused.into_response(&state),
    };
    // Whoever holds a lease has applied all that was acknowledged so far.
    if let Some(why) = state.not_ready().filter(|_| !stale) {
        let why =
            format!("{why}; with `stale` it gives what it has, which may lack the newest changes");
        return respond::refuse(ErrorCode::Unavailable, why);
    }
    let Ok(place) = Arc::clone(&state.backups).try_acquire_owned() else {
        let why = format!("{BACKUPS_MAX} backups are under way at this node");
        return respond::refuse(ErrorCode::Conflict, why);
    };
    // All digests leave the building: noted BEFORE the first byte does.
    let details = format!("backup of {} keys", state.shared.table.len());
    state.note(Actor::Operator, origin(&parts), Action::BackedUp, details).await;
    let Ok((frozen, index)) = state.raft.freeze().await else {
        return respond::refuse(ErrorCode::Unavailable, "consensus has stopped on this node");
    };
    let begin = BackupBegin {
        format: BACKUP_FORMAT,
        cluster: state.config.cluster_name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        at: Text(state.now()),
        index: index.0,
        keys: frozen.keys() as u64,
    };
    let (pieces, pipe) = mpsc::channel(PIECES_MAX);
    let runtime = tokio::runtime::Handle::current();
    tokio::spawn(process::bind(async move {
        let written = process::blocking(move || {
            let mut writer = Writer::new(|piece| {
                let sent = tokio::time::timeout(STALLED, pieces.send(piece));
                matches!(runtime.block_on(sent), Ok(Ok(())))
            });
            // A reader that has gone sees that the last line is missing.
            writer.write(begin, &frozen).ok();
        });
        written.await.ok();
        drop(place);
    }));
    let mut response = Response::new(Body::new(Pipe::new(pipe)));
    let media_type = axum::http::HeaderValue::from_static(MEDIA_TYPE);
    response.headers_mut().insert(axum::http::header::CONTENT_TYPE, media_type);
    response
}

/// Nobody reads any more.
struct Gone;

/// Writes lines into pieces, and the digest of all of them at the end.
struct Writer<F> {
    send: F,
    piece: Vec<u8>,
    hash: sha2::Sha256,
    lines: u64,
}

impl<F: FnMut(Bytes) -> bool> Writer<F> {
    fn new(send: F) -> Self {
        Self { send, piece: Vec::new(), hash: sha2::Sha256::new(), lines: 0 }
    }

    fn write(&mut self, begin: BackupBegin, frozen: &Frozen) -> Result<(), Gone> {
        self.line(&BackupLine::Begin(begin))?;
        frozen.write(|item| match item {
            Item::Keys(rows) => rows
                .into_iter()
                .try_for_each(|row| self.line(&BackupLine::Key(Box::new(key_of(row))))),
            Item::Audit(rows) => rows
                .iter()
                .try_for_each(|row| self.line(&BackupLine::Audit(Box::new(audit_of(row))))),
            // Of this cluster's own making, or of its nodes: another one has its own.
            Item::Head { .. }
            | Item::Places(_)
            | Item::IdempotencyOf(_)
            | Item::Cluster { .. }
            | Item::LimitTags(_)
            | Item::Idempotency(_)
            | Item::Outcomes(_)
            | Item::OutcomesAt(_) => Ok(()),
        })?;
        let digest: [u8; 32] = self.hash.clone().finalize().into();
        let sha256 = Sha256Hex(Digest::from_bytes(digest));
        self.line(&BackupLine::End(BackupEnd { lines: self.lines, sha256 }))?;
        self.flush()
    }

    fn line(&mut self, line: &BackupLine) -> Result<(), Gone> {
        let mut text = serde_json::to_vec(line).map_err(|_| Gone)?;
        text.push(b'\n');
        self.hash.update(&text);
        self.lines += 1;
        self.piece.extend_from_slice(&text);
        if self.piece.len() >= PIECE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Gone> {
        let piece = std::mem::take(&mut self.piece);
        if (self.send)(piece.into()) { Ok(()) } else { Err(Gone) }
    }
}
