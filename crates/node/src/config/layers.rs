//! Merges the layers of a configuration.
//!
//! Answers for: tables, names, and the layer that a value came from. `check` checks the values.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use toml::{Table, Value};

use super::reader::nearest;
use super::{Config, DEFAULTS, check};

/// Prefix of the environment variables that are settings.
const ENVIRONMENT: &str = "FLUXGATE__";

/// Settings without a default: the defaults file has them only as comments.
const WITHOUT_DEFAULT: [(&str, &str); 12] = [
    ("cluster", "secret"),
    ("cluster", "secret_file"),
    ("gateway", "grpc_listen"),
    ("gateway", "token"),
    ("gateway", "token_file"),
    ("gateway", "tls"),
    ("admin", "operator_token"),
    ("admin", "operator_token_file"),
    ("admin", "tls"),
    ("peer", "advertise"),
    ("peer", "tls"),
    ("telemetry", "otlp_endpoint"),
];

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<String>);

impl Problems {
    pub(super) fn add(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "  - {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Layers of settings; a later layer overrides an earlier one.
#[derive(Clone, Debug)]
pub struct Layers {
    table: Table,
    problems: Problems,
}

impl Default for Layers {
    fn default() -> Self {
        let mut problems = Problems::default();
        let table = DEFAULTS.parse().unwrap_or_else(|error| {
            problems.add(format!("built-in defaults: {error}"));
            Table::new()
        });
        Self { table, problems }
    }
}

impl Layers {
    /// Adds a file. Relative paths in it start at the working directory.
    #[must_use]
    pub fn with_file(mut self, path: &Path) -> Self {
        match std::fs::read_to_string(path) {
            Err(error) => self.problems.add(format!("cannot read {}: {error}", path.display())),
            Ok(text) => self = self.with_text(&text, &path.display().to_string()),
        }
        self
    }

    /// Adds TOML text.
    #[must_use]
    pub fn with_text(mut self, text: &str, origin: &str) -> Self {
        match text.parse::<Table>() {
            Err(error) => self.problems.add(format!("{origin}: {}", misread(text, &error))),
            Ok(table) => {
                for (section, settings) in table {
                    self.lay_section(&section, settings, origin);
                }
            }
        }
        self
    }

    /// Adds environment variables: `FLUXGATE__SECTION__NAME=value`. All others are ignored, whatever
    /// bytes they hold.
    #[must_use]
    pub fn with_environment<T: Into<OsString>>(
        mut self,
        variables: impl Iterator<Item = (T, T)>,
    ) -> Self {
        for (name, text) in variables {
            let name: OsString = name.into();
            // No name of a setting holds the bytes that are lost here, so they are reported below.
            let name = name.to_string_lossy();
            let Some(path) = name.strip_prefix(ENVIRONMENT) else {
                continue;
            };
            let path = path.to_lowercase();
            let Some((section, setting)) = path.split_once("__") else {
                self.problems.add(format!("environment: {name} names no setting"));
                continue;
            };
            let Ok(text) = text.into().into_string() else {
                self.problems.add(format!("environment: {name} is not UTF-8"));
                continue;
            };
            let value = self.parse_like(section, setting, &text);
            self.lay(section, setting, value, &name);
        }
        self
    }

    /// Adds one flag.
    #[must_use]
    pub fn with_flag(mut self, section: &str, setting: &str, value: impl Into<Value>) -> Self {
        self.lay(section, setting, value.into(), "flag");
        self
    }

    /// Checks all settings.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn finish(self) -> Result<Config, Problems> {
        let mut problems = self.problems;
        let config = check::check(&self.table, &mut problems);
        match config {
            Some(config) if problems.0.is_empty() => Ok(config),
            Some(_) | None => Err(problems),
        }
    }

    /// A variable's text as a value of the type that the setting has by default.
    fn parse_like(&self, section: &str, setting: &str, text: &str) -> Value {
        let default = self.table.get(section).and_then(|s| s.get(setting));
        let is_text = default.is_none_or(Value::is_str);
        let parsed = format!("v = {text}").parse::<Table>().ok().and_then(|mut t| t.remove("v"));
        match parsed {
            Some(value) if !is_text || value.is_table() => value,
            Some(_) | None => Value::String(text.to_owned()),
        }
    }

    fn lay_section(&mut self, section: &str, settings: Value, origin: &str) {
        let Value::Table(settings) = settings else {
            self.problems.add(format!("{origin}: `{section}` must be a table"));
            return;
        };
        for (setting, value) in settings {
            self.lay(section, &setting, value, origin);
        }
    }

    fn lay(&mut self, section: &str, setting: &str, value: Value, origin: &str) {
        let Some(Value::Table(known)) = self.table.get_mut(section) else {
            let sections: Vec<&str> = self.table.keys().map(String::as_str).collect();
            let hint = nearest(section, &sections);
            self.problems.add(format!("{origin}: unknown section `[{section}]`{hint}"));
            return;
        };
        let extra = WITHOUT_DEFAULT.iter().filter(|(s, _)| *s == section).map(|(_, name)| *name);
        let names: Vec<&str> = known.keys().map(String::as_str).chain(extra).collect();
        if names.contains(&setting) {
            known.insert(setting.to_owned(), value);
        } else {
            let hint = nearest(setting, &names);
            self.problems.add(format!("{origin}: unknown setting `{section}.{setting}`{hint}"));
        }
    }
}

/// Where the text is not TOML. The parser's own message would show the line, which may hold a secret.
fn misread(text: &str, error: &toml::de::Error) -> String {
    let place = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = 1 + place.matches('\n').count();
    let column = 1 + place.chars().rev().take_while(|c| *c != '\n').count();
    format!("not TOML: line {line} column {column}: {}", error.message())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const ALONE: &str = "[cluster]\nmembers = [{ id = 1, peer = \"127.0.0.1:7301\" }]\n";

    #[test]
    fn the_defaults_are_a_sound_configuration_of_one_node() {
        let config = Layers::default().finish().unwrap();
        assert_eq!((config.node_id.0, config.lease_ms, config.election_ms), (1, 3_000, (300, 600)));
        assert_eq!(config.default_limits[0].tokens, 100);
        assert!(config.masked().parse::<Table>().is_ok(), "{}", config.masked());
    }

    #[test]
    fn environment_beats_file_and_flags_beat_both() {
        let variables = [
            ("FLUXGATE__NODE__DATA_DIR", "from-env"),
            ("FLUXGATE__HTTP__MAX_BODY_BYTES", "1024"),
            ("PATH", "x"),
        ];
        let variables = variables.map(|(n, v)| (n.to_owned(), v.to_owned()));
        let text =
            format!("{ALONE}[node]\ndata_dir = \"from-file\"\n[http]\nmax_body_bytes = 2048\n");
        let layers =
            Layers::default().with_text(&text, "file").with_environment(variables.into_iter());
        let config = layers.clone().finish().unwrap();
        assert_eq!(config.data_dir, PathBuf::from("from-env"));
        assert_eq!(config.max_body_bytes, 1_024);
        let config = layers.with_flag("node", "data_dir", "from-flag").finish().unwrap();
        assert_eq!(config.data_dir, PathBuf::from("from-flag"));
    }

    #[test]
    fn a_variable_that_is_not_utf_8_is_reported_if_it_is_a_setting() {
        use std::os::unix::ffi::OsStringExt as _;
        let odd = || OsString::from_vec(vec![b'x', 0xff]);
        let layers = |variables: Vec<(OsString, OsString)>| {
            Layers::default().with_text(ALONE, "file").with_environment(variables.into_iter())
        };
        layers(vec![("OTHER".into(), odd()), (odd(), "1".into())]).finish().unwrap();
        for (name, text, why) in [
            ("FLUXGATE__NODE__DATA_DIR".into(), odd(), "FLUXGATE__NODE__DATA_DIR is not UTF-8"),
            (OsString::from_vec(b"FLUXGATE__NODE__\xff".into()), "1".into(), "unknown setting"),
        ] {
            let problems = layers(vec![(name, text)]).finish().unwrap_err().to_string();
            assert!(problems.contains(why), "{problems}");
        }
    }

    #[test]
    fn invalid_values_are_rejected_with_their_setting() {
        let said = |text: &str| {
            let layers = Layers::default().with_text(ALONE, "file").with_text(text, "file");
            layers.finish().map_or_else(|problems| problems.to_string(), |_| String::new())
        };
        for (text, why) in [
            ("[telemetry]\nlog = \"inof\"", "`inof` is not a level"),
            ("[telemetry]\nlog = \"info, warn\"", "telemetry.log: "),
            ("[telemetry]\nlog = \"\"", "`` is not a level"),
            ("[telemetry]\nlog = \"info,fluxgate_node\"", "`fluxgate_node` is not a level"),
            ("[telemetry]\nlog = \"info,fluxgate_node=debgu\"", "telemetry.log: "),
            ("[telemetry]\ntrace_sample_ratio = 2", "must be from 0 to 1"),
            ("[telemetry]\ntrace_sample_ratio = -0.1", "must be from 0 to 1"),
            ("[telemetry]\ntrace_sample_ratio = nan", "must be from 0 to 1"),
            ("[telemetry]\ntrace_sample_ratio = \"half\"", "must be from 0 to 1"),
            (
                "[cluster]\nmembers = [{ id = 1, peer = \"a:1\" }, { id = 2, peer = \"a:1\" }]",
                "two members have the address a:1",
            ),
            (
                "[cluster]\nmembers = [{ id = 1, peer = \"0.0.0.0:1\" }]",
                "an address to listen on, not one to call",
            ),
            ("[keys]\npurge_after = \"59m\"", "keys.purge_after: must be from"),
            ("[keys]\npurge_after = \"never\"", "keys.purge_after: `never` is not a duration"),
        ] {
            let problems = said(text);
            assert!(problems.contains(why), "{text}: {problems}");
        }
        let one =
            said("[cluster]\nmembers = [{ id = 1, peer = \"a:1\" }, { id = 2, peer = \"b\" }]");
        assert_eq!(one.lines().count(), 1, "one mistake gives one message: {one}");
        assert!(one.contains("number 2 must be"), "{one}");
        for text in [
            "log = \"WARN\"",
            "log = \"off\"",
            "log = \"info,fluxgate_node=debug\"",
            "log = \"warn,fluxgate_node[request{route=a}]=trace\"",
            "trace_sample_ratio = 0",
            "trace_sample_ratio = 1",
            "trace_sample_ratio = 0.5",
        ] {
            assert_eq!(said(&format!("[telemetry]\n{text}")), "", "{text}");
        }
    }

    #[test]
    fn a_syntax_error_is_located_and_its_line_not_shown() {
        let text = "[node]\nid = 2\n[cluster]\nsecret = \"a secret that is not closed\n";
        let problems = Layers::default().with_text(text, "file").finish().unwrap_err().to_string();
        assert!(problems.contains("file: not TOML: line 4 column "), "{problems}");
        assert!(!problems.contains("a secret"), "{problems}");
    }

    #[test]
    fn all_mistakes_are_reported_at_once_with_the_nearest_name() {
        let text =
            "[gatewey]\nlisten = 1\n[node]\nidd = 2\ndata_dir = 3\n[lease]\nduration = \"soon\"\n";
        let problems = Layers::default().with_text(text, "file").finish().unwrap_err().to_string();
        for part in [
            "unknown section `[gatewey]`; did you mean `gateway`?",
            "unknown setting `node.idd`; did you mean `id`?",
            "node.data_dir",
            "lease.duration",
        ] {
            assert!(problems.contains(part), "{part} in {problems}");
        }
    }
}
