//! openraft's log storage over our log store.
//!
//! Only the vote waits for the disk: `append` returns once the entries can be read, and reports
//! them durable through the callback that openraft gave it. Writes are ordered as the calls are.

use std::collections::VecDeque;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fluxgate_engine::state::command::{Command, Registration};
use fluxgate_peer::process;
use fluxgate_store::codec::{self, Kind};
use fluxgate_store::{LogStore, StoreError};
use fluxgate_types::LogIndex;
use fluxgate_wire::raft::EntryV1;
use fluxgate_wire::{Grown as _, VERSION};
use openraft::EntryPayload;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::contacts::ContactWatch;
use crate::shapes::Shaped;
use crate::types::{Data, Entry, LogId, TypeConfig, Vote};

/// Bytes of entries in one read: a follower far behind must not cause one giant message.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// Appends that the disk has not confirmed, oldest first; they complete in the order in which they
/// began.
#[derive(Clone, Debug, Default)]
pub(crate) struct Appends(Arc<Mutex<VecDeque<Instant>>>);

impl Appends {
    /// How long the oldest one has waited.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        let begun = self.0.lock().unwrap_or_else(PoisonError::into_inner).front().copied();
        begun.map(|begun| begun.elapsed())
    }

    fn begin(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(Instant::now());
    }

    fn end(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    }
}

/// The log, as openraft requires it.
#[derive(Clone)]
pub(crate) struct Log {
    store: LogStore,
    appends: Appends,
    // Shared with the readers that openraft clones: a reader must see a vote at once.
    vote: Arc<Mutex<Option<Vote>>>,
    contacts: ContactWatch,
    committed: Option<LogId>,
}

