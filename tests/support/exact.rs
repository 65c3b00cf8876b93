//! Checks limits from the answers alone: was each window admitted exactly?
//!
//! The reset in each answer identifies its window, so a burst over the end of a window is judged
//! like any other. In each window the admissions never exceed the limit, and a request is denied
//! only if its cost does not fit any more.

use std::collections::BTreeMap;

use super::http::Answer;

/// The requests of one key in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    /// Tokens requested.
    pub(crate) demand: u64,
    /// Tokens admitted.
    pub(crate) admitted: u64,
    /// Tokens of the limit.
    pub(crate) limit: u64,
    /// The smallest cost that was denied, if any.
    pub(crate) denied_min: Option<u64>,
}

/// Windows of one key by their reset.
pub(crate) type Windows = BTreeMap<u64, Window>;

/// Sorts answers, each with its cost, by window.
#[track_caller]
pub(crate) fn windows<'a>(answers: impl IntoIterator<Item = (&'a Answer, u64)>) -> Windows {
    let mut windows = Windows::new();
    for (answer, cost) in answers {
        assert!(matches!(answer.status, 200 | 429), "no verdict on a limit: {answer}");
        let (limit, _, reset) = answer.window();
        let window = windows.entry(reset).or_default();
        window.limit = limit;
        window.demand += cost;
        if answer.status == 200 {
            window.admitted += cost;
        } else {
            let smallest = window.denied_min.map_or(cost, |min| min.min(cost));
            window.denied_min = Some(smallest);
        }
    }
    windows
}

/// Fails unless every window admitted exactly what it could.
#[track_caller]
pub(crate) fn assert_exact(windows: &Windows) {
    for (reset, window) in windows {
        let shown = format!("window until {reset}: {window:?}");
        assert!(window.admitted <= window.limit, "above the limit: {shown}");
        match window.denied_min {
            None => assert_eq!(window.admitted, window.demand, "{shown}"),
            Some(cost) => assert!(
                window.admitted + cost > window.limit,
                "denied while tokens were left: {shown}"
            ),
        }
    }
}

/// Fails if a window admitted more than its limit; fewer is allowed.
#[track_caller]
pub(crate) fn assert_never_above(windows: &Windows) {
    for (reset, window) in windows {
        let shown = format!("window until {reset}: {window:?}");
        assert!(window.admitted <= window.limit, "above the limit: {shown}");
    }
}

/// Fails if Remaining rises within a window. The answers are from one node, and each request was
/// sent after the previous answer.
#[track_caller]
pub(crate) fn assert_remaining_never_rises<'a>(answers: impl IntoIterator<Item = &'a Answer>) {
    let mut least: BTreeMap<u64, u64> = BTreeMap::new();
    for answer in answers {
        let (_, remaining, reset) = answer.window();
        let least = least.entry(reset).or_insert(remaining);
        assert!(remaining <= *least, "remaining rose from {least}: {answer}");
        *least = remaining;
    }
}
