//! An access history: JSON lines that say which request got which verdict.
//!
//! Answers for: the form that `bench` writes and `audit-limits` reads, and that a line of any
//! length or content is an error with its number and never a crash. Holds ids, never keys.

use std::io::{BufRead, Read as _};

use anyhow::{Context as _, bail};
use fluxgate_api::Time;
use fluxgate_types::ClusterMs;
use serde::{Deserialize, Serialize};

/// Longest line that is read, bytes.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// What became of a request. The names are those of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum VerdictName {
    /// It may pass; its cost is spent.
    Admitted,
    /// 429.
    Limited,
    /// 401.
    Unauthenticated,
    /// 403.
    OutOfScope,
    /// 503: nothing was counted.
    Unavailable,
    /// Refused for another reason: nothing was counted.
    Invalid,
    /// No answer: it may have been counted.
    Failed,
}

impl VerdictName {
    /// Every verdict, in the order of reports.
    pub(crate) const ALL: [Self; 7] = [
        Self::Admitted,
        Self::Limited,
        Self::Unauthenticated,
        Self::OutOfScope,
        Self::Unavailable,
        Self::Invalid,
        Self::Failed,
    ];

    /// The name, as in the history.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Limited => "limited",
            Self::Unauthenticated => "unauthenticated",
            Self::OutOfScope => "out_of_scope",
            Self::Unavailable => "unavailable",
            Self::Invalid => "invalid",
            Self::Failed => "failed",
        }
    }
}

/// A moment as this writes it, or as milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Moment {
    /// RFC 3339.
    Text(Time),
    /// Unix milliseconds.
    Ms(u64),
}

impl Moment {
    /// Unix milliseconds.
    pub(crate) const fn ms(self) -> u64 {
        match self {
            Self::Text(time) => time.0.0,
            Self::Ms(ms) => ms,
        }
    }

    /// The moment of so many Unix milliseconds.
    pub(crate) const fn from_ms(ms: u64) -> Self {
        Self::Text(fluxgate_api::Text(ClusterMs(ms)))
    }
}

/// One line of a history. Other fields may stand beside these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The key's id.
    pub(crate) key: String,
    /// When it was answered, by the recorder's clock.
    pub(crate) time: Moment,
    /// Which node answered; anything that names it.
    #[serde(default)]
    pub(crate) node: serde_json::Value,
    /// What became of it.
    pub(crate) verdict: VerdictName,
    /// When the window ends that it counts in, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reset: Option<u64>,
    /// Tokens of that window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<u64>,
    /// Tokens that it cost; 1 when absent.
    #[serde(default = "one")]
    pub(crate) cost: u64,
}

const fn one() -> u64 {
    1
}

/// Reads a history line by line, in bounded memory, and hands each record on with its number.
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
    fn a_record_reads_back_what_it_prints() {
        let text = concat!(
            r#"{"key":"key_Qm2xK9dA3f01","time":"2024-01-20T11:20:00.250Z","node":"http://127.0.0.1:7101","#,
            r#""verdict":"admitted","reset":1705749660,"limit":100,"cost":2}"#
        );
        let records = all(text.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&records[0]).unwrap(), text);
        assert_eq!(records[0].time.ms(), 1_705_749_600_250);
    }

    #[test]
    fn a_sparse_record_costs_one_and_blank_lines_are_none() {
        let text = "\n{\"key\":\"k\",\"time\":5,\"node\":2,\"verdict\":\"limited\",\"x\":1}\r\n\n";
        let records = all(text.as_bytes()).unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!((records[0].cost, records[0].time.ms()), (1, 5));
        assert_eq!(records[0].reset, None);
    }

    #[test]
    fn a_malformed_line_is_named_by_its_number() {
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
    fn a_line_without_end_does_not_fill_the_memory() {
        let endless = std::io::BufReader::new(std::io::repeat(b'a'));
        let error = read(endless, |_, _| Ok(())).unwrap_err();
        assert_eq!(error.to_string(), "line 1 is longer than 65536 bytes");
    }
}
