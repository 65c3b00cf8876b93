//! Windows: the stretches of cluster time that a limit's budget is for.

use crate::time::ClusterMs;

/// One window. Windows of a period follow each other without gaps from cluster time 0 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// How many windows of this period came before it.
    pub number: u64,
    /// Its length, milliseconds, at least 1.
    pub period_ms: u64,
}

impl Window {
    /// The window of a period that contains a moment.
    #[must_use]
    pub const fn at(period_ms: u64, moment: ClusterMs) -> Self {
        Self { number: moment.0 / period_ms, period_ms }
    }

    /// The window of a period that ends at this moment, if one does.
    #[must_use]
    pub fn ending(period_ms: u64, end: ClusterMs) -> Option<Self> {
        let number = Self::at(period_ms, end).number.checked_sub(1)?;
        Some(Self { number, period_ms }).filter(|window| window.end() == end)
    }

    /// Its first moment.
    #[must_use]
    pub const fn start(self) -> ClusterMs {
        ClusterMs(self.number.saturating_mul(self.period_ms))
    }

    /// The first moment after it.
    #[must_use]
    pub const fn end(self) -> ClusterMs {
        ClusterMs(self.number.saturating_add(1).saturating_mul(self.period_ms))
    }

    /// Whether a moment is in it.
    #[must_use]
    pub fn contains(self, moment: ClusterMs) -> bool {
        self.start() <= moment && moment < self.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: u64 = 60_000;

    #[test]
    fn a_window_contains_its_start_and_not_its_end() {
        let window = Window::at(MINUTE_MS, ClusterMs(119_999));
        assert_eq!(
            (window.number, window.start(), window.end()),
            (1, ClusterMs(60_000), ClusterMs(120_000))
        );
        for (moment, within) in [(59_999, false), (60_000, true), (119_999, true), (120_000, false)]
        {
            assert_eq!(window.contains(ClusterMs(moment)), within, "{moment}");
            assert_eq!(Window::at(MINUTE_MS, ClusterMs(moment)) == window, within, "{moment}");
        }
    }

    #[test]
    fn a_window_is_found_by_its_end() {
        let window = Window { number: 7, period_ms: MINUTE_MS };
        assert_eq!(Window::ending(MINUTE_MS, window.end()), Some(window));
        assert_eq!(Window::ending(MINUTE_MS, window.end() + 1), None);
        assert_eq!(Window::ending(MINUTE_MS, ClusterMs(0)), None);
    }

    #[test]
    fn a_window_of_any_number_has_an_end() {
        let last = Window { number: u64::MAX, period_ms: MINUTE_MS };
        assert_eq!((last.start(), last.end()), (ClusterMs(u64::MAX), ClusterMs(u64::MAX)));
    }
}
