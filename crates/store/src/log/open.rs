//! Opens a log: creates it in a new directory, checks all of it in an existing one, and starts the
//! writer.
//!
//! Answers for the open sequence: the files that exist show how far an earlier creation got, and a
//! rejected log is not modified: the open is first tried on a copy, because sled itself writes
//! while opening.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex};

use crate::backend::LogBackend;
use crate::data_dir::DataDir;
use crate::durable;
use crate::error::{OpenError, is_no_room};
use crate::hard_state::{self, HardStateFile};
use crate::layout;
use crate::log::{Driver, Entry, Inner, LogStore, Options, Port, QUEUED_OPS_MAX, Shared, answer};
use crate::recover::{self, Image, Recovered, Rejected};
use crate::sled_backend::{self, SledBackend, Trial};
use crate::snapshot::SnapshotStore;
use crate::tail::Tail;
use crate::writer::{Op, Writer};

impl LogStore {
    /// Opens the log of a data directory, or creates it in a new one, and checks all of it.
    ///
    /// # Errors
    /// When it is damaged or lost data, cannot be opened, or this binary lacks the durable sync.
    /// Nothing was changed in that case.
    pub fn open(dir: &DataDir, options: Options) -> Result<(Self, Recovered), OpenError> {
        Self::open_if(dir, options, |_| Ok(()))
    }

    /// The same with a check by the caller: `fits` examines the recovered log, and may reject it
    /// before this start counts.
    ///
    /// # Errors
    /// As for [`LogStore::open`], or the reason that `fits` returns.
    pub fn open_if(
        dir: &DataDir,
        options: Options,
        fits: impl FnOnce(&Recovered) -> Result<(), String>,
    ) -> Result<(Self, Recovered), OpenError> {
        let path = dir.path();
        let sled_path = sled_backend::path(path);
        match (dir.log_made(), (sled_backend::exists(path), hard_state::exists(path))) {
            (true, (false, _)) | (false, (false, true)) => {
                return Err(OpenError::corrupt(&sled_path, "it is missing"));
            }
            (true, (true, false)) => return Err(hard_state_is_missing(path)),
            (false, (false, false)) => {
                sled_backend::create(path)?;
                HardStateFile::create(path)?;
            }
            (false, (true, false)) => {
                try_on_copy(path, None, &options)?;
                // Checked again: the disk may have had no space for a copy.
                drop(open_checked(&sled_path, None, &options)?);
                HardStateFile::create(path)?;
            }
            (_, (true, true)) => try_on_copy(path, Some(&HardStateFile::open(path)?), &options)?,
        }
        let hard = HardStateFile::open(path)?;
        let (backend, image) = open_checked(&sled_path, Some(&hard), &options)?;
        fits(&image.recovered()).map_err(|what| OpenError::corrupt(&sled_path, what))?;
        // AFTER the checks, BEFORE this incarnation writes anything of value.
        if !dir.begun() {
            dir.begin_incarnation()?;
            SnapshotStore::open(dir).map_err(|error| {
                OpenError::io("open snapshots in", path)(std::io::Error::other(error))
            })?;
        }
        let opened = Self::start(Box::new(backend), Some(hard), &options, image)
            .map_err(OpenError::io("write", &sled_path))?;
        if !dir.log_made() {
            dir.record_log_made()?;
        }
        Ok(opened)
    }

    /// Opens a log on any backend: for tests and simulations.
    ///
    /// # Errors
    /// When the log is damaged or cannot be read.
    pub fn open_with(
        backend: Box<dyn LogBackend>,
        hard: Option<HardStateFile>,
        options: Options,
    ) -> Result<(Self, Recovered), OpenError> {
        let path = hard.as_ref().map_or("log".into(), |hard| hard.path().to_path_buf());
        let image = checked_image(&path, backend.as_ref(), hard.as_ref(), &options)?;
        Self::start(backend, hard, &options, image).map_err(OpenError::io("write", &path))
    }

    /// The same with a data directory whose log is elsewhere: this begins the incarnation, as
    /// [`LogStore::open_if`] does.
    ///
    /// # Errors
    /// As for [`LogStore::open_with`], or the reason that `fits` returns.
    pub fn open_beside(
        dir: &DataDir,
        backend: Box<dyn LogBackend>,
        options: Options,
        fits: impl FnOnce(&Recovered) -> Result<(), String>,
    ) -> Result<(Self, Recovered), OpenError> {
        let (log, recovered) = Self::open_with(backend, None, options)?;
        fits(&recovered).map_err(|what| OpenError::corrupt(dir.path(), what))?;
        if !dir.begun() {
            dir.begin_incarnation()?;
        }
        Ok((log, recovered))
    }

