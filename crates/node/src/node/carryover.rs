//! What an orderly shutdown leaves to the next incarnation of the node.
//!
//! Answers for: every balance is written, however many counters are open. What fits into one
//! envelope has the shape that every program knows; more takes several envelopes, in one file.

use fluxgate_engine::quota::Carryover;
use fluxgate_store::codec::{self, CodecError, Kind};
use fluxgate_store::{DataDir, HOLDINGS_PART_BYTES_MAX, HOLDINGS_PARTS_MAX};
use fluxgate_wire::Shaped as _;

use crate::error::NodeError;
use crate::state::NodeState;

/// Version of each part.
const VERSION: u8 = 1;

/// Writes the carryover for the next incarnation, and cluster time. Call it when nothing is spent
/// any more. Blocks.
pub(super) fn write(state: &NodeState, data: &DataDir) {
    let opened = state.counters.carryover();
    if let Some(left) =
        Carryover::of(&state.published.incarnation(), opened, state.now(), state.clock.is_synced())
    {
        let written = split(left, HOLDINGS_PART_BYTES_MAX)
            .map_err(std::io::Error::other)
            .and_then(|parts| data.write_holdings(&parts));
        if let Err(error) = written {
            tracing::error!(%error, "the remaining balances were not saved: they are lost until their windows end");
        }
    }
    if state.clock.is_synced()
        && let Err(error) = data.write_clock(&state.clock.note())
    {
        tracing::warn!(%error, "cluster time was not saved to the disk");
    }
}

/// Splits the carryover into as many parts as needed.
fn split(left: Carryover, bytes_max: usize) -> Result<Vec<Vec<u8>>, CodecError> {
    let mut parts = Vec::new();
    let mut rest = vec![left];
    while let Some(mut left) = rest.pop() {
        match codec::encode(Kind::Holdings, VERSION, &left.to_shape()) {
            Ok(bytes) if bytes.len() <= bytes_max => parts.push(bytes),
            Ok(_) | Err(CodecError::TooLarge { .. }) if left.counters.len() > 1 => {
                let middle = left.counters.len() / 2;
                let middle = left.counters.keys().nth(middle).copied();
                let upper = middle.map(|middle| left.counters.split_off(&middle));
                let upper = upper.unwrap_or_default();
                rest.push(Carryover {
                    at: left.at,
                    entitlement: left.entitlement,
                    counters: upper,
                });
                rest.push(left);
            }
            Ok(bytes) => return Err(CodecError::TooLarge { bytes: bytes.len() }),
            Err(error) => return Err(error),
        }
        if parts.len() > HOLDINGS_PARTS_MAX {
            let bytes = parts.iter().map(Vec::len).sum();
            return Err(CodecError::TooLarge { bytes });
        }
    }
    Ok(parts)
}

/// Joins the parts.
fn join(parts: &[Vec<u8>]) -> Result<Carryover, CodecError> {
    let mut whole: Option<Carryover> = None;
    for part in parts {
        let part = Carryover::from_shape(codec::decode(Kind::Holdings, VERSION, part)?);
        match &mut whole {
            None => whole = Some(part),
            Some(whole) if (whole.at, whole.entitlement) == (part.at, part.entitlement) => {
                whole.counters.extend(part.counters);
            }
            Some(_) => return Err(CodecError::Value("parts of different stops".to_owned())),
        }
    }
    whole.ok_or_else(|| CodecError::Value("no part".to_owned()))
}

/// Takes what the previous incarnation left behind at an orderly shutdown: used exactly once.
pub(super) fn take(data: &DataDir) -> Result<Option<Carryover>, NodeError> {
    // The file is removed, and its directory synced, BEFORE any of it counts.
    let Some(parts) = data.take_holdings()? else { return Ok(None) };
    match join(&parts) {
        Ok(left) => Ok(Some(left)),
        Err(error) => {
            // Safe: the shares of the open windows then count as spent.
            tracing::error!(%error, "the balances that the previous start saved cannot be read");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use fluxgate_engine::quota::{CarriedBalance, CounterId, Entitlement};
    use fluxgate_types::{ClusterMs, KeyId};

    use super::*;

    fn left(counters: u64) -> Carryover {
        let one = |n: u64| {
            let key = KeyId::new(format!("{n:012}").as_bytes().try_into().unwrap()).unwrap();
            let held =
                CarriedBalance { tokens: 7, limit: 100, follows: true, ends: ClusterMs(60_000) };
            (CounterId { subject: key.into(), limit: 1, window: n % 3 }, held)
        };
        let counters = (0..counters).map(one).collect();
        Carryover { at: ClusterMs(50_000), entitlement: Entitlement::All, counters }
    }

    #[test]
    fn what_fits_into_one_part_stays_one_of_the_old_shape() {
        let parts = split(left(100), HOLDINGS_PART_BYTES_MAX).unwrap();
        assert_eq!(parts.len(), 1);
        let known = Carryover::from_shape(codec::decode(Kind::Holdings, 1, &parts[0]).unwrap());
        assert_eq!(known, left(100));
    }

    #[test]
    fn more_than_one_part_holds_is_written_in_several_and_comes_back_whole() {
        let bytes_max = 8 * 1_024;
        let parts = split(left(1_000), bytes_max).unwrap();
        assert!((2..=HOLDINGS_PARTS_MAX).contains(&parts.len()), "{}", parts.len());
        assert!(parts.iter().all(|part| part.len() <= bytes_max));
        assert_eq!(join(&parts).unwrap(), left(1_000));
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path(), "test", 1).unwrap();
        data.write_holdings(&parts).unwrap();
        assert_eq!(take(&data).unwrap(), Some(left(1_000)));
        assert_eq!(take(&data).unwrap(), None);
    }

    #[test]
    fn what_no_file_holds_is_an_error_and_parts_of_two_stops_are_none_of_one() {
        assert!(split(left(10_000), 1_024).is_err());
        let other = Carryover { at: ClusterMs(1), ..left(1) };
        let parts = [left(1), other].map(|left| split(left, 1_024).unwrap().remove(0));
        assert!(join(&parts).is_err());
    }
}
