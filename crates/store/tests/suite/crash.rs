//! Power cuts: a child process writes, a recorder logs which write reaches which file and when, and
//! the log is opened from the disks that a cut at many moments may have left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use fluxgate_store::{DataDir, Driver, LogStore, OpenError, StoreError};

use crate::disk_image::{Action, Disk, Survivors, parse, recorder};
use crate::helpers::{content, entry, open_dir, options};

/// One operation of the child; its number is its index in the list.
#[derive(Clone, Copy, Debug)]
enum Op {
    Append { from: u64, count: u64 },
    Vote,
    Truncate { kept: u64 },
    Purge { upto: u64 },
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % bound
    }
}

/// The operations of a run: the same in the child and in the test.
fn plan(count: usize) -> Vec<Op> {
    let mut random = Random(7);
    let (mut first, mut next) = (0u64, 0u64);
    (0..count)
        .map(|_| match random.below(40) {
            0 | 1 => Op::Vote,
            2 if next - first > 40 => {
                next -= 1 + random.below(20);
                Op::Truncate { kept: next - 1 }
            }
            3 if next - first > 100 => {
                first += 60 + random.below(40).min(next - first - 61);
                Op::Purge { upto: first - 1 }
            }
            _ => {
                let (from, count) = (next, 1 + random.below(12));
                next += count;
                Op::Append { from, count }
            }
        })
        .collect()
}

fn size(index: u64) -> usize {
    match index % 17 {
        0 => 9_000,
        1 => 4_090,
        _ => 300,
    }
}

fn vote_of(number: usize) -> Vec<u8> {
    (number as u64).to_be_bytes().to_vec()
}

/// Not a test of its own: the code of the child process that the tests below start.
#[test]
fn the_child() {
    let Ok(dir) = std::env::var("CRASH_DIR") else {
        return;
    };
    let operations: usize = std::env::var("CRASH_OPERATIONS").unwrap().parse().unwrap();
    let notes = File::create(std::env::var("RECORD_NOTES").unwrap()).unwrap();
    let notes = Arc::new(Mutex::new(notes));
    let note = move |text: String| notes.lock().unwrap().write_all(text.as_bytes()).unwrap();
    let dir = DataDir::open(Path::new(&dir), "test", 1).unwrap();
    let (log, _) = LogStore::open(&dir, options(Driver::Thread, 20_000)).unwrap();
    for (number, op) in plan(operations).into_iter().enumerate() {
        // A few operations at a time, so that barriers cover groups of different sizes.
        if number % 9 == 0 {
            let (sender, answer) = std::sync::mpsc::channel();
            log.append(Vec::new(), Box::new(move |_| sender.send(()).unwrap()));
            answer.recv().unwrap();
        }
        note(format!("submit {number}"));
        let acknowledge = note.clone();
        let done = Box::new(move |answer: Result<(), StoreError>| {
            answer.unwrap();
            acknowledge(format!("done {number}"));
        });
        match op {
            Op::Append { from, count } => {
                let new =
                    (from..from + count).map(|index| entry(index, number as u64, size(index)));
                log.append(new.collect(), done);
            }
            Op::Vote => log.save_vote(vote_of(number), done),
            Op::Truncate { kept } => log.truncate_after(Some(kept)),
            Op::Purge { upto } => log.purge(upto, b"marker".to_vec()),
        }
    }
    log.close();
}

/// Runs the child on a directory; returns the disk as it was before, and what was done to it.
fn run_child(dir: &Path, operations: usize) -> (Disk, Vec<Action>) {
    let before = Disk::read(dir);
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log");
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::the_child", "--test-threads", "1"])
        .env("LD_PRELOAD", recorder())
        .env("RECORD_LOG", &log)
        .env("RECORD_DIR", dir)
        .env("RECORD_NOTES", place.path().join("notes"))
        .env("CRASH_DIR", dir)
        .env("CRASH_OPERATIONS", operations.to_string())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    (before, parse(&fs::read(&log).unwrap()))
}

/// What had been promised and submitted at the power cut.
#[derive(Clone, Debug, Default)]
struct Promised {
    /// Operations before this one are durable.
    durable: usize,
    /// Operations before this one were submitted.
    submitted: usize,
}

impl Promised {
    fn follow(&mut self, action: &Action) {
        let Action::Note(text) = action else { return };
        let (what, number) = text.split_once(' ').unwrap();
        let number: usize = number.parse().unwrap();
        match what {
            "submit" => self.submitted = number + 1,
            _ => self.durable = number + 1,
        }
    }
}

