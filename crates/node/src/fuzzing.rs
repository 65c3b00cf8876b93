//! The readers of what comes in, opened for the fuzz targets. In no build of the product.

use axum::http::HeaderMap;
use fluxgate_raft::wire;
use fluxgate_store::codec::CodecError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::http::validate::{Presented, presented};
use crate::peer::messages::{
    AppliedCall, AppliedReply, AskMessage, GiveMessage, GiveReply, GossipMessage, GossipReply,
    LeaseCall, LeaseReply, MembershipCall, MembershipReply, ReplyMessage, StatusReply, UsageCall,
    UsageReply,
};

/// Reads an envelope and writes what it read.
pub type Rewrite = fn(&[u8]) -> Result<Vec<u8>, CodecError>;

/// Every message between nodes besides those of consensus.
pub const MESSAGES: &[Rewrite] = &[
    plain::<AskMessage>,
    plain::<ReplyMessage>,
    plain::<GossipMessage>,
    plain::<GossipReply>,
    plain::<GiveMessage>,
    plain::<GiveReply>,
    plain::<LeaseCall>,
    plain::<LeaseReply>,
    plain::<AppliedCall>,
    plain::<AppliedReply>,
    plain::<UsageCall>,
    plain::<UsageReply>,
    plain::<StatusReply>,
    plain::<MembershipCall>,
    plain::<MembershipReply>,
];

fn plain<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<Vec<u8>, CodecError> {
    wire::encode(&wire::decode::<T>(bytes)?)
}

/// The credential in a request's head, if anything is presented: `Some(None)` for a wrong one.
#[must_use]
pub fn credential(headers: &HeaderMap) -> Option<Option<&[u8]>> {
    match presented(headers) {
        Presented::Nothing => None,
        Presented::One(text) => Some(Some(text)),
        Presented::Wrong => Some(None),
    }
}
