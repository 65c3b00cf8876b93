//! openraft's state machine over the engine's registry.
//!
//! The state is in memory. It is rebuilt from the newest snapshot file and the log, so `apply`
//! writes nothing; the log makes an acknowledged write durable. A snapshot shares memory with the
//! live state, so applies continue while one is written.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use fluxgate_engine::state::Registry;
use fluxgate_engine::state::snapshot::{Frozen, Restore};
use fluxgate_peer::process;
use fluxgate_types::LogIndex;
use futures_util::{Stream, TryStreamExt as _};
use openraft::EntryPayload;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};

use crate::disk::Disk;
use crate::progress::Progress;
use crate::snapshots::{self, SnapshotHandle};
use crate::types::{Data, LogId, Outcome, SnapshotMeta, StoredMembership, TypeConfig};

/// The newest snapshot, shared between the machine and the builders that it creates.
type Current = Arc<Mutex<Option<(SnapshotMeta, SnapshotHandle)>>>;

/// openraft with our types and this machine.
pub(crate) type Raft = openraft::Raft<TypeConfig, Machine>;

/// The state machine, as openraft requires it.
#[derive(Debug)]
pub(crate) struct Machine {
    registry: Registry,
    applied: Option<LogId>,
    membership: StoredMembership,
    store: fluxgate_store::SnapshotStore,
    current: Current,
    disk: Disk,
    progress: Arc<Progress>,
}

impl Machine {
    /// Loads the newest snapshot, if there is one.
    pub(crate) fn open(
        store: fluxgate_store::SnapshotStore,
        disk: Disk,
        progress: Arc<Progress>,
    ) -> Result<Self, io::Error> {
        let mut machine = Self {
            registry: Registry::at_level(1),
            applied: None,
            membership: StoredMembership::default(),
            store,
            current: Current::default(),
            disk,
            progress,
        };
        if let Some((file, reader)) = machine.store.newest_valid().map_err(io::Error::other)? {
            let (meta, restored) = snapshots::read(reader)?;
            machine.adopt(meta, SnapshotHandle(file), restored);
        }
        Ok(machine)
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The current state, as a few shared pointers, and the last entry applied to it.
    pub(crate) fn freeze(&self) -> (Frozen, LogIndex) {
        (self.registry.freeze(), LogIndex(self.applied.as_ref().map_or(0, |id| id.index)))
    }

    pub(crate) fn applied(&self) -> Option<LogId> {
        self.applied
    }

    fn adopt(&mut self, meta: SnapshotMeta, file: SnapshotHandle, restored: Restore) {
        let index = meta.last_log_id.as_ref().map_or(0, |id| id.index);
        self.registry.install(LogIndex(index), restored);
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        if let Some(id) = &meta.last_log_id {
            self.progress.handle_office(id, false);
            self.progress.handle_applied(id);
        }
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some((meta, file));
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotHandle;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let (term, index) = (entry.log_id.leader_id.term, LogIndex(entry.log_id.index));
            let outcome = match entry.payload {
                EntryPayload::Blank => Outcome(None),
                EntryPayload::Normal(Data(batch)) => {
                    Outcome(Some(self.registry.apply(term, index, &batch)))
                }
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Outcome(None)
                }
            };
            if outcome.0.is_none() {
                self.registry.pass(index);
            }
            self.applied = Some(entry.log_id);
            self.progress.handle_applied(&entry.log_id);
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        // A snapshot that runs out of room would stop consensus; the log may grow a little longer
        // instead.
        if !force && !self.disk.has_room().await {
            return None;
        }
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let meta =
            SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        let frozen = Some(self.registry.freeze());
        Builder { frozen, meta, store: self.store.clone(), current: Arc::clone(&self.current) }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotHandle,
    ) -> Result<(), io::Error> {
        let path = snapshot.0.path.clone();
        let read = move || {
            snapshots::read(fluxgate_store::SnapshotReader::open(&path).map_err(io::Error::other)?)
        };
        let (_, restored) = process::on_disk(read).await??;
        self.adopt(meta.clone(), snapshot, restored);
        let store = self.store.clone();
        process::on_disk(move || store.prune()).await.ok();
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<Snapshot<LeaderId, u64, openraft::BasicNode, SnapshotHandle>>, io::Error>
    {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(current.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

type LeaderId = openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>;

/// Writes one snapshot of a frozen state.
#[derive(Debug)]
pub(crate) struct Builder {
    frozen: Option<Frozen>,
    meta: SnapshotMeta,
    store: fluxgate_store::SnapshotStore,
    current: Current,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotHandle;

    async fn build_snapshot(
        &mut self,
    ) -> Result<Snapshot<LeaderId, u64, openraft::BasicNode, SnapshotHandle>, io::Error> {
        let frozen = self.frozen.take().ok_or_else(|| io::Error::other("already built"))?;
        let (store, meta) = (self.store.clone(), self.meta.clone());
        // Written, synced, renamed and its directory synced BEFORE openraft learns of it and purges
        // the log that it covers.
        let write = move || snapshots::write(&store, &meta, &frozen);
        let file = process::on_disk(write).await??;
        let (meta, snapshot) = (self.meta.clone(), SnapshotHandle(file));
        let newest = Some((meta.clone(), snapshot.clone()));
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = newest;
        Ok(Snapshot { meta, snapshot })
    }
}
