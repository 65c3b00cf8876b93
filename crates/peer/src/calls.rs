//! Every call between nodes, declared once.
//!
//! A new call is a line in the table below: its name in paths and metric labels, whether it belongs
//! to consensus, whether a repeat of it is harmless, and for each version the question and its
//! answer, whose shapes are in `fluxgate_wire::peer`.

use fluxgate_wire::peer::{
    AppliedCall, AppliedReply, AskMessage, ClocksCall, ClocksReply, GiveMessage, GiveReply,
    GossipMessage, GossipMessageV2, GossipReply, GossipReplyV2, IntroduceCall, IntroduceReply,
    LeaseCall, LeaseCallV2, LeaseReply, LeaseReplyV2, MembershipCall, MembershipCallV2,
    MembershipReply, ReplyMessage, ServedCall, ServedReply, StatusCall, StatusReply, UsageCall,
    UsageManyCall, UsageManyReply, UsageReply,
};
use fluxgate_wire::{VERSION, VERSION_2};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A request from one node to another, in the shape of one version.
pub trait Question: Serialize + DeserializeOwned + Send + Sync {
    /// The call that carries it.
    const CALL: Call;
    /// The version of its shape and of its answer's.
    const VERSION: u8;
    type Answer: Serialize + DeserializeOwned + Send + 'static;
}

/// Visits every question.
pub trait Questions {
    fn question<Q: Question>(&mut self);
}

macro_rules! calls {
    ($(
        $(#[$meta:meta])*
        $call:ident, $name:literal, $belongs:ident, $repeat:ident
        $([$($question:ty => $answer:ty, $version:ident);+])? ;
    )*) => {
        /// A call between nodes. The names are metric labels and paths.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Call {
            $($(#[$meta])* $call,)*
        }

        impl Call {
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$call),*];

            /// The name, in paths and labels.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$call => $name,)*
                }
            }

            const fn belongs(self) -> Belongs {
                match self {
                    $(Self::$call => Belongs::$belongs,)*
                }
            }

            const fn repeat(self) -> Repeat {
                match self {
                    $(Self::$call => Repeat::$repeat,)*
                }
            }
        }

        $($(
            $(
                impl Question for $question {
                    const CALL: Call = Call::$call;
                    const VERSION: u8 = $version;
                    type Answer = $answer;
                }
            )+
        )?)*

        /// Visits every question of this table.
        pub fn questions(to: &mut impl Questions) {
            $($($(to.question::<$question>();)+)?)*
        }
    };
}

enum Belongs {
    /// Served by consensus itself.
    Consensus,
    /// About counters: names the start of the node that answers.
    Counters,
    Node,
}

enum Repeat {
    /// Carrying it out twice has the effect of once.
    Harmless,
    /// The caller relies on a connection that carries a call at most once.
    Never,
}

calls! {
    /// Replicate entries, or a heartbeat.
    Append, "append", Consensus, Harmless;
    /// Ask for a vote.
    Vote, "vote", Consensus, Harmless;
    /// Ask whether the node would vote.
    PreVote, "pre_vote", Consensus, Harmless;
    /// Ask a node to lead.
    TransferLeader, "transfer_leader", Consensus, Never;
    /// Send a piece of a snapshot.
    Snapshot, "snapshot", Consensus, Harmless;
    /// Forward a proposal to the leader, which knows a repeat by its request number.
    Propose, "propose", Node, Harmless;
    /// Request a lease from the leader.
    Lease, "lease", Node, Harmless [LeaseCall => LeaseReply, VERSION; LeaseCallV2 => LeaseReplyV2, VERSION_2];
    /// Wait until an entry is applied.
    Applied, "applied", Node, Harmless [AppliedCall => AppliedReply, VERSION];
    /// Request tokens from a peer.
    TransferRequest, "ask", Counters, Harmless [AskMessage => ReplyMessage, VERSION];
    /// Report what was spent.
    Gossip, "gossip", Counters, Harmless [GossipMessage => GossipReply, VERSION; GossipMessageV2 => GossipReplyV2, VERSION_2];
    /// Hand tokens over at shutdown.
    Give, "give", Counters, Never [GiveMessage => GiveReply, VERSION];
    /// A key's use on that node.
    Usage, "usage", Node, Harmless [UsageCall => UsageReply, VERSION];
    /// That node's view of the cluster.
    Status, "status", Node, Harmless [StatusCall => StatusReply, VERSION];
    /// Forward a change of the members to the leader.
    Membership, "membership", Node, Never [MembershipCall => MembershipReply, VERSION; MembershipCallV2 => MembershipReply, VERSION_2];
    /// The use of many keys on that node, as of now.
    UsageMany, "usage_many", Node, Harmless [UsageManyCall => UsageManyReply, VERSION];
    /// The counts of answers that the node has served.
    Served, "served", Node, Harmless [ServedCall => ServedReply, VERSION];
    /// Which start of which node answers, and what it knows of the cluster and of the time.
    Introduce, "introduce", Node, Harmless [IntroduceCall => IntroduceReply, VERSION_2];
    /// What the node knows of the time, and when it last had contact with an earlier leader.
    Clocks, "clocks", Node, Harmless [ClocksCall => ClocksReply, VERSION_2];
}

/// The calls that consensus itself serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsensusCall {
    Append,
    Vote,
    PreVote,
    TransferLeader,
    Snapshot,
}

impl ConsensusCall {
    const ALL: [Self; 5] =
        [Self::Append, Self::Vote, Self::PreVote, Self::TransferLeader, Self::Snapshot];

    const fn call(self) -> Call {
        match self {
            Self::Append => Call::Append,
            Self::Vote => Call::Vote,
            Self::PreVote => Call::PreVote,
            Self::TransferLeader => Call::TransferLeader,
            Self::Snapshot => Call::Snapshot,
        }
    }
}

impl Call {
    /// Whether consensus serves it, on connections of its own.
    #[must_use]
    pub const fn is_consensus(self) -> bool {
        matches!(self.belongs(), Belongs::Consensus)
    }

    /// This call as one that consensus serves, if it is.
    #[must_use]
    pub fn as_consensus(self) -> Option<ConsensusCall> {
        ConsensusCall::ALL.into_iter().find(|of| of.call() == self)
    }

    /// Whether a node answers it only once its directory may act for it. An older directory has
    /// forgotten its votes; and its answers about counters would name the number of its start: once
    /// the newest directory runs again, all nodes would take its messages for late ones.
    #[must_use]
    pub const fn is_for_members(self) -> bool {
        matches!(self.belongs(), Belongs::Consensus | Belongs::Counters)
    }

    /// Whether a network may deliver it twice without harm.
    #[must_use]
    pub const fn is_repeatable(self) -> bool {
        matches!(self.repeat(), Repeat::Harmless)
    }

    /// The call with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|call| call.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consensus_serves_the_calls_that_the_table_says() {
        for call in Call::ALL {
            assert_eq!(call.as_consensus().is_some(), call.is_consensus(), "{call:?}");
        }
    }
}
