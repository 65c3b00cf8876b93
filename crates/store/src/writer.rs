//! The single writer of the log: takes operations in order and makes them durable in groups.
//!
//! Answers for: success is reported only AFTER the barrier (and, for a vote, the hard state) that
//! covers the operation, in the order of submission. Must never let more than 512 operations or 64
//! KiB wait for a barrier, continue after a failure, or retry one.

mod remove;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::{LogBackend, LogRead};
use crate::error::StoreError;
use crate::hard_state::{HardStateFile, Mark, NumberedVote};
use crate::layout::{self, Link};
use crate::log::entry::{Done, Entry};
use crate::log::shared::Shared;
use crate::recover::{self, Image};

/// Most operations on the database between two barriers.
const OPS_MAX: usize = 512;
/// Most bytes put into the database between two barriers.
const BYTES_MAX: usize = 64 * 1024;
/// Busy rounds after which a purge slice runs even though there is other work.
const PURGE_EVERY_ROUNDS: u32 = 16;
/// Oldest age of the hard state's mark of the last entry.
const MARK_EVERY: Duration = Duration::from_secs(1);

/// One operation, in the order of submission.
pub(crate) enum Op {
    Append {
        entries: Vec<Entry>,
        submission: u64,
        done: Done,
    },
    Vote {
        bytes: Vec<u8>,
        done: Done,
    },
    Committed(Vec<u8>),
    Truncate {
        last_kept: Option<u64>,
    },
    Purge {
        upto: u64,
        marker: Vec<u8>,
    },
    /// Rejected at submission; acknowledged in order like the others.
    Rejected {
        error: StoreError,
        done: Done,
    },
    Close,
}

/// A callback to run, with its result.
pub(crate) type Answer = (Done, Result<(), StoreError>);

pub(crate) struct Writer {
    backend: Box<dyn LogBackend>,
    reader: Arc<dyn LogRead>,
    hard: Option<HardStateFile>,
    shared: Arc<Shared>,
    /// The last entry and the checksum of the chain up to it.
    last: Option<(u64, u32)>,
    chain: u32,
    purged: Option<u64>,
    start: Option<u64>,
    vote_number: u64,
    /// A vote that is in the database but not yet in the hard state.
    vote_unmarked: Option<NumberedVote>,
    /// Operations to be acknowledged after the next barrier.
    waiting: Vec<Answer>,
    unsynced_ops: usize,
    unsynced_bytes: usize,
    /// Whether a barrier was needed before the group was complete.
    group_full: bool,
    /// The index from which the removal of purged entries continues.
    purge_from: Option<u64>,
    rounds_since_purge: u32,
    marked_at: Instant,
}

impl Writer {
    /// Takes over a log that was read and checked, and removes what a crash left unfinished.
    pub(crate) fn new(
        backend: Box<dyn LogBackend>,
        hard: Option<HardStateFile>,
        shared: Arc<Shared>,
        image: &Image,
    ) -> io::Result<Self> {
        let marked_vote = hard.as_ref().and_then(|hard| hard.state().vote.as_ref());
        let vote = image.vote.as_ref();
        let mut writer = Self {
            reader: backend.reader(),
            backend,
            shared,
            last: image.last.map(|(index, link)| (index, link.crc)),
            chain: recover::chain_end(image),
            purged: image.purged.as_ref().map(|purged| purged.upto),
            start: image.start,
            vote_number: vote.map_or(0, |vote| vote.number),
            vote_unmarked: vote.filter(|vote| Some(*vote) != marked_vote).cloned(),
            hard,
            waiting: Vec::new(),
            unsynced_ops: 0,
            unsynced_bytes: 0,
            group_full: false,
            purge_from: image.purge_unfinished.then_some(0),
            rounds_since_purge: 0,
            marked_at: Instant::now(),
        };
        for key in image.torn.iter().rev() {
            writer.delete(&key.bytes())?;
        }
        // A killed process leaves writes that were read at open but never synced, and the database
        // does not track them as pending: only the deep barrier covers them.
        writer.backend.deep_barrier()?;
        writer.mark(true)?;
        Ok(writer)
    }

    /// Whether the current group may still grow.
    pub(crate) fn has_room(&self) -> bool {
        !self.group_full
    }

    /// Whether purged entries remain to be removed.
    pub(crate) fn has_purge_work(&self) -> bool {
        self.purge_from.is_some() && !self.shared.is_poisoned()
    }

    /// How long the thread may sleep before the mark is due; `None` when it is up to date.
    pub(crate) fn mark_due_in(&self) -> Option<Duration> {
        let stale = !self.shared.is_poisoned() && self.mark_is_stale();
        stale.then(|| MARK_EVERY.saturating_sub(self.marked_at.elapsed()))
    }

    /// Executes one operation without making it durable.
    pub(crate) fn handle(&mut self, op: Op) {
        if let Some(error) = self.shared.poison() {
            if let Op::Append { done, .. } | Op::Vote { done, .. } | Op::Rejected { done, .. } = op
            {
                self.waiting.push((done, Err(error)));
            }
            return;
        }
        let result = match op {
            Op::Append { entries, submission, done } => {
                self.waiting.push((done, Ok(())));
                self.append(&entries, submission)
            }
            Op::Vote { bytes, done } => {
                self.waiting.push((done, Ok(())));
                self.vote(bytes)
            }
            Op::Committed(bytes) => layout::seal_committed(&bytes)
                .map_err(io::Error::other)
                .and_then(|value| self.put(layout::COMMITTED, &value)),
            Op::Truncate { last_kept } => self.truncate_after(last_kept),
            Op::Purge { upto, marker } => self.purge(upto, marker),
            Op::Rejected { error, done } => {
                self.waiting.push((done, Err(error)));
                Ok(())
            }
            Op::Close => Ok(()),
        };
        self.poison_on("write", result);
    }

