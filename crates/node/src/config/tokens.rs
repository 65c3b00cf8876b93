//! Tokens that callers present: one, or two while one replaces the other.
//!
//! A changed file is read again, so a token is added or removed without a restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use super::Secret;

/// Shortest accepted secret, characters.
const SECRET_CHARS_MIN: usize = 16;
/// Tokens in one file, one per line.
const TOKENS_MAX: usize = 2;
/// Longest file of tokens, bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The tokens that are accepted now. All clones share them.
#[derive(Clone, Debug)]
pub struct Tokens {
    file: Option<PathBuf>,
    accepted: Arc<RwLock<Arc<[Secret]>>>,
}

impl Tokens {
    /// One token that never changes.
    #[must_use]
    pub fn one(token: Secret) -> Self {
        Self { file: None, accepted: Arc::new(RwLock::new([token].into())) }
    }

    /// The tokens of a file, one per line.
    ///
    /// # Errors
    /// A message that says what is wrong with the file, and never contains the file's text.
    pub(super) fn read(file: &Path) -> Result<Self, String> {
        let accepted = Arc::new(RwLock::new(tokens_in(file)?));
        Ok(Self { file: Some(file.to_owned()), accepted })
    }

    /// The file that they are read from.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    #[must_use]
    pub fn all(&self) -> Arc<[Secret]> {
        Arc::clone(&self.accepted.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether one of them was presented; each is compared in constant time.
    #[must_use]
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.all().iter().fold(false, |found, token| token.matches(presented) | found)
    }

    /// Reads the file again. Blocks. Returns the number of tokens if they changed.
    ///
    /// # Errors
    /// What is wrong with the file; the tokens in use then stay.
    pub fn look(&self) -> Result<Option<usize>, String> {
        let Some(file) = &self.file else { return Ok(None) };
        let tokens = tokens_in(file)?;
        if self.all() == tokens {
            return Ok(None);
        }
        let count = tokens.len();
        *self.accepted.write().unwrap_or_else(PoisonError::into_inner) = tokens;
        Ok(Some(count))
    }
}

fn tokens_in(file: &Path) -> Result<Arc<[Secret]>, String> {
    let shown = file.display();
    let cannot = |error: std::io::Error| format!("cannot read `{shown}`: {error}");
    let about = std::fs::metadata(file).map_err(cannot)?;
    if !about.is_file() {
        // Reading a pipe could block, and no other file would be reloaded meanwhile.
        return Err(format!("`{shown}` is not a regular file"));
    }
    let length = about.len();
    if length > FILE_BYTES_MAX {
        return Err(format!("`{shown}` is larger than {FILE_BYTES_MAX} bytes"));
    }
    let text = std::fs::read_to_string(file).map_err(cannot)?;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() || lines.len() > TOKENS_MAX {
        let found = lines.len();
        return Err(format!(
            "`{shown}` must hold 1 or {TOKENS_MAX} tokens, one per line, not {found}"
        ));
    }
    let each = |line| checked(line).map_err(|why| format!("`{shown}`: each token {why}"));
    lines.into_iter().map(each).collect()
}

/// Checks the length and the characters of a secret.
pub(super) fn checked(secret: &str) -> Result<Secret, String> {
    let visible = secret.bytes().all(|c| c.is_ascii_graphic());
    if secret.len() < SECRET_CHARS_MIN || !visible {
        return Err(format!("must have at least {SECRET_CHARS_MIN} visible ASCII characters"));
    }
    Ok(Secret::new(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "old-token-of-enough-characters";
    const NEW: &str = "new-token-of-enough-characters";

    #[test]
    fn a_file_of_one_or_two_tokens_is_read_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("token");
        let write = |text: &str| std::fs::write(&file, text).expect("written");
        write(&format!("{OLD}\n"));
        let tokens = Tokens::read(&file).expect("one token");
        let copy = tokens.clone();
        let accepts = || [OLD, NEW].map(|token| copy.matches(token.as_bytes()));
        assert_eq!(accepts(), [true, false]);
        assert_eq!(tokens.look(), Ok(None));
        write(&format!("\n  {NEW}\r\n{OLD}\n\n"));
        assert_eq!(tokens.look(), Ok(Some(2)));
        assert_eq!(accepts(), [true, true]);
        write(NEW);
        assert_eq!(tokens.look(), Ok(Some(1)));
        assert_eq!(accepts(), [false, true]);
        // An invalid file changes nothing, and the error does not show its text.
        for wrong in [String::new(), "short".to_owned(), format!("{OLD}\n{NEW}\n{OLD}x")] {
            write(&wrong);
            let error = tokens.look().expect_err("wrong");
            assert!(!error.contains("short") && !error.contains(OLD), "{error}");
            assert_eq!(accepts(), [false, true]);
        }
        std::fs::remove_file(&file).expect("removed");
        tokens.look().expect_err("gone");
        assert_eq!(accepts(), [false, true]);
        assert!(!format!("{tokens:?}").contains("token-of"), "{tokens:?}");
    }
}
