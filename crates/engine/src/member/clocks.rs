//! The clock of a member: how a leader compares it with those of others, what this node tells others
//! of it, and the wall clocks that it follows.
//!
//! Answers for: a leader compares its clock with those of a majority before it grants or stamps
//! anything in a term; and a jump of this machine's clocks drops the lease.

use fluxgate_types::{BootNs, NodeId};

use super::Member;
use super::effect::{CallId, ClockJump, ClocksHeard, Effect, LEASE_TIMEOUT_MS, NotRenewed};
use super::renewal::Pending;
use super::step::Step;
use crate::clock::signed_difference;
use crate::clock::sync::{self, ClockAnswer};
use crate::lease::{LeaderId, majority_contact};

/// Answers that were taken later than this after they were asked for do not count, milliseconds.
const CLOCKS_LATE_MS: u64 = 2 * LEASE_TIMEOUT_MS;

impl Member {
    /// Drops the lease if the clocks of this machine jumped since the last look, and returns
    /// whether they did.
    pub(super) fn compare_clocks(&mut self, step: &mut Step<'_>) -> bool {
        let terms = self.terms.in_force();
        let jump = self.renewal.jumps.compare_clocks(step.reading, &terms);
        if let Some(jump) = jump {
            self.drop_lease(ClockJump::Wall(jump), step);
        }
        jump.is_some()
    }

    /// How long this node's lease has lasted is unknown.
    pub(super) fn drop_lease(&mut self, jump: ClockJump, step: &mut Step<'_>) {
        self.holder.handle_clock_jump();
        step.push(Effect::LeaseDropped(jump));
    }

    /// A leader asks the other voters for their clocks before it grants or stamps anything in a term.
    /// If no leader has set its own, its wall clock may be wrong by years: then the clocks of all
    /// voters count, because two clocks alone do not show which is wrong. If one has, this machine may
    /// have stood still since, together with its clocks: cluster time would go back, and windows would
    /// be cut again that others have under another share map.
    pub(super) fn ask_clocks(&mut self, term: u64, step: &mut Step<'_>) -> Result<(), NotRenewed> {
        let nodes: Vec<NodeId> = self.voters(step).filter(|node| *node != self.me).collect();
        if nodes.is_empty() {
            return self.set_clock(term, &ClocksHeard::default(), step);
        }
        let enough = self.clock.is_synced().then(|| nodes.len().div_ceil(2));
        let call = self.next_call();
        self.renewal.pending = Some(Pending::Clocks { call, term, sent: step.now() });
        step.push(Effect::AskClocks { call, nodes, term, enough });
        Ok(())
    }

    /// The clocks of the voters that answered.
    pub fn handle_clocks(&mut self, call: CallId, heard: &ClocksHeard, step: &mut Step<'_>) {
        let Some(Pending::Clocks { call: of, term, sent }) = self.renewal.pending else { return };
        if of != call {
            return;
        }
        self.renewal.pending = None;
        if step.now() > sent.plus_ms(CLOCKS_LATE_MS) {
            // This process did not run meanwhile: the answers say what the time was.
            return self.not_renewed(NotRenewed::NoQuorumOfClocks, step);
        }
        if let Err(why) = self.set_clock(term, heard, step) {
            return self.not_renewed(why, step);
        }
        self.renew(step);
        // What waits is judged by the granter of this term from here on.
        self.look_at_barriers(step);
    }

    fn set_clock(
        &mut self,
        term: u64,
        heard: &ClocksHeard,
        step: &mut Step<'_>,
    ) -> Result<(), NotRenewed> {
        if self.elected_in(step) != Some(term) {
            return Err(NotRenewed::NotLeading);
        }
        let (now, terms, voters) = (step.now(), self.terms.in_force(), self.voters(step).count());
        let mut answers = heard.at(now);
        if (answers.len() + 1) * 2 <= voters {
            return Err(NotRenewed::NoQuorumOfClocks);
        }
        if self.clock.is_synced() {
            // Not the stamps of others: all that are committed are applied here.
            let synced_ns = answers.iter().filter_map(|answer| answer.synced_ns).max();
            let reached_ns = synced_ns.unwrap_or(0);
            let own_ns = self.clock.now_ns(now);
            if let Some(behind) = self.renewal.jumps.compare_reached(own_ns, reached_ns, &terms) {
                self.drop_lease(ClockJump::StoodStill(behind), step);
            }
            self.clock.catch_up(now, reached_ns);
        } else {
            answers.push(self.own_clocks(step));
            let bound_ns = terms.clock_error_ms_max * 1_000_000;
            let start_ns =
                sync::start_ns(&answers, voters, bound_ns).map_err(NotRenewed::ClocksDiffer)?;
            self.clock.begin_leadership(now, start_ns);
        }
        self.take_over(term, self.last_contact_before(term, heard, step), step);
        self.renewal.at = now;
        Ok(())
    }

    /// A majority of the voters had no contact with a leader before this one after that moment. All
    /// of them by this node's clock: an answer's age counts from when it arrived.
    fn last_contact_before(
        &self,
        term: u64,
        heard: &ClocksHeard,
        step: &Step<'_>,
    ) -> Option<BootNs> {
        let mut contacts = heard.contacts().clone();
        contacts.remove(&self.me);
        let own = step.around.last_contact(LeaderId { term, node: self.me });
        contacts.extend(own.map(|at| (self.me, at)));
        majority_contact(&step.around.electorate(term), &contacts)
    }

    fn voters(&self, step: &Step<'_>) -> impl Iterator<Item = NodeId> + use<> {
        let members = step.around.members();
        members.into_iter().filter(|member| member.votes).map(|member| member.node)
    }

    /// What this node knows of the time, as of this step.
    #[must_use]
    pub fn own_clocks(&self, step: &Step<'_>) -> ClockAnswer {
        let now_ns = self.clock.now_ns(step.now());
        let synced = self.clock.is_synced();
        ClockAnswer {
            node: self.me,
            synced_ns: synced.then_some(now_ns),
            stamp_ns: step.stamp_ns(),
            carried_ns: (self.settings.clock_carried && !synced).then_some(now_ns),
            wall_ns: step.reading.wall_ns,
            plausible: step.around.own().wall_is_plausible,
        }
    }

    /// What cluster time should be by the wall clocks of the members, nanoseconds.
    pub(super) fn wall_target_ns(&self, step: &Step<'_>) -> u64 {
        let members = step.around.members();
        let reports = members.iter().filter_map(|member| step.around.peer(member.node));
        let others: Vec<i64> =
            reports.filter(|report| report.is_recent).map(|report| report.wall_offset_ns).collect();
        let cluster_ns = self.clock.now_ns(step.now());
        let own = signed_difference(step.reading.wall_ns, cluster_ns);
        let bound_ns = self.terms.in_force().clock_error_ms_max * 1_000_000;
        let offset = sync::wall_offset_ns(own, &others, members.len(), bound_ns);
        cluster_ns.saturating_add_signed(offset)
    }
}
