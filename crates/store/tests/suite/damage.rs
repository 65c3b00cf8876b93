//! Damage to a closed data directory: it is rejected, or all data is still there. Data must never
//! be lost silently.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fluxgate_store::{
    DataDir, Driver, Entry, HardStateFile, LogStore, Memory, OpenError, Recovered, SnapshotStore,
};

use crate::helpers::{append, contents, entries, entry, open, open_dir, options, vote};

type Content = (Recovered, Vec<Entry>);

/// Creates a log with every kind of content, and closes it.
fn fill(dir: &Path) -> Content {
    let dir = open_dir(dir);
    let (log, _) = open(&dir, Driver::Thread);
    vote(&log, b"term 1").unwrap();
    append(&log, entries(0..300, 250)).unwrap();
    append(&log, (300..320).map(|index| entry(index, 0, 9_000)).collect()).unwrap();
    log.truncate_after(Some(309));
    append(&log, (310..330).map(|index| entry(index, 1, 300)).collect()).unwrap();
    vote(&log, b"term 2").unwrap();
    log.save_committed(b"325".to_vec());
    log.purge(99, b"99 of term 1".to_vec());
    log.close();
    content(&dir).unwrap()
}

fn content(dir: &DataDir) -> Result<Content, OpenError> {
    let (log, recovered) = LogStore::open(dir, options(Driver::Thread, 20_000))?;
    let all = log.read(100, u64::MAX, usize::MAX).unwrap();
    log.close();
    Ok((recovered, all))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for found in fs::read_dir(from).unwrap() {
        let found = found.unwrap();
        let target = to.join(found.file_name());
        if found.file_type().unwrap().is_dir() {
            copy(&found.path(), &target);
        } else {
            fs::copy(found.path(), target).unwrap();
        }
    }
}

/// Opens a damaged copy and returns whether it was rejected. Fails if it opens with less data, or
/// if the rejection changed anything.
fn rejected(original: &Path, expected: &Content, damage: impl FnOnce(&Path)) -> bool {
    let copied = tempfile::tempdir().unwrap();
    copy(original, copied.path());
    damage(copied.path());
    let before = contents(copied.path());
    let outcome = DataDir::open(copied.path(), "test", 1).and_then(|dir| content(&dir));
    match outcome {
        Ok(found) => {
            assert!(found.0 == expected.0, "{:?} instead of {:?}", found.0, expected.0);
            assert!(found.1 == expected.1, "entries differ");
            false
        }
        Err(error @ OpenError::Corrupt { .. }) => {
            assert_unchanged(copied.path(), &before);
            let text = error.to_string();
            assert!(text.contains(copied.path().to_str().unwrap()), "{text}");
            assert!(!text.contains("sled.check"), "{text}");
            true
        }
        Err(error) => panic!("rejected for the wrong reason: {error}"),
    }
}

/// Fails if a file was changed, created or removed. The lock file is not part of the data.
fn assert_unchanged(dir: &Path, before: &BTreeMap<PathBuf, Vec<u8>>) {
    let after = contents(dir);
    let lock = dir.join("LOCK");
    let changed: Vec<_> = before
        .keys()
        .chain(after.keys())
        .filter(|path| **path != lock && before.get(*path) != after.get(*path))
        .collect();
    assert!(changed.is_empty(), "a rejected open changed {changed:?}");
    assert!(!dir.join("sled.check").exists(), "the copy was not removed");
}

fn flip(path: &Path, offset: u64, mask: u8) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0u8; 1];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ mask], offset).unwrap();
}

/// A small generator that yields the same offsets in every run.
fn offsets(count: usize, below: u64) -> impl Iterator<Item = u64> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (state >> 20) % below
    })
    .take(count)
}

#[test]
fn a_flipped_bit_in_the_database_is_rejected_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let expected = fill(dir.path());
    let db = dir.path().join("sled/db");
    // The rest of the file is zero and unused: damage only matters before the last used byte.
    let bytes = fs::read(&db).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    let count = 300;
    let found = offsets(count, used)
        .filter(|offset| {
            let mask = 1u8 << (offset % 8);
            rejected(dir.path(), &expected, |copy| flip(&copy.join("sled/db"), *offset, mask))
        })
        .count();
    println!("bit flips: {found} of {count} rejected, the others harmless; {used} bytes used");
    assert!(found > 0);
}

#[test]
fn lost_pages_and_a_truncated_database_are_rejected_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let expected = fill(dir.path());
    let length = fs::metadata(dir.path().join("sled/db")).unwrap().len();
    let mut found = 0;
    for offset in offsets(30, length) {
        let page = offset / 4_096 * 4_096;
        let lost = rejected(dir.path(), &expected, |copy| {
            let file = fs::OpenOptions::new().write(true).open(copy.join("sled/db")).unwrap();
            file.write_all_at(&[0; 4_096], page).unwrap();
        });
        let cut = rejected(dir.path(), &expected, |copy| {
            let file = fs::OpenOptions::new().write(true).open(copy.join("sled/db")).unwrap();
            file.set_len(offset).unwrap();
        });
        found += usize::from(lost) + usize::from(cut);
    }
    println!("lost pages and cuts: {found} of 60 rejected");
    assert!(found > 0);
}

