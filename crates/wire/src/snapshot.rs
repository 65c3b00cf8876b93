//! The shape of a snapshot's items.

use fluxgate_engine::lease::TermsRecord;
use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::state::audit::AuditEntry;
use fluxgate_engine::state::named::NamedRow;
use fluxgate_engine::state::repeats::Remembered;
use fluxgate_engine::state::snapshot::{Item, KeyRow};
use fluxgate_engine::state::terms::Terms;
use fluxgate_types::{BootId, ClusterMs, DirId, KeyId, Limit, NodeId, SubjectSeed};

use crate::shape::shape;

shape! {
    /// See [`Item`]. Variants up to `Outcomes` are of level 1, up to `OutcomesAt` of
    /// level 2, up to `IdempotencyOf` of level 3.
    enum ItemV1 of Item {
        Head {
            last_stamp: ClusterMs,
            defaults: Vec<Limit>,
            share_maps: Vec<ShareMap>,
            nodes: Vec<(NodeId, DirId, bool)>,
        },
        Keys(rows: Vec<KeyRow>),
        Audit(rows: Vec<AuditEntry>),
        Idempotency(rows: Vec<(Box<str>, ClusterMs, KeyId)>),
        Outcomes(rows: Vec<(u128, Remembered)>),
        Cluster {
            level: u32,
            terms: Vec<TermsRecord>,
            #[serde(rename = "incarnations")]
            start_ids: Vec<(NodeId, BootId, u64)>,
            default_tags: Vec<u32>,
        },
        LimitTags(rows: Vec<(KeyId, Vec<u32>)>),
        OutcomesAt(rows: Vec<(u128, ClusterMs, Remembered)>),
        Places(runs: Vec<(u32, u32)>),
        IdempotencyOf(rows: Vec<(Box<str>, ClusterMs, KeyId, Option<u64>)>),
        Seed(seed: SubjectSeed),
        Named(rows: Vec<NamedRow>),
        KeyTerms(rows: Vec<(KeyId, Terms, Vec<u8>)>),
    }
}
