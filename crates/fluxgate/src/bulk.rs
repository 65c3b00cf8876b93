//! Sends lines to the cluster in batches, and reports the outcome and the rejected lines.

use fluxgate_api::bulk::BulkAnswer;
use fluxgate_client::Error;

use crate::exit::Exit;
use crate::output;

/// Most lines, and most bytes, of one call. A call is one step of the progress bar, and the unit
/// that is sent again when a node fails. An answer can list more rejected lines than a call
/// contains.
const LINES_MAX: usize = 1_000;
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Lines to be sent, each with its line number in the file.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    lines: Vec<(u64, Vec<u8>)>,
    /// Total size of the lines, bytes.
    pub(crate) bytes: usize,
}

impl Lines {
    pub(crate) fn push(&mut self, number: u64, line: Vec<u8>) {
        self.bytes += line.len();
        self.lines.push((number, line));
    }

    /// Line number of the first line.
    pub(crate) fn first(&self) -> Option<u64> {
        self.lines.first().map(|(number, _)| *number)
    }

    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether the batch should be sent.
    pub(crate) fn is_full(&self) -> bool {
        self.lines.len() >= LINES_MAX || self.bytes >= BYTES_MAX
    }

    /// Sends the lines, if there are any.
    pub(crate) async fn send<F: Future<Output = Result<BulkAnswer, Error>>>(
        &self,
        send: impl FnOnce(Vec<u8>) -> F,
    ) -> anyhow::Result<BulkAnswer> {
        if self.lines.is_empty() {
            return Ok(BulkAnswer::default());
        }
        let mut body = Vec::with_capacity(self.bytes);
        for (_, line) in &self.lines {
            body.extend_from_slice(line.trim_ascii_end());
            body.push(b'\n');
        }
        Ok(send(body).await?)
    }
}

/// The outcome of all batches.
#[derive(Debug, Default)]
pub(crate) struct Total {
    created: u64,
    known: u64,
    refused: u64,
}

impl Total {
    /// Adds an answer, and prints the rejected lines with their numbers in the file.
    pub(crate) fn add(&mut self, lines: &Lines, answer: BulkAnswer) {
        self.created += answer.created;
        self.known += answer.known;
        self.refused += answer.refused;
        for refusal in answer.refusals {
            let at = usize::try_from(refusal.line).ok().and_then(|line| line.checked_sub(1));
            let number =
                at.and_then(|at| lines.lines.get(at)).map_or(refusal.line, |(number, _)| *number);
            output::notice(&format!("line {number}: {}", refusal.message));
        }
    }

    /// Prints the outcome of an import in one line.
    pub(crate) fn report(&self) -> anyhow::Result<Exit> {
        self.report_as("", "imported")
    }

    /// Prints the outcome in one line, after `of`; `word` says what happened to new lines.
    pub(crate) fn report_as(&self, of: &str, word: &str) -> anyhow::Result<Exit> {
        let Self { created, known, refused } = self;
        let text = format!("{of}{created} {word}, {known} already present, {refused} rejected");
        output::data(&text)?;
        Ok(if *refused == 0 { Exit::Done } else { Exit::Failed })
    }
}
