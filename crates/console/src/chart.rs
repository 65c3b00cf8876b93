//! Charts as numbers, which the templates draw as SVG.
//!
//! Answers for: whole coordinates in a box of fixed size. The script draws the live charts.

use fluxgate_api::usage::{LimitUsage, NodeSpent};
use fluxgate_api::{Text, Time};
use fluxgate_types::{ClusterMs, Window, caps, format_duration_ms};

use crate::moment::Moment;

/// Height of a chart, SVG units.
pub const HEIGHT: u64 = 120;
/// Width of one bar, and of the gap after it, SVG units.
const BAR_WIDTH: u64 = 8;
const GAP: u64 = 2;
/// The limit's line is omitted if the limit exceeds the highest bar by more than this factor,
/// because the bars would be flat.
const LIMIT_ABOVE_MAX: u64 = 4;

/// One bar: the tokens spent in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Left edge, SVG units.
    pub x: u64,
    /// Upper edge, SVG units.
    pub y: u64,
    /// Height, SVG units; at least 1 if anything was spent.
    pub height: u64,
    /// When the window began.
    pub start: Time,
    /// Tokens spent.
    pub spent: u64,
}

/// The usage of one limit, window by window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bars {
    /// The limit's name.
    pub name: String,
    /// Tokens per window.
    pub limit: u64,
    /// Length of a window, as text.
    pub period: String,
    /// Tokens spent in the current window.
    pub spent: u64,
    /// Tokens left in the current window.
    pub remaining: u64,
    /// When the current window ends.
    pub reset: Time,
    /// Tokens spent in all windows shown.
    pub total: u64,
    /// The time that all windows cover, as text.
    pub span: String,
    /// Tokens spent in the busiest window.
    pub peak: u64,
    /// Y coordinate of the limit's line, if it is drawn.
    pub limit_y: Option<u64>,
    /// The windows with any usage, oldest first.
    pub bars: Vec<Bar>,
    /// Tokens that each node spent in the current window.
    pub per_node: Vec<NodeSpent>,
}

impl Bars {
    /// The usage of a limit at time `now`; `period_ms` is the length of a window.
    #[must_use]
    pub fn new(usage: &LimitUsage, period_ms: u64, now: ClusterMs) -> Self {
        let windows = caps::USAGE_WINDOWS as u64;
        let newest = Window::at(period_ms, now).number;
        let oldest = (newest + 1).saturating_sub(windows);
        let peak = usage.series.iter().map(|point| point.spent).max().unwrap_or(0);
        let is_near = peak > 0 && usage.limit <= peak.saturating_mul(LIMIT_ABOVE_MAX);
        let top = if is_near { peak.max(usage.limit) } else { peak.max(1) };
        let height = |spent: u64| (spent.saturating_mul(HEIGHT) / top).min(HEIGHT);
        let bars = usage.series.iter().filter_map(|point| {
            let start = ClusterMs(point.window_start.saturating_mul(1_000));
            let at = Window::at(period_ms, start).number.checked_sub(oldest)?;
            let height = height(point.spent).max(u64::from(point.spent > 0));
            let (x, y) = (at * (BAR_WIDTH + GAP), HEIGHT - height);
            (at < windows).then_some(Bar { x, y, height, start: Text(start), spent: point.spent })
        });
        Self {
            name: usage.name.clone(),
            limit: usage.limit,
            period: format_duration_ms(period_ms),
            spent: usage.spent,
            remaining: usage.remaining,
            reset: Text(ClusterMs(usage.reset.saturating_mul(1_000))),
            total: usage.series.iter().map(|point| point.spent).sum(),
            span: span_text(period_ms.saturating_mul(windows)),
            peak,
            limit_y: is_near.then(|| HEIGHT - height(usage.limit)),
            bars: bars.collect(),
            per_node: usage.per_node.clone(),
        }
    }

    /// When the oldest window shown began, as text.
    #[must_use]
    pub fn ago_text(&self) -> String {
        let one = if self.span.starts_with(char::is_numeric) { "" } else { "one " };
        format!("{one}{} ago", self.span)
    }

    /// Usage of a window from which the meter shows a warning, tokens.
    #[must_use]
    pub const fn much(&self) -> u64 {
        self.limit - self.limit / 4
    }

    /// Usage of a window above which nothing is left, tokens.
    #[must_use]
    pub const fn nearly_all(&self) -> u64 {
        self.limit.saturating_sub(1)
    }

