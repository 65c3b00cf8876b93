//! Integers of variable length at the front and at the end of bytes in memory.

use integer_encoding::VarInt;

/// Bytes of the longest 64-bit integer.
const NUMBER_BYTES_MAX: usize = 10;

/// Takes an integer from the front; `None` if no whole one is there.
pub(crate) fn take<T: VarInt>(bytes: &mut &[u8]) -> Option<T> {
    let (number, length) = T::decode_var(bytes)?;
    *bytes = &bytes[length..];
    Some(number)
}

/// Appends an integer.
pub(crate) fn append(number: u64, bytes: &mut Vec<u8>) {
    let mut encoded = [0; NUMBER_BYTES_MAX];
    let length = number.encode_var(&mut encoded);
    bytes.extend_from_slice(&encoded[..length]);
}