#[test]
fn a_missing_file_of_the_directory_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let expected = fill(dir.path());
    assert!(rejected(dir.path(), &expected, |copy| fs::remove_dir_all(copy.join("sled")).unwrap()));
    assert!(rejected(dir.path(), &expected, |copy| {
        fs::remove_file(copy.join("sled/db")).unwrap();
    }));
    assert!(rejected(dir.path(), &expected, |copy| {
        fs::remove_file(copy.join("HARDSTATE")).unwrap();
    }));
    assert!(rejected(dir.path(), &expected, |copy| {
        fs::write(copy.join("HARDSTATE"), [0u8; 1_024]).unwrap();
    }));
    assert!(rejected(dir.path(), &expected, |copy| flip(&copy.join("IDENTITY"), 20, 1)));
    assert!(rejected(dir.path(), &expected, |copy| {
        fs::write(copy.join("sled/db"), b"").unwrap();
        fs::write(copy.join("sled/snap.0000000000000001.generating"), b"half").unwrap();
    }));
    assert!(rejected(dir.path(), &expected, |copy| {
        fs::remove_dir_all(copy.join("sled")).unwrap();
        fs::remove_file(copy.join("HARDSTATE")).unwrap();
    }));
}

#[test]
fn a_rejected_start_does_not_count_and_a_sound_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let expected = fill(dir.path());
    let db = dir.path().join("sled/db");
    let litter = dir.path().join("snapshots/litter.tmp");
    for boots in 2..5 {
        let whole = fs::read(&db).unwrap();
        fs::write(&db, b"").unwrap();
        let before = contents(dir.path());
        for _ in 0..2 {
            let data = open_dir(dir.path());
            assert_eq!(data.identity().boots, boots);
            SnapshotStore::open(&data).unwrap();
            assert!(matches!(content(&data), Err(OpenError::Corrupt { .. })));
            drop(data);
            assert_unchanged(dir.path(), &before);
        }
        fs::write(&db, whole).unwrap();
        // The copy of a process that was killed during its trial.
        fs::create_dir(dir.path().join("sled.check")).unwrap();
        fs::write(dir.path().join("sled.check/db"), b"half").unwrap();
        let data = open_dir(dir.path());
        assert_eq!(data.identity().boots, boots);
        let store = SnapshotStore::open(&data).unwrap();
        assert!(content(&data).unwrap() == expected);
        assert!(content(&data).unwrap() == expected);
        assert!(!dir.path().join("sled.check").exists());
        assert!(store.list().unwrap().is_empty());
        assert!(!litter.exists());
        fs::write(&litter, b"half").unwrap();
    }
}

#[test]
fn an_older_copy_of_the_database_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let open_log = || open(&open_dir(dir.path()), Driver::Thread).0;
    let older = tempfile::tempdir().unwrap();
    let put_back = |name: &str| {
        let restored = tempfile::tempdir().unwrap();
        copy(dir.path(), restored.path());
        fs::remove_dir_all(restored.path().join("sled")).unwrap();
        copy(&older.path().join(name), &restored.path().join("sled"));
        LogStore::open(&open_dir(restored.path()), options(Driver::Thread, 0)).err()
    };
    let keep = |name: &str| copy(&dir.path().join("sled"), &older.path().join(name));
    let log = open_log();
    append(&log, entries(0..10, 100)).unwrap();
    vote(&log, b"term 1").unwrap();
    log.close();
    keep("first");
    let log = open_log();
    log.truncate_after(Some(4));
    append(&log, (5..10).map(|index| entry(index, 1, 100)).collect()).unwrap();
    log.close();
    // As long as before, but with another history.
    assert!(matches!(put_back("first"), Some(OpenError::Corrupt { .. })));
    keep("second");
    assert!(put_back("second").is_none());
    let log = open_log();
    vote(&log, b"term 2").unwrap();
    log.close();
    assert!(matches!(put_back("second"), Some(OpenError::Corrupt { .. })));
}

#[test]
fn leftovers_of_a_crash_are_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let expected = fill(dir.path());
    let snapshot_name = fs::read_dir(dir.path().join("sled"))
        .unwrap()
        .map(|found| found.unwrap().file_name().into_string().unwrap())
        .find(|name| name.starts_with("snap."))
        .unwrap();
    for litter in [&b""[..], b"cut short"] {
        let name = format!("{snapshot_name}.generating");
        assert!(!rejected(dir.path(), &expected, |copy| {
            fs::write(copy.join("sled").join(&name), litter).unwrap();
            fs::create_dir(copy.join("snapshots")).unwrap();
            fs::write(copy.join("HARDSTATE.tmp"), litter).unwrap();
        }));
    }
}

