//! Snapshot files: complete or absent, and never with a wrong byte.

use std::fs;

use fluxgate_store::snapshot::CHUNK_BYTES_MAX;
use fluxgate_store::{RawSnapshot, SnapshotError, SnapshotFile, SnapshotReader, SnapshotStore};

use crate::helpers::content;

fn store() -> (tempfile::TempDir, SnapshotStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = SnapshotStore::open_at(&dir.path().join("snapshots")).unwrap();
    (dir, store)
}

fn write(store: &SnapshotStore, index: u64, sizes: &[usize]) -> SnapshotFile {
    let mut writer = store.create(index, "3-1", b"who is a member").unwrap();
    for (number, size) in (0u64..).zip(sizes) {
        writer.write_chunk(&content(number, index, *size)).unwrap();
    }
    writer.finish().unwrap()
}

fn read(mut reader: SnapshotReader) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| reader.next_chunk().unwrap()).collect()
}

fn names(store: &SnapshotStore) -> Vec<u64> {
    store.list().unwrap().iter().map(|file| file.index).collect()
}

#[test]
fn a_snapshot_round_trips_chunk_by_chunk() {
    let (_dir, store) = store();
    let sizes = [1, 4_096, CHUNK_BYTES_MAX, 70_000];
    let file = write(&store, 42, &sizes);
    assert_eq!(fs::metadata(&file.path).unwrap().len(), file.bytes);
    assert!(file.path.ends_with("00000000000000000042-3-1.snap"));
    let (found, reader) = store.newest_valid().unwrap().unwrap();
    assert_eq!(found, file);
    assert_eq!(
        (reader.index(), reader.id(), reader.meta()),
        (42, "3-1", b"who is a member".as_slice())
    );
    let expected: Vec<_> =
        (0..).zip(sizes).map(|(number, size)| content(number, 42, size)).collect();
    assert!(read(reader) == expected);
    assert_eq!(read(SnapshotReader::open(&write(&store, 50, &[]).path).unwrap()).len(), 0);
}

#[test]
fn invalid_ids_and_chunks_are_rejected() {
    let (_dir, store) = store();
    for id in ["", "a/b", "..\\", "ü", &"x".repeat(65)] {
        assert!(matches!(store.create(1, id, b""), Err(SnapshotError::Invalid(_))), "{id}");
    }
    let mut writer = store.create(1, "a", b"").unwrap();
    assert!(writer.write_chunk(b"").is_err());
    assert!(writer.write_chunk(&vec![0; CHUNK_BYTES_MAX + 1]).is_err());
}

#[test]
fn an_unfinished_snapshot_leaves_no_file() {
    let (dir, store) = store();
    let mut writer = store.create(1, "a", b"").unwrap();
    writer.write_chunk(b"data").unwrap();
    drop(writer);
    drop(store.receive(100).unwrap());
    let path = dir.path().join("snapshots");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    fs::write(path.join("writing-1-1.tmp"), b"litter of a crash").unwrap();
    fs::write(path.join("README"), b"not ours").unwrap();
    let store = SnapshotStore::open_at(&path).unwrap();
    assert!(store.list().unwrap().is_empty());
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
}

#[test]
fn every_damaged_byte_and_every_truncation_is_rejected() {
    let (_dir, store) = store();
    let file = write(&store, 9, &[300, 20, 300]);
    let whole = fs::read(&file.path).unwrap();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(&file.path, &flipped).unwrap();
        let result = SnapshotReader::open(&file.path);
        assert!(matches!(result, Err(SnapshotError::Damaged { .. })), "byte {at}");
        fs::write(&file.path, &whole[..at]).unwrap();
        let result = SnapshotReader::open(&file.path);
        assert!(matches!(result, Err(SnapshotError::Damaged { .. })), "cut at {at}");
    }
    fs::write(&file.path, [whole.as_slice(), b"x"].concat()).unwrap();
    assert!(SnapshotReader::open(&file.path).is_err());
}

