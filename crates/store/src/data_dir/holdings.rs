//! The file of an orderly stop: parts, each in an envelope.
//!
//! One part is the envelope of version 1, which every program reads. Several are envelopes of version
//! 2 one behind the other, each with its number, from 0 on, and how many there are. A program that
//! knows version 1 alone finds bytes behind the first envelope and refuses the directory as it is.

use crate::codec::{self, CodecError, HEADER_BYTES, Kind, PAYLOAD_BYTES_MAX};

/// Most parts of one file.
pub const HOLDINGS_PARTS_MAX: usize = 8;
/// Bytes of a part's number and of how many there are.
const PLACE_BYTES: usize = 8;
/// Largest part, bytes.
pub const HOLDINGS_PART_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - PLACE_BYTES;
/// Largest file, bytes.
pub(super) const FILE_BYTES_MAX: u64 =
    (HOLDINGS_PARTS_MAX * (HEADER_BYTES + PAYLOAD_BYTES_MAX)) as u64;

const WHOLE: u8 = 1;
const PART: u8 = 2;

/// The file that holds these parts.
pub(super) fn seal(parts: &[Vec<u8>]) -> Result<Vec<u8>, CodecError> {
    if let [whole] = parts {
        return codec::seal(Kind::Holdings, WHOLE, whole);
    }
    let count = u32::try_from(parts.len()).ok();
    let count = count.filter(|_| (1..=HOLDINGS_PARTS_MAX).contains(&parts.len()));
    let count = count.ok_or_else(|| wrong("there are 1 to 8 parts"))?;
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

/// The parts of a file.
pub(super) fn open(file: &[u8]) -> Result<Vec<Vec<u8>>, CodecError> {
    let mut parts = Vec::new();
    let mut rest = file;
    loop {
        let bytes = HEADER_BYTES + codec::payload_bytes(rest)?;
        let short = CodecError::Short { expected: bytes, found: rest.len() };
        let (envelope, behind) = rest.split_at_checked(bytes).ok_or(short)?;
        let (version, payload) = codec::open(Kind::Holdings, envelope)?;
        match version {
            WHOLE if parts.is_empty() && behind.is_empty() => return Ok(vec![payload.to_vec()]),
            WHOLE => return Err(wrong("something stands beside the whole")),
            PART => {}
            found => return Err(CodecError::Version { expected: PART, found }),
        }
        let place = payload.split_first_chunk::<4>();
        let place = place.and_then(|(n, rest)| Some((n, rest.split_first_chunk::<4>()?)));
        let Some((number, (count, part))) = place else {
            return Err(wrong("a part without its place"));
        };
        let (number, count) = (u32::from_le_bytes(*number), u32::from_le_bytes(*count));
        if number as usize != parts.len() || count as usize > HOLDINGS_PARTS_MAX {
            return Err(wrong("parts out of their order"));
        }
        parts.push(part.to_vec());
        rest = behind;
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
    fn several_are_read_as_they_were_and_not_by_older_programs() {
        let several = parts(&["one", "", "three"]);
        let file = seal(&several).unwrap();
        assert_eq!(open(&file).unwrap(), several);
        assert!(matches!(codec::open(Kind::Holdings, &file), Err(CodecError::Trailing { .. })));
    }

    #[test]
    fn a_file_that_is_not_whole_or_has_another_order_is_refused() {
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
