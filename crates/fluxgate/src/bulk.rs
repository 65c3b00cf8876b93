//! Lines that go to the cluster some thousand at a time: what came of them, and which were refused.

use fluxgate_api::bulk::BulkAnswer;
use fluxgate_client::Error;

use crate::exit::Exit;
use crate::output;

/// Lines of one call, and their bytes: a call is one step of the progress, and what is sent again
/// when a node fails. Fewer than an answer names refusals.
const LINES_MAX: usize = 1_000;
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Lines that wait to be sent, each with its place in the file.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    lines: Vec<(u64, Vec<u8>)>,
    /// Their bytes.
    pub(crate) bytes: usize,
}

impl Lines {
    pub(crate) fn push(&mut self, number: u64, line: Vec<u8>) {
        self.bytes += line.len();
        self.lines.push((number, line));
    }

    /// The place of the first one in the file.
    pub(crate) fn first(&self) -> Option<u64> {
        self.lines.first().map(|(number, _)| *number)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether they should go now.
    pub(crate) fn is_full(&self) -> bool {
        self.lines.len() >= LINES_MAX || self.bytes >= BYTES_MAX
    }

    /// Sends them, if there are any.
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

/// What came of all of them.
#[derive(Debug, Default)]
pub(crate) struct Total {
    created: u64,
    known: u64,
    refused: u64,
}

impl Total {
    /// Adds an answer, and names the refused lines by their place in the file.
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

    /// Says of an import what came of it, in one line.
    pub(crate) fn report(&self) -> anyhow::Result<Exit> {
        self.report_as("", "imported")
    }

    /// Says it in one line; `of` is said before, and `word` of what is new.
    pub(crate) fn report_as(&self, of: &str, word: &str) -> anyhow::Result<Exit> {
        let Self { created, known, refused } = self;
        let text = format!("{of}{created} {word}, {known} already present, {refused} rejected");
        output::data(&text)?;
        Ok(if *refused == 0 { Exit::Done } else { Exit::Failed })
    }
}
