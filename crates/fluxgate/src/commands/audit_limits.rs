//! `fluxgate audit-limits`: checks a history for windows above their limit.
//!
//! Answers for: counting the records of a history, and nothing else: it asks no node. A window is a
//! key, a limit and an end, as stated in the answers, so that several limits of a key are counted
//! separately.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::BufRead;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use fluxgate_api::{Period, Text, Time, Verdict};
use fluxgate_types::ClusterMs;
use serde::Serialize;

use crate::exit::Exit;
use crate::history::{self, Outcome, Record};
use crate::output::{self, OutputArgs};

/// Most windows counted at once. A larger history must be split by key or by time.
const WINDOWS_MAX: usize = 2_000_000;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Each line is an object with key, time (RFC 3339 or Unix milliseconds), verdict (admitted, limited, \
        unauthenticated, out_of_scope, unavailable, invalid or failed) and, if known, node, reset, limit and cost.\n\
        Exits with 1 when a window is above its limit.\n\n\
        Example:\n  fluxgate bench --history history.jsonl && fluxgate audit-limits history.jsonl"
)]
pub(crate) struct Args {
    /// History file, JSON lines; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Limit of records without one, tokens
    #[arg(long, value_name = "TOKENS", requires = "period")]
    limit: Option<u64>,
    /// Window length of records without a window; their windows then follow the recorder's clock
    #[arg(long, value_name = "DURATION", requires = "limit")]
    period: Option<Period>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Counts the history and prints the result.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let fallback = match (args.limit, args.period) {
        (Some(_), Some(period)) if period.ms == 0 => {
            return Err(crate::exit::Misuse("--period must be longer than 0".into()).into());
        }
        (Some(limit), Some(period)) => Some((limit, period.ms)),
        (_, _) => None,
    };
    let auditor = if args.file.as_os_str() == "-" {
        audit(std::io::stdin().lock(), fallback)?
    } else {
        let shown = args.file.display();
        let file = std::fs::File::open(&args.file);
        let file = file.with_context(|| format!("cannot open `{shown}`"))?;
        audit(std::io::BufReader::new(file), fallback).with_context(|| format!("in `{shown}`"))?
    };
    let report = auditor.report();
    args.output.print(&report, text)?;
    Ok(if report.over.is_empty() { Exit::Done } else { Exit::Failed })
}

/// The result of an audit.
#[derive(Debug, Serialize)]
struct Report {
    records: u64,
    admitted: u64,
    windows: usize,
    over: Vec<Over>,
}

/// One window above its limit.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Over {
    key: String,
    window_end: Time,
    limit: u64,
    admitted: u64,
}

/// One window: index of the key, limit, and end in milliseconds.
type Window = (u32, u64, u64);

#[derive(Debug, Default)]
struct Auditor {
    fallback: Option<(u64, u64)>,
    keys: HashMap<String, u32>,
    spent: HashMap<Window, u64>,
    records: u64,
    admitted: u64,
}

fn audit(source: impl BufRead, fallback: Option<(u64, u64)>) -> anyhow::Result<Auditor> {
    let mut auditor = Auditor { fallback, ..Auditor::default() };
    history::read(source, |line, record| {
        auditor.add(record).with_context(|| format!("line {line} cannot be counted"))
    })?;
    Ok(auditor)
}

impl Auditor {
    fn add(&mut self, record: Record) -> anyhow::Result<()> {
        self.records += 1;
        if record.verdict != Outcome::Answered(Verdict::Admitted) {
            return Ok(());
        }
        self.admitted += 1;
        let (limit, end_ms) = match (record.limit, record.reset, self.fallback) {
            (Some(limit), Some(reset), _) => (limit, reset.saturating_mul(1_000)),
            (limit, _, Some((fallback, period_ms))) => {
                let window = fluxgate_types::Window::at(period_ms, ClusterMs(record.time.ms()));
                (limit.unwrap_or(fallback), window.end().0)
            }
            (_, _, None) => bail!("it has no `limit` and `reset`; use --limit and --period"),
        };
        let fresh = u32::try_from(self.keys.len()).context("too many keys")?;
        let key = *self.keys.entry(record.key).or_insert(fresh);
        let full = self.spent.len() >= WINDOWS_MAX;
        match self.spent.entry((key, limit, end_ms)) {
            Entry::Vacant(_) if full => {
                bail!("more than {WINDOWS_MAX} windows; split the history by key or by time")
            }
            entry @ (Entry::Vacant(_) | Entry::Occupied(_)) => {
                let spent = entry.or_insert(0);
                *spent = spent.saturating_add(record.cost);
            }
        }
        Ok(())
    }

