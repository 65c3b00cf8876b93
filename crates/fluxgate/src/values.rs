//! Values on the command line: limits, durations, metadata.
//!
//! Answers for: parsing one argument into one value, with an error that shows the right format.

use std::time::Duration;

use fluxgate_api::Period;
use fluxgate_api::keys::{LimitEntry, LimitMode, LimitSpec};
use fluxgate_types::{Limit, Scope, parse_duration_ms};

/// Parses `requests=100/60s`, or `100/60s` for a limit named `requests`; behind it may be the scopes
/// that it counts, as in `writes=10/60s@write+admin`, and `:shadow`.
pub(crate) fn limit(text: &str) -> Result<LimitSpec, String> {
    let form = || format!("`{text}` is not a limit such as `100/60s` or `requests=100/60s`");
    let (rest, mode) = match text.split_once(':') {
        Some((rest, "shadow")) => (rest, LimitMode::Shadow),
        Some(_) => return Err(form()),
        None => (text, LimitMode::Enforce),
    };
    let (rest, scopes) = match rest.split_once('@') {
        Some((rest, scopes)) => (rest, scopes.split('+').map(scope).collect::<Result<_, _>>()?),
        None => (rest, Vec::new()),
    };
    let (name, rate) = rest.split_once('=').unwrap_or(("requests", rest));
    let (tokens, period) = rate.split_once('/').ok_or_else(form)?;
    let tokens = tokens.parse().map_err(|_| form())?;
    let period = period.parse::<Period>().map_err(|error| error.to_string())?;
    let spec = LimitSpec { scopes, mode, ..LimitSpec::new(name, tokens, period) };
    match Limit::try_from(spec.clone()) {
        Ok(_) => Ok(spec),
        Err(error) => Err(error.to_string()),
    }
}

/// Parses a metadata entry `name=value`.
pub(crate) fn metadata_entry(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err(format!("`{text}` is not `name=value`")),
    }
}

/// Parses a positive duration such as `10s`, `500ms`, `5m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match parse_duration_ms(text) {
        Ok(0) => Err("must be longer than 0".to_owned()),
        Ok(ms) => Ok(Duration::from_millis(ms)),
        Err(error) => Err(error.to_string()),
    }
}

/// Parses `read`, `write` or `admin`.
pub(crate) fn scope(text: &str) -> Result<Scope, String> {
    text.parse().map_err(|_| format!("unknown scope `{text}`: expected `read`, `write` or `admin`"))
}

/// A limit in the format of the command line.
pub(crate) fn limit_text(limit: &LimitSpec) -> String {
    let mut text = format!("{}={}/{}", limit.name, limit.tokens, limit.period);
    for (at, scope) in limit.scopes.iter().enumerate() {
        text = text + if at == 0 { "@" } else { "+" } + scope.as_str();
    }
    if limit.mode == LimitMode::Shadow { text + ":shadow" } else { text }
}

/// The same for a limit that may be taken away.
pub(crate) fn entry_text(entry: &LimitEntry) -> String {
    let LimitEntry { name, tokens, period, scopes, mode } = entry.clone();
    match (tokens, period) {
        (Some(tokens), Some(period)) => {
            limit_text(&LimitSpec { name, tokens, period, scopes, mode })
        }
        _ => format!("without {name}"),
    }
}

/// Limits, and the names of those of a plan that do not apply.
pub(crate) fn entries(limits: &[LimitSpec], without: &[String]) -> Vec<LimitEntry> {
    let own = limits.iter().cloned().map(LimitEntry::from);
    own.chain(without.iter().map(LimitEntry::removed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_round_trip() {
        for (text, printed) in [
            ("100/60s", "requests=100/60s"),
            ("writes=5/10m", "writes=5/600s"),
            ("5/10s@write+admin", "requests=5/10s@write+admin"),
            ("w=5/10s@read:shadow", "w=5/10s@read:shadow"),
        ] {
            let spec = limit(text).unwrap();
            assert_eq!(limit_text(&spec), printed);
            assert_eq!(limit(printed).unwrap(), spec);
        }
    }

    #[test]
    fn malformed_values_are_rejected() {
        for text in
            ["", "100", "100/", "a=b/60s", "=1/60s", "0/60s", "1/24h", "-1/60s", "1/1s@", "1/1s:x"]
        {
            assert!(limit(text).is_err(), "{text}");
        }
        assert!(metadata_entry("=x").is_err() && metadata_entry("x").is_err());
        assert_eq!(metadata_entry("a=b=c").unwrap().1, "b=c");
        assert!(duration("0s").is_err() && duration("10").is_err());
    }
}
