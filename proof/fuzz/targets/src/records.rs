//! Everything on a disk: envelopes, log entries, markers, the hard state, snapshot files and the
//! small files of a data directory.
//!
//! Any bytes are rejected or read; what is read is written again the same. Damage in one byte of
//! written data is detected. `scripts/fuzz.sh` bounds the memory that a reader may take: it gives
//! the process little address space.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fluxgate_engine::state::Registry;
use fluxgate_engine::state::snapshot::{Item, Restore};
use fluxgate_raft::fuzzing;
use fluxgate_store::codec::{self, CodecError, Kind};
use fluxgate_store::log::{Driver, Options};
use fluxgate_store::{
    DataDir, HardStateFile, LogBackend as _, LogStore, Memory, Recovered, SnapshotReader,
    SnapshotStore,
};
use fluxgate_types::{ClusterMs, LogIndex};
use fluxgate_wire::{Shaped as _, VERSION, VERSION_NEWEST};

use crate::host::scratch;
use crate::peer_messages::stable;
use crate::source::Source;

const KINDS: [Kind; 16] = [
    Kind::Entry,
    Kind::Vote,
    Kind::SnapshotHeader,
    Kind::SnapshotChunk,
    Kind::PeerMessage,
    Kind::Identity,
    Kind::Holdings,
    Kind::Committed,
    Kind::LogId,
    Kind::HardState,
    Kind::SnapshotFooter,
    Kind::ClockMark,
    Kind::Starts,
    Kind::LastUses,
    Kind::Addresses,
    Kind::Stops,
];
/// Size of the hard state's file.
const HARD_STATE_BYTES: usize = 1_024;
/// Offset of its second slot.
const HARD_STATE_SLOT: usize = 512;
/// Pairs of one database.
const PAIRS_MAX: usize = 24;
/// Largest value of a pair here.
const VALUE_BYTES_MAX: usize = 300;
const ENTRIES_MAX: usize = 6;
const CHUNKS_MAX: usize = 4;