    fn start(
        backend: Box<dyn LogBackend>,
        hard: Option<HardStateFile>,
        options: &Options,
        mut image: Image,
    ) -> std::io::Result<(Self, Recovered)> {
        let recovered = image.recovered();
        let entries: VecDeque<Entry> = std::mem::take(&mut image.tail);
        let purged = recovered.purged.clone();
        let tail = Tail::new(entries, options.tail_bytes_max, purged, recovered.first);
        let shared = Arc::new(Shared::new(tail, backend.reader()));
        let writer = Writer::new(backend, hard, Arc::clone(&shared), &image)?;
        let port = match options.driver {
            Driver::Inline => Port::Inline(Box::new(writer)),
            Driver::Deferred => Port::Deferred(Box::new(writer)),
            Driver::Thread => {
                let (sender, receiver) = sync_channel(QUEUED_OPS_MAX);
                let thread = std::thread::Builder::new().name("log-writer".to_owned()).spawn({
                    let shared = Arc::clone(&shared);
                    move || run(writer, &Queue { receiver, shared })
                })?;
                Port::Thread { sender, thread }
            }
        };
        Ok((Self { inner: Arc::new(Inner { shared, port: Mutex::new(port) }) }, recovered))
    }
}

/// The writer's end of the queue. Receiving an operation frees its slot.
struct Queue {
    receiver: Receiver<Op>,
    shared: Arc<Shared>,
}

impl Queue {
    fn received<E>(&self, taken: Result<Op, E>) -> Result<Op, E> {
        if taken.is_ok() {
            self.shared.queued.fetch_sub(1, Ordering::AcqRel);
        }
        taken
    }

    /// The first operation of a group, unless other work is due first. The error says whether all
    /// senders are gone.
    fn first(&self, writer: &Writer) -> Result<Op, bool> {
        self.received(if writer.has_purge_work() {
            self.receiver.try_recv().map_err(|error| error == TryRecvError::Disconnected)
        } else if let Some(wait) = writer.mark_due_in() {
            self.receiver.recv_timeout(wait).map_err(|e| e == RecvTimeoutError::Disconnected)
        } else {
            self.receiver.recv().map_err(|_| true)
        })
    }

    /// The next operation that is already queued.
    fn next(&self) -> Option<Op> {
        self.received(self.receiver.try_recv()).ok()
    }
}

/// The writer's thread. Ends on close, or when the last handle is dropped.
fn run(mut writer: Writer, queue: &Queue) {
    loop {
        let first = queue.first(&writer);
        let idle = first.is_err();
        let mut ended = first.as_ref().err() == Some(&true);
        let mut next = first.ok();
        while let Some(op) = next {
            if matches!(op, Op::Close) {
                ended = true;
                break;
            }
            writer.handle(op);
            next = if writer.has_room() { queue.next() } else { None };
        }
        if ended {
            answer(writer.finish());
            return;
        }
        answer(writer.settle());
        writer.background(idle);
    }
}

fn hard_state_is_missing(path: &Path) -> OpenError {
    OpenError::corrupt(path, "its file HARDSTATE is missing")
}

/// Performs the whole open on a copy: a log that is rejected here was not modified.
fn try_on_copy(
    dir: &Path,
    hard: Option<&HardStateFile>,
    options: &Options,
) -> Result<(), OpenError> {
    let path = sled_backend::path(dir);
    if !sled_backend::has_file(&path) {
        return Err(OpenError::corrupt(&path, "its file `db` is missing"));
    }
    let tried = match Trial::make(dir)? {
        // This line closes the backend at its end, and the copy is removed after it.
        Some(copy) => open_checked(copy.path(), hard, options).map(drop),
        None => Err(OpenError::io("copy", &path)(ErrorKind::StorageFull.into())),
    };
    match tried {
        Err(OpenError::Io { source, .. }) if is_no_room(&source) => {
            tracing::warn!(
                path = %path.display(),
                "no space for a copy of the log: opening it without a trial"
            );
            Ok(())
        }
        tried => tried.map_err(|error| error.about(&path)),
    }
}

/// Opens the database at `path`, checks all of it, and checks that its flush is durable. Without a
/// hard state the database must be empty: its creation was interrupted.
fn open_checked(
    path: &Path,
    hard: Option<&HardStateFile>,
    options: &Options,
) -> Result<(SledBackend, Image), OpenError> {
    let mut backend = SledBackend::open(path)?;
    let image = checked_image(path, &backend, hard, options)?;
    if hard.is_none() && !image.is_empty() {
        return Err(hard_state_is_missing(path));
    }
    // After the checks, because a rejected log must not be written to.
    if !probe(&mut backend).map_err(OpenError::io("write", path))? {
        return Err(OpenError::BarrierNotLinked);
    }
    Ok((backend, image))
}

fn checked_image(
    path: &Path,
    backend: &dyn LogBackend,
    hard: Option<&HardStateFile>,
    options: &Options,
) -> Result<Image, OpenError> {
    let hard = hard.map(HardStateFile::state);
    recover::read_image(backend.reader().as_ref(), hard, options.tail_bytes_max).map_err(|why| {
        match why {
            Rejected::Damaged(what) => OpenError::corrupt(path, what),
            Rejected::Read(error) if sled_backend::is_of_the_system(&error) => {
                OpenError::io("read", path)(error)
            }
            Rejected::Read(error) => OpenError::corrupt(path, error.to_string()),
        }
    })
}

/// Whether a flush reaches the disk. The value is new each time, because sled does not write a value
/// that it already has.
fn probe(backend: &mut SledBackend) -> std::io::Result<bool> {
    let mut fresh = [0u8; 16];
    getrandom::fill(&mut fresh).map_err(std::io::Error::other)?;
    durable::probe(|| {
        backend.put(layout::PROBE, &fresh)?;
        backend.barrier()
    })
}
