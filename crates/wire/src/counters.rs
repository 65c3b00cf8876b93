//! Shapes of messages about counters, and of the carryover of an orderly stop.

use std::collections::BTreeMap;

use fluxgate_engine::quota::{
    CarriedBalance, Carryover, CounterGossip, CounterId, CounterReport, Entitlement, LimitUsage,
    TransferReply, TransferRequest, WindowSpent,
};
use fluxgate_types::{BootId, ClusterMs, LogIndex, NodeId, Subject};

use crate::shape::shape;

shape! {
    /// See [`CounterId`].
    #[derive(PartialOrd, Ord)]
    struct CounterIdV1 of CounterId {
        #[serde(rename = "key")]
        subject: Subject,
        limit: u32,
        window: u64,
    }
}

shape! {
    /// See [`CounterReport`].
    struct CounterReportV1 of CounterReport {
        spent: u64,
        burned: i64,
        limit: u64,
        #[serde(rename = "lives")]
        incarnations: u64,
        left: u64,
    }
}

shape! {
    /// See [`TransferRequest`].
    struct TransferRequestV1 of TransferRequest {
        counter: CounterId,
        need: u64,
        want: u64,
        got: u64,
        mine: CounterReport,
    }
}

shape! {
    /// See [`TransferReply`].
    struct TransferReplyV1 of TransferReply {
        counter: CounterId,
        given: u64,
        mine: Option<CounterReport>,
        known: Vec<(NodeId, u64)>,
    }
}

shape! {
    /// See [`CounterGossip`].
    struct CounterGossipV1 of CounterGossip {
        counter: CounterId,
        mine: CounterReport,
        given: Vec<(NodeId, BootId, u64)>,
    }
}

shape! {
    /// See [`Entitlement`].
    enum EntitlementV1 of Entitlement {
        All,
        After { from: ClusterMs, index: LogIndex },
    }
}

shape! {
    /// See [`CarriedBalance`].
    struct CarriedBalanceV1 of CarriedBalance {
        tokens: i64,
        limit: u64,
        follows: bool,
        ends: ClusterMs,
    }
}

shape! {
    /// See [`Carryover`].
    struct CarryoverV1 of Carryover {
        at: ClusterMs,
        #[serde(rename = "untouched")]
        entitlement: Entitlement,
        counters: BTreeMap<CounterId, CarriedBalance>,
    }
}

shape! {
    /// See [`WindowSpent`].
    struct WindowSpentV1 of WindowSpent { window: u64, spent: u64 }
}

shape! {
    /// See [`LimitUsage`].
    struct LimitUsageV1 of LimitUsage {
        tag: u32,
        series: Vec<WindowSpent>,
        by_node: BTreeMap<NodeId, u64>,
        window: u64,
    }
}
