//! Times on a page: exact in the markup, so that the script can convert them to the reader's zone.

use std::fmt;

use fluxgate_api::Time;

/// A time as markup. Without the script it is shown in UTC; with it, in the reader's zone, or as "3
/// minutes ago" if `relative`, with the exact time on hover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    at: Time,
    relative: bool,
}

impl Moment {
    /// A time that is shown as date and time.
    #[must_use]
    pub const fn at(at: &Time) -> Self {
        Self { at: *at, relative: false }
    }

    /// A time that is shown relative to now.
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
    fn a_moment_is_shown_in_utc_and_exact_in_the_markup() {
        let at = fluxgate_api::Text(ClusterMs(1_705_749_600_000));
        let text = Moment::at(&at).to_string();
        assert_eq!(
            text,
            "<time datetime=\"2024-01-20T11:20:00Z\" title=\"2024-01-20T11:20:00Z\">2024-01-20 11:20 UTC</time>"
        );
        assert!(Moment::ago(&at).to_string().contains(" data-ago "));
    }
}
