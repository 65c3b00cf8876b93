//! A node's configuration file, setting by setting, by the names of `config/node.toml`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Settings by section; values are TOML.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings(BTreeMap<String, BTreeMap<String, String>>);

impl Settings {
    /// Sets a value that is written as TOML, such as `true` or `[1, 2]`.
    pub(crate) fn set(&mut self, section: &str, name: &str, toml: impl ToString) -> &mut Self {
        let section = self.0.entry(section.to_owned()).or_default();
        section.insert(name.to_owned(), toml.to_string());
        self
    }

    /// Sets a text.
    pub(crate) fn text(&mut self, section: &str, name: &str, text: impl ToString) -> &mut Self {
        self.set(section, name, format!("{:?}", text.to_string()))
    }

    /// Removes a setting, so that its default applies.
    pub(crate) fn unset(&mut self, section: &str, name: &str) -> &mut Self {
        self.0.entry(section.to_owned()).or_default().remove(name);
        self
    }

    /// Applies other settings on top.
    pub(crate) fn lay(&mut self, other: &Self) -> &mut Self {
        for (section, settings) in &other.0 {
            let known = self.0.entry(section.clone()).or_default();
            known.extend(settings.clone());
        }
        self
    }

    /// The text of the file.
    pub(crate) fn to_toml(&self) -> String {
        let mut text = String::new();
        for (section, settings) in &self.0 {
            writeln!(text, "[{section}]").unwrap();
            for (name, value) in settings {
                writeln!(text, "{name} = {value}").unwrap();
            }
        }
        text
    }
}
