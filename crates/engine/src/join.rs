//! Whether a data directory may take part in consensus, and whether it forms the cluster.
//!
//! Answers for: a directory that is new, older than what the other nodes know, or a copy of one
//! that runs elsewhere takes no part. It has forgotten its votes, its part of the log, or what its
//! node has spent, and with it a majority could lose acknowledged writes. Must never let a
//! directory take part because too few nodes answered.
//!
//! Before a node answers any call of consensus, it asks the others ([`Effect::Introduce`]):
//!
//! - A directory with a log belongs to a node that took part before. A majority of the voters must
//!   have answered, this node included, and none may know a later start of it that this directory
//!   did not make. No other process may answer at its own address. A later start is not found if
//!   all members that committed it are down; once one of them is up, the digests of the states
//!   show it.
//! - A directory without a log asks until at least one of the nodes that answered must know which
//!   directory ran under this id, because a majority registered it. Where no node belongs to a
//!   cluster, a majority of nodes without memory may form one. A node that formed it and waits to
//!   be elected has no more memory than they, and its introduction does not say
//!   [`Introduction::formed`].
//! - Only nodes whose wall clocks agree form a new cluster.
//!
//! The driver calls [`Join::poll_effect`] until it returns `None`, carries each effect out, and
//! calls it again at [`Join::poll_timeout`]. Answers come back through `handle_*`.

mod effect;
mod forming;
mod introduction;
mod starts;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fluxgate_types::{BootId, BootNs, DirId, NodeId};

use crate::fault::Mutation;
use crate::state::cluster_state::StartId;

pub use effect::{Effect, JoinError, Report};
pub use forming::{FORM_ALONE_MS, FORM_PATIENCE_MS};
pub use introduction::{Introduction, RegisteredDirectory, Times, registered};
pub use starts::MadeStarts;

/// Pause between two attempts, milliseconds: short beside the start of a process, and five calls a
/// second are no load for the nodes that are asked.
pub const RETRY_MS: u64 = 200;
/// Longest wait for the introductions of other nodes, milliseconds: much longer than a round trip,
/// so a node that is up answers; short enough that nodes that are down do not delay a start.
pub const ANSWER_TIMEOUT_MS: u64 = 500;

/// What does not change while a node joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// This node.
    pub me: NodeId,
    /// Its data directory.
    pub dir_id: DirId,
    /// The members of its configuration. This node may be missing.
    pub members: BTreeSet<NodeId>,
    /// Wall clocks that differ by more than this do not form a cluster, milliseconds.
    pub clock_error_ms_max: u64,
}

/// What this node knows by itself at the moment of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Situation {
    /// Consensus knows of a cluster: this directory has a log, or a leader contacted this node.
    pub formed: bool,
    /// This node takes part in consensus ([`Effect::TakePart`] was carried out).
    pub takes_part: bool,
    /// The replicated members, each with whether it votes. Empty before the list is applied.
    pub members: BTreeMap<NodeId, bool>,
    /// The start that runs. [`Effect::CountOn`] changes its number.
    pub start_id: StartId,
    /// What this node knows of the current time.
    pub times: Times,
}

/// One node's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The answer.
    pub said: Introduction,
    /// When it was true, by this node's clock.
    pub at: BootNs,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// The next attempt begins at this moment.
    Pausing {
        until: BootNs,
    },
    /// The configured members are asked for a directory without a log.
    AskingAsNew,
    /// This node's own addresses are asked for a copy of this directory.
    LookingForCopy,
    /// No copy answered.
    NoCopy,
    /// The members are asked for a directory with a log. A majority of these voters must answer.
    AskingAsOld {
        voters: BTreeSet<NodeId>,
    },
    Over,
}

/// What was reported, so that each thing is reported once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reported {
    waiting: bool,
    clocks: bool,
}

/// Decides whether one data directory takes part, in one run of its node's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    settings: Settings,
    begun: BootNs,
    phase: Phase,
    // Consensus has known of a cluster at the beginning of an attempt: from then on this directory
    // is judged as one with a log.
    has_log: bool,
    reported: Reported,
    effects: VecDeque<Effect>,
}

impl Join {
    /// A directory that has not asked any node yet.
    #[must_use]
    pub fn new(settings: Settings, now: BootNs) -> Self {
        Self {
            settings,
            begun: now,
            phase: Phase::Pausing { until: now },
            has_log: false,
            reported: Reported::default(),
            effects: VecDeque::new(),
        }
    }

