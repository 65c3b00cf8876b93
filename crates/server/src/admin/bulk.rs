//! Imports the lines of a body as they arrive.
//!
//! Answers for: each line is independent, so that a rejected line does not affect the others; lines
//! are written to the log BEFORE more are read; memory holds one line and one log entry, however long
//! the body is. All lines may be sent again.

use std::collections::VecDeque;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use fluxgate_api::bulk::{BulkAnswer, REFUSALS_MAX, RefusedLine};
use fluxgate_api::error::{ErrorBody, ErrorCode};
use fluxgate_engine::state::audit::AuditEntry;
use fluxgate_engine::state::command::{Actor, Command, CommandError, ImportSource, Outcome, Put};
use fluxgate_engine::state::governing::DEFAULT_PLAN;
use fluxgate_engine::state::named::{Definition, Named, NamedKind};
use fluxgate_engine::state::snapshot::KeyRow;
use fluxgate_node::proposal::proposal;
use fluxgate_node::state::NodeState;
use fluxgate_node::writes::WriteError;
use http_body_util::BodyExt as _;

use crate::shared::error::ApiError;

/// The longest line, bytes: a key with the longest value in every field fits.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Lines in one log entry, and their bytes. What becomes of a line is shorter than the line.
const ENTRY_LINES_MAX: usize = 100;
const ENTRY_LINES_BYTES_MAX: usize = 28 * 1024;

/// The content of a line.
pub(crate) enum Row {
    Key(Box<KeyRow>),
    Audit(Box<AuditEntry>),
    Named(Box<NamedLine>),
}

/// A record with a name in a line.
pub(crate) struct NamedLine {
    pub(crate) kind: NamedKind,
    pub(crate) name: Box<str>,
    pub(crate) definition: Definition,
}

/// Whether the content type is that of JSON lines; a body without a type is read as JSON lines.
pub(crate) fn is_lines(headers: &HeaderMap) -> bool {
    let Some(media_type) = headers.get(header::CONTENT_TYPE) else { return true };
    let essence = media_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    ["application/x-ndjson", "application/jsonl", "application/json-lines"]
        .iter()
        .any(|known| essence.trim().eq_ignore_ascii_case(known))
}

/// The lines of a body, as they arrive.
struct Lines {
    body: Body,
    within: Duration,
    pending: VecDeque<Vec<u8>>,
    rest: Vec<u8>,
    ended: bool,
}

impl Lines {
    /// The next line, without its line feed. Of a line above [`LINE_BYTES_MAX`] only one byte more
    /// than that is kept.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, ErrorBody> {
        loop {
            if let Some(line) = self.pending.pop_front() {
                return Ok(Some(line));
            }
            if self.ended {
                let last = std::mem::take(&mut self.rest);
                return Ok((!last.is_empty()).then_some(last));
            }
            let slow = |_| ErrorBody::new(ErrorCode::RequestTimeout, "the body took too long");
            let frame = tokio::time::timeout(self.within, self.body.frame()).await.map_err(slow)?;
            match frame {
                None => self.ended = true,
                Some(Err(_)) => {
                    let why = "the body ended early: the lines before were taken in";
                    return Err(ErrorBody::new(ErrorCode::InvalidRequest, why));
                }
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    self.take(&data);
                }
            }
        }
    }

    fn take(&mut self, data: &[u8]) {
        let mut parts = data.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            // One byte more than permitted is kept, so that the line is seen to be too long.
            let room = (LINE_BYTES_MAX + 1).saturating_sub(self.rest.len());
            self.rest.extend_from_slice(&part[..part.len().min(room)]);
            if parts.peek().is_some() {
                self.pending.push_back(std::mem::take(&mut self.rest));
            }
        }
    }
}

/// Lines for one log entry, all of one kind.
#[derive(Default)]
struct Entry {
    numbers: Vec<u64>,
    bytes: usize,
    keys: Vec<KeyRow>,
    audit: Vec<AuditEntry>,
}

