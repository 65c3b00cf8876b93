//! Many keys at once, in and out.

use std::sync::atomic::Ordering;
use std::time::Duration;

use fluxgate_api::bulk::{BackupQuery, BulkAnswer};
use fluxgate_api::paths;
use reqwest::Method;

use crate::error::chain;
use crate::transport::{Call, Repeat};
use crate::{Client, Error};

/// A download that stands still for so long has failed.
const STALLED: Duration = Duration::from_secs(60);

/// An answer that is read piece by piece.
#[derive(Debug)]
pub struct Download {
    response: reqwest::Response,
}

impl Download {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks or stands still.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let stalled = |_| Error::unexpected(None, "the download stands still");
        let piece = tokio::time::timeout(STALLED, self.response.chunk()).await.map_err(stalled)?;
        let broken = |error: reqwest::Error| Error::unexpected(None, chain(&error));
        Ok(piece.map_err(broken)?.map(|piece| piece.to_vec()))
    }
}

impl Client {
    /// Takes in lines of an import; sent again they do no harm.
    ///
    /// # Errors
    /// When the call fails. Lines that were refused are no failure.
    pub async fn import_keys(&self, lines: Vec<u8>) -> Result<BulkAnswer, Error> {
        let call = Call::new(Method::POST, paths::KEYS_IMPORT, Repeat::Harmless).lines(lines);
        self.ask(&call).await
    }

    /// Takes in lines of a backup; sent again they do no harm.
    ///
    /// # Errors
    /// When the call fails. Lines that were refused are no failure.
    pub async fn restore(&self, lines: Vec<u8>) -> Result<BulkAnswer, Error> {
        let call = Call::new(Method::POST, paths::CLUSTER_RESTORE, Repeat::Harmless).lines(lines);
        self.ask(&call).await
    }

    /// Begins a backup at the first node that gives one.
    ///
    /// # Errors
    /// The last node's, when none does.
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
                // A node that answered knows more than one that did not.
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
