//! Helpers for the tests of the log: waiting for an answer, entries with known content, and reading
//! a directory's files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use fluxgate_store::{DataDir, Driver, Entry, LogStore, Options, Recovered, StoreError};

pub(crate) type Answer = Result<(), StoreError>;

pub(crate) fn options(driver: Driver, tail_bytes_max: usize) -> Options {
    Options { driver, tail_bytes_max }
}

pub(crate) fn open_dir(path: &Path) -> DataDir {
    DataDir::open(path, "test", 1).unwrap()
}

pub(crate) fn open(dir: &DataDir, driver: Driver) -> (LogStore, Recovered) {
    LogStore::open(dir, options(driver, 20_000)).unwrap()
}

/// Every file below a directory, with its content.
pub(crate) fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

/// A `Done` and the receiver of its answer.
pub(crate) fn done() -> (fluxgate_store::Done, mpsc::Receiver<Answer>) {
    let (sender, receiver) = mpsc::channel();
    (Box::new(move |answer| drop(sender.send(answer))), receiver)
}

pub(crate) fn wait(receiver: &mpsc::Receiver<Answer>) -> Answer {
    receiver.recv_timeout(Duration::from_secs(20)).expect("the log gives an answer")
}

pub(crate) fn append(log: &LogStore, entries: Vec<Entry>) -> Answer {
    let (done, answer) = done();
    log.append(entries, done);
    wait(&answer)
}

pub(crate) fn vote(log: &LogStore, vote: &[u8]) -> Answer {
    let (done, answer) = done();
    log.save_vote(vote.to_vec(), done);
    wait(&answer)
}

/// Content that identifies the entry, the write that produced it, and its size.
pub(crate) fn content(index: u64, writing: u64, size: usize) -> Vec<u8> {
    let mut state = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ writing.wrapping_mul(0x2545_f491);
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

pub(crate) fn entry(index: u64, writing: u64, size: usize) -> Entry {
    (index, Arc::from(content(index, writing, size)))
}

pub(crate) fn entries(range: std::ops::Range<u64>, size: usize) -> Vec<Entry> {
    range.map(|index| entry(index, 0, size)).collect()
}