    /// Width of a chart, SVG units.
    #[must_use]
    pub const fn width() -> u64 {
        caps::USAGE_WINDOWS as u64 * (BAR_WIDTH + GAP)
    }

    /// Width of one bar, SVG units.
    #[must_use]
    pub const fn bar_width() -> u64 {
        BAR_WIDTH
    }

    /// The end of the current window, as markup.
    #[must_use]
    pub const fn resets(&self) -> Moment {
        Moment::ago(&self.reset)
    }
}

/// "hour", "10 hours", "90 seconds".
fn span_text(ms: u64) -> String {
    let (count, unit) = match ms / 1_000 {
        s if s % 3_600 == 0 => (s / 3_600, "hour"),
        s if s % 60 == 0 => (s / 60, "minute"),
        s => (s, "second"),
    };
    if count == 1 { unit.to_owned() } else { format!("{count} {unit}s") }
}

/// One node's share of every window, as a segment of a bar of width 1 000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Id of the node.
    pub node: u64,
    /// Weight of the node in the share map.
    pub weight: u64,
    /// Per cent, rounded down.
    pub percent: u64,
    /// Left edge of the segment.
    pub x: u64,
    /// Width of the segment.
    pub width: u64,
}

/// The segments of a share map.
#[must_use]
pub fn shares(weights: &[fluxgate_api::cluster::NodeWeight]) -> Vec<Share> {
    let total = weights.iter().map(|node| node.weight).sum::<u64>().max(1);
    let mut before = 0;
    let piece = |node: &fluxgate_api::cluster::NodeWeight| {
        let x = before * 1_000 / total;
        before += node.weight;
        let width = before * 1_000 / total - x;
        let percent = node.weight * 100 / total;
        Share { node: node.node, weight: node.weight, percent, x, width }
    };
    weights.iter().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use fluxgate_api::cluster::NodeWeight;
    use fluxgate_api::usage::WindowSpent;

    use super::*;

    fn usage(series: &[(u64, u64)], limit: u64) -> LimitUsage {
        let series =
            series.iter().map(|&(window_start, spent)| WindowSpent { window_start, spent });
        LimitUsage {
            name: "requests".to_owned(),
            limit,
            spent: 1,
            remaining: 2,
            reset: 3_660,
            per_node: Vec::new(),
            series: series.collect(),
        }
    }

    #[test]
    fn sixty_minutes_fill_the_chart_from_left_to_right() {
        let now = ClusterMs(3_600_000 + 5);
        let bars = Bars::new(&usage(&[(60, 50), (3_600, 100)], 100), 60_000, now);
        assert_eq!((bars.span.as_str(), bars.total, bars.peak), ("hour", 150, 100));
        assert_eq!(bars.limit_y, Some(0));
        let corners: Vec<_> = bars.bars.iter().map(|bar| (bar.x, bar.y, bar.height)).collect();
        assert_eq!(corners, [(0, 60, 60), (590, 0, 120)]);
        assert_eq!(Bars::width(), 600);
        assert_eq!(bars.ago_text(), "one hour ago");
        assert_eq!((bars.much(), bars.nearly_all()), (75, 99));
    }

    #[test]
    fn a_high_limit_does_not_flatten_the_bars_and_small_values_stay_visible() {
        let now = ClusterMs(3_600_000);
        let bars = Bars::new(&usage(&[(3_540, 1), (3_600, 1_000)], 1_000_000), 60_000, now);
        assert_eq!(bars.limit_y, None);
        assert_eq!(bars.bars[0].height, 1);
        assert_eq!(bars.bars[1].height, HEIGHT);
        // Windows older than the chart are omitted.
        let old = Bars::new(&usage(&[(0, 5)], 10), 60_000, ClusterMs(7_200_000));
        assert!(old.bars.is_empty());
    }

    #[test]
    fn spans_are_written_in_words() {
        assert_eq!(span_text(3_600_000), "hour");
        assert_eq!(span_text(36_000_000), "10 hours");
        assert_eq!(span_text(60_000), "minute");
        assert_eq!(span_text(90_000), "90 seconds");
    }

    #[test]
    fn shares_fill_the_bar_without_a_gap() {
        let weights = [1, 1, 1].map(|weight| NodeWeight { node: weight, weight });
        let shares = shares(&weights);
        assert_eq!(shares.iter().map(|share| share.width).sum::<u64>(), 1_000);
        assert!(shares.windows(2).all(|pair| pair[0].x + pair[0].width == pair[1].x));
        assert_eq!(super::shares(&[]), []);
    }
}
