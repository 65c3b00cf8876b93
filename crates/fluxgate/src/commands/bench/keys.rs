//! The keys of a bench: created for it and revoked after it, or read from a file.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use fluxgate_api::keys::{CreateKey, LimitSpec};
use fluxgate_client::{Client, Token};
use fluxgate_types::{Credential, KeyId, Scope};
use tokio::task::JoinSet;

use crate::output;

/// Most concurrent writes.
const WRITES_MAX: usize = 16;
/// Most keys of one bench.
const KEYS_MAX: usize = 100_000;

/// A key used by the load.
#[derive(Debug)]
pub(super) struct BenchKey {
    /// Name of the key in reports: its id if known, never the key itself.
    pub(super) label: String,
    pub(super) token: Token,
    /// Id of the key, if this bench created it.
    created_id: Option<KeyId>,
}

/// Reads keys from a file, one per line.
pub(super) fn read(file: &Path) -> anyhow::Result<Vec<BenchKey>> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read `{shown}`"))?;
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    let keys = lines
        .map(|(at, line)| {
            let token = Token::new(line).with_context(|| format!("`{shown}`, line {}", at + 1))?;
            let label = match Credential::parse(token.expose().as_bytes()) {
                Ok(credential) => credential.key_id.to_string(),
                Err(_) => format!("line {}", at + 1),
            };
            Ok(BenchKey { label, token, created_id: None })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(!keys.is_empty(), "no keys in `{shown}`");
    ensure!(keys.len() <= KEYS_MAX, "more than {KEYS_MAX} keys in `{shown}`");
    Ok(keys)
}

/// Creates keys.
pub(super) async fn create_all(
    admin: &Arc<Client>,
    count: usize,
    limit: Option<&LimitSpec>,
) -> anyhow::Result<Vec<BenchKey>> {
    let mut keys = Vec::with_capacity(count);
    let mut tasks = JoinSet::new();
    for n in 0..count {
        if tasks.len() >= WRITES_MAX {
            keys.extend(next_created(&mut tasks).await);
        }
        let admin = Arc::clone(admin);
        let create = CreateKey {
            name: format!("bench {n}"),
            scope: Scope::Read,
            owner: Some("fluxgate-bench".to_owned()),
            limits: limit.map(|limit| vec![limit.clone().into()]),
            plan: None,
            pools: None,
            expires_at: None,
            metadata: None,
        };
        tasks.spawn(async move { admin.create_key(&create, None).await });
    }
    while !tasks.is_empty() {
        keys.extend(next_created(&mut tasks).await);
    }
    let (keys, failed): (Vec<_>, Vec<_>) = keys.into_iter().partition(Result::is_ok);
    let keys: Vec<BenchKey> = keys.into_iter().flatten().collect();
    if let Some(Err(error)) = failed.into_iter().next() {
        revoke(admin, &keys).await;
        return Err(error.context("cannot create the keys"));
    }
    Ok(keys)
}

async fn next_created(
    tasks: &mut JoinSet<Result<fluxgate_api::keys::CreatedKey, fluxgate_client::Error>>,
) -> Option<anyhow::Result<BenchKey>> {
    let created = match tasks.join_next().await? {
        Ok(created) => created.map_err(anyhow::Error::from),
        Err(error) => Err(error.into()),
    };
    Some(created.and_then(|created| {
        let id = created.written.record.id.0;
        Ok(BenchKey {
            label: id.to_string(),
            token: Token::new(created.key.expose())?,
            created_id: Some(id),
        })
    }))
}

/// Revokes the keys that this bench created, and erases their records if the token is the
/// operator's. Prints the number of keys that could not be revoked.
pub(super) async fn revoke(admin: &Arc<Client>, keys: &[BenchKey]) {
    let mut tasks = JoinSet::new();
    let mut left = 0usize;
    for id in keys.iter().filter_map(|key| key.created_id) {
        if tasks.len() >= WRITES_MAX {
            left += failed(tasks.join_next().await);
        }
        let admin = Arc::clone(admin);
        tasks.spawn(async move {
            let revoked = admin.revoke_key(id).await.is_ok();
            // An admin key may not erase: the record then remains.
            admin.erase_key(id).await.ok();
            revoked
        });
    }
    while let done @ Some(_) = tasks.join_next().await {
        left += failed(done);
    }
    if left > 0 {
        output::notice(&format!(
            "fluxgate: {left} keys of owner `fluxgate-bench` could not be revoked"
        ));
    }
}

fn failed(done: Option<Result<bool, tokio::task::JoinError>>) -> usize {
    usize::from(matches!(done, Some(Ok(false) | Err(_))))
}
