//! Times on a page: exact in the markup, so that the script can show them in the reader's zone.

use std::fmt;

use fluxgate_api::Time;

/// A moment as markup. Without the script it reads as UTC; with it, in the reader's zone, or as
/// "3 minutes ago" where it is `relative`, with the exact time on hover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    at: Time,
    relative: bool,
}

impl Moment {
    /// A date and time.
    #[must_use]
    pub const fn at(at: &Time) -> Self {
        Self { at: *at, relative: false }
    }

    /// So long ago, or so far ahead.
    #[must_use]
    pub const fn ago(at: &Time) -> Self {
        Self { at: *at, relative: true }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = self.at.to_string();
        let (date, time) = exact.split_at(exact.len().min(10));
        let time = time.get(1..6).unwrap_or_default();
        let relative = if self.relative { " data-ago" } else { "" };
        write!(f, "<time datetime=\"{exact}\"{relative} title=\"{exact}\">{date} {time} UTC</time>")
    }
}

#[cfg(test)]
mod tests {
    use fluxgate_types::ClusterMs;

    use super::*;

    #[test]
    fn a_moment_reads_as_utc_and_is_exact_in_the_markup() {
        let at = fluxgate_api::Text(ClusterMs(1_705_749_600_000));
        let text = Moment::at(&at).to_string();
        assert_eq!(
            text,
            "<time datetime=\"2024-01-20T11:20:00Z\" title=\"2024-01-20T11:20:00Z\">2024-01-20 11:20 UTC</time>"
        );
        assert!(Moment::ago(&at).to_string().contains(" data-ago "));
    }
}
