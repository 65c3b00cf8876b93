//! The layers of a configuration: a file, the environment, flags.
//!
//! A configuration is refused with words that hold no secret, or it is sound: what it shows of
//! itself makes the same configuration again.

use fluxgate_server::{Config, Layers};

/// Stands between the parts of an input: file, environment, flags.
const PART: u8 = 0x1e;
/// A secret that is set beside whatever the input says.
const MARK: &str = "Zq7-mark-of-a-secret-Zq7";
/// What takes the place of a masked secret, to read a masked configuration again.
const UNMASKED: &str = "\"0123456789abcdef\"";

/// Any text in each of the layers.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Paths are opened: the input must not choose devices. A mark of its own proves nothing.
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
    look(layers(file));
    // A secret before, on one line with, and in the environment beside whatever else is said.
    look(layers(&format!("[cluster]\nsecret = \"{MARK}\"\n{file}")));
    look(layers(&format!("[cluster]\nsecret = \"{MARK}{file}")));
    look(layers(&format!("admin.operator_token = \"{MARK}\" {file}")));
    let beside = variables().chain([(
        "FLUXGATE__CLUSTER__SECRET".to_owned(),
        format!("{MARK}{}", file.lines().next().unwrap_or_default()),
    )]);
    look(flagged(Layers::default().with_environment(beside)));
}

fn look(layers: Layers) {
    match layers.finish() {
        Ok(config) => sound(&config),
        Err(problems) => {
            let said = format!("{problems}{problems:?}");
            assert!(!said.contains(MARK), "a secret was printed: {said}");
            assert!(!problems.0.is_empty(), "refused without a reason");
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
