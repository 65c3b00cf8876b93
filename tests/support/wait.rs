//! Waiting for a condition, with a deadline and a name.
//!
//! No other code in these tests waits for time to pass, except a load that keeps its pace.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often a condition is checked.
const POLL: Duration = Duration::from_millis(10);

/// Polls until there is a value; panics with `what` if there is none in time.
#[track_caller]
pub(crate) fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        let waited = started.elapsed();
        assert!(waited < deadline, "waited {waited:?} without success for this: {what}");
        std::thread::sleep(POLL);
    }
}

/// Polls until the condition holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, deadline, || condition().then_some(()));
}

/// Unix time. The nodes run on this machine, so their cluster time is near it.
pub(crate) fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// Whole seconds from now until that Unix time.
pub(crate) fn seconds_until(unix_s: u64) -> u64 {
    unix_s.saturating_sub(unix_now().as_secs())
}

/// The length of a window, from `min_s` to 600 seconds, that has just begun and lasts longest from
/// now on: a test of several steps then stays within one window without waiting for one.
pub(crate) fn roomy_period_s(min_s: u64) -> u64 {
    let now_s = unix_now().as_secs();
    (min_s..=600).max_by_key(|period_s| period_s - now_s % period_s).unwrap()
}
