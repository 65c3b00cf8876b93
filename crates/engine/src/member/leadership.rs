//! What a node does because it leads: it takes the leadership over, sets what the cluster lacks,
//! plans share maps, and gives the leadership away when it cannot write.
//!
//! Answers for: a leader grants nothing before an entry of its own term is committed and its clock
//! is compared with others; it allows for every lease that earlier leaders may have granted; and no
//! grant promises a window that a share map under way may change.

use fluxgate_types::{BootNs, ClusterMs, NodeId};

use super::Member;
use super::effect::{CallId, Effect, SeenLeadership, SubmitError, Submitted};
use super::step::{ClusterMember, Step};
use crate::fault::Mutation;
use crate::lease::{Granter, PreviousLeader};
use crate::share_map::{ShareMap, ShareMapPlanner};
use crate::state::cluster_state::LEVEL;
use crate::state::command::{Command, Outcome};
use crate::state::governing::DEFAULT_PLAN;

/// After this time a change of the members counts as stuck, milliseconds.
const CHANGE_STUCK_MS: u64 = 2_000;
/// Pause between two hand-over attempts of a leader that cannot write, milliseconds.
const HAND_OVER_PAUSE_MS: u64 = 3_000;
/// Extra lead of a map's start, so that a slow commit does not waste the attempt, milliseconds.
const MAP_SLACK_MS: u64 = 1_000;

/// This node's leadership, if it leads.
#[derive(Debug, Default)]
pub(super) struct Leadership {
    term: Option<LeaderTerm>,
    // When the duties are due next.
    look_at: BootNs,
    changing_since: Option<BootNs>,
    handed_over: Option<BootNs>,
}

/// One term in which this node leads.
#[derive(Debug)]
struct LeaderTerm {
    term: u64,
    granter: Granter,
    planner: ShareMapPlanner,
    // The proposal of the cluster's own that has no answer yet: one at a time.
    owed: Option<Owed>,
}

#[derive(Clone, Copy, Debug)]
struct Owed {
    call: CallId,
    // The begin of the share map, if it proposes one.
    map_from: Option<ClusterMs>,
}

impl Leadership {
    pub(super) fn poll_timeout(&self) -> BootNs {
        self.look_at
    }

    /// The granter of this term, if it is the newest in which this node leads.
    pub(super) fn granter_of(&mut self, term: u64) -> Option<&mut Granter> {
        self.term.as_mut().filter(|leads| leads.term == term).map(|leads| &mut leads.granter)
    }

    /// The newest term, and its granter.
    pub(super) fn newest(&mut self) -> Option<(u64, &mut Granter)> {
        self.term.as_mut().map(|leads| (leads.term, &mut leads.granter))
    }
}

impl Member {
    /// The newest term in which this node has taken the leadership over; it may have lost it since.
    #[must_use]
    pub fn led_in(&self) -> Option<u64> {
        self.leadership.term.as_ref().map(|leads| leads.term)
    }

    /// The term in which this node leads and has taken the leadership over ([`Member::take_over`]);
    /// `None` before that: it may grant and propose nothing.
    pub fn leading_in(&mut self, step: &mut Step<'_>) -> Option<u64> {
        let term = self.elected_in(step)?;
        let is_synced = self.clock.is_synced();
        if Mutation::UnsetClockLeads.active() || Mutation::ClockComparedOnce.active() && is_synced {
            self.take_over(term, None, step);
        }
        (self.led_in() == Some(term)).then_some(term)
    }

    /// The term in which this node leads, once its first entry of that term is applied.
    pub(super) fn elected_in(&self, step: &Step<'_>) -> Option<u64> {
        let (newest, _) = step.around.leaderships();
        let is_own = |term: &u64| newest.is_some_and(|n| n.term == *term && n.node == self.me);
        step.around.leads_in().filter(is_own)
    }

