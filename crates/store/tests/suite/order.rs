//! The order of writes and barriers, and every disk that a power cut may leave.

use std::sync::{Arc, Mutex};

use fluxgate_store::recording::Event;
use fluxgate_store::{Driver, Entry, LogStore, Recording, StoreError};
use proptest::prelude::*;

use crate::helpers::{entries, entry, options};

/// Received answers, each with the number of backend calls up to that moment.
type Acknowledged<T> = Arc<Mutex<Vec<(usize, T)>>>;

fn note<T: Send + 'static>(
    acknowledged: &Acknowledged<T>,
    recording: &Recording,
    what: T,
) -> fluxgate_store::Done {
    let (acknowledged, recording) = (Arc::clone(acknowledged), recording.clone());
    Box::new(move |answer: Result<(), StoreError>| {
        answer.unwrap();
        acknowledged.lock().unwrap().push((recording.events().len(), what));
    })
}

fn log_on(recording: &Recording, driver: Driver) -> LogStore {
    LogStore::open_with(Box::new(recording.clone()), None, options(driver, 1_000)).unwrap().0
}

fn is_entry(key: &[u8]) -> bool {
    key.first() == Some(&b'L')
}

#[test]
fn an_answer_follows_directly_after_a_barrier() {
    for driver in [Driver::Thread, Driver::Inline] {
        let recording = Recording::new();
        let log = log_on(&recording, driver);
        let acknowledged = Acknowledged::default();
        for index in 0..200 {
            log.append(vec![entry(index, 0, 50)], note(&acknowledged, &recording, ()));
            if index % 10 == 0 {
                log.save_vote(vec![1], note(&acknowledged, &recording, ()));
            }
        }
        log.close();
        let events = recording.events();
        let acknowledged = acknowledged.lock().unwrap();
        assert_eq!(acknowledged.len(), 220);
        for (calls, ()) in acknowledged.iter() {
            assert_eq!(events[calls - 1], Event::Barrier);
        }
    }
}

#[test]
fn the_writes_between_barriers_are_bounded() {
    for driver in [Driver::Thread, Driver::Inline] {
        let recording = Recording::new();
        let log = log_on(&recording, driver);
        log.append(entries(0..2_000, 10), Box::new(drop));
        log.append(vec![entry(2_000, 0, 1_000_000)], Box::new(drop));
        for _ in 0..2_000 {
            log.save_committed(vec![0; 20]);
        }
        log.truncate_after(Some(10));
        log.append(entries(11..300, 10), Box::new(drop));
        log.purge(290, vec![1]);
        log.close();
        let (mut ops, mut bytes) = (0, 0);
        for event in recording.events() {
            match event {
                Event::Put(key, value) => (ops, bytes) = (ops + 1, bytes + key.len() + value.len()),
                Event::Delete(key) => (ops, bytes) = (ops + 1, bytes + key.len()),
                Event::Barrier => (ops, bytes) = (0, 0),
            }
            assert!(ops <= 512 && bytes < (64 << 10) + 4_200, "{ops} operations, {bytes} bytes");
        }
    }
}

#[test]
fn truncation_removes_the_highest_first_and_purge_the_lowest() {
    let recording = Recording::new();
    let log = log_on(&recording, Driver::Inline);
    log.append((0..20).map(|index| entry(index, 0, 5_000)).collect(), Box::new(drop));
    let deleted = |from: usize| -> Vec<Vec<u8>> {
        let events = recording.events().split_off(from);
        events
            .into_iter()
            .filter_map(|event| match event {
                Event::Delete(key) => Some(key),
                Event::Put(..) | Event::Barrier => None,
            })
            .collect()
    };
    let before = recording.events().len();
    log.truncate_after(Some(9));
    let keys = deleted(before);
    assert_eq!(keys.len(), 20);
    assert!(keys.is_sorted_by(|a, b| a > b));
    let before = recording.events().len();
    log.purge(4, b"marker".to_vec());
    assert!(matches!(&recording.events()[before], Event::Put(key, _) if !is_entry(key)));
    let keys = deleted(before);
    assert_eq!(keys.len(), 10);
    assert!(keys.is_sorted());
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<usize>),
    Vote,
    Truncate(u64),
    Purge(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![4 => 0usize..200, 1 => 4_000usize..14_000];
    prop_oneof![
        4 => proptest::collection::vec(size, 1..6).prop_map(Step::Append),
        1 => Just(Step::Vote),
        2 => (0u64..6).prop_map(Step::Truncate),
        1 => (0u64..6).prop_map(Step::Purge),
    ]
}

