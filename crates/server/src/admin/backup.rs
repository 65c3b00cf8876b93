//! `GET /v1/cluster/backup`: the state as lines. Only the operator may call this.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode, Uri};
use axum::routing::get;
use bytes::Bytes;
use fluxgate_api::bulk::{
    BACKUP_FORMAT, BACKUP_FORMAT_WITHOUT_OWNERS, BackupAudit, BackupBegin, BackupEnd, BackupKey,
    BackupLine, BackupOwner, BackupPlan, BackupPool, BackupPrevious, BackupQuery, MEDIA_TYPE,
    Sha256Hex,
};
use fluxgate_api::error::ErrorCode;
use fluxgate_api::paths;
use fluxgate_api::records::{OwnerRecord, PlanRecord, PoolRecord, SetPlan, SetPool};
use fluxgate_api::text::Text;
use fluxgate_engine::state::audit::{Action, AuditEntry};
use fluxgate_engine::state::command::Actor;
use fluxgate_engine::state::named::{NamedKind, NamedRow};
use fluxgate_engine::state::snapshot::{Frozen, KeyRow};
use fluxgate_node::state::{BACKUPS_MAX, NodeState};
use fluxgate_peer::process;
use fluxgate_types::Digest;
use sha2::Digest as _;
use tokio::sync::mpsc;

use super::keys::fields::limit_entries;
use super::keys::view::actor_text;
use super::records::kinds::{Kind as _, Owners, Plans, Pools};
use crate::shared::auth::Operator;
use crate::shared::error::ApiError;
use crate::shared::pipe::Pipe;
use crate::shared::query::query;
use crate::shared::respond;

/// Bytes that are sent in one piece.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that wait for a slow reader.
const PIECES_MAX: usize = 4;
/// A reader that takes no piece for this long is considered gone.
const STALLED: Duration = Duration::from_secs(60);

pub(super) fn router() -> Router<Arc<NodeState>> {
    Router::new().route(paths::CLUSTER_BACKUP, get(backup))
}

/// Sends the state as it is now, while the cluster continues to work.
async fn backup(
    State(state): State<Arc<NodeState>>,
    operator: Operator,
    uri: Uri,
) -> Result<Response<Body>, ApiError> {
    let BackupQuery { stale } = query(&uri)?;
    // A node that holds a lease has applied every acknowledged change.
    if let Some(why) = state.not_ready().filter(|_| !stale) {
        let why =
            format!("{why}; with `stale` it gives what it has, which may lack the newest changes");
        return Err(ApiError::new(ErrorCode::Unavailable, why));
    }
    let permit = Arc::clone(&state.backups).try_acquire_owned().map_err(|_| {
        let why = format!("{BACKUPS_MAX} backups are under way at this node");
        ApiError::new(ErrorCode::Conflict, why)
    })?;
    // Recorded BEFORE the first byte is sent: the backup contains the digests of all keys.
    let details = format!("backup of {} keys", state.shared.table.len());
    state.writes.note(Actor::Operator, operator.client_addr, Action::BackedUp, details).await;
    let (frozen, index) =
        state.raft.freeze().await.map_err(|_| {
            ApiError::new(ErrorCode::Unavailable, "consensus has stopped on this node")
        })?;
    let begin = BackupBegin {
        format: if frozen.has_named() { BACKUP_FORMAT } else { BACKUP_FORMAT_WITHOUT_OWNERS },
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
            // A reader that has gone needs no error: its backup lacks the last line.
            writer.write(begin, &frozen).ok();
        });
        written.await.ok();
        drop(permit);
    }));
    Ok(respond::bytes(StatusCode::OK, MEDIA_TYPE, Body::new(Pipe::new(pipe))))
}

fn key_of(row: KeyRow) -> BackupKey {
    let previous = row
        .previous
        .map(|(digest, until)| BackupPrevious { sha256: Sha256Hex(digest), until: Text(until) });
    let pairs = row.metadata.iter();
    let limits = row.limits.as_deref().unwrap_or_default();
    let own = row.limits.is_some() || !row.terms.removes.is_empty();
    BackupKey {
        id: Text(row.id),
        prefix: row.prefix.to_string(),
        sha256: Sha256Hex(row.digest),
        name: row.name.to_string(),
        scope: row.scope,
        owner: row.owner.map(Into::into),
        limits: own.then(|| limit_entries(limits, &row.terms.removes)),
        plan: row.terms.plan.as_ref().map(ToString::to_string),
        pools: row
            .terms
            .pools
            .as_ref()
            .map(|pools| pools.iter().map(ToString::to_string).collect()),
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

fn line_of(row: &NamedRow) -> BackupLine {
    match row.kind {
        NamedKind::Owner => {
            let OwnerRecord { owner, limits, plan, enabled, metadata, .. } =
                Owners::shown(row, (0, 0));
            let owner = BackupOwner { owner, limits, plan, enabled, metadata };
            BackupLine::Owner(Box::new(owner))
        }
        NamedKind::Plan => {
            let PlanRecord { plan, limits, pools, exposes, metadata, .. } =
                Plans::shown(row, (0, 0));
            let says = SetPlan { limits, pools, exposes, metadata };
            BackupLine::Plan(Box::new(BackupPlan { plan, says }))
        }
        NamedKind::Pool => {
            let PoolRecord { pool, limits, metadata, .. } = Pools::shown(row, (0, 0));
            let says = SetPool { limits, metadata };
            BackupLine::Pool(Box::new(BackupPool { pool, says }))
        }
    }
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

/// The reader is gone.
struct Gone;

/// Writes lines into pieces, and ends with the digest of all lines.
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
        // What is about this cluster and its nodes is left out: a cluster that restores the backup has
        // its own.
        if frozen.has_named() {
            frozen.named_rows().try_for_each(|row| self.line(&line_of(&row)))?;
        }
        frozen.key_rows().try_for_each(|row| self.line(&BackupLine::Key(Box::new(key_of(row)))))?;
        frozen
            .audit_lines()
            .try_for_each(|row| self.line(&BackupLine::Audit(Box::new(audit_of(&row)))))?;
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
