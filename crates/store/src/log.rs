//! The log handle for callers. Accepts operations in order, passes them to the one writer, and
//! reads.
//!
//! Answers for: operations are queued in call order; entries are readable when `append` returns; a
//! call never waits for the disk (except that reading old entries does, and a full queue blocks
//! callers). Must never itself report anything as durable.

pub(crate) mod entry;
mod open;
pub(crate) mod shared;

use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

use crate::entry_read::read_entries;
use crate::error::StoreError;
use crate::hard_state;
use crate::layout;
use crate::tail::Plan;
use crate::writer::{Answer, Op, Writer};

pub use entry::{Done, Entry};
use shared::Shared;
pub use shared::{Observer, Wake};

/// Most operations queued for the writer; beyond it callers block.
const QUEUED_OPS_MAX: usize = 16_384;

/// Where the writer runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// In its own thread, with one barrier for all queued operations.
    #[default]
    Thread,
    /// Inside each call, which returns after its `Done`: for tests.
    Inline,
    /// Written inside each call; made durable and acknowledged by [`LogStore::settle`]. For
    /// simulated time, where the simulator decides how long a sync takes.
    Deferred,
}

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the writer runs.
    pub driver: Driver,
    /// Size of the newest entries that are kept in memory for reads, bytes.
    pub tail_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { driver: Driver::Thread, tail_bytes_max: 32 * 1024 * 1024 }
    }
}

/// The connection to the writer.
enum Port {
    Thread { sender: SyncSender<Op>, thread: JoinHandle<()> },
    Inline(Box<Writer>),
    Deferred(Box<Writer>),
    Closed,
}

struct Inner {
    shared: Arc<Shared>,
    /// Locked while an operation enters the tail and the queue, so that both have the same order.
    port: Mutex<Port>,
}

/// A handle to the log; clones refer to the same log.
#[derive(Clone)]
pub struct LogStore {
    inner: Arc<Inner>,
}

impl LogStore {
    /// Appends entries, which must continue the log. They are readable when this returns; `done` is
    /// called when they are durable.
    pub fn append(&self, entries: Vec<Entry>, done: Done) {
        self.inner.submit(|shared| {
            let mut tail = shared.tail();
            let accepted =
                shared.poison().map_or(Ok(()), Err).and_then(|()| tail.check(&entries)).and_then(
                    |()| entries.iter().try_for_each(|(_, bytes)| layout::check_size(bytes)),
                );
            match accepted {
                Ok(()) => Op::Append { submission: tail.push(&entries), entries, done },
                Err(error) => Op::Rejected { error, done },
            }
        });
    }

    /// Stores the vote after everything submitted before. `done` is called when it is durable both
    /// in the database and in the hard state.
    pub fn save_vote(&self, vote: Vec<u8>, done: Done) {
        let bytes_max = hard_state::VOTE_BYTES_MAX;
        self.inner.submit(|_| {
            if vote.len() > bytes_max {
                let error = StoreError::TooLarge { what: "vote", bytes: vote.len(), bytes_max };
                return Op::Rejected { error, done };
            }
            Op::Vote { bytes: vote, done }
        });
    }

    /// Saves the last committed log id. Not durable by itself; an older one may be recovered. An id
    /// too large for one value (3 KiB) is dropped.
    pub fn save_committed(&self, committed: Vec<u8>) {
        if committed.len() <= MARKER_BYTES_MAX {
            self.inner.submit(|_| Op::Committed(committed));
        }
    }

    /// Removes all entries after `last_kept`; with `None`, all entries.
    pub fn truncate_after(&self, last_kept: Option<u64>) {
        self.inner.submit(|shared| {
            shared.tail().truncate_after(last_kept);
            Op::Truncate { last_kept }
        });
    }

    /// Drops the entries up to and including `upto`: immediately for readers, step by step on disk.
    /// The marker may have 3 KiB; a longer one stops the log.
    pub fn purge(&self, upto: u64, marker: Vec<u8>) {
        self.inner.submit(|shared| {
            if marker.len() > MARKER_BYTES_MAX {
                shared.set_poison("a purge marker of more than 3 KiB".into());
            } else {
                shared.tail().purge(upto, &marker);
            }
            Op::Purge { upto, marker }
        });
    }

    /// Reads contiguous entries from `start` on: at least one if present, then as many as fit into
    /// `bytes_max`. Old entries are read from disk: call it where blocking is allowed.
    ///
    /// # Errors
    /// When the log is stopped or closed, or what was read is not what was written.
    pub fn read(
        &self,
        start: u64,
        end_exclusive: u64,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let shared = &self.inner.shared;
        if let Some(error) = shared.poison() {
            return Err(error);
        }
        let reader = shared.reader()?;
        let plan = shared.tail().plan(start, end_exclusive, bytes_max);
        let (upto, truncations) = match plan {
            Plan::Nothing => return Ok(Vec::new()),
            Plan::Here(entries) => return Ok(entries),
            Plan::Database { upto, truncations } => (upto, truncations),
        };
        let found = read_entries(reader.as_ref(), start, upto - 1, bytes_max);
        let tail = shared.tail();
        let unchanged = tail.truncations() == truncations && tail.is_readable(start);
        let found = match found {
            Ok(found) if found.is_empty() && unchanged => {
                return Err(StoreError::Corrupt { what: format!("entry {start} is missing") });
            }
            // Purged or truncated during the read.
            Err(_) if !unchanged => return Ok(Vec::new()),
            found => found?,
        };
        let used: usize = found.iter().map(|(_, _, bytes)| bytes.len()).sum();
        let mut entries: Vec<Entry> =
            found.into_iter().map(|(index, _, bytes)| (index, bytes.into())).collect();
        let reached = entries.last().is_some_and(|(index, _)| index + 1 == upto);
        if reached && unchanged && upto < end_exclusive {
            // The first of these must fit too: `collect` always returns at least one.
            let more = tail.collect(upto, end_exclusive, bytes_max.saturating_sub(used));
            let fits = more.first().is_some_and(|(_, bytes)| used + bytes.len() <= bytes_max);
            entries.extend(more.into_iter().filter(|_| fits));
        }
        Ok(entries)
    }

