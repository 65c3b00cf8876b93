//! The file written at an orderly stop: parts, each in an envelope.
//!
//! A single part is an envelope of version 1, which every release reads. Several parts are
//! consecutive envelopes of version 2, each with its number (from 0) and the number of parts. A
//! release that knows version 1 alone finds bytes after the first envelope and rejects the
//! directory unchanged.

use crate::codec::{self, CodecError, HEADER_BYTES, Kind, PAYLOAD_BYTES_MAX};

/// Most parts of one file.
pub const HOLDINGS_PARTS_MAX: usize = 8;
/// Size of a part's number and of the number of parts, bytes.
const PLACE_BYTES: usize = 8;
/// Largest part, bytes.
pub const HOLDINGS_PART_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - PLACE_BYTES;
/// Largest file, bytes.
pub(super) const FILE_BYTES_MAX: u64 =
    (HOLDINGS_PARTS_MAX * (HEADER_BYTES + PAYLOAD_BYTES_MAX)) as u64;

const WHOLE: u8 = 1;
const PART: u8 = 2;

/// Encodes the parts into a file.
pub(super) fn seal(parts: &[Vec<u8>]) -> Result<Vec<u8>, CodecError> {
    if let [whole] = parts {
        return codec::seal(Kind::Holdings, WHOLE, whole);
    }
    let count = u32::try_from(parts.len()).ok();
    let count = count.filter(|_| (1..=HOLDINGS_PARTS_MAX).contains(&parts.len()));
    let count = count.ok_or_else(|| wrong("expected 1 to 8 parts"))?;
    let mut file =
        Vec::with_capacity(parts.iter().map(|p| HEADER_BYTES + PLACE_BYTES + p.len()).sum());
    for (number, part) in (0u32..).zip(parts) {
        let mut payload = Vec::with_capacity(PLACE_BYTES + part.len());
        payload.extend_from_slice(&number.to_le_bytes());
        payload.extend_from_slice(&count.to_le_bytes());
        payload.extend_from_slice(part);
        file.extend_from_slice(&codec::seal(Kind::Holdings, PART, &payload)?);
    }
    Ok(file)
}

/// Decodes a file into its parts.
pub(super) fn open(file: &[u8]) -> Result<Vec<Vec<u8>>, CodecError> {
    let mut parts = Vec::new();
    let mut rest = file;
    loop {
        let bytes = HEADER_BYTES + codec::payload_bytes(rest)?;
        let short = CodecError::Short { expected: bytes, found: rest.len() };
        let (envelope, after) = rest.split_at_checked(bytes).ok_or(short)?;
        let (version, payload) = codec::open(Kind::Holdings, envelope)?;
        match version {
            WHOLE if parts.is_empty() && after.is_empty() => return Ok(vec![payload.to_vec()]),
            WHOLE => return Err(wrong("unexpected data besides the single part")),
            PART => {}
            found => return Err(CodecError::Version { expected: PART, found }),
        }
        let place = payload.split_first_chunk::<4>();
        let place = place.and_then(|(n, rest)| Some((n, rest.split_first_chunk::<4>()?)));
        let Some((number, (count, part))) = place else {
            return Err(wrong("a part has no number"));
        };
        let (number, count) = (u32::from_le_bytes(*number), u32::from_le_bytes(*count));
        if number as usize != parts.len() || count as usize > HOLDINGS_PARTS_MAX {
            return Err(wrong("parts are out of order"));
        }
        parts.push(part.to_vec());
        rest = after;
        match (parts.len() == count as usize, rest.is_empty()) {
            (true, true) => return Ok(parts),
            (false, false) => {}
            (true, false) => return Err(CodecError::Trailing { extra: rest.len() }),
            (false, true) => return Err(wrong("parts are missing")),
        }
    }
}

fn wrong(what: &str) -> CodecError {
    CodecError::Value(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(texts: &[&str]) -> Vec<Vec<u8>> {
        texts.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    #[test]
    fn one_part_is_the_envelope_that_older_programs_read() {
        let file = seal(&parts(&["three tokens"])).unwrap();
        assert_eq!(codec::open(Kind::Holdings, &file), Ok((1, b"three tokens".as_slice())));
        assert_eq!(open(&file).unwrap(), parts(&["three tokens"]));
    }

    #[test]
    fn several_parts_round_trip_and_are_rejected_by_older_programs() {
        let several = parts(&["one", "", "three"]);
        let file = seal(&several).unwrap();
        assert_eq!(open(&file).unwrap(), several);
        assert!(matches!(codec::open(Kind::Holdings, &file), Err(CodecError::Trailing { .. })));
    }

    #[test]
    fn an_incomplete_or_reordered_file_is_rejected() {
        let several = parts(&["one", "two", "three"]);
        let file = seal(&several).unwrap();
        for at in 0..file.len() {
            assert!(open(&file[..at]).is_err(), "{at}");
            let mut flipped = file.clone();
            flipped[at] ^= 0x10;
            assert!(open(&flipped).is_err(), "{at}");
        }
        let one = HEADER_BYTES + PLACE_BYTES + 3;
        let swapped = [&file[one..2 * one], &file[..one], &file[2 * one..]].concat();
        assert!(open(&swapped).is_err());
        assert!(open(&[&file[..], &file[..one]].concat()).is_err());
        assert!(seal(&[]).is_err() && seal(&parts(&[""; HOLDINGS_PARTS_MAX + 1])).is_err());
    }
}
