//! Times, each with its clock in the type, and durations as text.
//!
//! There are three clocks, and a time of one must never be used as a time of another: the machine's
//! boot clock (monotonic, counts suspended time), cluster time (which defines the windows), and
//! wall clocks, which nothing here trusts.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// Nanoseconds on this machine's CLOCK_BOOTTIME. Not comparable between machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootNs(pub u64);

impl BootNs {
    /// The time `ms` milliseconds later.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }

    /// Nanoseconds from `earlier` to this time; 0 when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Milliseconds of cluster time since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ClusterMs(pub u64);

impl Add<u64> for ClusterMs {
    type Output = Self;

    fn add(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

impl Sub<Self> for ClusterMs {
    type Output = u64;

    fn sub(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for ClusterMs {
    /// RFC 3339 in UTC with milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let (year, month, day) = civil_from_days(days);
        let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
        let (second, milli) = (ms / 1_000 % 60, ms % 1_000);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if milli == 0 { write!(f, "Z") } else { write!(f, ".{milli:03}Z") }
    }
}

/// Converts days since 1970-01-01 to year, month and day of the proleptic Gregorian calendar.
const fn civil_from_days(days: u64) -> (u64, u64, u64) {
    // Eras of 400 years that begin on 1 March, so that the leap day is the last day of a year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

const fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// A text that is not a valid time or duration. The message quotes it and shows an example.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DurationError(String);

impl std::str::FromStr for ClusterMs {
    type Err = DurationError;

    /// Parses RFC 3339 with an offset or `Z`, from 1970 to 9999.
    fn from_str(text: &str) -> Result<Self, DurationError> {
        parse_rfc3339(text).ok_or_else(|| {
            DurationError(format!(
                "`{}` is not an RFC 3339 time such as `2027-01-31T12:00:00Z`",
                clip(text)
            ))
        })
    }
}

fn clip(text: &str) -> String {
    text.chars().take(40).collect()
}

fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 9 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn parse_rfc3339(text: &str) -> Option<ClusterMs> {
    let b = text.as_bytes();
    if b.len() < 20 || b.len() > 40 {
        return None;
    }
    let punctuation = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if punctuation.iter().any(|&(at, c)| b[at] != c) || !matches!(b[10], b'T' | b't' | b' ') {
        return None;
    }
    let (year, month, day) = (number(&b[..4])?, number(&b[5..7])?, number(&b[8..10])?);
    let (hour, minute, second) = (number(&b[11..13])?, number(&b[14..16])?, number(&b[17..19])?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u64::from(leap),
        _ => return None,
    };
    if year < 1970 || day == 0 || day > days_in_month || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = &b[19..];
    let mut milli = 0;
    if rest[0] == b'.' {
        let digits = rest[1..].iter().take_while(|c| c.is_ascii_digit()).count();
        if digits == 0 || digits > 9 {
            return None;
        }
        let shown = number(&rest[1..1 + digits.min(3)])?;
        milli = shown * 10u64.pow(3 - u32::try_from(digits.min(3)).ok()?);
        rest = &rest[1 + digits..];
    }
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    let ms = seconds * 1_000 + milli;
    match rest {
        [b'Z' | b'z'] => Some(ClusterMs(ms)),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = (hours * 60 + minutes) * 60_000;
            if *sign == b'+' {
                ms.checked_sub(offset).map(ClusterMs)
            } else {
                Some(ClusterMs(ms + offset))
            }
        }
        _ => None,
    }
}

/// Parses a duration such as `500ms`, `60s`, `10m`, `24h`, `7d` into milliseconds.
///
/// # Errors
/// When the text is anything else, or the duration exceeds 10 000 days.
pub fn parse_duration_ms(text: &str) -> Result<u64, DurationError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit_ms = match &text[digits..] {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    let value = number(&text.as_bytes()[..digits]);
    match (value, unit_ms) {
        (Some(value), Some(unit)) if value * unit <= 10_000 * 86_400_000 => Ok(value * unit),
        _ => Err(DurationError(format!(
            "`{}` is not a duration of at most 10000 days: a whole number and one of ms, s, m, h, d, such as `60s`",
            clip(text)
        ))),
    }
}

/// Formats milliseconds as a duration in the largest of the units h, s and ms that divides them: a
/// day is `24h`.
#[must_use]
pub fn format_duration_ms(ms: u64) -> String {
    let units = [(3_600_000, "h"), (1_000, "s")];
    if ms == 0 {
        return "0s".to_owned();
    }
    // Periods of minutes read best in seconds (`60s`), as the configuration writes them.
    match units.iter().find(|&&(unit, _)| ms.is_multiple_of(unit)) {
        Some((unit, name)) => format!("{}{name}", ms / unit),
        None => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back_what_they_print() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2024-01-20T11:20:00Z", 1_705_749_600_000),
            ("2024-02-29T23:59:59.999Z", 1_709_251_199_999),
            ("2100-03-01T00:00:00Z", 4_107_542_400_000),
        ] {
            assert_eq!(text.parse(), Ok(ClusterMs(ms)), "{text}");
            assert_eq!(ClusterMs(ms).to_string(), text);
        }
        assert_eq!("2024-01-20T12:20:00+01:00".parse(), Ok(ClusterMs(1_705_749_600_000)));
    }

    #[test]
    fn malformed_times_are_rejected() {
        for text in [
            "",
            "now",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-01-20 11:20",
            "2024-01-20T11:20:00",
            "2024-01-20T25:20:00Z",
            "1969-12-31T23:59:59Z",
            "2024-01-20T11:20:00.Z",
        ] {
            assert!(text.parse::<ClusterMs>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_read_back_what_they_print() {
        for (text, ms) in
            [("0s", 0), ("1500ms", 1_500), ("60s", 60_000), ("600s", 600_000), ("24h", 86_400_000)]
        {
            assert_eq!(parse_duration_ms(text), Ok(ms));
            assert_eq!(format_duration_ms(ms), text);
        }
        assert_eq!(parse_duration_ms("10m"), Ok(600_000));
        assert_eq!(parse_duration_ms("2d"), Ok(172_800_000));
    }

    #[test]
    fn malformed_durations_are_rejected() {
        for text in ["", "60", "s", "-1s", "1.5s", "1 s", "99999999999s", "999999999d", "60S", "ä"]
        {
            assert!(parse_duration_ms(text).is_err(), "{text}");
        }
    }
}
