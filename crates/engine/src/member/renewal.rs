//! This node's own lease: when to ask for it, whom, and what an answer permits.
//!
//! Answers for: no request leaves before this directory may act for its node and has recorded its
//! start; a lease counts from before its request was sent; an answer that arrived across a jump of
//! the clocks grants nothing; the clock follows the leader's.

use fluxgate_types::{BootId, BootNs, NodeId};

use super::Member;
use super::effect::{
    CallId, ClockJump, Effect, LEASE_TIMEOUT_MS, LeaseAnswer, LeaseRequest, NotRenewed,
};
use super::granting::Requester;
use super::step::Step;
use crate::clock::JumpWatch;
use crate::fault::Mutation;
use crate::lease::{Grant, LeaseRefusal};
use crate::state::cluster_state::StartId;

/// Pause after a failed attempt, milliseconds: short against a lease, so that a new leader grants
/// before the old lease ends.
const RETRY_MS: u64 = 50;

/// The progress of the renewal of this node's lease.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    // The leader of the last attempt, and the term if this node led: after a change the next attempt
    // is due at once.
    led_by: (Option<NodeId>, Option<u64>),
    // When the next attempt is due.
    pub(super) at: BootNs,
    // The level of the last attempt: under another one this start must be registered again, and
    // that must not wait until the disk is full, or the leader is gone.
    level: u32,
    pub(super) pending: Option<Pending>,
    pub(super) jumps: JumpWatch,
    refusal: Option<LeaseRefusal>,
    saved: SavedStart,
}

/// What the disk has recorded about this start.
#[derive(Clone, Copy, Debug, Default)]
struct SavedStart {
    asking: Option<StartId>,
    registered: Option<StartId>,
}

/// What the renewal waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pending {
    Save,
    Clocks { call: CallId, term: u64, sent: BootNs },
    Lease { call: CallId, to: NodeId, sent: BootNs },
    Own { call: CallId, sent: BootNs },
}

impl Renewal {
    /// When something is due.
    pub(super) fn poll_timeout(&self) -> BootNs {
        match self.pending {
            None => self.at,
            Some(Pending::Own { sent, .. }) => sent.plus_ms(LEASE_TIMEOUT_MS),
            // The driver answers in time.
            Some(Pending::Save | Pending::Clocks { .. } | Pending::Lease { .. }) => {
                BootNs(u64::MAX)
            }
        }
    }
}

impl Member {
    /// Why the leader last rejected a request; `None` since it granted one.
    #[must_use]
    pub fn lease_refusal(&self) -> Option<&LeaseRefusal> {
        self.renewal.refusal.as_ref()
    }

    /// The next attempt is due now.
    pub fn renew_now(&mut self, step: &mut Step<'_>) {
        self.renewal.at = step.now();
        self.renew(step);
    }

    /// Tries to renew the lease, if it is time.
    pub(super) fn renew(&mut self, step: &mut Step<'_>) {
        let leader = step.around.leader();
        let led_by = (leader, self.elected_in(step));
        if led_by != self.renewal.led_by {
            self.renewal.led_by = led_by;
            self.renewal.at = step.now();
            // An answer of the old leader would come too late, and what this node asked for in an
            // earlier term as well. A start that is being saved is not affected.
            self.renewal.pending.take_if(|pending| !matches!(pending, Pending::Save));
        }
        let level = step.around.shared().cluster().level;
        if level != self.renewal.level {
            self.renewal.at = step.now();
        }
        if let Some(Pending::Own { call, sent }) = self.renewal.pending
            && step.now() >= sent.plus_ms(LEASE_TIMEOUT_MS)
        {
            self.renewal.pending = None;
            self.granting.forget(call);
            self.not_renewed(NotRenewed::NoQuorum, step);
        }
        if step.now() < self.renewal.at || self.renewal.pending.is_some() {
            return;
        }
        self.renewal.level = level;
        self.compare_clocks(step);
        if let Err(why) = self.try_renewal(leader, step) {
            self.not_renewed(why, step);
        }
    }

    fn try_renewal(
        &mut self,
        leader: Option<NodeId>,
        step: &mut Step<'_>,
    ) -> Result<(), NotRenewed> {
        let own = step.around.own();
        if !own.has_joined {
            return Err(NotRenewed::NotJoined);
        }
        if own.lacks_entries {
            return Err(NotRenewed::LacksEntries);
        }
        let leader = leader.ok_or(NotRenewed::NoLeader)?;
        if self.renewal.saved.asking != Some(self.start) && !Mutation::StartNotSaved.active() {
            // Durable BEFORE the first request: the first lease registers this start, and a
            // directory that does not remember a registered start is taken for a copy.
            self.renewal.pending = Some(Pending::Save);
            step.push(Effect::SaveStart { start: self.start, registered: false });
            return Ok(());
        }
        if leader != self.me {
            let call = self.next_call();
            self.renewal.pending = Some(Pending::Lease { call, to: leader, sent: step.now() });
            let request = self.lease_request(step);
            step.push(Effect::RequestLease { call, to: leader, request });
            return Ok(());
        }
        let term = self.elected_in(step).ok_or(NotRenewed::NotLeading)?;
        if self.leading_in(step).is_some() {
            let call = self.next_call();
            self.renewal.pending = Some(Pending::Own { call, sent: step.now() });
            let request = self.lease_request(step);
            self.begin_grant(Requester::Own(call), self.me, request, step);
            Ok(())
        } else {
            self.ask_clocks(term, step)
        }
    }

    fn lease_request(&self, step: &Step<'_>) -> LeaseRequest {
        let (start, dir_id) = (self.start, self.dir_id);
        LeaseRequest { start, dir_id, applied: step.around.applied() }
    }

