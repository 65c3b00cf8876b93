//! The file operations of a child process, as the preloaded recorder logged them, and the disks
//! that a power cut may leave: all synced data, and of the later writes none, all, or a random
//! subset of their 4 KiB pages.
//!
//! Directory entries (creation, renaming, removal) are assumed to be durable immediately and in
//! order.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const PAGE: u64 = 4_096;

/// Builds the recorder, once for all tests of this process.
pub(crate) fn recorder() -> &'static Path {
    static BUILT: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = BUILT.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recorder.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/recorder.c");
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&path)
            .arg(source)
            .output()
            .expect("a C compiler, which Rust needs to link");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (dir, path)
    });
    path
}

/// One operation of the child on a file.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// A note written by the test itself.
    Note(String),
    Write {
        path: String,
        offset: u64,
        data: Vec<u8>,
    },
    SetLength {
        path: String,
        length: u64,
    },
    /// `full` is true for `fsync` and false for `fdatasync`.
    Sync {
        path: String,
        full: bool,
    },
    Create(String),
    MakeDir(String),
    Rename {
        from: String,
        to: String,
    },
    Remove(String),
}

pub(crate) fn parse(mut log: &[u8]) -> Vec<Action> {
    let mut actions = Vec::new();
    while let Some((kind, rest)) = log.split_first() {
        let mut rest = rest;
        let mut number = || {
            let (word, more) = rest.split_first_chunk::<8>().unwrap();
            rest = more;
            u64::from_le_bytes(*word)
        };
        let (path_length, offset, length) = (number(), number(), number());
        let (path, rest) = rest.split_at(usize::try_from(path_length).unwrap());
        let (data, rest) = rest.split_at(usize::try_from(length).unwrap());
        log = rest;
        let path = String::from_utf8(path.to_vec()).unwrap();
        let text = || String::from_utf8(data.to_vec()).unwrap();
        actions.push(match kind {
            b'N' => Action::Note(text()),
            b'W' => Action::Write { path, offset, data: data.to_vec() },
            b'T' => Action::SetLength { path, length: offset },
            b'F' => Action::Sync { path, full: true },
            b'D' => Action::Sync { path, full: false },
            b'C' => Action::Create(path),
            b'M' => Action::MakeDir(path),
            b'R' => Action::Rename { from: path, to: text() },
            b'U' => Action::Remove(path),
            other => panic!("unknown record {other}"),
        });
    }
    actions
}

#[derive(Clone, Debug)]
enum Pending {
    /// At most one page.
    Page {
        offset: u64,
        data: Vec<u8>,
    },
    Length(u64),
}

#[derive(Clone, Debug, Default)]
struct Image {
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

fn apply(bytes: &mut Vec<u8>, pending: &Pending) {
    match pending {
        Pending::Page { offset, data } => {
            let offset = usize::try_from(*offset).unwrap();
            if bytes.len() < offset + data.len() {
                bytes.resize(offset + data.len(), 0);
            }
            bytes[offset..offset + data.len()].copy_from_slice(data);
        }
        Pending::Length(length) => bytes.resize(usize::try_from(*length).unwrap(), 0),
    }
}

/// Which of the unsynced writes survive.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Survivors {
    None,
    All,
    Random(u64),
}

/// The state of the disk while actions are applied.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    files: BTreeMap<String, Image>,
    dirs: Vec<String>,
    /// The file whose `fdatasync` calls are ignored: this models sled's own flush.
    pub(crate) fdatasync_ignored: Option<String>,
}

impl Disk {
    /// Reads a directory; all of its content counts as durable.
    pub(crate) fn read(root: &Path) -> Self {
        let mut disk = Self::default();
        disk.read_below(root, "");
        disk
    }

    fn read_below(&mut self, root: &Path, prefix: &str) {
        for found in fs::read_dir(root.join(prefix)).unwrap() {
            let name = found.unwrap().file_name().into_string().unwrap();
            let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            if root.join(&name).is_dir() {
                self.dirs.push(name.clone());
                self.read_below(root, &name);
            } else {
                let durable = fs::read(root.join(&name)).unwrap();
                self.files.insert(name, Image { durable, pending: Vec::new() });
            }
        }
    }

    pub(crate) fn follow(&mut self, action: &Action) {
        match action {
            Action::Note(_) => {}
            Action::Write { path, offset, data } => {
                let file = self.files.entry(path.clone()).or_default();
                let mut at = *offset;
                let mut rest = data.as_slice();
                while !rest.is_empty() {
                    let room = usize::try_from(PAGE - at % PAGE).unwrap().min(rest.len());
                    let (data, more) = rest.split_at(room);
                    file.pending.push(Pending::Page { offset: at, data: data.to_vec() });
                    at += room as u64;
                    rest = more;
                }
            }
            Action::SetLength { path, length } => {
                self.files.entry(path.clone()).or_default().pending.push(Pending::Length(*length));
            }
            Action::Sync { path, full } => {
                if *full || self.fdatasync_ignored.as_ref() != Some(path) {
                    let Some(file) = self.files.get_mut(path) else {
                        return;
                    };
                    for pending in file.pending.drain(..) {
                        apply(&mut file.durable, &pending);
                    }
                }
            }
            Action::Create(path) => drop(self.files.insert(path.clone(), Image::default())),
            Action::MakeDir(path) => self.dirs.push(path.clone()),
            Action::Rename { from, to } => self.rename(from, to),
            Action::Remove(path) => drop(self.files.remove(path)),
        }
    }

    fn rename(&mut self, from: &str, to: &str) {
        let below = format!("{from}/");
        let renamed = |path: &str| {
            if path == from {
                to.to_owned()
            } else if let Some(rest) = path.strip_prefix(&below) {
                format!("{to}/{rest}")
            } else {
                path.to_owned()
            }
        };
        let moved: Vec<String> =
            self.files.keys().filter(|path| renamed(path) != **path).cloned().collect();
        for path in moved {
            if let Some(file) = self.files.remove(&path) {
                self.files.insert(renamed(&path), file);
            }
        }
        for dir in &mut self.dirs {
            *dir = renamed(dir);
        }
    }

    /// Writes the disk that a power cut leaves into a directory.
    pub(crate) fn write(&self, root: &Path, survivors: Survivors) {
        for dir in &self.dirs {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        let mut state = match survivors {
            Survivors::Random(seed) => seed | 1,
            Survivors::None | Survivors::All => 1,
        };
        for (path, file) in &self.files {
            let mut bytes = file.durable.clone();
            for pending in &file.pending {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let survives = match survivors {
                    Survivors::None => false,
                    Survivors::All => true,
                    Survivors::Random(_) => state >> 63 == 1,
                };
                if survives {
                    apply(&mut bytes, pending);
                }
            }
            fs::write(root.join(path), bytes).unwrap();
        }
    }
}
