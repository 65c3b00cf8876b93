//! Simulated processes: one per incarnation of a node, all in one program, on virtual time.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

tokio::task_local! {
    static PROCESS: Arc<Process>;
}

/// The process of the running task, if it belongs to one.
#[must_use]
pub fn current() -> Option<Arc<Process>> {
    PROCESS.try_with(Arc::clone).ok()
}

/// A machine's clocks, however wrong. They outlive its processes.
#[derive(Debug)]
pub struct Clocks {
    began: Instant,
    drift_ppm: i64,
    boot_ns: u64,
    wall_ms: AtomicI64,
}

impl Clocks {
    /// Clocks with these initial readings: the boot clock, which drifts by so many parts per
    /// million, and the wall clock, milliseconds since 1970.
    #[must_use]
    pub fn new(boot_ns: u64, drift_ppm: i64, wall_ms: i64) -> Self {
        Self { began: Instant::now(), drift_ppm, boot_ns, wall_ms: AtomicI64::new(wall_ms) }
    }

    fn elapsed_ns(&self) -> u128 {
        self.began.elapsed().as_nanos()
    }

    #[must_use]
    pub fn boot_ns(&self) -> u64 {
        let true_ns = i128::try_from(self.elapsed_ns()).unwrap_or(i128::MAX);
        let drift = true_ns * i128::from(self.drift_ppm) / 1_000_000;
        u64::try_from(i128::from(self.boot_ns) + true_ns + drift).unwrap_or(0)
    }

    #[must_use]
    pub fn wall_ns(&self) -> u64 {
        let ms = i128::from(self.wall_ms.load(Ordering::Relaxed));
        let true_ns = i128::try_from(self.elapsed_ns()).unwrap_or(i128::MAX);
        u64::try_from(ms * 1_000_000 + true_ns).unwrap_or(0)
    }

    /// Makes the wall clock jump.
    pub fn jump(&self, by_ms: i64) {
        self.wall_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}

const RUNS: u8 = 0;
const PAUSED: u8 = 1;
const DEAD: u8 = 2;

/// One incarnation of a node.
#[derive(Debug)]
pub struct Process {
    clocks: Arc<Clocks>,
    random: AtomicU64,
    state: AtomicU8,
    // How long work on files takes, milliseconds, on the machine's disk.
    files_ms: Arc<AtomicU64>,
    next: AtomicU64,
    tasks: Mutex<BTreeMap<u64, Waker>>,
}

impl Process {
    /// A running process on a machine with these clocks, and with a disk on which each piece of
    /// work on files takes `files_ms`; its randomness comes from the seed.
    #[must_use]
    pub fn new(clocks: Arc<Clocks>, files_ms: Arc<AtomicU64>, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            clocks,
            random: AtomicU64::new(seed),
            state: AtomicU8::new(RUNS),
            files_ms,
            next: AtomicU64::new(0),
            tasks: Mutex::default(),
        })
    }

    #[must_use]
    pub fn clocks(&self) -> &Clocks {
        &self.clocks
    }

    /// How long work on files takes now.
    pub(super) fn files_take(&self) -> Duration {
        Duration::from_millis(self.files_ms.load(Ordering::Relaxed))
    }

    /// The next random number (SplitMix64: Steele et al., OOPSLA 2014).
    pub fn random(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15_u64;
        let seed = self.random.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Binds a task to this process.
    pub fn run<F: Future>(self: &Arc<Self>, task: F) -> Bound<F> {
        Bound::new(Some(Arc::clone(self)), task)
    }

    /// Whether it has not been killed.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.state.load(Ordering::Relaxed) != DEAD
    }

    /// Stops all its tasks until [`Process::resume`].
    pub fn pause(&self) {
        if self.is_alive() {
            self.state.store(PAUSED, Ordering::Relaxed);
        }
    }

    /// Lets its tasks continue.
    pub fn resume(&self) {
        if self.is_alive() {
            self.set(RUNS);
        }
    }

    /// Stops all its tasks permanently. Their resources are dropped before virtual time advances.
    pub fn kill(&self) {
        self.set(DEAD);
    }

    fn set(&self, state: u8) {
        self.state.store(state, Ordering::Relaxed);
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let wakers: Vec<Waker> = tasks.values().cloned().collect();
        drop(tasks);
        wakers.iter().for_each(Waker::wake_by_ref);
    }
}

/// A future that advances only while its process runs.
#[derive(Debug)]
pub struct Bound<F> {
    process: Option<Arc<Process>>,
    place: Option<u64>,
    task: Option<Pin<Box<F>>>,
}

impl<F: Future> Bound<F> {
    pub(super) fn new(process: Option<Arc<Process>>, task: F) -> Self {
        Self { process, place: None, task: Some(Box::pin(task)) }
    }
}

impl<F: Future> Future for Bound<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(process) = self.process.clone() else {
            let task = self.task.as_mut();
            return task.map_or(Poll::Pending, |task| task.as_mut().poll(context));
        };
        if self.place.is_none() {
            let place = process.next.fetch_add(1, Ordering::Relaxed);
            self.place = Some(place);
            let mut tasks = process.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.insert(place, context.waker().clone());
        }
        if !process.is_alive() {
            let gone = self.task.take();
            // Within the process: code that runs on drop may ask for the current process.
            PROCESS.sync_scope(process, || drop(gone));
            return Poll::Pending;
        }
        if process.state.load(Ordering::Relaxed) == PAUSED {
            return Poll::Pending;
        }
        let Some(task) = self.task.as_mut() else { return Poll::Pending };
        PROCESS.sync_scope(process, || task.as_mut().poll(context))
    }
}

impl<F> Drop for Bound<F> {
    fn drop(&mut self) {
        if let (Some(process), Some(place)) = (&self.process, self.place) {
            process.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(&place);
        }
        if let (Some(process), Some(task)) = (self.process.take(), self.task.take()) {
            PROCESS.sync_scope(process, || drop(task));
        }
    }
}