    /// This start is recorded on the disk, or the disk does not take it.
    pub fn handle_start_saved(
        &mut self,
        start: StartId,
        registered: bool,
        saved: bool,
        step: &mut Step<'_>,
    ) {
        if registered {
            // If it failed, the next renewal tries again; until then the file keeps earlier starts.
            self.renewal.saved.registered = saved.then_some(start);
            return;
        }
        self.renewal.pending.take_if(|pending| matches!(pending, Pending::Save));
        if saved {
            self.renewal.saved.asking = Some(start);
            self.renewal.at = step.now();
            self.renew(step);
        } else {
            self.not_renewed(NotRenewed::StartNotSaved, step);
        }
    }

    /// The leader has answered this node's request.
    pub fn handle_lease_answer(&mut self, call: CallId, answer: LeaseAnswer, step: &mut Step<'_>) {
        let Some(Pending::Lease { call: of, to, sent }) = self.renewal.pending else { return };
        if of != call {
            return;
        }
        self.renewal.pending = None;
        let jumped = self.compare_clocks(step);
        let why = match answer {
            LeaseAnswer::Granted(_) if jumped => NotRenewed::ClockJumped,
            LeaseAnswer::Granted(grant) => return self.follow(sent, &grant, step),
            LeaseAnswer::NotLeader => NotRenewed::NotLeader(to),
            LeaseAnswer::Refused(refusal) => self.refused(refusal, step),
            LeaseAnswer::NoAnswer(cause) => NotRenewed::NoAnswer(cause),
        };
        self.not_renewed(why, step);
    }

    /// This leader's own request has an answer.
    pub(super) fn handle_own_answer(
        &mut self,
        call: CallId,
        answer: LeaseAnswer,
        step: &mut Step<'_>,
    ) {
        let Some(Pending::Own { call: of, sent }) = self.renewal.pending else { return };
        if of != call {
            return;
        }
        self.renewal.pending = None;
        let why = match answer {
            LeaseAnswer::Granted(_) if self.compare_clocks(step) => NotRenewed::ClockJumped,
            LeaseAnswer::Granted(grant) => {
                self.take(sent, &grant, step);
                let now = step.now();
                // Includes a jump of cluster time that was committed but whose answer was lost.
                self.clock.catch_up(now, step.stamp_ns());
                self.clock.lead(now, self.wall_target_ns(step));
                let after = self.terms.in_force().own_renew_ms();
                return self.renewed(after, step);
            }
            LeaseAnswer::NotLeader => NotRenewed::NotLeading,
            LeaseAnswer::Refused(refusal) => self.refused(refusal, step),
            LeaseAnswer::NoAnswer(_) => NotRenewed::NoQuorum,
        };
        self.not_renewed(why, step);
    }

    /// Takes the leader's time and its lease.
    fn follow(&mut self, sent: BootNs, grant: &Grant, step: &mut Step<'_>) {
        let received = step.now();
        let round_trip_ns = received.since(sent);
        let estimate_ns = grant.cluster_ns.saturating_add(round_trip_ns / 2);
        let own_ns = self.clock.now_ns(received);
        let terms = self.terms.in_force();
        let ahead = self.renewal.jumps.compare_leader(own_ns, estimate_ns, round_trip_ns, &terms);
        if let Some(ahead) = ahead.filter(|_| self.clock.is_synced()) {
            // The grant at hand names the entry that this node must have applied.
            self.drop_lease(ClockJump::StoodStill(ahead), step);
        }
        self.clock.follow(received, estimate_ns);
        self.take(sent, grant, step);
        self.renewed(terms.renew_ms(), step);
    }

    fn take(&mut self, sent: BootNs, grant: &Grant, step: &Step<'_>) {
        // The lease counts from BEFORE the request was sent: the leader counts from after it
        // arrived.
        let sent = if Mutation::LeaseFromAnswer.active() { step.now() } else { sent };
        self.holder.handle_grant(sent, grant, step.around.applied());
        self.renewal.refusal = None;
        self.note_first_lease();
    }

    fn renewed(&mut self, after_ms: u64, step: &mut Step<'_>) {
        let is_same = step.around.shared().cluster().level == self.renewal.level;
        self.renewal.at = step.now().plus_ms(if is_same { after_ms } else { 0 });
        if self.renewal.saved.registered != Some(self.start) && !Mutation::StartNotSaved.active() {
            step.push(Effect::SaveStart { start: self.start, registered: true });
        }
        step.push(Effect::Renewed(Ok(())));
    }

    pub(super) fn not_renewed(&mut self, why: NotRenewed, step: &mut Step<'_>) {
        self.renewal.at = step.now().plus_ms(RETRY_MS);
        step.push(Effect::Renewed(Err(why)));
    }

    /// Acts on a rejection by the leader. The leader's state is committed: a directory that it knows
    /// to be older must not continue.
    fn refused(&mut self, refusal: LeaseRefusal, step: &mut Step<'_>) -> NotRenewed {
        match &refusal {
            LeaseRefusal::Older { .. } | LeaseRefusal::OtherDirectory(_) => {
                step.push(Effect::End(refusal.clone()));
            }
            LeaseRefusal::CountOn { newest, .. } if !Mutation::CountsFromOne.active() => {
                step.push(Effect::CountOn(BootId(newest.0 + 1)));
            }
            LeaseRefusal::Behind
            | LeaseRefusal::CountOn { .. }
            | LeaseRefusal::Removed(_)
            | LeaseRefusal::Differs
            | LeaseRefusal::Other(_) => {}
        }
        self.renewal.refusal = Some(refusal.clone());
        NotRenewed::Refused(refusal)
    }
}
