//! `fluxgate cluster backup`: writes the state of a cluster to a file.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use fluxgate_api::bulk::BackupQuery;

use crate::backup::Reader;
use crate::connect::{AdminArgs, block_on};
use crate::exit::Exit;
use crate::output;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The file contains digests, never keys; protect it like the operator token. It is JSON lines; the last line \
        has the SHA-256 of all lines before it. While incomplete, the file is named FILE.partial.\n\n\
        Example:\n  fluxgate cluster backup --to fluxgate-2026-11-26.backup"
)]
pub(super) struct Args {
    /// Backup file to create; an existing file is not replaced
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Also accept a backup from a node without a lease; it may lack the newest changes
    #[arg(long)]
    stale: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Writes the backup, and checks it while it arrives.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let shown = args.to.display();
    anyhow::ensure!(!args.to.exists(), "`{shown}` already exists");
    let client = args.admin.client()?;
    let mut partial = args.to.clone().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = block_on(async {
        let mut download = client.backup(BackupQuery { stale: args.stale }).await?;
        let cannot = || format!("cannot write `{}`", partial.display());
        let mut file = open_new(&partial).with_context(cannot)?;
        let mut reader = Reader::default();
        let mut bar = None;
        while let Some(piece) = download.next().await? {
            file.write_all(&piece).with_context(cannot)?;
            reader.take(&piece, |_| Ok(()))?;
            if let Some(begin) = &reader.begin {
                let bar = bar.get_or_insert_with(|| output::bar(begin.keys, "keys"));
                bar.set_position(reader.keys);
            }
        }
        let summary = reader.finish()?;
        file.sync_all().with_context(cannot)?;
        std::fs::rename(&partial, &args.to).with_context(cannot)?;
        Ok(summary)
    });
    let summary = match written {
        Ok(summary) => summary,
        Err(error) => {
            // An incomplete file must not look like a backup.
            std::fs::remove_file(&partial).ok();
            return Err(error);
        }
    };
    output::notice(&format!(
        "{shown}: {} of cluster `{}` at {}",
        summary.content(),
        summary.begin.cluster,
        summary.begin.at
    ));
    Ok(Exit::Done)
}

fn open_new(path: &std::path::Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::remove_file(path).ok();
    std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)
}
