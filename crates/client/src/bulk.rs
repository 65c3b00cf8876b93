//! Many keys at once: imports, backups and restores.

use std::sync::atomic::Ordering;
use std::time::Duration;

use fluxgate_api::bulk::{BackupQuery, BulkAnswer};
use fluxgate_api::paths;
use reqwest::Method;

use crate::error::chain;
use crate::transport::{Call, Repeat};
use crate::{Client, Error};

/// A download without any data for this long counts as failed.
const STALLED: Duration = Duration::from_secs(60);

/// An answer that is read chunk by chunk.
#[derive(Debug)]
pub struct Download {
    response: reqwest::Response,
}

impl Download {
    /// The next chunk; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks or stalls.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let stalled = |_| Error::unexpected(None, "the download stalled");
        let piece = tokio::time::timeout(STALLED, self.response.chunk()).await.map_err(stalled)?;
        let broken = |error: reqwest::Error| Error::unexpected(None, chain(&error));
        Ok(piece.map_err(broken)?.map(|piece| piece.to_vec()))
    }
}

impl Client {
    /// Imports keys from JSON lines. It is safe to send the same lines again.
    ///
    /// # Errors
    /// When the call fails. Rejected lines are not an error; the answer lists them.
    pub async fn import_keys(&self, lines: Vec<u8>) -> Result<BulkAnswer, Error> {
        let call = Call::new(Method::POST, paths::KEYS_IMPORT, Repeat::Harmless).lines(lines);
        self.ask(&call).await
    }

    /// Restores the lines of a backup. It is safe to send the same lines again.
    ///
    /// # Errors
    /// When the call fails. Rejected lines are not an error; the answer lists them.
    pub async fn restore(&self, lines: Vec<u8>) -> Result<BulkAnswer, Error> {
        let call = Call::new(Method::POST, paths::CLUSTER_RESTORE, Repeat::Harmless).lines(lines);
        self.ask(&call).await
    }

    /// Starts a backup on the first node that can serve it.
    ///
    /// # Errors
    /// The last node's error, when no node can.
    pub async fn backup(&self, query: BackupQuery) -> Result<Download, Error> {
        let call = Call::get(paths::CLUSTER_BACKUP).query("stale", query.stale.then_some(true));
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = Error::NoUrl;
        for step in 0..self.urls.len() {
            let at = (first + step) % self.urls.len();
            match self.open(at, &call).await {
                Ok(response) if response.status().is_success() => {
                    return Ok(Download { response });
                }
                Ok(response) => last = self.refusal(response).await,
                // The answer of one node says more than the silence of another.
                Err(error) if matches!(last, Error::Refused { .. }) => drop(error),
                Err(error) => last = error,
            }
            if !last.is_unreachable() {
                break;
            }
        }
        Err(last)
    }
}
