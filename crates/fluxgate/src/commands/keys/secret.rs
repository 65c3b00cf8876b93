//! Delivers a new secret: alone to standard output, or to a new file.
//!
//! Answers for: the file is created before the secret, so that an unwritable path costs no key, and
//! an existing file is never overwritten.

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

/// Where to deliver a new secret.
#[derive(Debug, clap::Args)]
pub(super) struct SecretArgs {
    /// Write the new key to this file, which must not exist, instead of standard output
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

impl SecretArgs {
    /// Creates the secret and delivers it.
    pub(super) fn deliver(
        &self,
        create: impl FnOnce() -> anyhow::Result<CreatedKey>,
    ) -> anyhow::Result<()> {
        let Some(path) = &self.key_file else {
            anyhow::ensure!(
                !stdout_is_discarded(),
                "standard output is discarded, so the key would be lost: use --key-file FILE"
            );
            let created = create().map_err(with_warning)?;
            return print(&created, self.output);
        };
        let mut file = new_file(path)?;
        let created = create().inspect_err(|_| {
            // We created this file, and it is still empty.
            let _ = std::fs::remove_file(path);
        })?;
        let written = writeln!(file, "{}", created.key.expose()).and_then(|()| file.sync_all());
        written.map_err(|error| undelivered(&created, &anyhow::Error::from(error)))?;
        // Only the record: the file has the secret.
        self.output.print(&created.written, written_text)
    }
}

/// Whether standard output is `/dev/null`. A closed standard output counts too, because the runtime
/// opens `/dev/null` in its place.
fn stdout_is_discarded() -> bool {
    let of = |file: File| Some(file.metadata().ok()?.rdev());
    let null = File::open("/dev/null").ok().and_then(of);
    let copy = std::io::stdout().as_fd().try_clone_to_owned().ok();
    let out = copy.map(File::from).and_then(of);
    null.is_some_and(|null| null != 0 && out == Some(null))
}

fn new_file(path: &Path) -> anyhow::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    options.open(path).with_context(|| format!("cannot create `{}`", path.display()))
}

/// Warns that a repeated command gets no secret: if standard output is a file, the shell has
/// emptied it.
fn with_warning(error: anyhow::Error) -> anyhow::Error {
    let is_repeat = error
        .downcast_ref::<fluxgate_client::Error>()
        .is_some_and(|error| error.code() == Some(ErrorCode::AlreadyDone));
    let is_file = || {
        let copy = std::io::stdout().as_fd().try_clone_to_owned();
        copy.and_then(|copy| File::from(copy).metadata()).is_ok_and(|about| about.is_file())
    };
    if is_repeat && is_file() {
        output::notice(
            "fluxgate: the shell has emptied the file on standard output: a key that was in it is lost. \
             `--key-file FILE` never overwrites a file",
        );
    }
    error
}

/// Prints a key that exists nowhere else: alone to standard output, with its record to standard
/// error.
fn print(created: &CreatedKey, output: OutputArgs) -> anyhow::Result<()> {
    let printed = match output.output {
        Format::Json => output::json(created),
        Format::Text => output::data(created.key.expose()),
    };
    printed.map_err(|error| undelivered(created, &error))?;
    if output.output == Format::Text {
        output::notice(written_text(&created.written).trim_end());
    }
    Ok(())
}

/// The error of a secret that could not be delivered. A closed pipe is not a failure for other
/// commands, but here it loses the key. The cause is therefore dropped, because it would turn the
/// failure into a success.
fn undelivered(created: &CreatedKey, error: &anyhow::Error) -> anyhow::Error {
    let id = created.written.record.id;
    anyhow::anyhow!(
        "the key {id} was created but could not be written ({error}); `fluxgate keys rotate {id}` \
         creates another secret for it"
    )
}