    /// Takes the leadership over. In the same step the clock was compared with those of a majority
    /// ([`Member::handle_clocks`]): in between, this machine might stand still. After `contact` a
    /// majority of the voters had none with an earlier leader.
    pub(super) fn take_over(&mut self, term: u64, contact: Option<BootNs>, step: &mut Step<'_>) {
        if self.led_in() == Some(term) {
            return;
        }
        let (_, before) = step.around.leaderships();
        let at = step.now();
        let previous = before.map(|SeenLeadership { node, since, .. }| PreviousLeader {
            node,
            seen_since: since,
            contact,
        });
        let view = step.around.shared().view();
        let members = step.around.members().into_iter().map(|member| member.node);
        let nodes: Vec<NodeId> = view.nodes.keys().copied().chain(members).collect();
        let terms = self.lease_terms(step);
        let mut granter = Granter::new(terms.cautious, self.me, at, nodes, previous);
        granter.set_terms(terms.in_force, terms.cautious);
        let planner = ShareMapPlanner::default();
        self.leadership.term = Some(LeaderTerm { term, granter, planner, owed: None });
        self.holder.handle_elected(at, &terms.in_force);
        // Includes a jump of cluster time that was committed.
        self.clock.catch_up(at, step.stamp_ns());
        let previous = previous.map(|previous| previous.node).filter(|node| *node != self.me);
        step.push(Effect::Elected { term, previous });
    }

    /// Does what a leader owes, if it is time.
    pub(super) fn look_after_cluster(&mut self, step: &mut Step<'_>) {
        if step.now() < self.leadership.look_at {
            return;
        }
        self.leadership.look_at = step.now().plus_ms(self.settings.look_ms);
        let term = self.leading_in(step);
        let own = step.around.own();
        if let Some(term) = term.filter(|_| !own.is_stopping) {
            self.end_stuck_change(own.is_changing_members, step);
            self.propose_own(term, step);
        }
        self.hand_over_if_unable(step);
    }

    /// The leader that began a change of the members may have lost its leadership between the two
    /// steps, and until the second step everything needs a majority of old and new.
    fn end_stuck_change(&mut self, is_changing: bool, step: &mut Step<'_>) {
        if !is_changing {
            self.leadership.changing_since = None;
            return;
        }
        let since = *self.leadership.changing_since.get_or_insert(step.now());
        if step.now() >= since.plus_ms(CHANGE_STUCK_MS) {
            self.leadership.changing_since = None;
            step.push(Effect::EndChange);
        }
    }

    /// Proposes the next thing that the cluster lacks, one at a time.
    fn propose_own(&mut self, term: u64, step: &mut Step<'_>) {
        self.confirm_map(term, step);
        let owes = |leads: &LeaderTerm| leads.term == term && leads.owed.is_none();
        if !self.leadership.term.as_ref().is_some_and(owes) {
            return;
        }
        let command = match self.lacking(term, step) {
            Some(command) => Some((command, None)),
            // Without a lease of its own this node may no longer be the leader: it plans nothing
            // then.
            None if step.now() < self.holder.until() => self
                .next_map(term, step)
                .map(|map| (Command::SetShareMap { term, map: map.clone() }, Some(map.from))),
            None => None,
        };
        let Some((command, map_from)) = command else { return };
        let call = self.next_call();
        if let Some(leads) = &mut self.leadership.term {
            leads.owed = Some(Owed { call, map_from });
        }
        step.push(Effect::Propose { call, command: Box::new(command) });
    }

    /// What a new cluster lacks, and settings that differ from this node's configuration: the
    /// leader's file counts. The default limits in it are those of a new cluster: once there is a plan
    /// `default`, only the operator changes it.
    fn lacking(&self, term: u64, step: &Step<'_>) -> Option<Command> {
        let shared = step.around.shared();
        let (view, cluster) = (shared.view(), shared.cluster());
        let level = self.known_level(view.share_maps.is_empty(), step);
        if cluster.level < level {
            return Some(Command::SetLevel { level });
        }
        let terms = self.settings.terms;
        if cluster.level >= 2 && cluster.terms() != Some(terms) {
            return Some(Command::SetTerms { terms });
        }
        let seed = self.settings.seed.filter(|_| cluster.level >= 4 && view.seed.is_none());
        if let Some(seed) = seed {
            return Some(Command::SetSeed { seed });
        }
        let limits = &self.settings.default_limits;
        let follows_file = shared.plan(DEFAULT_PLAN).is_none();
        if follows_file && !view.defaults.iter().map(|spec| &spec.limit).eq(limits) {
            return Some(Command::SetDefaults { limits: limits.clone() });
        }
        // It applies from the beginning: no node can have spent before it.
        view.share_maps.is_empty().then(|| {
            let voters = step.around.members().into_iter().filter(|member| member.votes);
            let nodes = voters.map(|member| (member.node, 1)).collect();
            Command::SetShareMap { map: ShareMap { from: ClusterMs(0), nodes }, term }
        })
    }

