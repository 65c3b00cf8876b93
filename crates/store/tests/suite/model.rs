//! Compares the log with a simple model: random operations, with closing and reopening.

use crate::helpers::{Answer, append, done, entry, open_dir, options, vote, wait};
use std::sync::mpsc::Receiver;

use fluxgate_store::{DataDir, Driver, LogStore, Memory, Recovered};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Append { sizes: Vec<usize>, wait: bool },
    Vote(Vec<u8>),
    Committed(Vec<u8>),
    TruncateBack(u64),
    PurgeFront(u64),
    PurgeBeyond(u64),
    ReadAll(usize),
    Reopen,
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        5 => 0usize..400,
        2 => 4_000usize..4_200,
        1 => 8_100usize..20_000,
        1 => Just(70_000usize),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = |most| proptest::collection::vec(any::<u8>(), 0..most);
    prop_oneof![
        6 => (proptest::collection::vec(size(), 0..8), any::<bool>())
            .prop_map(|(sizes, wait)| Step::Append { sizes, wait }),
        2 => bytes(60).prop_map(Step::Vote),
        1 => bytes(30).prop_map(Step::Committed),
        2 => (0u64..12).prop_map(Step::TruncateBack),
        2 => (0u64..12).prop_map(Step::PurgeFront),
        1 => (0u64..12).prop_map(Step::PurgeBeyond),
        2 => (0usize..100_000).prop_map(Step::ReadAll),
        2 => Just(Step::Reopen),
    ]
}

/// The expected state of the log.
#[derive(Clone, Debug, Default)]
struct Model {
    entries: Vec<(u64, Vec<u8>)>,
    purged: Option<(u64, Vec<u8>)>,
    vote: Option<Vec<u8>>,
    committed: Option<Vec<u8>>,
    writings: u64,
}

impl Model {
    fn next_index(&self) -> u64 {
        let behind_purged = self.purged.as_ref().map_or(0, |(upto, _)| upto + 1);
        self.entries.last().map_or(behind_purged, |(index, _)| index + 1)
    }

    fn recovered(&self) -> Recovered {
        Recovered {
            vote: self.vote.clone(),
            committed: self.committed.clone(),
            purged: self.purged.clone(),
            first: self.entries.first().map(|(index, _)| *index),
            last: self.entries.last().map(|(index, _)| *index),
            last_entry: self.entries.last().map(|(_, bytes)| bytes.clone()),
        }
    }
}

/// A log that can be closed and reopened.
trait Subject {
    fn open(&mut self) -> (LogStore, Recovered);
}

struct OnSled(DataDir, Driver);

impl Subject for OnSled {
    fn open(&mut self) -> (LogStore, Recovered) {
        LogStore::open(&self.0, options(self.1, 20_000)).unwrap()
    }
}

struct InMemory(Memory);

impl Subject for InMemory {
    fn open(&mut self) -> (LogStore, Recovered) {
        // A closed log is durable up to its last write.
        let disk = self.0.after_power_cut(0);
        self.0 = disk.clone();
        LogStore::open_with(Box::new(disk), None, options(Driver::Inline, 20_000)).unwrap()
    }
}

fn check_bounds(log: &LogStore, model: &Model) {
    let last = model.entries.last();
    assert_eq!(log.bounds(), (model.purged.clone(), last.map(|(index, _)| *index)));
    let found = log.last_entry().map(|(index, bytes)| (index, bytes.to_vec()));
    assert_eq!(found.as_ref(), last);
}

fn check_entries(log: &LogStore, model: &Model, bytes_max: usize) {
    let mut found = Vec::new();
    let mut from = model.entries.first().map_or(0, |(index, _)| *index);
    let end = model.next_index();
    loop {
        let some = log.read(from, end, bytes_max).unwrap();
        let bytes: usize = some.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(some.len() <= 1 || bytes <= bytes_max, "{bytes} bytes for {bytes_max}");
        let Some((last, _)) = some.last() else { break };
        from = last + 1;
        found.extend(some.into_iter().map(|(index, bytes)| (index, bytes.to_vec())));
    }
    assert!(found == model.entries, "entries differ");
    assert!(log.read(end, end + 5, 100).unwrap().is_empty());
}

/// Appends to the log and the model; returns the pending answer unless it waited for it.
fn add(
    log: &LogStore,
    model: &mut Model,
    sizes: &[usize],
    durable: bool,
) -> Option<Receiver<Answer>> {
    model.writings += 1;
    let new: Vec<_> = (model.next_index()..)
        .zip(sizes)
        .map(|(index, size)| entry(index, model.writings, *size))
        .collect();
    model.entries.extend(new.iter().map(|(index, bytes)| (*index, bytes.to_vec())));
    if durable {
        append(log, new).unwrap();
        return None;
    }
    let (done, answer) = done();
    log.append(new, done);
    Some(answer)
}

fn purge(log: &LogStore, model: &mut Model, upto: u64) {
    model.purged = Some((upto, vec![7; 20]));
    model.entries.retain(|(index, _)| *index > upto);
    log.purge(upto, vec![7; 20]);
}

fn run(subject: &mut dyn Subject, steps: &[Step]) {
    let mut model = Model::default();
    let (mut log, recovered) = subject.open();
    assert_eq!(recovered, model.recovered());
    let mut answers = Vec::new();
    for step in steps.iter().chain([&Step::ReadAll(9_000), &Step::Reopen, &Step::ReadAll(1)]) {
        match step {
            Step::Append { sizes, wait } => answers.extend(add(&log, &mut model, sizes, *wait)),
            Step::Vote(bytes) => {
                vote(&log, bytes).unwrap();
                model.vote = Some(bytes.clone());
            }
            Step::Committed(bytes) => {
                log.save_committed(bytes.clone());
                model.committed = Some(bytes.clone());
            }
            Step::TruncateBack(count) => {
                let kept = model.entries.len().saturating_sub(usize::try_from(*count).unwrap());
                model.entries.truncate(kept);
                log.truncate_after(model.next_index().checked_sub(1));
            }
            Step::PurgeFront(count) => {
                let Some((first, _)) = model.entries.first() else {
                    continue;
                };
                let upto = (first + count).min(model.next_index() - 1);
                purge(&log, &mut model, upto);
            }
            Step::PurgeBeyond(count) => {
                let upto = model.next_index() + count;
                purge(&log, &mut model, upto);
            }
            Step::ReadAll(bytes_max) => check_entries(&log, &model, *bytes_max),
            Step::Reopen => {
                log.close();
                let (opened, recovered) = subject.open();
                log = opened;
                assert_eq!(recovered, model.recovered());
            }
        }
        check_bounds(&log, &model);
    }
    assert!(!log.is_poisoned());
    log.close();
    for answer in answers {
        wait(&answer).unwrap();
    }
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..most)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_on_sled_with_a_thread_matches_the_model(steps in steps(24)) {
        let dir = tempfile::tempdir().unwrap();
        run(&mut OnSled(open_dir(dir.path()), Driver::Thread), &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_on_sled_inline_matches_the_model(steps in steps(24)) {
        let dir = tempfile::tempdir().unwrap();
        run(&mut OnSled(open_dir(dir.path()), Driver::Inline), &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_in_memory_matches_the_model(steps in steps(40)) {
        run(&mut InMemory(Memory::new()), &steps);
    }
}
