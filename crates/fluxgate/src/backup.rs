//! Reads a backup chunk by chunk, and checks at its end that it is complete.

use anyhow::{Context as _, bail, ensure};
use fluxgate_api::bulk::{BACKUP_FORMAT, BackupBegin, BackupLine, Sha256Hex};
use fluxgate_types::Digest;
use sha2::Digest as _;

/// Longest line, bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// A backup that is being read.
#[derive(Default)]
pub(crate) struct Reader {
    /// The first line, once it was read.
    pub(crate) begin: Option<BackupBegin>,
    /// Keys read so far.
    pub(crate) keys: u64,
    owners: u64,
    /// Plans and pools.
    plans: u64,
    audit: u64,
    lines: u64,
    rest: Vec<u8>,
    hash: sha2::Sha256,
    ended: bool,
}

/// A complete backup.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) begin: BackupBegin,
    pub(crate) keys: u64,
    pub(crate) owners: u64,
    /// Plans and pools.
    pub(crate) plans: u64,
    pub(crate) audit: u64,
}

impl Summary {
    /// What it holds, in words.
    pub(crate) fn content(&self) -> String {
        let owners = match self.owners {
            0 => String::new(),
            owners => format!(", {owners} owners"),
        };
        let plans = match self.plans {
            0 => String::new(),
            plans => format!(", {plans} plans and pools"),
        };
        format!("{} keys{owners}{plans} and {} audit entries", self.keys, self.audit)
    }
}

impl Reader {
    /// Processes the next chunk, and passes each line with a key or an audit entry to `each`, as it
    /// is in the file.
    pub(crate) fn take(
        &mut self,
        piece: &[u8],
        mut each: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(part);
            ensure!(
                self.rest.len() <= LINE_BYTES_MAX,
                "not a Fluxgate backup: line {} is too long",
                self.lines + 1
            );
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.rest);
                self.line(&line, &mut each)?;
            }
        }
        Ok(())
    }

    fn line(
        &mut self,
        text: &[u8],
        each: &mut impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let number = self.lines + 1;
        ensure!(!self.ended, "damaged: there is data after the last line");
        let line: BackupLine = serde_json::from_slice(text).map_err(|_| {
            anyhow::anyhow!("not a Fluxgate backup, or damaged: line {number} cannot be read")
        })?;
        match &line {
            BackupLine::Begin(begin) => {
                ensure!(number == 1, "damaged: line {number} begins another backup");
                let format = begin.format;
                ensure!(
                    format <= BACKUP_FORMAT,
                    "this backup has format {format}, and this version reads up to {BACKUP_FORMAT}"
                );
                self.begin = Some(begin.clone());
            }
            _ if number == 1 => bail!("not a Fluxgate backup: the first line is missing"),
            BackupLine::Key(_)
            | BackupLine::Owner(_)
            | BackupLine::Plan(_)
            | BackupLine::Pool(_)
            | BackupLine::Audit(_) => {
                each(text)?;
                self.keys += u64::from(matches!(line, BackupLine::Key(_)));
                self.owners += u64::from(matches!(line, BackupLine::Owner(_)));
                self.plans += u64::from(matches!(line, BackupLine::Plan(_) | BackupLine::Pool(_)));
                self.audit += u64::from(matches!(line, BackupLine::Audit(_)));
            }
            BackupLine::End(end) => {
                let digest: [u8; 32] = self.hash.clone().finalize().into();
                let sound = end.sha256 == Sha256Hex(Digest::from_bytes(digest));
                ensure!(sound && end.lines == self.lines, "damaged: checksum mismatch");
                self.ended = true;
            }
        }
        self.hash.update(text);
        self.lines = number;
        Ok(())
    }

    /// Checks that the backup is complete.
    pub(crate) fn finish(self) -> anyhow::Result<Summary> {
        let begin = self.begin.context("not a Fluxgate backup: the file is empty")?;
        ensure!(self.ended && self.rest.is_empty(), "incomplete: the last line is missing");
        ensure!(begin.keys == self.keys, "damaged: it has {} of {} keys", self.keys, begin.keys);
        Ok(Summary {
            begin,
            keys: self.keys,
            owners: self.owners,
            plans: self.plans,
            audit: self.audit,
        })
    }
}
