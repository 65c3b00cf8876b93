//! A backend that records every call, so that a test can rebuild the possible disk contents after
//! any of them.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::backend::{LogBackend, LogRead};
use crate::memory::Memory;

/// One call to the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A value was stored under a key.
    Put(Vec<u8>, Vec<u8>),
    /// A key was removed.
    Delete(Vec<u8>),
    /// A barrier finished.
    Barrier,
}

/// An in-memory database with its history. A clone refers to the same one.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    memory: Memory,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Recording {
    /// An empty database with an empty history.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn record(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    /// All calls up to this moment.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The disk content after the first `count` calls.
    #[must_use]
    pub fn image(&self, count: usize) -> Memory {
        let image = Memory::new();
        for event in self.events().into_iter().take(count) {
            match event {
                Event::Put(key, value) => image.damage(&key, Some(&value)),
                Event::Delete(key) => image.damage(&key, None),
                Event::Barrier => {}
            }
        }
        image
    }
}

impl LogBackend for Recording {
    fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.memory.put(key, value)?;
        self.record(Event::Put(key.to_vec(), value.to_vec()));
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> io::Result<()> {
        self.memory.delete(key)?;
        self.record(Event::Delete(key.to_vec()));
        Ok(())
    }

    fn barrier(&mut self) -> io::Result<()> {
        self.memory.barrier()?;
        self.record(Event::Barrier);
        Ok(())
    }

    fn reader(&self) -> Arc<dyn LogRead> {
        self.memory.reader()
    }
}
