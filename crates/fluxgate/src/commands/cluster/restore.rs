//! `fluxgate cluster restore`: restores a backup into a new cluster.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use anyhow::Context as _;
use fluxgate_api::keys::ListQuery;

use crate::backup::{Reader, Summary};
use crate::bulk::{Lines, Total};
use crate::connect::{AdminArgs, runtime};
use crate::exit::Exit;
use crate::output;

/// Size of one read, bytes.
const PIECE_BYTES: usize = 64 * 1024;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The backup is checked as a whole before anything is sent. The cluster must be new; an interrupted restore \
        continues with --resume, and leaves existing records unchanged. Stop the old cluster first: two clusters with \
        the same keys grant each key's limit twice.\n\n\
        Example:\n  fluxgate cluster restore --from fluxgate-2026-11-26.backup"
)]
pub(super) struct Args {
    /// Backup file
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Continue although the cluster has keys already; they are left unchanged
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Reads the whole file.
fn read(
    args: &Args,
    mut each: impl FnMut(&[u8], u64) -> anyhow::Result<()>,
) -> anyhow::Result<Summary> {
    let shown = args.from.display();
    let mut file = File::open(&args.from).with_context(|| format!("cannot read `{shown}`"))?;
    let mut reader = Reader::default();
    let mut piece = vec![0; PIECE_BYTES];
    let mut number = 0;
    loop {
        let count = file.read(&mut piece).with_context(|| format!("cannot read `{shown}`"))?;
        if count == 0 {
            return reader.finish().with_context(|| format!("`{shown}`"));
        }
        reader
            .take(&piece[..count], |line| {
                number += 1;
                each(line, number)
            })
            .with_context(|| format!("`{shown}`"))?;
    }
}

/// Checks the backup, then sends its lines.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let client = args.admin.client()?;
    let summary = read(args, |_, _| Ok(()))?;
    let runtime = runtime()?;
    runtime.block_on(async {
        let query = ListQuery { limit: Some(1), ..ListQuery::default() };
        let existing = client.list_keys(&query).await?;
        if !existing.keys.is_empty() && !args.resume {
            let why = "the cluster has keys already: restore a backup into a new cluster (--resume continues an interrupted restore)";
            return Err(anyhow::Error::msg(why));
        }
        Ok(())
    })?;
    let bar = output::bar(summary.keys + summary.owners + summary.plans + summary.audit, "lines");
    let mut total = Total::default();
    let mut lines = Lines::default();
    let mut send = |lines: &mut Lines| -> anyhow::Result<()> {
        let sent = std::mem::take(lines);
        let answer = runtime.block_on(sent.send(|body| client.restore(body)))?;
        total.add(&sent, answer);
        bar.inc(sent.len() as u64);
        Ok(())
    };
    read(args, |line, number| {
        // The number of the line in the file, whose first line is not passed here.
        lines.push(number + 1, line.to_vec());
        if lines.is_full() { send(&mut lines) } else { Ok(()) }
    })?;
    send(&mut lines)?;
    bar.finish_and_clear();
    let of = format!("{}: ", summary.content());
    total.report_as(&of, "restored")
}