    fn report(&self) -> Report {
        let names: HashMap<u32, &String> = self.keys.iter().map(|(key, &at)| (at, key)).collect();
        let mut over: Vec<Over> = self
            .spent
            .iter()
            .filter(|((_, limit, _), spent)| *spent > limit)
            .map(|(&(key, limit, end_ms), &admitted)| Over {
                key: names.get(&key).map_or_else(String::new, |name| (*name).clone()),
                window_end: Text(ClusterMs(end_ms)),
                limit,
                admitted,
            })
            .collect();
        over.sort();
        Report { records: self.records, admitted: self.admitted, windows: self.spent.len(), over }
    }
}

fn text(report: &Report) -> String {
    let mut text = format!(
        "{} records, {} admitted; windows checked {} / over limit {}\n",
        report.records,
        report.admitted,
        report.windows,
        report.over.len()
    );
    if !report.over.is_empty() {
        let mut table = output::table(&["KEY", "WINDOW END", "LIMIT", "ADMITTED"]);
        for over in &report.over {
            table.add_row([
                over.key.clone(),
                over.window_end.to_string(),
                over.limit.to_string(),
                over.admitted.to_string(),
            ]);
        }
        text += &output::table_text(&table);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(key: &str, time: u64, verdict: &str, window: &str) -> String {
        format!(r#"{{"key":"{key}","time":{time},"verdict":"{verdict}"{window}}}"#) + "\n"
    }

    fn report(text: &str, fallback: Option<(u64, u64)>) -> Report {
        audit(text.as_bytes(), fallback).unwrap().report()
    }

    #[test]
    fn only_windows_above_their_limit_are_reported() {
        let window = r#","reset":60,"limit":3"#;
        let at = line("a", 1, "admitted", window).repeat(3)
            + &line("a", 1, "limited", window).repeat(9)
            + &line("b", 1, "admitted", window).repeat(3)
            + &line("a", 61_000, "admitted", r#","reset":120,"limit":3"#).repeat(3);
        let fine = report(&at, None);
        assert_eq!((fine.records, fine.admitted, fine.windows), (18, 9, 3));
        assert!(fine.over.is_empty());

        let above = report(&(at + &line("b", 2, "admitted", window)), None);
        let [over] = above.over.as_slice() else {
            panic!("{above:?}");
        };
        assert_eq!((&*over.key, over.limit, over.admitted), ("b", 3, 4));
        assert_eq!(over.window_end.to_string(), "1970-01-01T00:01:00Z");
    }

    #[test]
    fn admissions_count_with_their_cost() {
        let window = r#","reset":60,"limit":10,"cost":6"#;
        let text = line("a", 1, "admitted", window).repeat(2);
        assert_eq!(report(&text, None).over[0].admitted, 12);
        let free = line("a", 1, "admitted", r#","reset":60,"limit":1,"cost":0"#).repeat(9);
        assert!(report(&free, None).over.is_empty());
    }

    #[test]
    fn two_limits_of_one_key_are_counted_separately() {
        let text = line("a", 1, "admitted", r#","reset":60,"limit":2"#).repeat(2)
            + &line("a", 1, "admitted", r#","reset":60,"limit":3"#).repeat(3);
        assert!(report(&text, None).over.is_empty());
    }

    #[test]
    fn records_without_windows_are_assigned_by_their_time() {
        let text = line("a", 59_999, "admitted", "").repeat(2)
            + &line("a", 60_000, "admitted", "").repeat(3);
        let report = report(&text, Some((2, 60_000)));
        assert_eq!((report.windows, report.over.len()), (2, 1));
        assert_eq!(report.over[0].admitted, 3);
    }

    #[test]
    fn an_admission_without_a_window_is_an_error_with_its_line() {
        let text = line("a", 1, "limited", "") + &line("a", 1, "admitted", "");
        let error = audit(text.as_bytes(), None).unwrap_err();
        assert_eq!(error.to_string(), "line 2 cannot be counted");
    }
}
