//! openraft's own storage test suite on our store, with and without a writer thread, over sled and
//! in memory.

use std::sync::Arc;

use fluxgate_store::{DataDir, Driver, LogStore, Memory, Options, SnapshotStore};
use fluxgate_types::{BootNs, NodeId};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt as _;

use crate::contacts::ContactWatch;
use crate::log::{Appends, Log};
use crate::machine::Machine;
use crate::progress::Progress;
use crate::types::TypeConfig;

struct OnDisk(Driver);

/// Fields drop in order: first the store closes, then its directory is removed.
struct Guard {
    store: LogStore,
    _data: Option<DataDir>,
    _dir: tempfile::TempDir,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.store.clone().close();
    }
}

fn log(store: LogStore) -> Log {
    let contacts = ContactWatch::new(NodeId(1), || BootNs(0));
    Log::new(store, Appends::default(), contacts, None, None).unwrap()
}

fn machine(dir: &std::path::Path) -> Machine {
    let snapshots = SnapshotStore::open_at(&dir.join("snap")).unwrap();
    let disk = crate::disk::Disk::new(dir.to_path_buf());
    Machine::open(snapshots, disk, Arc::new(Progress::default())).unwrap()
}

impl StoreBuilder<TypeConfig, Log, Machine, Guard> for OnDisk {
    async fn build(&self) -> Result<(Guard, Log, Machine), openraft::StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(&dir.path().join("data"), "test", 1).unwrap();
        let options = Options { driver: self.0, ..Options::default() };
        let (store, _) = LogStore::open(&data, options).unwrap();
        let (log, machine) = (log(store.clone()), machine(dir.path()));
        Ok((Guard { store, _data: Some(data), _dir: dir }, log, machine))
    }
}

struct InMemory;

impl StoreBuilder<TypeConfig, Log, Machine, Guard> for InMemory {
    async fn build(&self) -> Result<(Guard, Log, Machine), openraft::StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { driver: Driver::Inline, ..Options::default() };
        let (store, _) = LogStore::open_with(Box::new(Memory::new()), None, options).unwrap();
        let (log, machine) = (log(store.clone()), machine(dir.path()));
        Ok((Guard { store, _data: None, _dir: dir }, log, machine))
    }
}

#[test]
fn sled_with_a_writer_thread_conforms() {
    TypeConfig::run(async { Suite::test_all(OnDisk(Driver::Thread)).await.unwrap() });
}

#[test]
fn sled_written_inline_conforms() {
    TypeConfig::run(async { Suite::test_all(OnDisk(Driver::Inline)).await.unwrap() });
}

#[test]
fn memory_conforms() {
    TypeConfig::run(async { Suite::test_all(InMemory).await.unwrap() });
}