/// Opens the disk that a power cut left and compares it with the promises.
fn judge(root: &Path, promised: &Promised, plan: &[Op]) -> Result<(), String> {
    let text = |error: OpenError| error.to_string();
    let dir = DataDir::open(root, "test", 1).map_err(text)?;
    let (log, recovered) = LogStore::open(&dir, options(Driver::Inline, 1 << 20)).map_err(text)?;
    let mut expected = BTreeMap::new();
    let mut written: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    let mut vote = None;
    for (number, op) in plan.iter().enumerate().take(promised.submitted) {
        let durable = number < promised.durable;
        match op {
            Op::Append { from, count } => {
                for index in *from..from + count {
                    written.entry(index).or_default().insert(number as u64);
                    if durable {
                        expected.insert(index, number as u64);
                    }
                }
            }
            Op::Vote if durable => vote = Some(vote_of(number)),
            Op::Vote => {}
            // One that is not durable yet may have been executed completely, in part, or not at
            // all.
            Op::Truncate { kept } => expected.retain(|index, _| index <= kept),
            Op::Purge { upto } => expected.retain(|index, _| index > upto),
        }
    }
    if recovered.vote < vote {
        return Err(format!("vote {:?} instead of {vote:?}", recovered.vote));
    }
    let first = recovered.first.unwrap_or(0);
    let found = log.read(first, u64::MAX, usize::MAX).map_err(|error| error.to_string())?;
    let found: BTreeMap<_, _> = found.into_iter().collect();
    for (index, writing) in &expected {
        if found.get(index).map(|bytes| bytes.to_vec())
            != Some(content(*index, *writing, size(*index)))
        {
            return Err(format!("entry {index} is lost"));
        }
    }
    for (index, bytes) in &found {
        let mut writings = written.get(index).into_iter().flatten();
        if !writings.any(|writing| content(*index, *writing, size(*index)) == **bytes) {
            return Err(format!("entry {index} was never written like this"));
        }
    }
    log.close();
    Ok(())
}

/// Simulates power cuts at the chosen moments; returns the number of disks, and the failures.
fn cut(
    mut disk: Disk,
    actions: &[Action],
    plan: &[Op],
    chosen: impl Fn(usize) -> bool,
) -> (usize, Vec<String>) {
    let mut promised = Promised::default();
    let (mut images, mut wrong) = (0, Vec::new());
    for (number, action) in actions.iter().enumerate() {
        disk.follow(action);
        promised.follow(action);
        if !chosen(number) {
            continue;
        }
        let seed = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for survivors in [Survivors::None, Survivors::All, Survivors::Random(seed)] {
            let root = tempfile::tempdir().unwrap();
            disk.write(root.path(), survivors);
            images += 1;
            if let Err(why) = judge(root.path(), &promised, plan) {
                wrong.push(format!("cut at {number}, {survivors:?}: {why}"));
            }
        }
    }
    (images, wrong)
}

const OPERATIONS: usize = 400;

/// Chooses about one moment in `every`, without a regular pattern.
fn about_one_in(every: u64) -> impl Fn(usize) -> bool {
    move |number| (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 < (1 << 32) / every
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let data = open_dir(dir.path());
    LogStore::open(&data, options(Driver::Thread, 0)).unwrap().0.close();
    drop(data);
    let (disk, actions) = run_child(dir.path(), OPERATIONS);
    let every = actions.len() as u64 / 120;
    let (images, wrong) = cut(disk.clone(), &actions, &plan(OPERATIONS), about_one_in(every));
    println!("{images} disks after a power cut, {} wrong", wrong.len());
    assert!(images > 150);
    assert!(wrong.is_empty(), "{wrong:#?}");

    // The same without the override: sled's flush is then without effect. If this finds no failure,
    // the test above proves nothing.
    let mut without_override = disk;
    without_override.fdatasync_ignored = Some("sled/db".to_owned());
    let (images, wrong) = cut(without_override, &actions, &plan(OPERATIONS), about_one_in(every));
    println!("{images} disks with sled's own flush, {} wrong", wrong.len());
    assert!(wrong.len() > images / 10, "{} of {images}", wrong.len());
}

#[test]
fn a_power_cut_during_creation_leaves_a_directory_that_opens() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, actions) = run_child(dir.path(), 12);
    let (images, wrong) = cut(disk, &actions, &plan(12), |_| true);
    println!("{images} disks from the creation of a directory, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}