#[test]
fn moved_and_missing_chunks_are_rejected() {
    let (_dir, store) = store();
    let file = write(&store, 9, &[100, 100]);
    let whole = fs::read(&file.path).unwrap();
    // A chunk's frame: envelope header, number, data.
    let frame = 13 + 4 + 100;
    let first = whole.windows(100).position(|part| part == content(0, 9, 100)).unwrap() - 17;
    let (head, rest) = whole.split_at(first);
    let (one, rest) = rest.split_at(frame);
    let (two, footer) = rest.split_at(frame);
    for pieces in [vec![two, one], vec![one], vec![one, one], vec![one, two, two], vec![]] {
        let bytes = [head, &pieces.concat(), footer].concat();
        fs::write(&file.path, bytes).unwrap();
        assert!(matches!(SnapshotReader::open(&file.path), Err(SnapshotError::Damaged { .. })));
    }
}

#[test]
fn an_older_snapshot_is_used_when_the_newest_is_damaged() {
    let (_dir, store) = store();
    write(&store, 5, &[100]);
    let newest = write(&store, 6, &[100]);
    let mut bytes = fs::read(&newest.path).unwrap();
    bytes[60] ^= 1;
    fs::write(&newest.path, &bytes).unwrap();
    assert_eq!(store.newest_valid().unwrap().unwrap().0.index, 5);
    assert_eq!(fs::read(&newest.path).unwrap(), bytes);
}

#[test]
fn pruning_keeps_the_newest_two() {
    let (_dir, store) = store();
    for index in [7, 100, 3, 20] {
        write(&store, index, &[10]);
    }
    assert_eq!(names(&store), [100, 20, 7, 3]);
    assert_eq!(store.prune().unwrap(), 2);
    assert_eq!(names(&store), [100, 20]);
    assert_eq!(store.prune().unwrap(), 0);
}

#[test]
fn a_snapshot_is_transferred_in_pieces() {
    let (_sender_dir, sender) = store();
    let (_receiver_dir, receiver) = store();
    let file = write(&sender, 11, &[5_000, 5_000, 1]);
    let raw = RawSnapshot::open(&file).unwrap();
    let mut incoming = receiver.receive(raw.bytes()).unwrap();
    while incoming.received() < raw.bytes() {
        let piece = raw.read_at(incoming.received(), 777).unwrap();
        incoming.write_at(incoming.received(), &piece).unwrap();
    }
    assert!(raw.read_at(raw.bytes(), 777).unwrap().is_empty());
    assert!(receiver.list().unwrap().is_empty());
    let received = incoming.finish().unwrap();
    assert_eq!((received.index, received.id.as_str()), (11, "3-1"));
    assert_eq!(fs::read(received.path).unwrap(), fs::read(file.path).unwrap());
}

#[test]
fn gaps_excess_and_damage_are_rejected_on_receipt() {
    let (_sender_dir, sender) = store();
    let (receiver_dir, receiver) = store();
    let bytes = fs::read(write(&sender, 11, &[500]).path).unwrap();
    let mut incoming = receiver.receive(bytes.len() as u64).unwrap();
    incoming.write_at(0, &bytes[..100]).unwrap();
    let error = incoming.write_at(200, &bytes[200..]).unwrap_err();
    assert!(matches!(error, SnapshotError::Gap { expected: 100, found: 200 }), "{error}");
    assert!(incoming.write_at(0, &bytes[..100]).is_err());
    assert!(incoming.write_at(100, &bytes).is_err());
    assert!(incoming.finish().is_err());
    let mut flipped = bytes.clone();
    flipped[120] ^= 1;
    let mut incoming = receiver.receive(1_000_000).unwrap();
    incoming.write_at(0, &flipped).unwrap();
    assert!(matches!(incoming.finish(), Err(SnapshotError::Damaged { .. })));
    assert_eq!(fs::read_dir(receiver_dir.path().join("snapshots")).unwrap().count(), 0);
}