fn corrupt(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

fn failed(error: &StoreError) -> io::Error {
    io::Error::other(error.to_string())
}

fn pack<T: Shaped<Shape: Serialize>>(kind: Kind, value: &T) -> Result<Vec<u8>, io::Error> {
    codec::encode(kind, VERSION, &value.to_shape()).map_err(corrupt)
}

fn unpack<T: Shaped<Shape: DeserializeOwned>>(kind: Kind, bytes: &[u8]) -> Result<T, io::Error> {
    codec::decode(kind, VERSION, bytes).map(T::from_shape).map_err(corrupt)
}

fn unpack_entry(bytes: &[u8]) -> Result<Entry, io::Error> {
    EntryV1::unpack(Kind::Entry, bytes).map(Entry::from_shape).map_err(corrupt)
}

impl Log {
    /// Wraps an open store with what was found in it.
    pub(crate) fn new(
        store: LogStore,
        appends: Appends,
        contacts: ContactWatch,
        vote: Option<&[u8]>,
        committed: Option<&[u8]>,
    ) -> Result<Self, io::Error> {
        let (vote, committed) = Self::decode(vote, committed)?;
        vote.iter().for_each(|vote| contacts.note_voted(vote));
        Ok(Self { store, appends, vote: Arc::new(Mutex::new(vote)), contacts, committed })
    }

    /// Decodes the vote and the committed position that were found in a store.
    pub(crate) fn decode(
        vote: Option<&[u8]>,
        committed: Option<&[u8]>,
    ) -> Result<(Option<Vote>, Option<LogId>), io::Error> {
        let vote = vote.map(|bytes| unpack(Kind::Vote, bytes)).transpose()?;
        let committed = committed.map(|bytes| unpack(Kind::Committed, bytes)).transpose()?;
        Ok((vote, committed))
    }
}

impl RaftLogReader<TypeConfig> for Log {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + std::fmt::Debug + Send,
    {
        let start = match range.start_bound() {
            Bound::Included(at) => *at,
            Bound::Excluded(at) => at + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(at) => at + 1,
            Bound::Excluded(at) => *at,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start, end, usize::MAX).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(*self.vote.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, READ_BYTES_MAX).await
    }
}

impl Log {
    async fn read(&self, start: u64, end: u64, bytes_max: usize) -> Result<Vec<Entry>, io::Error> {
        let store = self.store.clone();
        // A range may begin before the log does; the caller wants the part that exists.
        let start = start.max(self.store.first().unwrap_or(start));
        let read = move || {
            let raw = store.read(start, end, bytes_max).map_err(|error| failed(&error))?;
            raw.iter().map(|(_, bytes)| unpack_entry(bytes)).collect()
        };
        process::blocking(read).await?
    }
}

/// What the entries after this one register, in order. An entry may register a directory before this
/// node has applied it, or any node.
pub(crate) async fn registrations(
    store: &LogStore,
    after: LogIndex,
) -> Result<Vec<Registration>, io::Error> {
    let mut found = Vec::new();
    let mut next = after.0 + 1;
    loop {
        let (store, from) = (store.clone(), next.max(store.first().unwrap_or(next)));
        let read = process::blocking(move || store.read(from, u64::MAX, READ_BYTES_MAX)).await?;
        let read = read.map_err(|error| failed(&error))?;
        let Some((last, _)) = read.last() else { return Ok(found) };
        next = last + 1;
        for (_, bytes) in &read {
            if let EntryPayload::Normal(Data(batch)) = unpack_entry(bytes)?.payload {
                let commands = batch.proposals.iter().map(|proposal| &proposal.command);
                found.extend(commands.filter_map(Command::registers));
            }
        }
    }
}

impl Log {
    /// Passes an operation to the store: directly, unless its queue is full because the disk
    /// stalls. Then the operation waits where blocking is allowed, and this task waits for it: no
    /// other task submits.
    async fn submit(&self, op: impl FnOnce(&LogStore) + Send + 'static) -> Result<(), io::Error> {
        if !self.store.is_backed_up() {
            op(&self.store);
            return Ok(());
        }
        let store = self.store.clone();
        process::blocking(move || op(&store)).await
    }
}

impl RaftLogStorage<TypeConfig> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let (purged, _) = self.store.bounds();
        let last_purged_log_id: Option<LogId> =
            purged.map(|(_, marker)| unpack(Kind::LogId, &marker)).transpose()?;
        let last = self.store.last_entry().map(|(_, bytes)| unpack_entry(&bytes)).transpose()?;
        let last_log_id = last.map(|entry| entry.log_id).or(last_purged_log_id);
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (done, wait) = oneshot::channel();
        let bytes = pack(Kind::Vote, vote)?;
        let done = Box::new(move |result| drop(done.send(result)));
        self.submit(move |store| store.save_vote(bytes, done)).await?;
        // A vote may be answered only AFTER it is durable; otherwise a restarted node could vote
        // twice.
        wait.await.map_err(io::Error::other)?.map_err(|error| failed(&error))?;
        *self.vote.lock().unwrap_or_else(PoisonError::into_inner) = Some(*vote);
        self.contacts.note_voted(vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(id) = &committed {
            let bytes = pack(Kind::Committed, id)?;
            self.submit(move |store| store.save_committed(bytes)).await?;
        }
        self.committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let pack_entry = |entry: Entry| {
            let bytes = entry.to_shape().pack(Kind::Entry).map_err(corrupt)?;
            let bytes: Arc<[u8]> = bytes.into();
            Ok((entry.log_id.index, bytes))
        };
        let entries: Vec<(u64, Arc<[u8]>)> =
            entries.into_iter().map(pack_entry).collect::<Result<_, io::Error>>()?;
        // Durable BEFORE acknowledged: openraft counts the entries only when this is called.
        self.appends.begin();
        let appends = self.appends.clone();
        let done = move |result: Result<(), StoreError>| {
            appends.end();
            callback.io_completed(result.map_err(|error| failed(&error)));
        };
        self.submit(move |store| store.append(entries, Box::new(done))).await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let last_kept = last_log_id.map(|id| id.index);
        self.submit(move |store| store.truncate_after(last_kept)).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let marker = pack(Kind::LogId, &log_id)?;
        self.submit(move |store| store.purge(log_id.index, marker)).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use fluxgate_engine::lease::LeaderId;
    use fluxgate_engine::state::cluster_state::StartId;
    use fluxgate_engine::state::command::{Actor, Batch, Proposal};
    use fluxgate_store::{Memory, Options};
    use fluxgate_types::{BootId, BootNs, ClusterMs, DirId, NodeId};

    use super::*;

    /// When the only thread counts as stuck.
    const STUCK: Duration = Duration::from_secs(30);

    fn entry_with(index: u64, command: Command) -> (u64, Arc<[u8]>) {
        let proposal =
            Proposal { request: 1, actor: Actor::System, presented: None, from: None, command };
        let batch = Batch { at: ClusterMs(1), proposals: vec![proposal] };
        let entry = EntryV1::of(1, index, batch);
        (index, entry.pack(Kind::Entry).unwrap().into())
    }

    #[tokio::test]
    async fn a_directory_that_an_entry_registers_is_found_before_it_is_applied() {
        let (store, _) =
            LogStore::open_with(Box::new(Memory::new()), None, Options::default()).unwrap();
        let (node, dir_id) = (NodeId(3), DirId(7));
        let start_id = StartId { boot: BootId(2), nonce: 9 };
        let entries = vec![
            entry_with(1, Command::RegisterNode { node, dir_id }),
            entry_with(2, Command::RemoveNode { node: NodeId(2) }),
            entry_with(3, Command::RegisterStart { node, dir_id, start_id }),
        ];
        store.append(entries, Box::new(|_| ()));
        let first = Registration { node, dir_id, start_id: None };
        let second = Registration { node, dir_id, start_id: Some(start_id) };
        let found = async |after| registrations(&store, LogIndex(after)).await.unwrap();
        assert_eq!(found(0).await, [first, second]);
        assert_eq!(found(1).await, [second], "the first entry is applied");
        assert_eq!(found(3).await, []);
        store.close();
    }

    fn log(store: &LogStore) -> (Log, ContactWatch) {
        let contacts = ContactWatch::new(NodeId(2), || BootNs(7));
        let log = Log::new(store.clone(), Appends::default(), contacts.clone(), None, None);
        (log.unwrap(), contacts)
    }

    #[tokio::test]
    async fn a_vote_rules_out_earlier_leaders_only_once_it_is_on_the_disk() {
        let memory = Memory::new();
        let (store, _) =
            LogStore::open_with(Box::new(memory.clone()), None, Options::default()).unwrap();
        let (mut log, contacts) = log(&store);
        let asks = LeaderId { term: 4, node: NodeId(3) };
        memory.hold_barriers(true);
        let saving = tokio::spawn(async move { log.save_vote(&Vote::new(4, 3)).await });
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(contacts.last_before(asks), None, "a crash may forget this vote");
        memory.hold_barriers(false);
        saving.await.unwrap().unwrap();
        assert_eq!(contacts.last_before(asks), Some(BootNs(7)));
        store.close();
    }

    /// A full queue behind a stalled sync delays consensus' own task, and blocks no thread.
    #[tokio::test]
    async fn a_stalled_sync_ties_up_no_thread_of_the_runtime() {
        let memory = Memory::new();
        let (store, _) =
            LogStore::open_with(Box::new(memory.clone()), None, Options::default()).unwrap();
        let (mut log, _) = log(&store);
        memory.hold_barriers(true);
        // The sync stalls with this vote, and everything after it queues.
        store.save_vote(b"vote".to_vec(), Box::new(|_| ()));
        // Until the writer takes nothing more: it may write some before it waits for the sync.
        let mut taken = usize::MAX;
        while !store.is_backed_up() || taken != memory.unsynced() {
            taken = memory.unsynced();
            while !store.is_backed_up() {
                store.save_committed(b"committed".to_vec());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // A separate thread releases the sync once the runtime has shown that it runs, or when it
        // counts as stuck.
        let (runs, told) = mpsc::channel();
        let release = std::thread::spawn(move || {
            let ran = told.recv_timeout(STUCK).is_ok();
            memory.hold_barriers(false);
            ran
        });
        let truncate = tokio::spawn(async move { log.truncate_after(None).await });
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(!truncate.is_finished(), "the queue was not full: this test shows nothing");
        runs.send(()).unwrap();
        assert!(release.join().unwrap(), "the only thread was blocked");
        truncate.await.unwrap().unwrap();
        store.close();
    }
}
