//! Values that are transmitted as text: ids, times and durations, and secrets that must not be
//! printed.
//!
//! Answers for: one spelling of each on the wire. The domain types keep their own encodings for log
//! and disk; only these wrappers convert between the two.

use std::fmt;
use std::str::FromStr;

use fluxgate_types::{ClusterMs, format_duration_ms, parse_duration_ms};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A value that is serialized with `Display` and parsed with `FromStr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<T>(pub T);

/// A moment of cluster time: RFC 3339 in UTC.
pub type Time = Text<ClusterMs>;

impl<T> From<T> for Text<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T: fmt::Display> fmt::Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: FromStr> FromStr for Text<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        text.parse().map(Self)
    }
}

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(de::Error::custom)
    }
}

/// A duration such as `"60s"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period {
    /// Length of the duration, milliseconds.
    pub ms: u64,
}

impl Period {
    /// A duration of this many milliseconds.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self { ms }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_duration_ms(self.ms))
    }
}

impl FromStr for Period {
    type Err = fluxgate_types::DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_duration_ms(text).map(Self::from_ms)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A credential in the clear: serialized as plain text and never printed by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shown(String);

impl Shown {
    /// Wraps a credential that is about to be sent.
    #[must_use]
    pub fn new(credential: impl Into<String>) -> Self {
        Self(credential.into())
    }

    /// The credential in the clear.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown(…)")
    }
}

/// Reads a field that is present, so that `null` (clear it) differs from absent (leave it
/// unchanged).
///
/// # Errors
/// When the value has the wrong type.
pub(crate) fn present<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}

/// Reads a field that may be absent but must not be `null`, because there is nothing to clear.
///
/// # Errors
/// When the value has the wrong type.
pub(crate) fn given<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use fluxgate_types::KeyId;

    use super::*;

    #[test]
    fn ids_times_and_durations_are_serialized_as_text() {
        let id: Text<KeyId> = serde_json::from_str("\"key_Qm2xK9dA3f01\"").unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"key_Qm2xK9dA3f01\"");
        let time: Time = serde_json::from_str("\"2024-01-20T11:20:00Z\"").unwrap();
        assert_eq!(time.0, ClusterMs(1_705_749_600_000));
        assert_eq!(serde_json::to_string(&time).unwrap(), "\"2024-01-20T11:20:00Z\"");
        let period: Period = serde_json::from_str("\"10m\"").unwrap();
        assert_eq!(serde_json::to_string(&period).unwrap(), "\"600s\"");
    }

    #[test]
    fn escaped_text_is_accepted() {
        let period: Period = serde_json::from_str("\"\\u0036\\u0030s\"").unwrap();
        assert_eq!(period.ms, 60_000);
    }

    #[test]
    fn malformed_text_is_rejected() {
        assert!(serde_json::from_str::<Text<KeyId>>("\"key_x\"").is_err());
        assert!(serde_json::from_str::<Time>("1705749600").is_err());
        assert!(serde_json::from_str::<Period>("60").is_err());
    }

    #[test]
    fn debug_never_prints_a_credential() {
        let shown = Shown::new("fx_live_secret");
        assert_eq!(format!("{shown:?}"), "Shown(…)");
        assert_eq!(serde_json::to_string(&shown).unwrap(), "\"fx_live_secret\"");
    }
}
