//! Where a new secret goes: alone to standard output, or into a file of its own.
//!
//! Answers for: that a file is made before the secret is, so that a place that cannot be written
//! costs no key, and that a file that exists is never overwritten.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use fluxgate_api::ErrorCode;
use fluxgate_api::keys::CreatedKey;

use super::written_text;
use crate::output::{self, Format, OutputArgs};

/// Where a new secret goes.
#[derive(Debug, clap::Args)]
pub(super) struct SecretArgs {
    /// Write the new key into this file, which must not exist, instead of to standard output
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

impl SecretArgs {
    /// Makes the secret and brings it there.
    pub(super) fn keep(
        &self,
        make: impl FnOnce() -> anyhow::Result<CreatedKey>,
    ) -> anyhow::Result<()> {
        let Some(path) = &self.key_file else {
            anyhow::ensure!(
                !goes_nowhere(),
                "standard output goes nowhere, and the key would be lost: use --key-file FILE"
            );
            let created = make().map_err(warned)?;
            return print(&created, self.output);
        };
        let mut file = new_file(path)?;
        let created = make().inspect_err(|_| {
            // It is ours, and empty.
            let _ = std::fs::remove_file(path);
        })?;
        let written = writeln!(file, "{}", created.key.expose()).and_then(|()| file.sync_all());
        written.map_err(|error| lost(&created, &anyhow::Error::from(error)))?;
        // The record alone: the secret has its place.
        self.output.print(&created.written, written_text)
    }
}

/// Whether standard output is `/dev/null`: also where it was closed, since then nothing else is there.
fn goes_nowhere() -> bool {
    let of = |file: File| Some(file.metadata().ok()?.rdev());
    let null = File::open("/dev/null").ok().and_then(of);
    let copy = std::io::stdout().as_fd().try_clone_to_owned().ok();
    let out = copy.map(File::from).and_then(of);
    null.is_some_and(|null| null != 0 && out == Some(null))
}

fn new_file(path: &Path) -> anyhow::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    options.open(path).with_context(|| format!("cannot make `{}`", path.display()))
}

/// Where nothing came, because it was made before, and standard output is a file, that file is empty.
fn warned(error: anyhow::Error) -> anyhow::Error {
    let is_repeat = error
        .downcast_ref::<fluxgate_client::Error>()
        .is_some_and(|error| error.code() == Some(ErrorCode::AlreadyDone));
    let is_file = || {
        let copy = std::io::stdout().as_fd().try_clone_to_owned();
        copy.and_then(|copy| File::from(copy).metadata()).is_ok_and(|about| about.is_file())
    };
    if is_repeat && is_file() {
        output::notice(
            "fluxgate: standard output is a file, which the shell has emptied: a key that stood there \
             is gone. `--key-file FILE` never overwrites one",
        );
    }
    error
}

/// Prints a key that exists nowhere else: alone on standard output, its record on standard error.
fn print(created: &CreatedKey, output: OutputArgs) -> anyhow::Result<()> {
    let printed = match output.output {
        Format::Json => output::json(created),
        Format::Text => output::data(created.key.expose()),
    };
    printed.map_err(|error| lost(created, &error))?;
    if output.output == Format::Text {
        output::notice(written_text(&created.written).trim_end());
    }
    Ok(())
}

/// A secret that could not be brought where it should be. A closed pipe is no failure elsewhere; here
/// it loses the key. So the cause is dropped, which would make it one.
fn lost(created: &CreatedKey, error: &anyhow::Error) -> anyhow::Error {
    let id = created.written.record.id;
    anyhow::anyhow!(
        "the key {id} was made but could not be written ({error}); `fluxgate keys rotate {id}` makes \
         another secret for it"
    )
}
