//! Reads the whole log at open and decides whether it is the log that was acknowledged.
//!
//! Answers for: a log with a gap, a wrong checksum, an entry of an older history, or less than the
//! hard state records is rejected. Only two things are normal after a crash: an unfinished entry at
//! the very end (it was never acknowledged), and purged entries that are not removed yet. Must
//! never write; removals are left to the writer.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use crate::backend::LogRead;
use crate::hard_state::{HardState, NumberedVote};
use crate::layout::{self, Assembly, CHAIN_START, Link, Misfit, PartKey, Purged};
use crate::log::entry::Entry;

/// The content of the log found at open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The last vote, as the caller stored it.
    pub vote: Option<Vec<u8>>,
    /// The last committed marker that reached the disk; may be outdated.
    pub committed: Option<Vec<u8>>,
    /// The last purged index and its marker.
    pub purged: Option<(u64, Vec<u8>)>,
    /// Index of the first entry present.
    pub first: Option<u64>,
    /// Index of the last entry present.
    pub last: Option<u64>,
    /// Content of the last entry present.
    pub last_entry: Option<Vec<u8>>,
}

/// The log as read, with everything that the writer and the tail need.
#[derive(Debug, Default)]
pub(crate) struct Image {
    pub(crate) vote: Option<NumberedVote>,
    pub(crate) committed: Option<Vec<u8>>,
    pub(crate) purged: Option<Purged>,
    pub(crate) start: Option<u64>,
    pub(crate) first: Option<u64>,
    pub(crate) last: Option<(u64, Link)>,
    /// The newest entries, up to the byte limit.
    pub(crate) tail: VecDeque<Entry>,
    /// Whether there are entries that the purge marker covers.
    pub(crate) purge_unfinished: bool,
    /// Keys of an unfinished entry at the end.
    pub(crate) torn: Vec<PartKey>,
}

impl Image {
    /// Whether nothing was ever stored here.
    pub(crate) fn is_empty(&self) -> bool {
        self.vote.is_none() && self.purged.is_none() && self.last.is_none()
    }

    pub(crate) fn recovered(&self) -> Recovered {
        Recovered {
            vote: self.vote.as_ref().map(|vote| vote.bytes.clone()),
            committed: self.committed.clone(),
            purged: self.purged.as_ref().map(|purged| (purged.upto, purged.marker.clone())),
            first: self.first,
            last: self.last.map(|(index, _)| index),
            last_entry: self.tail.back().map(|(_, bytes)| bytes.to_vec()),
        }
    }
}

/// Why the log was rejected.
#[derive(Debug)]
pub(crate) enum Rejected {
    /// The database could not be read.
    Read(std::io::Error),
    /// The content is wrong.
    Damaged(String),
}

impl From<Misfit> for Rejected {
    fn from(misfit: Misfit) -> Self {
        Self::Damaged(misfit.0)
    }
}

/// Reads and checks the whole log.
pub(crate) fn read_image(
    reader: &dyn LogRead,
    hard: Option<&HardState>,
    tail_bytes_max: usize,
) -> Result<Image, Rejected> {
    let mut image = Image::default();
    // The markers come first. Keys of entries sort before them, so markers need a scan of their
    // own.
    scan(reader, (b"M", layout::ALL.1), |key, value| read_marker(&mut image, key, value))?;
    let mut walk = Walk::new(&image, hard, tail_bytes_max);
    scan(reader, (layout::ALL.0, b"M"), |key, value| walk.visit(key, value))?;
    walk.finish(&mut image)?;
    if let Some(hard) = hard {
        check_hard(&image, hard)?;
    }
    Ok(image)
}

fn scan(
    reader: &dyn LogRead,
    (from, to): (&[u8], &[u8]),
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), Rejected>,
) -> Result<(), Rejected> {
    let mut refused = None;
    let mut visitor = |key: &[u8], value: &[u8]| match visit(key, value) {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(why) => {
            refused = Some(why);
            Ok(ControlFlow::Break(()))
        }
    };
    reader.scan(from, to, &mut visitor).map_err(Rejected::Read)?;
    refused.map_or(Ok(()), Err)
}

fn read_marker(image: &mut Image, key: &[u8], value: &[u8]) -> Result<(), Rejected> {
    let damaged = |what: &str| {
        let what = what.to_owned();
        move |error| Rejected::Damaged(format!("the {what}: {error}"))
    };
    match key {
        layout::VOTE => image.vote = Some(layout::decode_vote(value).map_err(damaged("vote"))?),
        layout::PURGED => {
            image.purged = Some(layout::decode_purged(value).map_err(damaged("purge marker"))?);
        }
        layout::COMMITTED => {
            let bytes = layout::open_committed(value).map_err(damaged("committed marker"))?;
            image.committed = Some(bytes);
        }
        layout::START => {
            image.start = Some(layout::decode_start(value).map_err(damaged("start marker"))?);
        }
        layout::PROBE => {}
        _ => return Err(Rejected::Damaged("it has a key of an unknown kind".to_owned())),
    }
    Ok(())
}