    /// Ends a group: one barrier for all of it. Returns the acknowledgements, in order.
    pub(crate) fn settle(&mut self) -> Vec<Answer> {
        self.group_full = false;
        if self.waiting.is_empty() {
            return Vec::new();
        }
        if !self.shared.is_poisoned() {
            let result = self.barrier().and_then(|()| self.mark_vote());
            self.poison_on("sync", result);
        }
        let mut answers = std::mem::take(&mut self.waiting);
        if let Some(error) = self.shared.poison() {
            // A rejected operation keeps its own reason.
            for (_, result) in answers.iter_mut().filter(|(_, result)| result.is_ok()) {
                *result = Err(error.clone());
            }
        }
        answers
    }

    /// Work that no caller waits for: the purge and the mark. Called after the acknowledgements.
    pub(crate) fn background(&mut self, idle: bool) {
        if self.shared.is_poisoned() {
            return;
        }
        self.rounds_since_purge += 1;
        let result = if idle || self.rounds_since_purge >= PURGE_EVERY_ROUNDS {
            self.rounds_since_purge = 0;
            self.purge_slice()
        } else {
            Ok(())
        };
        let result = result.and_then(|()| self.mark(false));
        self.poison_on("write", result);
    }

    /// The last work before the database is closed.
    pub(crate) fn finish(&mut self) -> Vec<Answer> {
        let answers = self.settle();
        if !self.shared.is_poisoned() {
            let result = self.barrier().and_then(|()| self.mark(true));
            self.poison_on("sync", result);
        }
        answers
    }

    fn poison_on(&self, action: &str, result: io::Result<()>) {
        if let Err(error) = result {
            tracing::error!(%error, action, "log stopped after a disk error");
            self.shared.set_poison(format!("cannot {action} the log: {error}").into());
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.backend.put(key, value)?;
        self.spend(key.len() + value.len())
    }

    fn delete(&mut self, key: &[u8]) -> io::Result<()> {
        self.backend.delete(key)?;
        self.spend(key.len())
    }

    fn spend(&mut self, bytes: usize) -> io::Result<()> {
        self.unsynced_ops += 1;
        self.unsynced_bytes += bytes;
        if self.unsynced_ops >= OPS_MAX || self.unsynced_bytes >= BYTES_MAX {
            self.group_full = true;
            self.barrier()?;
        }
        Ok(())
    }

    fn barrier(&mut self) -> io::Result<()> {
        if self.unsynced_ops == 0 {
            return Ok(());
        }
        let started = Instant::now();
        self.backend.barrier()?;
        self.shared.observe(started.elapsed(), self.unsynced_ops);
        self.unsynced_ops = 0;
        self.unsynced_bytes = 0;
        Ok(())
    }

    fn append(&mut self, entries: &[Entry], submission: u64) -> io::Result<()> {
        for (index, bytes) in entries {
            if self.last.is_none() {
                self.begin_at(*index)?;
            }
            let link = Link::of(*index, self.chain, bytes);
            for (key, value) in layout::parts(*index, link, bytes) {
                self.put(&key.bytes(), &value)?;
            }
            self.chain = link.crc;
            self.last = Some((*index, link.crc));
        }
        self.shared.tail().mark_written(submission);
        Ok(())
    }

    /// Records where an empty log begins if that is not right after the purged entries. An open can
    /// then distinguish a missing beginning from one that never existed.
    fn begin_at(&mut self, index: u64) -> io::Result<()> {
        let behind_purged = self.purged.map_or(0, |upto| upto.saturating_add(1));
        if index != behind_purged.max(self.start.unwrap_or(0)) {
            let value = layout::encode_start(index).map_err(io::Error::other)?;
            self.put(layout::START, &value)?;
            self.start = Some(index);
        }
        Ok(())
    }

    fn vote(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.vote_number += 1;
        let vote = NumberedVote { number: self.vote_number, bytes };
        self.put(layout::VOTE, &layout::encode_vote(&vote).map_err(io::Error::other)?)?;
        self.vote_unmarked = Some(vote);
        Ok(())
    }

    fn mark_vote(&mut self) -> io::Result<()> {
        if self.vote_unmarked.is_some() { self.mark(true) } else { Ok(()) }
    }

    fn mark_is_stale(&self) -> bool {
        let wanted = self.last.map(|(index, crc)| Mark { index, crc: Some(crc) });
        self.hard.as_ref().is_some_and(|hard| {
            let state = hard.state();
            (wanted.is_some() && state.mark != wanted)
                || state.purged != self.purged
                || self.vote_unmarked.is_some()
        })
    }

    /// Writes the hard state if it is stale, and if it is due or `at_once` is set.
    fn mark(&mut self, at_once: bool) -> io::Result<()> {
        if !self.mark_is_stale() || (!at_once && self.marked_at.elapsed() < MARK_EVERY) {
            return Ok(());
        }
        // The hard state claims durability, so the barrier comes BEFORE it: the deep one, since
        // this is rare.
        self.backend.deep_barrier()?;
        self.unsynced_ops = 0;
        self.unsynced_bytes = 0;
        let mark = self.last.map(|(index, crc)| Mark { index, crc: Some(crc) });
        let (purged, vote) = (self.purged, self.vote_unmarked.take());
        if let Some(hard) = &mut self.hard {
            hard.update(|state| {
                state.mark = mark.or(state.mark);
                state.purged = purged;
                state.vote = vote.or(state.vote.take());
            })?;
        }
        self.marked_at = Instant::now();
        Ok(())
    }
}
