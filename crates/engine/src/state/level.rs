//! Levels: what a program of some version can read and apply.
//!
//! A new level comes with a new minor version of the program. Records and messages with content of
//! a level are written under a version of the same number.

/// The newest level that this program knows.
pub const LEVEL: u32 = 4;

/// The newest level whose messages and commands a program of this version knows.
#[must_use]
pub fn level_of(version: &str) -> u32 {
    let mut numbers = version.split(['.', '-']).map(|part| part.parse::<u64>().unwrap_or(0));
    match (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) {
        (0, 0 | 1) => 1,
        (0, 2) => 2,
        (0, 3) => 3,
        (0, _) | (1.., _) => LEVEL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_knows_the_levels_up_to_its_own() {
        for (version, level) in [
            ("", 1),
            ("nonsense", 1),
            ("0.1.9", 1),
            ("0.2.0", 2),
            ("0.2.0-rc.1", 2),
            ("0.3.0", 3),
            ("0.4.0", 4),
            ("0.10.3", 4),
            ("1.0.0", 4),
        ] {
            assert_eq!(level_of(version), level, "{version}");
        }
        assert_eq!(level_of(env!("CARGO_PKG_VERSION")), LEVEL, "this program");
    }
}