    /// The purge marker, and the index of the last entry present.
    #[must_use]
    pub fn bounds(&self) -> (Option<(u64, Vec<u8>)>, Option<u64>) {
        let tail = self.inner.shared.tail();
        (tail.purged().cloned(), tail.last())
    }

    /// The index of the first entry present.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        self.inner.shared.tail().first()
    }

    /// The last entry present. May read the disk right after a truncation.
    #[must_use]
    pub fn last_entry(&self) -> Option<Entry> {
        let last = self.inner.shared.tail().last()?;
        match self.read(last, last + 1, 0) {
            Ok(entries) => entries.into_iter().next(),
            Err(error) => {
                tracing::error!(%error, index = last, "cannot read the last entry");
                None
            }
        }
    }

    /// Whether the next operation may block on the disk because the queue is full. The caller
    /// should then submit it where blocking is allowed. Exact when only one task submits at a time.
    #[must_use]
    pub fn is_backed_up(&self) -> bool {
        self.inner.shared.queued.load(Ordering::Acquire) >= QUEUED_OPS_MAX
    }

    /// Whether a write or sync failed. Every operation then fails until the log is reopened.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.inner.shared.is_poisoned()
    }

    /// Sets the observer of barriers.
    pub fn set_observer(&self, observer: Arc<dyn Observer>) {
        let mut place = self.inner.shared.observer.write().unwrap_or_else(PoisonError::into_inner);
        *place = Some(observer);
    }

    /// Sets the callback for waiting operations of [`Driver::Deferred`]. Only the first one is
    /// kept.
    pub fn set_wake(&self, wake: Wake) {
        let _ = self.inner.shared.wake.set(wake);
    }

    /// Ends a group of deferred operations: one barrier for all of them, then the acknowledgements.
    pub fn settle(&self) {
        self.inner.settle();
    }

    /// A closure that calls [`LogStore::settle`] and does not keep the log open.
    pub fn settler(&self) -> impl Fn() + Send + Sync + 'static {
        let log: Weak<Inner> = Arc::downgrade(&self.inner);
        move || {
            if let Some(log) = log.upgrade() {
                log.settle();
            }
        }
    }

    /// Size of the database on disk, bytes; 0 when it cannot be determined.
    #[must_use]
    pub fn size_on_disk(&self) -> u64 {
        let reader = self.inner.shared.reader();
        reader.ok().and_then(|reader| reader.size_on_disk().ok()).unwrap_or(0)
    }

    /// Completes all submitted operations and closes the database. Other handles then get
    /// [`StoreError::Closed`]. Must not be called from a `Done`.
    pub fn close(self) {
        self.inner.close();
    }
}

/// Largest marker, bytes: with its envelope it must fit into one value.
const MARKER_BYTES_MAX: usize = 3 * 1024;

impl Inner {
    fn submit(&self, make: impl FnOnce(&Shared) -> Op) {
        let mut port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        let op = make(&self.shared);
        let answers = match &mut *port {
            Port::Thread { sender, .. } => {
                self.shared.queued.fetch_add(1, Ordering::AcqRel);
                match sender.send(op) {
                    Ok(()) => Vec::new(),
                    Err(refused) => reject(refused.0),
                }
            }
            Port::Inline(writer) => {
                writer.handle(op);
                let answers = writer.settle();
                while writer.has_purge_work() {
                    writer.background(true);
                }
                writer.background(false);
                answers
            }
            Port::Deferred(writer) => {
                writer.handle(op);
                drop(port);
                if let Some(wake) = self.shared.wake.get() {
                    wake();
                }
                return;
            }
            Port::Closed => reject(op),
        };
        drop(port);
        answer(answers);
    }

    fn settle(&self) {
        let mut port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        let Port::Deferred(writer) = &mut *port else { return };
        let answers = writer.settle();
        while writer.has_purge_work() {
            writer.background(true);
        }
        drop(port);
        answer(answers);
    }

    fn close(&self) {
        let mut port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = std::mem::replace(&mut *port, Port::Closed);
        drop(port);
        let readers = self.shared.reader.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(readers);
        match closed {
            Port::Thread { sender, thread } => {
                self.shared.queued.fetch_add(1, Ordering::AcqRel);
                let _ = sender.send(Op::Close);
                drop(sender);
                if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                    tracing::error!("the log's writer panicked");
                }
            }
            Port::Inline(mut writer) | Port::Deferred(mut writer) => {
                let answers = writer.finish();
                drop(writer);
                answer(answers);
            }
            Port::Closed => {}
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

fn answer(answers: Vec<Answer>) {
    for (done, result) in answers {
        done(result);
    }
}

fn reject(op: Op) -> Vec<Answer> {
    match op {
        Op::Append { done, .. } | Op::Vote { done, .. } | Op::Rejected { done, .. } => {
            vec![(done, Err(StoreError::Closed))]
        }
        Op::Committed(_) | Op::Truncate { .. } | Op::Purge { .. } | Op::Close => Vec::new(),
    }
}