#[test]
fn an_interrupted_creation_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    // Interrupted during the first writes of the database.
    let data = open_dir(dir.path());
    fs::create_dir(dir.path().join("sled.tmp")).unwrap();
    fs::write(dir.path().join("sled.tmp/db"), b"half").unwrap();
    drop(data);
    let data = open_dir(dir.path());
    open(&data, Driver::Thread).0.close();
    drop(data);
    // Interrupted between the database and the hard state.
    let other = tempfile::tempdir().unwrap();
    let data = open_dir(other.path());
    copy(&dir.path().join("sled"), &other.path().join("sled"));
    let (log, recovered) = open(&data, Driver::Thread);
    assert_eq!(recovered, Recovered::default());
    append(&log, entries(0..3, 10)).unwrap();
    log.close();
    assert_eq!(content_from(&data, 0).len(), 3);
}

fn content_from(dir: &DataDir, start: u64) -> Vec<Entry> {
    let (log, _) = open(dir, Driver::Inline);
    log.read(start, u64::MAX, usize::MAX).unwrap()
}

#[test]
fn a_database_in_use_is_rejected_after_a_wait() {
    let dir = tempfile::tempdir().unwrap();
    let data = open_dir(dir.path());
    let (log, _) = open(&data, Driver::Thread);
    let again = LogStore::open(&data, options(Driver::Thread, 0));
    assert!(matches!(again, Err(OpenError::InUse { .. })));
    log.close();
    open(&data, Driver::Thread);
}

/// Removes every key of the database and flips bytes of every value, one at a time.
#[test]
fn every_lost_key_and_every_flipped_byte_is_detected() {
    let hard_dir = tempfile::tempdir().unwrap();
    HardStateFile::create(hard_dir.path()).unwrap();
    let memory = Memory::new();
    let open_with = |memory: &Memory| {
        let hard = HardStateFile::open(hard_dir.path()).unwrap();
        LogStore::open_with(Box::new(memory.clone()), Some(hard), options(Driver::Inline, 0))
    };
    let (log, _) = open_with(&memory).unwrap();
    append(&log, entries(0..20, 30)).unwrap();
    append(&log, vec![entry(20, 0, 5_000)]).unwrap();
    vote(&log, b"term").unwrap();
    log.purge(4, b"marker".to_vec());
    log.close();
    let hard = fs::read(hard_dir.path().join("HARDSTATE")).unwrap();
    for (key, value) in memory.pairs() {
        let mut damaged: Vec<Option<Vec<u8>>> = vec![None];
        for at in (0..value.len()).filter(|at| value.len() < 200 || at % 97 == 0) {
            let mut flipped = value.clone();
            flipped[at] ^= 1 << (at % 8);
            damaged.push(Some(flipped));
        }
        for value in damaged {
            let copy = memory.after_power_cut(usize::MAX);
            copy.damage(&key, value.as_deref());
            let error = open_with(&copy).err();
            let key = String::from_utf8_lossy(&key);
            assert!(matches!(error, Some(OpenError::Corrupt { .. })), "{key}: {error:?}");
        }
    }
    // The rejected opens wrote nothing.
    assert_eq!(fs::read(hard_dir.path().join("HARDSTATE")).unwrap(), hard);
    assert!(open_with(&memory).is_ok());
}

#[test]
fn a_resurrected_older_entry_is_detected_without_the_hard_state() {
    let memory = Memory::new();
    let open_with = |memory: &Memory| {
        LogStore::open_with(Box::new(memory.clone()), None, options(Driver::Inline, 0))
    };
    let (log, _) = open_with(&memory).unwrap();
    append(&log, entries(0..10, 50)).unwrap();
    let older = memory.pairs();
    log.truncate_after(Some(3));
    append(&log, (4..10).map(|index| entry(index, 1, 50)).collect()).unwrap();
    drop(log);
    for (key, value) in older.iter().skip(4).take(5) {
        let copy = memory.after_power_cut(usize::MAX);
        copy.damage(key, Some(value));
        assert!(matches!(open_with(&copy), Err(OpenError::Corrupt { .. })));
    }
}

#[test]
fn reading_a_damaged_entry_is_an_error() {
    let memory = Memory::new();
    let (log, _) =
        LogStore::open_with(Box::new(memory.clone()), None, options(Driver::Inline, 0)).unwrap();
    append(&log, entries(0..10, 50)).unwrap();
    let (key, mut value) = memory.pairs().swap_remove(5);
    value[20] ^= 1;
    memory.damage(&key, Some(&value));
    assert_eq!(log.read(0, 10, usize::MAX).unwrap().len(), 5);
    assert!(log.read(5, 10, usize::MAX).is_err());
    memory.damage(&key, None);
    assert!(log.read(5, 10, usize::MAX).is_err());
    let bytes: Arc<[u8]> = log.read(6, 7, 0).unwrap().remove(0).1;
    assert_eq!(bytes, entry(6, 0, 50).1);
}
