//! The layers of a configuration: a file, the environment, flags.
//!
//! A configuration is rejected without printing a secret, or it is sound: its masked form reads
//! back as the same configuration.

use fluxgate_server::{Config, Layers};

/// Separates the parts of an input: file, environment, flags.
const PART: u8 = 0x1e;
/// A secret that is set beside the input.
const MARK: &str = "Zq7-mark-of-a-secret-Zq7";
/// Replaces a masked secret, to read a masked configuration again.
const UNMASKED: &str = "\"0123456789abcdef\"";

/// Any text in each of the layers.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Paths would be opened: the input must not choose devices. An input with the mark itself
    // proves nothing.
    if text.contains("_file") || text.contains("_FILE") || text.contains(MARK) {
        return;
    }
    let mut parts = text.split(char::from(PART));
    let mut part = || parts.next().unwrap_or_default();
    let (file, environment, flags) = (part(), part(), part());
    let variables = || {
        let pairs = environment.lines().filter_map(|line| line.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let flagged = |layers: Layers| {
        let settings = flags.lines().filter_map(|line| line.split_once('='));
        settings.fold(layers, |layers, (name, value)| {
            let (section, setting) = name.split_once('.').unwrap_or((name, ""));
            layers.with_flag(section, setting, value)
        })
    };
    let layers = |file: &str| {
        flagged(Layers::default().with_text(file, "file").with_environment(variables()))
    };
    check(layers(file));
    // A secret before, on one line with, and in the environment beside the input.
    check(layers(&format!("[cluster]\nsecret = \"{MARK}\"\n{file}")));
    check(layers(&format!("[cluster]\nsecret = \"{MARK}{file}")));
    check(layers(&format!("admin.operator_token = \"{MARK}\" {file}")));
    let beside = variables().chain([(
        "FLUXGATE__CLUSTER__SECRET".to_owned(),
        format!("{MARK}{}", file.lines().next().unwrap_or_default()),
    )]);
    check(flagged(Layers::default().with_environment(beside)));
}

fn check(layers: Layers) {
    match layers.finish() {
        Ok(config) => sound(&config),
        Err(problems) => {
            let printed = format!("{problems}{problems:?}");
            assert!(!printed.contains(MARK), "a secret was printed: {printed}");
            assert!(!problems.0.is_empty(), "rejected without a reason");
        }
    }
}

fn sound(config: &Config) {
    let shown = config.masked();
    let debug = format!("{config:?}");
    assert!(!shown.contains(MARK) && !debug.contains(MARK), "a secret was printed");
    let unmasked = shown.replace("\"…\"", UNMASKED);
    let again = Layers::default().with_text(&unmasked, "masked").finish();
    let again = again.unwrap_or_else(|problems| panic!("{problems}\n{shown}"));
    assert_eq!(again.masked(), shown);
    for limit in &config.default_limits {
        assert_eq!(limit.check(), Ok(()));
    }
}
