//! Every shape that nodes send or store on disk, by version.
//!
//! Answers for: an older node reads everything that a node of this version writes, and the reverse,
//! while the content is of its level. Shapes are read and written by position, so they are frozen: the
//! bytes of each are in `proof/fuzz/targets/tests/formats/v1.txt`. A change is a new shape with a
//! later version, read beside the old one. Must never decide anything: a shape becomes a value of
//! the engine, and the engine decides.

#![expect(missing_docs, reason = "fields mean what the engine's types of the same names say")]

mod counters;
mod envelope;
mod grown;
mod lease;
mod marked;
pub mod peer;
pub mod raft;
mod shape;
mod snapshot;
mod state;
mod terms;

pub use counters::{
    CarriedBalanceV1, CarryoverV1, CounterGossipV1, CounterIdV1, CounterReportV1, EntitlementV1,
    LimitUsageV1, TransferReplyV1, TransferRequestV1, WindowSpentV1,
};
pub use envelope::{
    VERSION, VERSION_2, VERSION_3, VERSION_4, VERSION_NEWEST, decode, decode_as, encode, encode_as,
    version_of,
};
pub use grown::{Grown, read_grown, version_for};
pub use lease::{GrantV1, LeaseTermsV1, TermsRecordV1};
pub use shape::{ShapeOf, Shaped};
pub use snapshot::ItemV1;
pub use state::{
    ActionV1, ActorV1, AuditEntryV1, BatchV1, CommandErrorV1, CommandV1, ImportSourceV1,
    KeyChangeV1, KeyRecordV1, LimitV1, NamedKindV1, NamedRowV1, NewKeyV1, OneKeyV1, OutcomeV1,
    ProposalV1, PutV1, RememberedV1, ShareMapV1, StartIdV1,
};
pub use terms::{ChangedTermsV4, DefinitionV4, MarkedCommandV4, MarkedV4, TermsV4};
