//! The floor under create: append to a file, `fdatasync`, again.
//!
//! Answers for: how many records a second this disk makes durable, one per sync and 64 per sync,
//! as JSON lines. Arguments: a directory, seconds per run (3), bytes per record (256). The file
//! is removed at the end. Must never depend on a crate of ours.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Result, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest run, so that a typing error does not fill the disk.
const SECONDS_MAX: u64 = 60;
/// Largest record, for the same reason.
const BYTES_MAX: usize = 64 * 1024;
/// Records per sync, run by run: one writer alone, and 64 that share a sync.
const RECORDS_PER_SYNC: [usize; 2] = [1, 64];

struct Report {
    syncs: u64,
    longest: Duration,
    took: Duration,
}

/// Appends and syncs for `span`. The file grows as a log does, so a sync carries its new length.
fn run(file: &mut File, batch: &[u8], span: Duration) -> Result<Report> {
    let begun = Instant::now();
    let (mut syncs, mut longest) = (0, Duration::ZERO);
    while begun.elapsed() < span {
        let before = Instant::now();
        file.write_all(batch)?;
        file.sync_data()?;
        longest = longest.max(before.elapsed());
        syncs += 1;
    }
    Ok(Report { syncs, longest, took: begun.elapsed() })
}

fn measure(path: &Path, seconds: u64, bytes: usize) -> Result<()> {
    let mut out = std::io::stdout();
    for records in RECORDS_PER_SYNC {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
        let batch = vec![b'x'; records * bytes];
        let report = run(&mut file, &batch, Duration::from_secs(seconds))?;
        let syncs_per_s = per_second(report.syncs, report.took);
        let records_per_s = per_second(report.syncs * records as u64, report.took);
        let longest_us = report.longest.as_micros();
        writeln!(
            out,
            r#"{{"records_per_sync":{records},"record_bytes":{bytes},"syncs_per_s":{syncs_per_s},"records_per_s":{records_per_s},"longest_us":{longest_us}}}"#
        )?;
    }
    Ok(())
}

fn per_second(count: u64, took: Duration) -> u128 {
    u128::from(count) * 1_000_000 / took.as_micros().max(1)
}

fn main() -> Result<()> {
    let wrong = |what: &str| Error::new(ErrorKind::InvalidInput, what.to_owned());
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or_else(|| wrong("expected a directory"))?;
    let mut number = |default: u64| {
        let given = arguments.next().map(|text| text.parse());
        given.unwrap_or(Ok(default)).map_err(|_| wrong("expected a whole number"))
    };
    let seconds = number(3)?.clamp(1, SECONDS_MAX);
    let bytes = usize::try_from(number(256)?).map_or(BYTES_MAX, |bytes| bytes.clamp(1, BYTES_MAX));
    let path = Path::new(&directory).join(format!("append-sync-{}.tmp", std::process::id()));
    let result = measure(&path, seconds, bytes);
    // The measurement is what counts; a file that stays is named by the error of the next look.
    let _ = std::fs::remove_file(&path);
    result
}