struct Bulk<'a> {
    state: &'a NodeState,
    from: Option<Box<str>>,
    origin: ImportSource,
    entry: Entry,
    answer: BulkAnswer,
}

/// Imports a body of lines; `read` reads one line.
pub(crate) async fn take_in(
    state: &NodeState,
    from: Option<Box<str>>,
    headers: &HeaderMap,
    body: Body,
    origin: ImportSource,
    read: impl Fn(&NodeState, &[u8]) -> Result<Row, String>,
) -> Result<BulkAnswer, ApiError> {
    if !is_lines(headers) {
        let why = "the body must be JSON lines: application/x-ndjson";
        return Err(ApiError::new(ErrorCode::UnsupportedMediaType, why));
    }
    let within = state.config.request_timeout;
    let mut lines =
        Lines { body, within, pending: VecDeque::new(), rest: Vec::new(), ended: false };
    let (entry, answer) = (Entry::default(), BulkAnswer::default());
    let mut bulk = Bulk { state, from, origin, entry, answer };
    let mut number = 0;
    while let Some(line) = lines.next().await? {
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let row = if line.len() > LINE_BYTES_MAX {
            Err(format!("longer than {LINE_BYTES_MAX} bytes"))
        } else {
            read(state, &line)
        };
        match row {
            Ok(row) => bulk.add(number, row, line.len()).await?,
            Err(why) => bulk.reject(number, why),
        }
    }
    bulk.flush().await?;
    // Lines are rejected before or after their log entry is written: put them in order.
    bulk.answer.refusals.sort_by_key(|rejection| rejection.line);
    Ok(bulk.answer)
}

impl Bulk<'_> {
    fn reject(&mut self, line: u64, message: String) {
        self.answer.refused += 1;
        if self.answer.refusals.len() < REFUSALS_MAX {
            self.answer.refusals.push(RefusedLine { line, message });
        }
    }

    async fn add(&mut self, number: u64, row: Row, bytes: usize) -> Result<(), ApiError> {
        let fits = self.entry.numbers.len() < ENTRY_LINES_MAX
            && self.entry.bytes + bytes <= ENTRY_LINES_BYTES_MAX
            && match row {
                Row::Key(_) => self.entry.audit.is_empty(),
                Row::Audit(_) => self.entry.keys.is_empty(),
                Row::Named(_) => false,
            };
        if !fits {
            self.flush().await?;
        }
        match row {
            Row::Key(row) => {
                let same =
                    |known: &fluxgate_engine::state::entry::KeyEntry| *known.digest() == row.digest;
                // An existing key needs no log entry.
                if self.state.shared.table.with(&row.id, same) == Some(true) {
                    self.answer.known += 1;
                    return Ok(());
                }
                self.entry.keys.push(*row);
            }
            Row::Audit(line) => self.entry.audit.push(*line),
            Row::Named(row) => return self.add_named(number, row).await,
        }
        self.entry.numbers.push(number);
        self.entry.bytes += bytes;
        Ok(())
    }

    /// Writes a record with a name, unless there is one. The plan `default` always exists: it is
    /// replaced while it is as the cluster was formed with.
    async fn add_named(&mut self, number: u64, row: Box<NamedLine>) -> Result<(), ApiError> {
        let NamedLine { kind, name, definition } = *row;
        if self.state.shared.cluster().level < 4 {
            let (code, why) =
                (ErrorCode::ClusterTooOld, "not before every node runs version 0.4 or later");
            return Err(broken_off(code, why, &[number]));
        }
        let within = self.state.config.request_timeout;
        let seeded = self.state.writes.seed_names(within).await;
        seeded.map_err(|error| interrupted(error, &[number]))?;
        let is_first = |known: &Named| {
            kind == NamedKind::Plan && *name == *DEFAULT_PLAN && known.revision == 1
        };
        let known = self.state.shared.record(kind, &name);
        if known.is_some_and(|known| !is_first(&known)) {
            self.answer.known += 1;
            return Ok(());
        }
        let definition = Box::new(definition);
        let command = Command::PutNamed { kind, name, definition, if_revision: None };
        let proposal = proposal(Actor::Operator, self.from.clone(), command);
        let written = self.state.writes.write(proposal, self.state.config.request_timeout).await;
        match written.map_err(|error| interrupted(error, &[number]))?.outcome {
            Outcome::Refused(error) => self.reject(number, error.to_string()),
            Outcome::Key(_) | Outcome::Done | Outcome::Named(_) | Outcome::Put(_) => {
                self.answer.created += 1;
            }
        }
        Ok(())
    }

    /// Writes the collected lines, and waits until every node has them.
    async fn flush(&mut self) -> Result<(), ApiError> {
        let Entry { numbers, keys, audit, .. } = std::mem::take(&mut self.entry);
        let command = match (keys.is_empty(), audit.is_empty()) {
            (true, true) => return Ok(()),
            (false, _) => Command::PutKeys { rows: keys, origin: self.origin },
            (true, false) => Command::RestoreAudit { lines: audit },
        };
        if command.level() > self.state.shared.cluster().level {
            let (code, why) = (ErrorCode::Conflict, "not before every node runs this version");
            return Err(broken_off(code, why, &numbers));
        }
        let proposal = proposal(Actor::Operator, self.from.clone(), command);
        let written = self.state.writes.write(proposal, self.state.config.request_timeout).await;
        let puts = match written {
            Ok(written) => match written.outcome {
                Outcome::Put(puts) => puts,
                Outcome::Refused(error) => vec![Put::Refused(error); numbers.len()],
                Outcome::Key(_) | Outcome::Done | Outcome::Named(_) => Vec::new(),
            },
            Err(error) => return Err(interrupted(error, &numbers)),
        };
        for (number, put) in numbers.into_iter().zip(puts) {
            match put {
                Put::Made => self.answer.created += 1,
                Put::Known => self.answer.known += 1,
                Put::Refused(CommandError::IdTaken) => {
                    let why = "another key has this id, or this key was rotated since";
                    self.reject(number, why.to_owned());
                }
                Put::Refused(error) => self.reject(number, error.to_string()),
            }
        }
        Ok(())
    }
}