/// The state of the log when an answer arrived.
#[derive(Clone, Debug, Default)]
struct Known {
    entries: Vec<Entry>,
    vote: Option<Vec<u8>>,
    /// Number of truncations and purges submitted before.
    removals: usize,
}

/// Checks the disk after `count` backend calls. `submitted` removals had begun by then, and the
/// entries that they remove may be missing.
fn check_image(
    recording: &Recording,
    count: usize,
    acknowledged: &[(usize, Known)],
    submitted: usize,
) {
    let image = recording.image(count);
    let opened = LogStore::open_with(Box::new(image), None, options(Driver::Inline, 1_000));
    let (log, recovered) = opened.unwrap_or_else(|error| panic!("after {count} calls: {error}"));
    let Some((_, known)) = acknowledged.iter().rev().find(|(calls, _)| *calls <= count) else {
        return;
    };
    assert!(recovered.vote >= known.vote, "after {count} calls the vote is older");
    if known.removals == submitted {
        // Nothing was removed since, so all entries must be present.
        let first = known.entries.first().map_or(0, |(index, _)| *index);
        let found = log.read(first, u64::MAX, usize::MAX).unwrap();
        assert!(found.starts_with(&known.entries), "after {count} calls entries are missing");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_power_cut_after_any_call_leaves_a_valid_log(steps in proptest::collection::vec(step(), 1..14)) {
        let recording = Recording::new();
        let log = log_on(&recording, Driver::Inline);
        let acknowledged = Acknowledged::default();
        let mut known = Known::default();
        let mut next = 0;
        let mut removed_at = Vec::new();
        for (writing, step) in (0u64..).zip(steps) {
            match step {
                Step::Append(sizes) => {
                    let new: Vec<Entry> = (next..).zip(sizes).map(|(index, size)| entry(index, writing, size)).collect();
                    next += new.len() as u64;
                    known.entries.extend(new.iter().cloned());
                    log.append(new, note(&acknowledged, &recording, known.clone()));
                }
                Step::Vote => {
                    let vote = writing.to_be_bytes().to_vec();
                    known.vote = Some(vote.clone());
                    log.save_vote(vote, note(&acknowledged, &recording, known.clone()));
                }
                Step::Truncate(count) => {
                    let kept = known.entries.len().saturating_sub(usize::try_from(count).unwrap());
                    next -= (known.entries.len() - kept) as u64;
                    known.entries.truncate(kept);
                    known.removals += 1;
                    removed_at.push(recording.events().len());
                    log.truncate_after(next.checked_sub(1));
                }
                Step::Purge(count) => {
                    let Some(first) = known.entries.first().map(|(index, _)| *index) else { continue };
                    let upto = (first + count).min(next - 1);
                    known.entries.retain(|(index, _)| *index > upto);
                    known.removals += 1;
                    removed_at.push(recording.events().len());
                    log.purge(upto, b"marker".to_vec());
                }
            }
        }
        log.close();
        let acknowledged = acknowledged.lock().unwrap();
        for count in 0..=recording.events().len() {
            let submitted = removed_at.iter().filter(|at| **at < count).count();
            check_image(&recording, count, &acknowledged, submitted);
        }
    }
}
