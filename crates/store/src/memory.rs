//! An in-memory backend for simulations and tests, with power cuts and faults.
//!
//! Assumes one writer at a time. A clone refers to the same "disk", so a test can keep one, cut the
//! power, and reopen the log.

use std::collections::BTreeMap;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::backend::{LogBackend, LogRead, Visit};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Faults to inject. The default is none.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Puts and deletes that still succeed; later ones fail.
    pub writes_left: Option<u64>,
    /// Barriers that still succeed; later ones fail.
    pub barriers_left: Option<u64>,
    /// The kind of the injected error; `StorageFull` if `None`.
    pub error: Option<io::ErrorKind>,
    /// How long a barrier takes.
    pub barrier_delay: Duration,
}

#[derive(Debug, Default)]
struct State {
    /// The content that reads see.
    seen: Map,
    /// The content that certainly survives a power cut.
    durable: Map,
    /// Writes since the last barrier: a key, and a value or its removal.
    unsynced: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    barriers: u64,
    faults: Faults,
    /// Whether barriers block.
    held: bool,
}

impl State {
    fn write(&mut self, key: &[u8], value: Option<&[u8]>) -> io::Result<()> {
        spend(&mut self.faults.writes_left, self.faults.error)?;
        apply(&mut self.seen, key, value);
        self.unsynced.push((key.to_vec(), value.map(<[u8]>::to_vec)));
        Ok(())
    }
}

fn apply(map: &mut Map, key: &[u8], value: Option<&[u8]>) {
    match value {
        Some(value) => drop(map.insert(key.to_vec(), value.to_vec())),
        None => drop(map.remove(key)),
    }
}

fn spend(left: &mut Option<u64>, error: Option<io::ErrorKind>) -> io::Result<()> {
    match left {
        Some(0) => Err(error.unwrap_or(io::ErrorKind::StorageFull).into()),
        Some(count) => {
            *count -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}

/// A database in memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Signalled when blocked barriers may continue.
    released: Condvar,
}

impl Memory {
    /// An empty database without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the faults from this call on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Makes barriers block until they are released: a sync that stalls for as long as a test
    /// needs.
    pub fn hold_barriers(&self, held: bool) {
        self.lock().held = held;
        self.shared.released.notify_all();
    }

    /// Number of barriers that succeeded.
    #[must_use]
    pub fn barriers(&self) -> u64 {
        self.lock().barriers
    }

    /// Number of writes since the last barrier.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.lock().unsynced.len()
    }

    /// The disk as a power cut at this moment may leave it: with the first `kept` writes after the
    /// last barrier, and without the later ones.
    #[must_use]
    pub fn after_power_cut(&self, kept: usize) -> Self {
        let state = self.lock();
        let mut map = state.durable.clone();
        for (key, value) in state.unsynced.iter().take(kept) {
            apply(&mut map, key, value.as_deref());
        }
        let state = State { seen: map.clone(), durable: map, ..State::default() };
        let shared = Shared { state: Mutex::new(state), ..Shared::default() };
        Self { shared: Arc::new(shared) }
    }

    /// All pairs in key order, for tests that damage them.
    #[must_use]
    pub fn pairs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.lock().seen.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Changes a pair as bit rot would; `None` removes it.
    pub fn damage(&self, key: &[u8], value: Option<&[u8]>) {
        let mut state = self.lock();
        apply(&mut state.seen, key, value);
        apply(&mut state.durable, key, value);
    }
}

impl LogBackend for Memory {
    fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.lock().write(key, Some(value))
    }

    fn delete(&mut self, key: &[u8]) -> io::Result<()> {
        self.lock().write(key, None)
    }

    fn barrier(&mut self) -> io::Result<()> {
        let delay = self.lock().faults.barrier_delay;
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        let state = self.lock();
        let held = self.shared.released.wait_while(state, |state| state.held);
        let mut state = held.unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        spend(&mut state.faults.barriers_left, state.faults.error)?;
        for (key, value) in state.unsynced.drain(..) {
            apply(&mut state.durable, &key, value.as_deref());
        }
        state.barriers += 1;
        Ok(())
    }

    fn reader(&self) -> Arc<dyn LogRead> {
        Arc::new(self.clone())
    }
}

impl LogRead for Memory {
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> io::Result<()> {
        if from >= to {
            return Ok(());
        }
        let state = self.lock();
        let range = (Bound::Included(from), Bound::Excluded(to));
        for (key, value) in state.seen.range::<[u8], _>(range) {
            if let ControlFlow::Break(()) = visit(key, value)? {
                break;
            }
        }
        Ok(())
    }

    fn size_on_disk(&self) -> io::Result<u64> {
        Ok(self.lock().seen.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum())
    }
}