/// Why an import ended at this line.
fn interrupted(error: WriteError, numbers: &[u64]) -> ApiError {
    let (code, why) = match error {
        WriteError::NoLeader => (ErrorCode::NoLeader, "the cluster has no leader now"),
        WriteError::Busy => (ErrorCode::Unavailable, "the leader takes no writes now"),
        WriteError::Unknown => (ErrorCode::RequestTimeout, "the outcome is unknown"),
    };
    broken_off(code, why, numbers)
}

/// A run that ended at the first of these lines.
fn broken_off(code: ErrorCode, why: &str, numbers: &[u64]) -> ApiError {
    let line = numbers.first().copied().unwrap_or(0);
    let message = format!("broken off at line {line}: {why}; send all again, what is there stays");
    ApiError::new(code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&str]) -> Vec<Vec<u8>> {
        let mut lines = Lines {
            body: Body::empty(),
            within: Duration::from_secs(1),
            pending: VecDeque::new(),
            rest: Vec::new(),
            ended: false,
        };
        pieces.iter().for_each(|piece| lines.take(piece.as_bytes()));
        lines.pending.push_back(lines.rest);
        lines.pending.into()
    }

    #[test]
    fn a_line_is_complete_in_whatever_pieces_it_arrives() {
        assert_eq!(lines(&["ab\nc", "d", "\n\ne"]), [&b"ab"[..], b"cd", b"", b"e"]);
        assert_eq!(lines(&[]), [b""]);
    }

    #[test]
    fn a_line_without_end_uses_bounded_memory() {
        let long = "x".repeat(LINE_BYTES_MAX);
        let taken = lines(&[&long, &long, "\nnext"]);
        assert_eq!((taken[0].len(), taken[1].as_slice()), (LINE_BYTES_MAX + 1, &b"next"[..]));
    }
}
