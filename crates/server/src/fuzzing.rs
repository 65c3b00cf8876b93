//! The readers of input, opened for the fuzz targets. In no build of the product.

use axum::http::HeaderMap;
use fluxgate_peer::{Question, Questions, questions};
use fluxgate_raft::fuzzing::Shapes;
use fluxgate_store::codec::{CodecError, Kind};
use fluxgate_wire::{self as wire, VERSION};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::gateway::validate::{PresentedCredential, presented};

/// Reads an envelope and writes it again.
pub type Rewrite = fn(&[u8]) -> Result<Vec<u8>, CodecError>;

/// Every message between nodes, except those of consensus.
#[must_use]
pub fn messages() -> Vec<Rewrite> {
    struct Collect(Vec<Rewrite>);
    impl Questions for Collect {
        fn question<Q: Question>(&mut self) {
            self.0.push(rewrite::<Q, Q>);
            self.0.push(rewrite::<Q, Q::Answer>);
        }
    }
    let mut collect = Collect(Vec::new());
    questions(&mut collect);
    collect.0
}

/// Passes every shape of these messages to `to` under the call's name; a question without content has
/// none.
pub fn shapes(to: &mut impl Shapes) {
    struct Show<'a, S>(&'a mut S);
    impl<S: Shapes> Questions for Show<'_, S> {
        fn question<Q: Question>(&mut self) {
            let version =
                if Q::VERSION == VERSION { String::new() } else { format!("_{}", Q::VERSION) };
            let name = Q::CALL.as_str();
            if size_of::<Q>() > 0 {
                self.0.shape::<Q>(&format!("{name}{version}"), Kind::PeerMessage, Q::VERSION);
            }
            self.0.shape::<Q::Answer>(
                &format!("{name}_reply{version}"),
                Kind::PeerMessage,
                Q::VERSION,
            );
        }
    }
    questions(&mut Show(to));
}

fn rewrite<Q: Question, T: DeserializeOwned + Serialize>(
    bytes: &[u8],
) -> Result<Vec<u8>, CodecError> {
    wire::encode_as(Q::VERSION, &wire::decode_as::<T>(Q::VERSION, bytes)?)
}

/// The credential in the headers of a request: `None` if none is presented, `Some(None)` if it is
/// wrong.
#[must_use]
pub fn credential(headers: &HeaderMap) -> Option<Option<&[u8]>> {
    match presented(headers) {
        PresentedCredential::Nothing => None,
        PresentedCredential::One(text) => Some(Some(text)),
        PresentedCredential::Wrong => Some(None),
    }
}
