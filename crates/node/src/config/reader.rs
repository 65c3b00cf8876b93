//! Reads one setting at a time from the merged table, and reports what is wrong with it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::LazyLock;

use fluxgate_types::{format_duration_ms, parse_duration_ms};
use toml::{Table, Value};

use super::tokens::checked;
use super::{OFF, Problems, Secret, Tokens};

/// The built-in defaults as a table; empty if they cannot be parsed, which `Layers` reports.
static DEFAULT_TABLE: LazyLock<Table> =
    LazyLock::new(|| super::DEFAULTS.parse().unwrap_or_default());

pub(super) struct Reader<'a> {
    pub(super) table: &'a Table,
    pub(super) problems: &'a mut Problems,
}

impl<'a> Reader<'a> {
    pub(super) fn raw(&self, section: &str, setting: &str) -> Option<&'a Value> {
        self.table.get(section)?.get(setting)
    }

    pub(super) fn wrong(&mut self, section: &str, setting: &str, why: &str) {
        self.problems.add(format!("{section}.{setting}: {why}"));
    }

    pub(super) fn text(&mut self, section: &str, setting: &str) -> Option<String> {
        let value = self.raw(section, setting)?;
        if value.as_str().is_none() {
            self.wrong(section, setting, &format!("must be text, not {}", value.type_str()));
        }
        value.as_str().map(ToOwned::to_owned)
    }

    pub(super) fn number(
        &mut self,
        section: &str,
        setting: &str,
        range: std::ops::RangeInclusive<u64>,
    ) -> u64 {
        let value = self.raw(section, setting).and_then(Value::as_integer);
        match value.and_then(|n| u64::try_from(n).ok()).filter(|n| range.contains(n)) {
            Some(number) => number,
            None => {
                let (from, to) = (range.start(), range.end());
                self.wrong(
                    section,
                    setting,
                    &format!("must be a whole number from {from} to {to}"),
                );
                *range.start()
            }
        }
    }

    pub(super) fn flag(&mut self, section: &str, setting: &str) -> bool {
        match self.raw(section, setting).and_then(Value::as_bool) {
            Some(flag) => flag,
            None => {
                self.wrong(section, setting, "must be true or false");
                false
            }
        }
    }

    pub(super) fn duration_ms(
        &mut self,
        section: &str,
        setting: &str,
        range: std::ops::RangeInclusive<u64>,
    ) -> u64 {
        let Some(text) = self.text(section, setting) else {
            return *range.start();
        };
        match parse_duration_ms(&text) {
            Ok(ms) if range.contains(&ms) => ms,
            Ok(_) => {
                let (from, to) =
                    (format_duration_ms(*range.start()), format_duration_ms(*range.end()));
                self.wrong(section, setting, &format!("must be from {from} to {to}"));
                *range.start()
            }
            Err(error) => {
                self.wrong(section, setting, &error.to_string());
                *range.start()
            }
        }
    }

    /// A duration, or `None` for "off".
    pub(super) fn duration_or_off(
        &mut self,
        section: &str,
        setting: &str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let is_off = self.raw(section, setting).and_then(Value::as_str) == Some(OFF);
        (!is_off).then(|| self.duration_ms(section, setting, range))
    }

    pub(super) fn address(&mut self, section: &str, setting: &str) -> SocketAddr {
        let text = self.text(section, setting).unwrap_or_default();
        text.parse().unwrap_or_else(|_| {
            self.wrong(section, setting, "must be an address and port such as `127.0.0.1:7101`");
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }

    /// A secret that is given as text or as a file.
    pub(super) fn secret(&mut self, section: &str, setting: &str) -> Option<Secret> {
        let secret = match self.text_or_file(section, setting)? {
            TextOrFile::Text(text) => text,
            TextOrFile::File(path) => match std::fs::read_to_string(&path) {
                Ok(text) => text.trim().to_owned(),
                Err(error) => {
                    let why = format!("cannot read `{}`: {error}", path.display());
                    self.wrong(section, &format!("{setting}_file"), &why);
                    return None;
                }
            },
        };
        let secret = checked(&secret);
        secret.map_err(|why| self.wrong(section, setting, &why)).ok()
    }

    /// The tokens that callers present: one as text, or a file with one or two.
    pub(super) fn tokens(&mut self, section: &str, setting: &str) -> Option<Tokens> {
        let (named, tokens) = match self.text_or_file(section, setting)? {
            TextOrFile::Text(text) => (setting.to_owned(), checked(&text).map(Tokens::one)),
            TextOrFile::File(path) => (format!("{setting}_file"), Tokens::read(&path)),
        };
        tokens.map_err(|why| self.wrong(section, &named, &why)).ok()
    }

    /// A setting that is given either as text or as `…_file`.
    fn text_or_file(&mut self, section: &str, setting: &str) -> Option<TextOrFile> {
        let file_setting = format!("{setting}_file");
        match (self.text(section, setting), self.text(section, &file_setting)) {
            (Some(_), Some(_)) => {
                self.wrong(section, setting, &format!("give either it or `{file_setting}`"));
                None
            }
            (Some(text), None) => Some(TextOrFile::Text(text)),
            (None, Some(path)) => Some(TextOrFile::File(PathBuf::from(path))),
            (None, None) => None,
        }
    }
}

enum TextOrFile {
    Text(String),
    File(PathBuf),
}

/// Whether a setting has its built-in default.
pub(super) fn is_default(table: &Table, section: &str, setting: &str) -> bool {
    let value = |table: &'_ Table| table.get(section).and_then(|s| s.get(setting)).cloned();
    value(&DEFAULT_TABLE) == value(table)
}

/// A hint at the known name that is nearest to an unknown one; empty if none is near.
pub(super) fn nearest(unknown: &str, known: &[&str]) -> String {
    let best = known.iter().map(|name| (distance(unknown, name), name)).min();
    match best {
        Some((distance, name)) if distance <= 1 + unknown.len() / 3 => {
            format!("; did you mean `{name}`?")
        }
        Some(_) | None => String::new(),
    }
}

/// Edits between two names (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
