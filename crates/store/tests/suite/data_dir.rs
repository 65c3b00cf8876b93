//! The data directory: its owner, and that a rejected open leaves it unchanged.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fluxgate_store::{DataDir, OpenError};

use crate::helpers::contents;

/// Opens as `cluster` and `node`; expects a rejection that changes nothing.
fn rejected(dir: &Path, cluster: &str, node: u64) -> OpenError {
    let before = contents(dir);
    let error = DataDir::open(dir, cluster, node).unwrap_err();
    assert!(contents(dir) == before, "a rejected directory was changed");
    let text = error.to_string();
    assert!(text.contains(dir.to_str().unwrap()), "{text}");
    assert!(!text.contains('\n') && text.starts_with(|c: char| !c.is_uppercase()), "{text}");
    error
}

fn made() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    drop(DataDir::open(dir.path(), "blue", 7).unwrap());
    dir
}

#[test]
fn each_incarnation_has_the_next_number_and_the_same_directory() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a/b");
    let first = DataDir::open(&path, "blue", 7).unwrap();
    let identity = first.identity().clone();
    assert_eq!((identity.cluster.as_str(), identity.node, identity.boots), ("blue", 7, 1));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    drop(first);
    for boots in 2..6 {
        // A start that goes no further than the open does not count.
        let before = contents(&path);
        drop(DataDir::open(&path, "blue", 7).unwrap());
        let next = DataDir::open(&path, "blue", 7).unwrap();
        assert!(contents(&path) == before, "an open changed the directory");
        next.begin_incarnation().unwrap();
        let begun = contents(&path);
        assert!(begun != before);
        next.begin_incarnation().unwrap();
        assert!(contents(&path) == begun, "an incarnation was counted twice");
        assert_eq!((next.identity().boots, next.identity().dir_id), (boots, identity.dir_id));
    }
}

#[test]
fn two_directories_have_different_ids() {
    let id =
        |dir: &tempfile::TempDir| DataDir::open(dir.path(), "blue", 7).unwrap().identity().dir_id;
    assert_ne!(id(&made()), id(&made()));
}

#[test]
fn a_directory_in_use_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let holder = DataDir::open(dir.path(), "blue", 7).unwrap();
    assert!(matches!(rejected(dir.path(), "blue", 7), OpenError::InUse { .. }));
    drop(holder);
    DataDir::open(dir.path(), "blue", 7).unwrap();
}

#[test]
fn another_cluster_or_node_is_rejected() {
    let dir = made();
    let error = rejected(dir.path(), "green", 7);
    assert!(matches!(error, OpenError::OtherCluster { .. }), "{error}");
    let error = rejected(dir.path(), "blue", 8);
    assert!(matches!(error, OpenError::OtherNode { expected: 8, found: 7, .. }), "{error}");
    assert_eq!(DataDir::open(dir.path(), "blue", 7).unwrap().identity().boots, 2);
}

#[test]
fn newer_and_unknown_formats_are_rejected() {
    let dir = made();
    fs::write(dir.path().join("VERSION"), "fluxgate data directory, format 2\n").unwrap();
    let error = rejected(dir.path(), "blue", 7);
    assert!(matches!(error, OpenError::Newer { found: 2, newest: 1, .. }), "{error}");
    for garbage in ["", "1", "fluxgate data directory, format x\n", "\u{0}\u{0}\u{0}"] {
        fs::write(dir.path().join("VERSION"), garbage).unwrap();
        assert!(matches!(rejected(dir.path(), "blue", 7), OpenError::Corrupt { .. }));
    }
    fs::remove_file(dir.path().join("VERSION")).unwrap();
    assert!(matches!(rejected(dir.path(), "blue", 7), OpenError::Corrupt { .. }));
}

#[test]
fn a_damaged_identity_is_rejected() {
    let dir = made();
    let path = dir.path().join("IDENTITY");
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(matches!(rejected(dir.path(), "blue", 7), OpenError::Corrupt { .. }));
    }
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &flipped).unwrap();
        assert!(matches!(rejected(dir.path(), "blue", 7), OpenError::Corrupt { .. }));
    }
    fs::write(&path, vec![0; 100_000]).unwrap();
    assert!(matches!(rejected(dir.path(), "blue", 7), OpenError::Corrupt { .. }));
}

#[test]
fn a_lost_identity_differs_from_one_that_was_never_written() {
    let dir = made();
    fs::remove_file(dir.path().join("IDENTITY")).unwrap();
    fs::write(dir.path().join("IDENTITY.tmp"), b"half").unwrap();
    assert_eq!(DataDir::open(dir.path(), "blue", 7).unwrap().identity().boots, 1);

    fs::remove_file(dir.path().join("IDENTITY")).unwrap();
    fs::create_dir(dir.path().join("sled")).unwrap();
    assert!(matches!(rejected(dir.path(), "blue", 7), OpenError::Corrupt { .. }));
}

#[test]
fn a_carryover_is_returned_once() {
    let dir = made();
    let open = || DataDir::open(dir.path(), "blue", 7).unwrap();
    assert_eq!(open().take_holdings().unwrap(), None);
    open().write_holdings(&[b"three tokens".to_vec()]).unwrap();
    open().write_holdings(&[b"one".to_vec(), b"more".to_vec()]).unwrap();
    let left = open().take_holdings().unwrap();
    assert_eq!(left, Some(vec![b"one".to_vec(), b"more".to_vec()]));
    assert!(!dir.path().join("HOLDINGS").exists());
    assert_eq!(open().take_holdings().unwrap(), None);
}

#[test]
fn a_damaged_carryover_is_rejected_and_kept() {
    let dir = made();
    let open = DataDir::open(dir.path(), "blue", 7).unwrap();
    open.write_holdings(&[b"three tokens".to_vec()]).unwrap();
    let path = dir.path().join("HOLDINGS");
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x40;
        fs::write(&path, &flipped).unwrap();
        let error = open.take_holdings().unwrap_err();
        assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), flipped);
        // The next incarnation does not start with them either.
        if at == whole.len() - 1 {
            drop(open);
            let error = rejected(dir.path(), "blue", 7);
            assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
            return;
        }
    }
}
