//! The key, the node and the time of the n-th request.
//!
//! Answers for: the shapes of load, as plain arithmetic on the request's number, so that two runs
//! with the same options send the same requests.

use std::time::Duration;

use clap::ValueEnum;

/// How requests are distributed over nodes and time. Keys always alternate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Shape {
    /// Each key at all nodes in turn
    Even,
    /// Each key at a single node
    Sticky,
    /// Each key at the first node in four of five requests
    Skew,
    /// Like even, but all requests of a second within its first 20 ms
    Burst,
}

impl Shape {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Even => "even",
            Self::Sticky => "sticky",
            Self::Skew => "skew",
            Self::Burst => "burst",
        }
    }
}

/// Duration of the burst in each second.
const BURST: Duration = Duration::from_millis(20);
const SECOND: Duration = Duration::from_secs(1);

/// The parameters of the load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) shape: Shape,
    pub(super) keys: usize,
    pub(super) nodes: usize,
    /// Requests per second; `None`: as fast as answers arrive.
    pub(super) rate: Option<u32>,
}

impl Plan {
    /// Key and node of the n-th request.
    pub(super) fn target(&self, n: usize) -> (usize, usize) {
        let (key, round) = (n % self.keys, n / self.keys);
        let node = match self.shape {
            Shape::Even | Shape::Burst => (key + round) % self.nodes,
            Shape::Sticky => key % self.nodes,
            Shape::Skew if self.nodes == 1 || round % 5 != 4 => 0,
            Shape::Skew => 1 + (key + round / 5) % (self.nodes - 1),
        };
        (key, node)
    }

    /// When the n-th request is due, from the start; `None`: immediately.
    pub(super) fn due(&self, n: usize) -> Option<Duration> {
        let rate = usize::try_from(self.rate?).ok()?;
        let (second, within) = (n / rate, n % rate);
        let span = match self.shape {
            Shape::Burst => BURST,
            Shape::Even | Shape::Sticky | Shape::Skew => SECOND,
        };
        let within_ns =
            span.as_nanos() * u128::try_from(within).ok()? / u128::try_from(rate).ok()?;
        let second = Duration::from_secs(u64::try_from(second).ok()?);
        Some(second + Duration::from_nanos(u64::try_from(within_ns).ok()?))
    }

    /// How long a request without a due time must wait for the next burst.
    pub(super) fn pause(&self, elapsed: Duration) -> Duration {
        let into = Duration::from_nanos(u64::from(elapsed.subsec_nanos()));
        match self.shape {
            Shape::Burst if into >= BURST => SECOND - into,
            Shape::Burst | Shape::Even | Shape::Sticky | Shape::Skew => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(shape: Shape, keys: usize, nodes: usize) -> Plan {
        Plan { shape, keys, nodes, rate: Some(100) }
    }

    /// Number of requests for key 0 at each node, out of `requests` in total.
    fn spread(plan: Plan, requests: usize) -> Vec<usize> {
        let mut counts = vec![0; plan.nodes];
        for n in 0..requests {
            let (key, node) = plan.target(n);
            counts[node] += usize::from(key == 0);
        }
        counts
    }

    #[test]
    fn each_shape_distributes_requests_as_documented() {
        for keys in 1..8 {
            assert_eq!(spread(plan(Shape::Even, keys, 3), 30 * keys), [10, 10, 10]);
            assert_eq!(spread(plan(Shape::Sticky, keys, 3), 30 * keys), [30, 0, 0]);
            assert_eq!(spread(plan(Shape::Skew, keys, 3), 30 * keys), [24, 3, 3]);
        }
        assert_eq!(spread(plan(Shape::Skew, 1, 1), 10), [10]);
    }

    #[test]
    fn requests_are_due_at_the_rate_and_bursts_at_the_start_of_a_second() {
        let even = plan(Shape::Even, 1, 1);
        assert_eq!(even.due(0), Some(Duration::ZERO));
        assert_eq!(even.due(150), Some(Duration::from_millis(1_500)));
        let burst = plan(Shape::Burst, 1, 1);
        assert_eq!(burst.due(150), Some(Duration::from_millis(1_010)));
        assert_eq!(burst.pause(Duration::from_millis(1_019)), Duration::ZERO);
        assert_eq!(burst.pause(Duration::from_millis(1_020)), Duration::from_millis(980));
    }
}
