//! The envelope: golden bytes, round trips, and rejection of everything else.

use fluxgate_store::codec::{self, HEADER_BYTES, PAYLOAD_BYTES_MAX};
use fluxgate_store::{CodecError, Kind};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Empty,
    Named { name: String, size: Option<u64> },
    Many(Vec<(i64, bool)>),
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        Just(Shape::Empty),
        (".*", any::<Option<u64>>()).prop_map(|(name, size)| Shape::Named { name, size }),
        proptest::collection::vec(any::<(i64, bool)>(), 0..20).prop_map(Shape::Many),
    ]
}

fn sample() -> Shape {
    Shape::Named { name: "flux".to_owned(), size: Some(300) }
}

/// Version 1 of the envelope and of bincode's layout. If this fails, stored data and other
/// nodes can no longer be read.
#[test]
fn the_bytes_of_version_one_never_change() {
    let bytes = codec::encode(Kind::Entry, 1, &sample()).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "46470101000a00000096f66c9f0104666c757801fb2c01");
    assert_eq!(codec::decode::<Shape>(Kind::Entry, 1, &bytes), Ok(sample()));
}

#[test]
fn the_numbers_of_the_kinds_never_change() {
    let kinds = [
        Kind::Entry,
        Kind::Vote,
        Kind::SnapshotHeader,
        Kind::SnapshotChunk,
        Kind::PeerMessage,
        Kind::Identity,
        Kind::Holdings,
        Kind::Committed,
        Kind::LogId,
        Kind::HardState,
        Kind::SnapshotFooter,
    ];
    for (kind, number) in kinds.into_iter().zip(1u8..) {
        assert_eq!(kind as u8, number);
    }
}

#[test]
fn every_flipped_bit_is_rejected() {
    let bytes = codec::encode(Kind::Entry, 1, &sample()).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(codec::decode::<Shape>(Kind::Entry, 1, &flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn truncated_and_extended_envelopes_are_rejected() {
    let bytes = codec::encode(Kind::Entry, 1, &sample()).unwrap();
    for length in 0..bytes.len() {
        let error = codec::decode::<Shape>(Kind::Entry, 1, &bytes[..length]).unwrap_err();
        assert!(matches!(error, CodecError::Short { .. }), "{error}");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(
        codec::decode::<Shape>(Kind::Entry, 1, &longer),
        Err(CodecError::Trailing { extra: 1 })
    );
}

#[test]
fn a_value_with_trailing_bytes_is_rejected() {
    // bincode itself would decode an older, shorter record from a newer, longer one.
    let longer = codec::encode(Kind::Entry, 1, &(7u8, 9u8)).unwrap();
    assert_eq!(
        codec::decode::<u8>(Kind::Entry, 1, &longer),
        Err(CodecError::Trailing { extra: 1 })
    );
}

#[test]
fn the_error_names_an_unexpected_kind_or_version() {
    let bytes = codec::encode(Kind::Vote, 2, &1u8).unwrap();
    assert_eq!(
        codec::decode::<u8>(Kind::Entry, 2, &bytes),
        Err(CodecError::Kind { expected: 1, found: 2 })
    );
    assert_eq!(
        codec::decode::<u8>(Kind::Vote, 1, &bytes),
        Err(CodecError::Version { expected: 1, found: 2 })
    );
    let (version, payload) = codec::open(Kind::Vote, &bytes).unwrap();
    assert_eq!((version, codec::decode_payload::<u8>(payload)), (2, Ok(1)));
}

#[test]
fn a_declared_length_is_not_trusted() {
    // A vector that declares 2^60 elements, in an otherwise valid envelope.
    let mut payload = vec![253];
    payload.extend_from_slice(&(1u64 << 60).to_le_bytes());
    let bytes = codec::seal(Kind::Entry, 1, &payload).unwrap();
    assert!(codec::decode::<Vec<u64>>(Kind::Entry, 1, &bytes).is_err());
    assert!(codec::decode::<String>(Kind::Entry, 1, &bytes).is_err());

    let mut header = bytes[..HEADER_BYTES].to_vec();
    header[5..9].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(codec::payload_bytes(&header), Err(CodecError::TooLarge { .. })));
    let large = vec![0u8; PAYLOAD_BYTES_MAX + 1];
    assert!(matches!(codec::seal(Kind::Entry, 1, &large), Err(CodecError::TooLarge { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_round_trip(shape in shape(), version in any::<u8>()) {
        let bytes = codec::encode(Kind::PeerMessage, version, &shape).unwrap();
        prop_assert_eq!(codec::decode::<Shape>(Kind::PeerMessage, version, &bytes), Ok(shape));
    }

    #[test]
    fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = codec::decode::<Shape>(Kind::Entry, 1, &bytes);
        let _ = codec::decode_payload::<Shape>(&bytes);
        let sealed = codec::seal(Kind::Entry, 1, &bytes).unwrap();
        let _ = codec::decode::<Shape>(Kind::Entry, 1, &sealed);
    }
}
