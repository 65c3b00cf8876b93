//! The readers of what comes in, opened for the fuzz targets. In no build of the product.

use axum::http::HeaderMap;
use fluxgate_raft::fuzzing::Shapes;
use fluxgate_store::codec::{CodecError, Kind};
use fluxgate_wire::{self as wire, VERSION, VERSION_2};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::http::validate::{PresentedCredential, presented};
use fluxgate_wire::peer::{
    AppliedCall, AppliedReply, AskMessage, GiveMessage, GiveReply, GossipMessage, GossipMessageV2,
    GossipReply, GossipReplyV2, Introduction, LeaseCall, LeaseCallV2, LeaseReply, LeaseReplyV2,
    MembershipCall, MembershipCallV2, MembershipReply, ReplyMessage, ServedReply, StatusReply,
    UsageCall, UsageManyCall, UsageManyReply, UsageReply,
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
    plain::<UsageManyCall>,
    plain::<UsageManyReply>,
    plain::<ServedReply>,
    plain::<StatusReply>,
    plain::<MembershipCall>,
    plain::<MembershipReply>,
    plain_2::<GossipMessageV2>,
    plain_2::<GossipReplyV2>,
    plain_2::<Introduction>,
    plain_2::<LeaseCallV2>,
    plain_2::<LeaseReplyV2>,
    plain_2::<MembershipCallV2>,
];

/// Every shape of this crate.
pub fn shapes(to: &mut impl Shapes) {
    to.shape::<AskMessage>("ask", Kind::PeerMessage, VERSION);
    to.shape::<ReplyMessage>("ask_reply", Kind::PeerMessage, VERSION);
    to.shape::<GossipMessage>("gossip", Kind::PeerMessage, VERSION);
    to.shape::<GossipReply>("gossip_reply", Kind::PeerMessage, VERSION);
    to.shape::<GiveMessage>("give", Kind::PeerMessage, VERSION);
    to.shape::<GiveReply>("give_reply", Kind::PeerMessage, VERSION);
    to.shape::<LeaseCall>("lease", Kind::PeerMessage, VERSION);
    to.shape::<LeaseReply>("lease_reply", Kind::PeerMessage, VERSION);
    to.shape::<AppliedCall>("applied", Kind::PeerMessage, VERSION);
    to.shape::<AppliedReply>("applied_reply", Kind::PeerMessage, VERSION);
    to.shape::<UsageCall>("usage", Kind::PeerMessage, VERSION);
    to.shape::<UsageReply>("usage_reply", Kind::PeerMessage, VERSION);
    to.shape::<UsageManyCall>("usage_many", Kind::PeerMessage, VERSION);
    to.shape::<UsageManyReply>("usage_many_reply", Kind::PeerMessage, VERSION);
    to.shape::<ServedReply>("served_reply", Kind::PeerMessage, VERSION);
    to.shape::<StatusReply>("status_reply", Kind::PeerMessage, VERSION);
    to.shape::<MembershipCall>("membership", Kind::PeerMessage, VERSION);
    to.shape::<MembershipReply>("membership_reply", Kind::PeerMessage, VERSION);
    to.shape::<GossipMessageV2>("gossip_2", Kind::PeerMessage, VERSION_2);
    to.shape::<GossipReplyV2>("gossip_reply_2", Kind::PeerMessage, VERSION_2);
    to.shape::<Introduction>("introduction", Kind::PeerMessage, VERSION_2);
    to.shape::<LeaseCallV2>("lease_2", Kind::PeerMessage, VERSION_2);
    to.shape::<LeaseReplyV2>("lease_reply_2", Kind::PeerMessage, VERSION_2);
    to.shape::<MembershipCallV2>("membership_2", Kind::PeerMessage, VERSION_2);
}

fn plain<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<Vec<u8>, CodecError> {
    wire::encode(&wire::decode::<T>(bytes)?)
}

fn plain_2<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<Vec<u8>, CodecError> {
    wire::encode_as(VERSION_2, &wire::decode_as::<T>(VERSION_2, bytes)?)
}

/// The credential in a request's head, if anything is presented: `Some(None)` for a wrong one.
#[must_use]
pub fn credential(headers: &HeaderMap) -> Option<Option<&[u8]>> {
    match presented(headers) {
        PresentedCredential::Nothing => None,
        PresentedCredential::One(text) => Some(Some(text)),
        PresentedCredential::Wrong => Some(None),
    }
}
