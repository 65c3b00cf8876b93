//! Characters of ids, secrets and checksums: digits, upper-case and lower-case letters.

use super::CHECKSUM_CHARS;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Fills `out` with unbiased base62 characters; false when `random` runs out.
pub(crate) fn fill(out: &mut [u8], random: &[u8]) -> bool {
    // 248 is the largest multiple of 62 in a byte: higher values would favour the first characters.
    let mut usable = random.iter().filter(|&&byte| byte < 248);
    out.iter_mut().all(|slot| match usable.next() {
        Some(byte) => {
            *slot = ALPHABET[usize::from(byte % 62)];
            true
        }
        None => false,
    })
}

/// Maps a byte that is already random to a character. The first eight characters of the alphabet
/// come slightly more often.
pub(crate) fn of_byte(byte: u8) -> u8 {
    ALPHABET[usize::from(byte % 62)]
}

/// A number in base62, with leading zeros.
pub(super) fn of_u32(mut value: u32) -> [u8; CHECKSUM_CHARS] {
    let mut chars = [b'0'; CHECKSUM_CHARS];
    for slot in chars.iter_mut().rev() {
        *slot = ALPHABET[(value % 62) as usize];
        value /= 62;
    }
    chars
}
