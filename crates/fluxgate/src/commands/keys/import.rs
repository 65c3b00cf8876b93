//! `fluxgate keys import`: imports keys of another system by their digests.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::PathBuf;

use anyhow::Context as _;

use crate::bulk::{Lines, Total};
use crate::connect::{AdminArgs, runtime};
use crate::exit::Exit;
use crate::output;

/// Longest line that is sent, bytes; the cluster rejects longer ones.
const LINE_BYTES_MAX: u64 = 64 * 1024 + 1;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Each line is JSON: {\"sha256\":\"…\",\"name\":\"…\",\"scope\":\"read\"} and optionally owner, limits, enabled,\n\
        expires_at and metadata; sha256 is the digest of the whole key, in hexadecimal. Rejected lines are reported by \
        number, and the exit code is then 1. Rerun an interrupted import; existing keys are left unchanged.\n\
        Needs the operator token.\n\n\
        Example:\n  fluxgate keys import keys.jsonl"
)]
pub(super) struct Args {
    /// File with the lines; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Sends the lines.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let client = args.admin.client()?;
    let shown = args.file.display();
    let cannot = || format!("cannot read `{shown}`");
    let (mut input, bytes): (Box<dyn BufRead>, u64) = if args.file.as_os_str() == "-" {
        (Box::new(std::io::stdin().lock()), 0)
    } else {
        let file = File::open(&args.file).with_context(cannot)?;
        let bytes = file.metadata().with_context(cannot)?.len();
        (Box::new(BufReader::new(file)), bytes)
    };
    let runtime = runtime()?;
    let bar = output::bar(bytes, "bytes");
    let mut total = Total::default();
    let (mut lines, mut number) = (Lines::default(), 0);
    loop {
        let mut line = Vec::new();
        let count = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        let count = count.with_context(cannot)?;
        number += 1;
        if count > 0 {
            if line.len() as u64 == LINE_BYTES_MAX && !line.ends_with(b"\n") {
                // The rest belongs to the same line; what was read suffices for the cluster to
                // reject it.
                skip_line(&mut input).with_context(cannot)?;
            }
            lines.push(number, line);
        }
        if lines.is_full() || count == 0 {
            let sent = std::mem::take(&mut lines);
            let first = sent.first().unwrap_or(number);
            let answer = runtime.block_on(sent.send(|body| client.import_keys(body)));
            let answer = answer.with_context(|| {
                format!(
                    "interrupted at line {first}; run it again, existing keys are left unchanged"
                )
            })?;
            total.add(&sent, answer);
            bar.inc(sent.bytes as u64);
        }
        if count == 0 {
            break;
        }
    }
    bar.finish_and_clear();
    total.report()
}

/// Skips the rest of a line.
fn skip_line(input: &mut dyn BufRead) -> std::io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let (count, ended) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        input.consume(count);
        if ended {
            return Ok(());
        }
    }
}
