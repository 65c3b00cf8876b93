//! What the machine took from one processor: pauses, and time in which it ran more slowly.
//!
//! `machine`, on one processor (`taskset`) and above all programs there (`chrt`): sleeps [`NAP`] and
//! computes something of a known length, again and again. Running late is a pause of the machine, and a
//! longer computation is a processor that something outside shares: neither is the doing of a program
//! that is measured beside it. Prints a line `SECOND LOST` for each second of the wall clock, once it is
//! over: seconds since 1970, and the time lost in microseconds. Ends when its output is closed.

use std::hint::black_box;
use std::io::{Result, Write as _};
use std::thread::park_timeout;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Pause between two looks.
const NAP: Duration = Duration::from_millis(1);
/// How late a look may be: timers and wake-ups take some of it.
const LATE_MAX: Duration = Duration::from_micros(500);
/// Rounds of the computation: some 10 microseconds.
const ROUNDS: u32 = 6_000;
/// Computations whose median says how fast the processor was meanwhile: an interrupt makes one longer.
const LOOKS: u32 = 11;
/// How much longer than usual the median may be, in hundredths.
const SLOWER_PERCENT_MAX: u32 = 20;

/// Takes some time, and always the same.
fn compute() -> Duration {
    let begun = Instant::now();
    let mut state = black_box(1_u64);
    for _ in 0..ROUNDS {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    black_box(state);
    begun.elapsed()
}

/// How fast the processor was.
struct Speed {
    // The shortest median so far: the usual length of a computation.
    usual: Duration,
    looks: Vec<Duration>,
}

impl Speed {
    /// What was lost since the last median because the processor was slower than usual.
    fn note(&mut self, took: Duration) -> Duration {
        self.looks.push(took);
        if self.looks.len() < LOOKS as usize {
            return Duration::ZERO;
        }
        self.looks.sort_unstable();
        let median = self.looks[self.looks.len() / 2];
        self.looks.clear();
        self.usual = self.usual.min(median);
        let percent = median.as_nanos() * 100 / self.usual.as_nanos().max(1);
        let slower = u32::try_from(percent).unwrap_or(u32::MAX).saturating_sub(100);
        let over = slower.saturating_sub(SLOWER_PERCENT_MAX).min(100);
        NAP * LOOKS * over / 100
    }
}

fn second() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn main() -> Result<()> {
    let mut speed = Speed { usual: Duration::MAX, looks: Vec::with_capacity(LOOKS as usize) };
    let (mut at, mut lost) = (second(), Duration::ZERO);
    loop {
        let begun = Instant::now();
        park_timeout(NAP);
        let late = begun.elapsed().saturating_sub(NAP);
        if late > LATE_MAX {
            lost += late;
        }
        lost += speed.note(compute());
        let now = second();
        if now != at {
            writeln!(std::io::stdout(), "{at} {}", lost.as_micros())?;
            (at, lost) = (now, Duration::ZERO);
        }
    }
}