/// The state of the pass over the entries, in index order.
struct Walk {
    purged: Option<u64>,
    /// The index that must come next.
    expected: u64,
    first: Option<u64>,
    last: Option<(u64, Link)>,
    tail: VecDeque<Entry>,
    tail_bytes: usize,
    tail_bytes_max: usize,
    /// The entry whose checksum the hard state records.
    recorded: Option<(u64, u32)>,
    open: Option<(Assembly, Vec<PartKey>)>,
    purge_unfinished: bool,
}

impl Walk {
    fn new(image: &Image, hard: Option<&HardState>, tail_bytes_max: usize) -> Self {
        let purged = image.purged.as_ref().map(|purged| purged.upto);
        let behind_marker = purged.map_or(0, |upto| upto.saturating_add(1));
        let mark = hard.and_then(|hard| hard.mark);
        Self {
            purged,
            expected: behind_marker.max(image.start.unwrap_or(0)),
            first: None,
            last: None,
            tail: VecDeque::new(),
            tail_bytes: 0,
            tail_bytes_max,
            recorded: mark.and_then(|mark| Some((mark.index, mark.crc?))),
            open: None,
            purge_unfinished: false,
        }
    }

    fn visit(&mut self, key: &[u8], value: &[u8]) -> Result<(), Rejected> {
        let Some(key) = PartKey::parse(key) else {
            return Err(Rejected::Damaged("it has a key of an unknown kind".to_owned()));
        };
        if self.purged.is_some_and(|upto| key.index <= upto) {
            self.purge_unfinished = true;
            return Ok(());
        }
        if let Some((assembly, keys)) = &mut self.open {
            if assembly.index == key.index {
                assembly.push(key, value)?;
                keys.push(key);
                return Ok(());
            }
            self.close_entry()?;
        }
        if key.index != self.expected {
            let what = format!("entry {} is missing, entry {} follows", self.expected, key.index);
            return Err(Rejected::Damaged(what));
        }
        self.open = Some((Assembly::begin(key, value)?, vec![key]));
        Ok(())
    }

    /// Completes the entry whose parts were read; more entries may follow.
    fn close_entry(&mut self) -> Result<(), Rejected> {
        let Some((assembly, _)) = self.open.take() else {
            return Ok(());
        };
        let index = assembly.index;
        let (link, bytes) = assembly.finish()?;
        let breaks = self.last.is_some_and(|(_, before)| before.crc != link.previous);
        let differs = self.recorded.is_some_and(|(at, crc)| at == index && crc != link.crc);
        if breaks || differs {
            let what = format!("entry {index} does not belong to the acknowledged history");
            return Err(Rejected::Damaged(what));
        }
        let Some(next) = index.checked_add(1) else {
            return Err(Rejected::Damaged("an entry has the highest possible index".to_owned()));
        };
        self.expected = next;
        self.first.get_or_insert(index);
        self.last = Some((index, link));
        self.tail_bytes += bytes.len();
        self.tail.push_back((index, bytes.into()));
        while self.tail_bytes > self.tail_bytes_max && self.tail.len() > 1 {
            if let Some((_, bytes)) = self.tail.pop_front() {
                self.tail_bytes -= bytes.len();
            }
        }
        Ok(())
    }

    fn finish(mut self, image: &mut Image) -> Result<(), Rejected> {
        // An incomplete entry at the very end was being written, or being removed, at the power
        // cut: it was not acknowledged, or its removal was requested.
        match self.open.take() {
            Some((assembly, keys)) if !assembly.is_whole() => image.torn = keys,
            open => {
                self.open = open;
                self.close_entry()?;
            }
        }
        image.first = self.first;
        image.last = self.last;
        image.tail = self.tail;
        image.purge_unfinished = self.purge_unfinished;
        Ok(())
    }
}

/// Compares the log with the hard state.
fn check_hard(image: &Image, hard: &HardState) -> Result<(), Rejected> {
    let damaged = |what: String| Err(Rejected::Damaged(what));
    let purged = image.purged.as_ref().map(|purged| purged.upto);
    if hard.purged > purged {
        return damaged("the purge marker is older than the acknowledged one".to_owned());
    }
    let end = image.last.map(|(index, _)| index).max(purged);
    if let Some(mark) = hard.mark
        && end < Some(mark.index)
    {
        let index = mark.index;
        return damaged(format!("it ends before entry {index}, which was acknowledged"));
    }
    if let Some(vote) = &hard.vote {
        let found = image.vote.as_ref();
        let newer = found.is_some_and(|found| found.number > vote.number);
        if !newer && found != Some(vote) {
            return damaged("its vote is older than the acknowledged one".to_owned());
        }
    }
    Ok(())
}

/// The checksum that the entry after the recovered ones chains to.
pub(crate) fn chain_end(image: &Image) -> u32 {
    image.last.map_or(CHAIN_START, |(_, link)| link.crc)
}