    /// The newest level that every member knows, as each has recently reported. In a new cluster it
    /// is enough that none has reported a lower one.
    fn known_level(&self, is_new: bool, step: &Step<'_>) -> u32 {
        let others = step.around.members().into_iter().filter(|member| member.node != self.me);
        let known = others.map(|member| match step.around.peer(member.node) {
            Some(report) if is_new || report.is_recent => report.level,
            None if is_new => LEVEL,
            Some(_) | None => 1,
        });
        known.min().unwrap_or(LEVEL).min(LEVEL)
    }

    /// The next share map, if the last one does not fit any more.
    fn next_map(&mut self, term: u64, step: &mut Step<'_>) -> Option<ShareMap> {
        let now = self.clock.now(step.now());
        let terms = self.lease_terms(step);
        let view = step.around.shared().view();
        let members = step.around.members();
        let leads = self.leadership.term.as_mut().filter(|leads| leads.term == term)?;
        leads.granter.set_terms(terms.in_force, terms.cautious);
        let members = members.iter().map(|member| (member.node, member.votes));
        let (boot, cautious) = (step.now(), &terms.cautious);
        let nodes = leads.planner.next(boot, cautious, &leads.granter, members, &view)?;
        let last = view.share_maps.last()?;
        if leads.granter.map_pending().is_some()
            || Mutation::AbsentForever.active() && nodes.len() > last.nodes.len()
        {
            return None;
        }
        let mut from = now + terms.cautious.map_ahead_ms() + MAP_SLACK_MS;
        if Mutation::MapAtOnce.active() {
            // Also for the windows that are open.
            from = ClusterMs(now.0.saturating_sub(60_000)).max(last.from + 1);
        }
        // Reported to the granter BEFORE the proposal: from here on no grant promises windows
        // beyond it.
        leads.granter.handle_map_proposed(now, from).then_some(ShareMap { from, nodes })
    }

    /// A map whose proposal got no answer, but which is applied here, is committed.
    fn confirm_map(&mut self, term: u64, step: &Step<'_>) {
        let Some(last) = step.around.shared().view().share_maps.last().map(|map| map.from) else {
            return;
        };
        if let Some(granter) = self.leadership.granter_of(term)
            && granter.map_pending().is_some_and(|from| from <= last)
        {
            granter.handle_map_committed(step.around.applied());
        }
    }

    /// A proposal of the cluster's own has an outcome.
    pub fn handle_proposed(
        &mut self,
        call: CallId,
        result: &Result<Submitted, SubmitError>,
        step: &mut Step<'_>,
    ) {
        if self.handle_registered(call, result, step) {
            return;
        }
        let Some(leads) = &mut self.leadership.term else { return };
        let Some(owed) = leads.owed.take_if(|owed| owed.call == call) else { return };
        if let Some(from) = owed.map_from {
            match result {
                Ok(Submitted { outcome: Outcome::Refused(_), .. })
                | Err(SubmitError::NotLeader | SubmitError::Busy | SubmitError::DiskFull) => {
                    leads.granter.handle_map_dropped(from);
                }
                Ok(submitted) => leads.granter.handle_map_committed(submitted.index),
                // It may still be committed: `confirm_map` sees it, or another term begins.
                Err(SubmitError::Unknown | SubmitError::Stopped) => {}
            }
        }
        if result.as_ref().is_ok_and(|done| !matches!(done.outcome, Outcome::Refused(_))) {
            // A new cluster lacks several things: the next one follows at once.
            self.leadership.look_at = step.now();
            self.look_after_cluster(step);
        }
    }

    /// A leader that cannot write hands over to a voter that can, so that writes continue.
    fn hand_over_if_unable(&mut self, step: &mut Step<'_>) {
        let own = step.around.own();
        let unable = !(own.can_write || Mutation::FullLeaderStays.active()) || own.differs;
        let leads = step.around.leads_in().is_some() && !own.is_stopping;
        let now = step.now();
        let lately = self.leadership.handed_over;
        if !unable || !leads || lately.is_some_and(|at| now < at.plus_ms(HAND_OVER_PAUSE_MS)) {
            return;
        }
        self.leadership.handed_over = Some(now);
        let can_lead = |member: &ClusterMember| {
            member.node != self.me
                && member.votes
                && step.around.peer(member.node).is_some_and(|report| {
                    report.is_recent && report.is_ready && report.can_write == Some(true)
                })
        };
        let able = step.around.members().into_iter().filter(can_lead);
        let to = able.max_by_key(|member| member.matched).map(|member| member.node);
        step.push(Effect::HandOver { to });
    }
}