    /// The next thing to do. `situation` is read after the previous effect was carried out. `None`
    /// until an answer comes in or [`Join::poll_timeout`] is reached.
    pub fn poll_effect(&mut self, now: BootNs, situation: &Situation) -> Option<Effect> {
        if self.effects.is_empty() {
            self.advance(now, situation);
        }
        self.effects.pop_front()
    }

    /// When the next attempt begins; `None` while answers are awaited, and once it is decided.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<BootNs> {
        match &self.phase {
            Phase::Pausing { until } => Some(*until),
            Phase::AskingAsNew
            | Phase::LookingForCopy
            | Phase::NoCopy
            | Phase::AskingAsOld { .. }
            | Phase::Over => None,
        }
    }

    fn advance(&mut self, now: BootNs, situation: &Situation) {
        match self.phase {
            Phase::Pausing { until } if now >= until => self.begin_attempt(situation),
            Phase::NoCopy => self.ask_as_old(situation),
            Phase::Pausing { .. }
            | Phase::AskingAsNew
            | Phase::LookingForCopy
            | Phase::AskingAsOld { .. }
            | Phase::Over => {}
        }
    }

    fn begin_attempt(&mut self, situation: &Situation) {
        self.has_log |= situation.formed;
        if !self.has_log {
            let nodes = self.others().collect();
            self.phase = Phase::AskingAsNew;
            self.effects.push_back(Effect::Introduce { nodes, timeout_ms: ANSWER_TIMEOUT_MS });
        } else if situation.takes_part {
            self.phase = Phase::Over;
            self.effects.push_back(Effect::Done);
        } else {
            self.phase = Phase::LookingForCopy;
            self.effects.push_back(Effect::LookForCopy { timeout_ms: ANSWER_TIMEOUT_MS });
        }
    }

    /// The configured members without this node.
    fn others(&self) -> impl Iterator<Item = NodeId> {
        self.settings.members.iter().copied().filter(|node| *node != self.settings.me)
    }

    fn ask_as_old(&mut self, situation: &Situation) {
        let me = self.settings.me;
        let replicated = &situation.members;
        // Before it has applied the list of members, it uses those of its configuration.
        let voters: BTreeSet<NodeId> = if replicated.is_empty() {
            self.others().chain([me]).collect()
        } else {
            replicated.iter().filter(|(_, votes)| **votes).map(|(node, _)| *node).collect()
        };
        // Asks every node that may know: a copy may date from when the cluster was smaller.
        let all = replicated.keys().copied().chain(self.others());
        let nodes = all.filter(|node| *node != me).collect();
        self.phase = Phase::AskingAsOld { voters };
        self.effects.push_back(Effect::Introduce { nodes, timeout_ms: ANSWER_TIMEOUT_MS });
    }

    /// Takes the answer to [`Effect::LookForCopy`]: each address at which a node answered, and what
    /// it said. `own` is the start that runs.
    pub fn handle_own_addresses(&mut self, own: StartId, answers: &[(String, Introduction)]) {
        if self.phase != Phase::LookingForCopy {
            return;
        }
        // Another member may have this node's previous address.
        let is_copy = |said: &Introduction| said.node == self.settings.me && said.start_id != own;
        match answers.iter().find(|(_, said)| is_copy(said)) {
            Some((address, _)) => {
                let address = address.clone();
                self.end(JoinError::Copy { node: self.settings.me, address });
            }
            None => self.phase = Phase::NoCopy,
        }
    }

    /// Takes the answers to [`Effect::Introduce`], by the node that was asked. `made` says whether a
    /// start of this node, which another node knows, came from this directory.
    pub fn handle_introductions(
        &mut self,
        now: BootNs,
        situation: &Situation,
        made: impl Fn(StartId) -> bool,
        heard: &BTreeMap<NodeId, Heard>,
    ) {
        let pausing = Phase::Pausing { until: now.plus_ms(RETRY_MS) };
        match std::mem::replace(&mut self.phase, pausing) {
            Phase::AskingAsNew => self.judge_new(now, situation, heard),
            Phase::AskingAsOld { voters } => {
                let own = situation.start_id;
                let counted = |newest: StartId| newest == own || newest.boot < own.boot;
                let by_number = Mutation::StartsByNumber.active();
                let made = |newest| if by_number { counted(newest) } else { made(newest) };
                self.judge_old(&voters, made, heard);
            }
            // No answer is awaited.
            other @ (Phase::Pausing { .. }
            | Phase::LookingForCopy
            | Phase::NoCopy
            | Phase::Over) => self.phase = other,
        }
    }

    /// Whether a directory with a log may take part now.
    fn judge_old(
        &mut self,
        voters: &BTreeSet<NodeId>,
        made: impl Fn(StartId) -> bool,
        heard: &BTreeMap<NodeId, Heard>,
    ) {
        if let Some(error) = heard.values().find_map(|by| self.judge_start(&made, &by.said)) {
            return self.end(error);
        }
        // Only voters make a majority: a node that is being added may never have answered.
        let me = self.settings.me;
        let answered = voters.iter().filter(|node| **node == me || heard.contains_key(node));
        let answered = answered.count();
        if answered * 2 > voters.len() || Mutation::JoinsUnheard.active() {
            self.phase = Phase::Over;
            self.effects.extend([Effect::TakePart, Effect::AskForLease, Effect::Done]);
        } else if !std::mem::replace(&mut self.reported.waiting, true) {
            self.report(Report::WaitingForMajority { answered, voters: voters.len() });
        }
    }

    /// An error if another node knows a later start of this directory.
    fn judge_start(
        &self,
        made: impl Fn(StartId) -> bool,
        said: &Introduction,
    ) -> Option<JoinError> {
        let Settings { me, dir_id, .. } = self.settings;
        let same = |known: &RegisteredDirectory| {
            known.node == me && known.dir_id == dir_id && !known.removed
        };
        if !said.directories.iter().any(same) {
            // Removed, or another directory runs under this id: the leader reports that at the
            // first lease.
            return None;
        }
        // Compares with what the directory remembers, not with the number alone: a start that was
        // rejected has been counted too.
        let (_, newest) = said.start_ids.iter().find(|(node, _)| *node == me)?;
        let is_later = !made(*newest);
        is_later.then_some(JoinError::OlderDirectory { node: me, newest: newest.boot })
    }

    /// Whether a directory without a log may take part now, and whether it forms the cluster.
    fn judge_new(&mut self, now: BootNs, situation: &Situation, heard: &BTreeMap<NodeId, Heard>) {
        let Settings { me, dir_id, .. } = self.settings;
        let directories = || heard.values().flat_map(|by| &by.said.directories);
        let mut earlier = directories().filter(|known| {
            known.node == me && known.dir_id != dir_id && !Mutation::LostDirectoryJoins.active()
        });
        let was_removed = earlier.clone().any(|known| known.removed);
        if earlier.any(|known| !known.removed) {
            // A node that is behind does not know of the removal yet.
            if !was_removed {
                self.end(JoinError::OtherDirectory { node: me });
            }
            return;
        }
        // Once it takes part, other nodes know the number of this start.
        if was_removed && !situation.takes_part && !Mutation::CountsFromOne.active() {
            self.count_on(situation, heard);
        }
        let formed_elsewhere = heard.values().any(|by| by.said.formed);
        let others = self.others().count();
        let all = others + 1;
        // Any majority that registered an earlier directory includes one of these nodes or this one.
        let needed = if formed_elsewhere { all - all / 2 } else { all / 2 };
        let alone_long_enough = others > 0 || self.has_listened_alone(now);
        if heard.len() < needed || !alone_long_enough {
            if others > 0 && !std::mem::replace(&mut self.reported.waiting, true) {
                let missing = self.others().filter(|node| !heard.contains_key(node)).collect();
                self.report(Report::Waiting { missing, needed: needed - heard.len() });
            }
            return;
        }
        if !formed_elsewhere && self.forms(now, situation, heard) {
            self.effects.push_back(Effect::Form);
        }
        if !situation.takes_part {
            self.effects.push_back(Effect::TakePart);
        }
    }

    /// An earlier directory of this node was removed: this one continues above all its starts, so
    /// that their late messages stay late.
    fn count_on(&mut self, situation: &Situation, heard: &BTreeMap<NodeId, Heard>) {
        let me = self.settings.me;
        let said = || heard.values().map(|by| &by.said);
        let registered = said().flat_map(|said| &said.start_ids);
        let registered = registered.filter(|(node, _)| *node == me).map(|(_, of)| of.boot);
        let known = said().flat_map(|said| &said.heard);
        let known = known.filter(|(node, _)| *node == me).map(|(_, boot)| *boot);
        let newest = registered.chain(known).max().unwrap_or(BootId(0));
        if newest >= situation.start_id.boot {
            self.report(Report::CountsOn { after: newest });
        }
        let above = BootId(newest.0.saturating_add(1));
        self.effects.push_back(Effect::CountOn(above.max(situation.start_id.boot)));
    }

    fn report(&mut self, report: Report) {
        self.effects.push_back(Effect::Report(report));
    }

    fn end(&mut self, error: JoinError) {
        self.phase = Phase::Over;
        self.effects.push_back(Effect::End(error));
    }
}
