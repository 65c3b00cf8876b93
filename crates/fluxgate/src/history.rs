//! An access history: JSON lines with the verdict of each request.
//!
//! Answers for: the format that `bench` writes and `audit-limits` reads, and that a line of any
//! length or content yields an error with its line number and never a crash. Contains ids, never
//! keys.

use std::io::{BufRead, Read as _};

use anyhow::{Context as _, bail};
use fluxgate_api::{Time, Verdict};
use fluxgate_types::ClusterMs;
use serde::{Deserialize, Serialize};

/// Longest line that is read, bytes.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// The outcome of a request: the verdict of its answer, or no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub(crate) enum Outcome {
    /// The verdict that the answer shows. It does not show whether a denial was proven, so no
    /// history has [`Verdict::Degraded`].
    Answered(Verdict),
    /// No answer: it may have been counted.
    Failed,
}

impl Outcome {
    /// Every outcome, in the order of reports.
    pub(crate) const ALL: [Self; 7] = [
        Self::Answered(Verdict::Admitted),
        Self::Answered(Verdict::Limited),
        Self::Answered(Verdict::Unauthenticated),
        Self::Answered(Verdict::OutOfScope),
        Self::Answered(Verdict::Unavailable),
        Self::Answered(Verdict::Invalid),
        Self::Failed,
    ];

    /// The name in the history.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Answered(verdict) => verdict.history_name(),
            Self::Failed => "failed",
        }
    }
}

impl From<Outcome> for &'static str {
    fn from(outcome: Outcome) -> Self {
        outcome.as_str()
    }
}

impl TryFrom<String> for Outcome {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|outcome| outcome.as_str() == name);
        found.ok_or_else(|| format!("`{name}` is not a verdict"))
    }
}

/// A time as this module writes it, or as milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Moment {
    Text(Time),
    Ms(u64),
}

impl Moment {
    /// The time as Unix milliseconds.
    pub(crate) const fn ms(self) -> u64 {
        match self {
            Self::Text(time) => time.0.0,
            Self::Ms(ms) => ms,
        }
    }

    /// A time from Unix milliseconds.
    pub(crate) const fn from_ms(ms: u64) -> Self {
        Self::Text(fluxgate_api::Text(ClusterMs(ms)))
    }
}

/// One line of a history. Unknown fields are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Id of the key.
    pub(crate) key: String,
    /// When the answer arrived, by the recorder's clock.
    pub(crate) time: Moment,
    /// Any name of the node that answered.
    #[serde(default)]
    pub(crate) node: serde_json::Value,
    /// The outcome of the request.
    pub(crate) verdict: Outcome,
    /// When the window of the request ends, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reset: Option<u64>,
    /// Limit of that window, tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<u64>,
    /// Cost of the request, tokens; 1 when absent.
    #[serde(default = "one")]
    pub(crate) cost: u64,
}

const fn one() -> u64 {
    1
}

/// Reads a history line by line, in bounded memory, and passes each record to `each` with its line
/// number.
pub(crate) fn read(
    mut source: impl BufRead,
    mut each: impl FnMut(u64, Record) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = source
            .by_ref()
            .take(LINE_BYTES_MAX + 1)
            .read_until(b'\n', &mut line)
            .with_context(|| format!("cannot read line {number}"))?;
        if read == 0 {
            break;
        }
        let text = line.trim_ascii();
        if text.is_empty() {
            continue;
        }
        if u64::try_from(line.len())? > LINE_BYTES_MAX {
            bail!("line {number} is longer than {LINE_BYTES_MAX} bytes");
        }
        let record = serde_json::from_slice(text)
            .with_context(|| format!("line {number} is not a record of an access history"))?;
        each(number, record)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> anyhow::Result<Vec<Record>> {
        let mut records = Vec::new();
        read(text, |_, record| {
            records.push(record);
            Ok(())
        })?;
        Ok(records)
    }

    #[test]
    fn records_round_trip() {
        let text = concat!(
            r#"{"key":"key_Qm2xK9dA3f01","time":"2024-01-20T11:20:00.250Z","node":"http://127.0.0.1:7101","#,
            r#""verdict":"admitted","reset":1705749660,"limit":100,"cost":2}"#
        );
        let records = all(text.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&records[0]).unwrap(), text);
        assert_eq!(records[0].time.ms(), 1_705_749_600_250);
    }

    #[test]
    fn the_default_cost_is_one_and_blank_lines_are_skipped() {
        let text = "\n{\"key\":\"k\",\"time\":5,\"node\":2,\"verdict\":\"limited\",\"x\":1}\r\n\n";
        let records = all(text.as_bytes()).unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!((records[0].cost, records[0].time.ms()), (1, 5));
        assert_eq!(records[0].reset, None);
    }

    #[test]
    fn an_error_names_the_number_of_the_malformed_line() {
        let good = "{\"key\":\"k\",\"time\":5,\"verdict\":\"admitted\"}\n";
        for bad in [
            "{",
            "{\"key\":\"k\"}",
            "{\"key\":\"k\",\"time\":5,\"verdict\":\"perhaps\"}",
            "\u{0}",
            "[1]",
        ] {
            let error = all(format!("{good}{bad}\n{good}").as_bytes()).unwrap_err();
            assert!(error.to_string().starts_with("line 2 "), "{error}");
        }
        assert!(all(b"\xff\xfe").is_err());
    }

    #[test]
    fn an_endless_line_does_not_fill_the_memory() {
        let endless = std::io::BufReader::new(std::io::repeat(b'a'));
        let error = read(endless, |_, _| Ok(())).unwrap_err();
        assert_eq!(error.to_string(), "line 1 is longer than 65536 bytes");
    }
}
