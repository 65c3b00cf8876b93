//! Shapes of leases and their terms.

use fluxgate_engine::lease::{Grant, LeaseRefusal, LeaseTerms, TermsRecord};
use fluxgate_types::{BootId, ClusterMs, LogIndex, NodeId};

use crate::shape::shape;

shape! {
    /// See [`Grant`].
    struct GrantV1 of Grant {
        index: LogIndex,
        holder_ms: u64,
        cluster_ns: u64,
        horizon: ClusterMs,
    }
}

shape! {
    /// See [`LeaseTerms`].
    struct LeaseTermsV1 of LeaseTerms { lease_ms: u64, clock_error_ms_max: u64 }
}

shape! {
    /// See [`TermsRecord`].
    struct TermsRecordV1 of TermsRecord { index: LogIndex, at: ClusterMs, terms: LeaseTerms }
}

shape! {
    /// See [`LeaseRefusal`].
    enum LeaseRefusalV1 of LeaseRefusal {
        Behind,
        Removed(node: NodeId),
        OtherDirectory(node: NodeId),
        Older { node: NodeId, newest: BootId },
        CountOn { node: NodeId, newest: BootId },
        Differs,
        Other(text: String),
    }
}