thread_local! {
    // One directory for all inputs: each input writes its files again.
    static DIR: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

fn dir() -> PathBuf {
    DIR.with_borrow_mut(|dir| dir.get_or_insert_with(scratch).path().to_owned())
}

/// Records of one of the kinds, chosen by the first byte.
pub fn records(data: &[u8]) {
    let mut source = Source::new(data);
    match source.below(8) {
        0 => envelope(source.rest()),
        1 | 2 => payload(source),
        3 => database(source),
        4 => log(source),
        5 => snapshot(source),
        6 => small_files(source),
        _ => items(source),
    }
}

fn envelope(bytes: &[u8]) {
    for kind in KINDS {
        let Ok((version, payload)) = codec::open(kind, bytes) else { continue };
        assert_eq!(codec::seal(kind, version, payload).as_deref(), Ok(bytes));
        damaged(kind, bytes);
    }
    for (_, rewrite) in fuzzing::RECORDS {
        stable(*rewrite, bytes);
    }
}

/// Every single changed byte of an envelope is detected.
fn damaged(kind: Kind, bytes: &[u8]) {
    for at in 0..bytes.len() {
        let mut wrong = bytes.to_vec();
        wrong[at] ^= 0x40;
        assert!(codec::open(kind, &wrong).is_err(), "byte {at} was changed");
    }
    let cut = bytes.len().saturating_sub(1);
    assert!(matches!(codec::open(kind, &bytes[..cut]), Err(CodecError::Short { .. })));
    let longer = [bytes, b"x"].concat();
    assert_eq!(codec::open(kind, &longer), Err(CodecError::Trailing { extra: 1 }));
}

fn payload(mut source: Source<'_>) {
    let (kind, rewrite) = fuzzing::RECORDS[source.below(fuzzing::RECORDS.len())];
    let version = if source.once_in(32) { source.byte() } else { VERSION };
    let sealed = codec::seal(kind, version, source.rest()).expect("it fits");
    // An entry has the version of its level: entries that an older program can read are written as
    // before.
    let newest = if kind == Kind::Entry { VERSION_NEWEST } else { VERSION };
    if (VERSION..=newest).contains(&version) {
        stable(rewrite, &sealed);
    } else {
        let rejected = Err(CodecError::Version { expected: newest, found: version });
        assert_eq!(rewrite(&sealed), rejected);
    }
}

fn open(disk: &Memory) -> Result<(LogStore, Recovered), fluxgate_store::OpenError> {
    let options = Options { driver: Driver::Inline, tail_bytes_max: 256 };
    LogStore::open_with(Box::new(disk.clone()), None, options)
}

/// Any pairs as a log: rejected, or a log that can be read as a whole and opened again.
fn database(mut source: Source<'_>) {
    let mut disk = Memory::new();
    for _ in 0..PAIRS_MAX {
        if source.is_empty() {
            break;
        }
        let key = match source.below(8) {
            0 => b"Mvote".to_vec(),
            1 => b"Mpurged".to_vec(),
            2 => b"Mcommitted".to_vec(),
            3 => b"Mstart".to_vec(),
            4 => source.bytes(11).to_vec(),
            _ => part_key(u64::from(source.byte()), u16::from(source.byte() % 3)),
        };
        let length = usize::from(source.byte());
        let value = source.bytes(length.min(VALUE_BYTES_MAX));
        let value = match source.below(4) {
            0 => codec::seal(Kind::Vote, VERSION, value).expect("it fits"),
            1 => codec::seal(Kind::LogId, VERSION, value).expect("it fits"),
            _ => value.to_vec(),
        };
        disk.put(&key, &value).expect("memory takes it");
    }
    let Ok((log, recovered)) = open(&disk) else { return };
    let entries = read_all(&log, &recovered);
    log.close();
    let (log, again) = open(&disk).expect("a log that opened once opens again");
    assert_eq!(entries, read_all(&log, &again));
}

fn part_key(index: u64, part: u16) -> Vec<u8> {
    [&b"L"[..], &index.to_be_bytes(), &part.to_be_bytes()].concat()
}

fn read_all(log: &LogStore, found: &Recovered) -> BTreeMap<u64, Vec<u8>> {
    let (Some(first), Some(last)) = (found.first, found.last) else { return BTreeMap::new() };
    let mut entries = BTreeMap::new();
    let mut next = first;
    while next <= last {
        let read = log.read(next, last.saturating_add(1), 64).expect("a checked log is read");
        assert!(!read.is_empty(), "nothing at {next} of {first} to {last}");
        for (index, bytes) in read {
            assert_eq!(index, next, "a hole");
            entries.insert(index, bytes.to_vec());
            let Some(after) = next.checked_add(1) else { return entries };
            next = after;
        }
    }
    entries
}

/// Writes a log and damages it: the damage is detected, or the log lost at most its end.
fn log(mut source: Source<'_>) {
    let disk = Memory::new();
    let (log, _) = open(&disk).expect("a new log");
    let first = 1 + u64::from(source.byte());
    let count = 1 + source.below(ENTRIES_MAX);
    let mut written = BTreeMap::new();
    for index in (first..).take(count) {
        let large = source.once_in(8);
        let size = if large { 5_000 } else { usize::from(source.byte()) };
        let mut bytes = source.bytes(size).to_vec();
        bytes.resize(size.max(bytes.len()), 7);
        let entry: Arc<[u8]> = bytes.as_slice().into();
        log.append(vec![(index, entry)], Box::new(|done| done.expect("memory takes it")));
        written.insert(index, bytes);
    }
    log.save_vote(b"a vote".to_vec(), Box::new(|done| done.expect("memory takes it")));
    if source.once_in(3) {
        let upto = first + source.below(count) as u64;
        log.purge(upto, b"a marker".to_vec());
        written.retain(|index, _| *index > upto);
    }
    log.close();
    let (log, found) = open(&disk).expect("an undamaged log opens");
    assert_eq!(read_all(&log, &found), written);
    assert_eq!(found.vote.as_deref(), Some(&b"a vote"[..]));
    log.close();
    let pairs = disk.pairs();
    let (key, value) = &pairs[source.below(pairs.len())];
    let mut wrong = value.clone();
    if wrong.is_empty() || source.once_in(8) {
        disk.damage(key, None);
    } else {
        let at = usize::try_from(source.short()).unwrap_or(0) % wrong.len();
        wrong[at] ^= 1 << (source.byte() % 8);
        disk.damage(key, Some(&wrong));
    }
    let Ok((log, found)) = open(&disk) else { return };
    // Entries may be missing only at the end, where a crash can leave a log; no entry may differ.
    for (index, bytes) in read_all(&log, &found) {
        assert_eq!(written.get(&index), Some(&bytes), "entry {index} was damaged");
    }
    let vote = found.vote.as_deref();
    assert!(vote.is_none() || vote == Some(&b"a vote"[..]), "the vote was damaged");
}

/// A snapshot file, of any bytes or written and damaged.
fn snapshot(mut source: Source<'_>) {
    let dir = dir().join("snapshots");
    let store = SnapshotStore::open_at(&dir).expect("a directory of snapshots");
    let path = dir.join("00000000000000000007-fuzz.snap");
    if source.once_in(3) {
        let mut bytes = Vec::new();
        while !source.is_empty() && bytes.len() < 8_192 {
            let kind =
                source.pick(&[Kind::SnapshotHeader, Kind::SnapshotChunk, Kind::SnapshotFooter]);
            let size = usize::from(source.byte());
            let sealed = codec::seal(kind, VERSION, source.bytes(size)).expect("it fits");
            bytes.extend_from_slice(if source.once_in(16) { source.bytes(size) } else { &sealed });
        }
        std::fs::write(&path, &bytes).expect("a file");
        if let Ok(mut reader) = SnapshotReader::open(&path) {
            while let Some(chunk) = reader.next_chunk().expect("a checked snapshot is read") {
                assert!(chunk.len() <= bytes.len());
            }
        }
        return;
    }
    let size = usize::from(source.byte());
    let mut writer = store.create(7, "fuzz", source.bytes(size)).expect("a snapshot");
    let mut chunks = Vec::new();
    for _ in 0..source.below(CHUNKS_MAX + 1) {
        let size = usize::from(source.byte());
        let chunk = source.bytes(size).to_vec();
        if writer.write_chunk(&chunk).is_ok() {
            chunks.push(chunk);
        }
    }
    let file = writer.finish().expect("it is finished");
    let mut reader = SnapshotReader::open(&file.path).expect("what was written is read");
    for chunk in &chunks {
        assert_eq!(reader.next_chunk().expect("a chunk").as_ref(), Some(chunk));
    }
    assert!(reader.next_chunk().expect("the end").is_none());
    let bytes = std::fs::read(&file.path).expect("a file");
    receive(&store, &bytes, &mut source);
    let mut wrong = bytes.clone();
    let at = usize::try_from(source.short()).unwrap_or(0) % wrong.len();
    wrong[at] ^= 1 << (source.byte() % 8);
    std::fs::write(&file.path, &wrong).expect("a file");
    assert!(SnapshotReader::open(&file.path).is_err(), "byte {at} was changed");
    std::fs::write(&file.path, &bytes[..at]).expect("a file");
    assert!(SnapshotReader::open(&file.path).is_err(), "cut off at {at}");
}

/// In pieces, as from another node: a complete snapshot is accepted, and a wrong piece is rejected.
fn receive(store: &SnapshotStore, bytes: &[u8], source: &mut Source<'_>) {
    let mut incoming = store.receive(1 << 20).expect("a file");
    let size = 1 + usize::from(source.byte());
    let cut = source.once_in(4);
    for piece in bytes.chunks(size) {
        let offset = incoming.received();
        assert!(incoming.write_at(offset + 1, piece).is_err(), "a piece after a gap");
        incoming.write_at(offset, piece).expect("the piece that comes next");
        if cut {
            break;
        }
    }
    let whole = incoming.received() == bytes.len() as u64;
    assert_eq!(incoming.finish().is_ok(), whole, "a snapshot in pieces");
}

/// `VERSION`, `IDENTITY`, `CLOCK`, `HOLDINGS` and `HARDSTATE` with any content.
fn small_files(mut source: Source<'_>) {
    let dir = dir().join("node");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("a directory");
    if source.once_in(8) {
        std::fs::write(dir.join("VERSION"), source.bytes(64)).expect("a file");
    } else {
        std::fs::write(dir.join("VERSION"), b"fluxgate data directory, format 1\n")
            .expect("a file");
    }
    for (name, kind) in [
        ("IDENTITY", Kind::Identity),
        ("CLOCK", Kind::ClockMark),
        ("HOLDINGS", Kind::Holdings),
        ("STARTS", Kind::Starts),
        ("ADDRESSES", Kind::Addresses),
    ] {
        let how = source.below(4);
        let size = usize::from(source.byte());
        let bytes = source.bytes(size);
        let bytes = match how {
            0 => continue,
            1 => bytes.to_vec(),
            _ => codec::seal(kind, VERSION, bytes).expect("it fits"),
        };
        std::fs::write(dir.join(name), bytes).expect("a file");
    }
    hard_state(&dir, &mut source);
    let Ok(data) = DataDir::open(&dir, "c", 1) else { return };
    data.clock().expect("open checked it");
    let first = data.take_holdings().expect("open checked it");
    let second = data.take_holdings().expect("it was read once");
    assert!(second.is_none(), "a carryover was returned twice, first {first:?}");
}

fn hard_state(dir: &Path, source: &mut Source<'_>) {
    let mut bytes = vec![0u8; HARD_STATE_BYTES];
    for slot in [0, HARD_STATE_SLOT] {
        let size = usize::from(source.byte());
        let sealed = codec::seal(Kind::HardState, VERSION, source.bytes(size)).expect("it fits");
        bytes[slot..slot + sealed.len()].copy_from_slice(&sealed);
    }
    std::fs::write(dir.join("HARDSTATE"), &bytes).expect("a file");
    let Ok(hard) = HardStateFile::open(dir) else { return };
    // With an empty log: everything that the file vouches for is missing.
    let options = Options { driver: Driver::Inline, tail_bytes_max: 256 };
    let _ = LogStore::open_with(Box::new(Memory::new()), Some(hard), options);
}

/// Items as a snapshot: rejected, or a state that stays the same after another snapshot of it.
fn items(mut source: Source<'_>) {
    let mut restore = Restore::default();
    let mut head = true;
    while !source.is_empty() {
        let size = usize::from(source.byte());
        let bytes = source.bytes(size);
        let read = codec::decode_payload(bytes).map(Item::from_shape);
        let item = match read {
            Ok(item) => item,
            Err(_) if head => Item::Head {
                last_stamp: ClusterMs(0),
                defaults: Vec::new(),
                share_maps: Vec::new(),
                nodes: Vec::new(),
            },
            Err(_) => continue,
        };
        head = false;
        if restore.take(item).is_err() {
            return;
        }
    }
    if !restore.is_complete() {
        return;
    }
    let mut registry = Registry::default();
    registry.install(LogIndex(0), restore);
    let first = written(&registry);
    let mut again = Restore::default();
    for item in first.clone() {
        again.take(item).expect("our own snapshot is valid");
    }
    let mut second = Registry::default();
    second.install(LogIndex(0), again);
    assert_eq!(first, written(&second), "another state the second time");
    let shared = registry.shared();
    let view = shared.view();
    // Every request computes this from a limit.
    for spec in view.defaults.iter() {
        let now = ClusterMs(1_700_000_000_000);
        assert!(spec.limit.window_at(now).end() > now);
    }
    for (_, id) in shared.table.page(usize::MAX, shared.table.len()) {
        let entry = shared.table.get(&id).expect("a listed key exists");
        for spec in shared.limits_of(&view, &entry).iter() {
            assert_eq!(spec.limit.check(), Ok(()), "an invalid limit");
        }
    }
}

fn written(registry: &Registry) -> Vec<Item> {
    let mut items = Vec::new();
    let done: Result<(), ()> = registry.freeze().write(|item| {
        items.push(item);
        Ok(())
    });
    done.expect("the sink takes all");
    items
}
