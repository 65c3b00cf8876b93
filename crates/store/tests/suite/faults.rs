//! Disk errors: the log stops, reports the error to every caller, and never claims success.

use std::io;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fluxgate_store::memory::Faults;
use fluxgate_store::{Driver, LogStore, Memory, Observer, OpenError, StoreError};

use crate::helpers::{append, done, entries, entry, open_dir, options, vote, wait};

fn log_on(memory: &Memory, driver: Driver) -> LogStore {
    LogStore::open_with(Box::new(memory.clone()), None, options(driver, 1_000)).unwrap().0
}

fn is_poisoned(answer: &Result<(), StoreError>) -> bool {
    matches!(answer, Err(StoreError::Poisoned { .. }))
}

#[test]
fn after_a_failed_write_everything_fails_and_nothing_is_retried() {
    for driver in [Driver::Thread, Driver::Inline] {
        for writes_left in 0..12 {
            let memory = Memory::new();
            let log = log_on(&memory, driver);
            append(&log, entries(0..3, 100)).unwrap();
            let barriers = memory.barriers();
            memory.set_faults(Faults { writes_left: Some(writes_left), ..Faults::default() });
            // Each entry has three parts.
            let large = vec![
                entry(3, 0, 9_000),
                entry(4, 0, 9_000),
                entry(5, 0, 9_000),
                entry(6, 0, 9_000),
            ];
            assert!(is_poisoned(&append(&log, large)), "{writes_left} writes left");
            memory.set_faults(Faults::default());
            assert!(log.is_poisoned());
            assert!(is_poisoned(&append(&log, entries(7..8, 10))));
            assert!(is_poisoned(&vote(&log, b"term")));
            log.truncate_after(None);
            log.purge(2, b"marker".to_vec());
            log.save_committed(b"2".to_vec());
            assert!(log.read(0, 3, 1_000).is_err());
            log.close();
            assert_eq!(memory.barriers(), barriers, "a barrier after a failure");
            // Acknowledged entries survive any power cut.
            for kept in 0..=memory.unsynced() {
                let log = log_on(&memory.after_power_cut(kept), Driver::Inline);
                assert_eq!(log.read(0, 3, 1_000).unwrap(), entries(0..3, 100));
            }
        }
    }
}

#[test]
fn a_failed_barrier_fails_all_waiting_operations() {
    let memory = Memory::new();
    let log = log_on(&memory, Driver::Thread);
    append(&log, entries(0..5, 10)).unwrap();
    let barrier_delay = Duration::from_millis(30);
    let error = Some(io::ErrorKind::Other);
    memory.set_faults(Faults { barriers_left: Some(0), barrier_delay, error, ..Faults::default() });
    let answers: Vec<_> = (5..25)
        .map(|index| {
            let (done, answer) = done();
            log.append(vec![entry(index, 0, 10)], done);
            answer
        })
        .collect();
    assert!(answers.iter().map(wait).all(|answer| is_poisoned(&answer)));
    log.close();
    let log = log_on(&memory.after_power_cut(0), Driver::Inline);
    assert_eq!(log.bounds().1, Some(4));
}

struct Count(AtomicUsize, AtomicUsize);

impl Observer for Count {
    fn synced(&self, took: Duration, ops: usize) {
        assert!(took < Duration::from_secs(20));
        self.0.fetch_add(1, Ordering::SeqCst);
        self.1.fetch_max(ops, Ordering::SeqCst);
    }
}

#[test]
fn a_slow_disk_leads_to_larger_groups_within_the_bound() {
    let memory = Memory::new();
    let log = log_on(&memory, Driver::Thread);
    let count = Arc::new(Count(AtomicUsize::new(0), AtomicUsize::new(0)));
    log.set_observer(Arc::clone(&count) as Arc<dyn Observer>);
    memory.set_faults(Faults { barrier_delay: Duration::from_millis(2), ..Faults::default() });
    let order = Arc::new(Mutex::new(Vec::new()));
    for index in 0..3_000 {
        let order = Arc::clone(&order);
        let done = Box::new(move |answer: Result<(), StoreError>| {
            answer.unwrap();
            order.lock().unwrap().push(index);
        });
        log.append(vec![entry(index, 0, 10)], done);
    }
    log.close();
    assert!(*order.lock().unwrap() == (0..3_000).collect::<Vec<_>>(), "answers out of order");
    let (barriers, ops) = (count.0.load(Ordering::SeqCst), count.1.load(Ordering::SeqCst));
    assert!((6..1_000).contains(&barriers), "{barriers} barriers");
    assert!(ops <= 512, "{ops} operations for one barrier");
}

#[test]
fn entries_that_do_not_continue_the_log_are_rejected_without_harm() {
    for driver in [Driver::Thread, Driver::Inline] {
        let memory = Memory::new();
        let log = log_on(&memory, driver);
        append(&log, entries(0..3, 10)).unwrap();
        assert_eq!(append(&log, entries(4..5, 10)), Err(StoreError::Gap { expected: 3, found: 4 }));
        assert_eq!(append(&log, entries(2..3, 10)), Err(StoreError::Gap { expected: 3, found: 2 }));
        let too_large = append(&log, vec![entry(3, 0, 33 * 1024 * 1024)]);
        assert!(matches!(too_large, Err(StoreError::TooLarge { .. })));
        assert!(matches!(vote(&log, &[0; 1_000]), Err(StoreError::TooLarge { .. })));
        append(&log, entries(3..4, 10)).unwrap();
        assert!(!log.is_poisoned());
        let other = log.clone();
        log.close();
        assert_eq!(append(&other, entries(4..5, 10)), Err(StoreError::Closed));
        assert_eq!(other.read(0, 1, 1).err(), Some(StoreError::Closed));
        assert_eq!(other.size_on_disk(), 0);
    }
}

/// A small file system of its own; unmounted when the value is dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(dir.path())
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(Self(dir))
    }

    fn grow(&self) {
        let status = Command::new("mount")
            .args(["-o", "remount,size=64m"])
            .arg(self.0.path())
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_stops_the_log_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: no permission to mount a small file system");
        return;
    };
    let dir = open_dir(&disk.0.path().join("data"));
    let (log, _) = LogStore::open(&dir, options(Driver::Thread, 1_000)).unwrap();
    let mut acknowledged = 0;
    let error = loop {
        match append(&log, vec![entry(acknowledged, 0, 3_000)]) {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 5_000, "the disk never filled up");
    };
    assert!(error.to_string().contains("No space left"), "{error}");
    assert!(is_poisoned(&vote(&log, b"term")));
    log.close();
    match LogStore::open(&dir, options(Driver::Thread, 1_000)) {
        // Some space was left.
        Ok((log, _)) => log.close(),
        Err(OpenError::Io { source, .. }) => assert_eq!(source.kind(), io::ErrorKind::StorageFull),
        Err(error) => panic!("rejected for the wrong reason: {error}"),
    }
    disk.grow();
    let (log, recovered) = LogStore::open(&dir, options(Driver::Thread, 1_000)).unwrap();
    println!("{acknowledged} entries were acknowledged before the disk was full");
    assert!(recovered.last >= acknowledged.checked_sub(1));
    let all = log.read(0, acknowledged, usize::MAX).unwrap();
    assert!(all == (0..acknowledged).map(|index| entry(index, 0, 3_000)).collect::<Vec<_>>());
    append(&log, vec![entry(recovered.last.unwrap() + 1, 0, 10)]).unwrap();
}
