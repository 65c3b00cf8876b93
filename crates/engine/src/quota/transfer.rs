//! Moving tokens: transfer requests, replies, and the reports that travel with them.
//!
//! A transfer is a total that only grows, tied to the incarnations of both nodes. The receiver adds
//! what is new since the last total it saw, so messages may be lost, repeated or reordered (bounded
//! counters: Balegas et al., SRDS 2015; escrow: O'Neil, TODS 1986). The driver delivers only
//! messages that are addressed to this incarnation, after it has recorded the sender's.

use fluxgate_types::id::mix64;
use fluxgate_types::{ClusterMs, NodeId, Subject};

use super::subject_map::cell_of;
use super::window_counter::WindowCounter;
use super::{
    Context, CounterId, Effect, Sender, Shard, SubjectLimits, TransferReply, TransferRequest,
};
use crate::fault::Mutation;
use crate::share_map::{self, ShareMap};

/// Looks a subject's limits up.
pub(super) type Find<'a> = &'a dyn Fn(&Subject) -> Option<SubjectLimits>;

impl Shard {
    /// Answers a transfer request at once, from this node's balance.
    pub fn handle_transfer_request(
        &mut self,
        context: &Context<'_>,
        find: Find<'_>,
        sender: &Sender,
        request: &TransferRequest,
        out: &mut Vec<Effect>,
    ) -> TransferReply {
        let context = &self.follow(context);
        let Some(limits) = find(&request.counter.subject).filter(|_| context.is_newest(sender))
        else {
            return TransferReply::nothing(request.counter);
        };
        let may_give = context.leased && !self.draining;
        let draining = self.draining;
        let Some((cell, ends, waits)) =
            self.open_asked(context, &limits, &request.counter, may_give)
        else {
            return TransferReply::nothing(request.counter);
        };
        let incarnations = &context.incarnation.incarnations;
        cell.hear(incarnations, sender, &request.mine);
        let (given, _) = cell.totals(sender);
        // This reply repeats the total of an earlier one that the requester has not received. If
        // that covers the need, add nothing: the requester ignores the reply to a duplicate
        // request, and more tokens would be unreachable until the next gossip.
        let unseen = given.saturating_sub(request.got);
        let new = if may_give && (unseen == 0 || unseen < request.need) {
            let need = request.need.saturating_sub(unseen);
            let want = request.want.saturating_sub(unseen);
            amount_to_give(
                context,
                cell,
                sender,
                waits,
                Demand { subject: request.counter.subject, need, want, spent: request.mine.spent },
            )
        } else {
            0
        };
        let given =
            (new > 0).then(|| cell.give(incarnations, sender, new)).flatten().unwrap_or(given);
        // Gossip this counter soon: if tokens were given, because this reply may be lost; if not,
        // because an earlier reply to another node may have been lost.
        let tell = !std::mem::replace(&mut cell.dirty, true);
        let mut reply = cell.reply(request.counter, sender, given);
        if draining {
            // A draining node may still take back what it gives: only the handoff itself states it.
            reply.given = 0;
        }
        if tell {
            self.order.note_dirty(ends, request.counter);
        }
        if waits > 0 {
            self.advance_queue(context, &request.counter.subject, &limits, out);
        }
        reply
    }

    /// The counter that a message names, opened if this node may spend from it, with the end of its
    /// window and the cost that waits for it here. None if the counter knows newer incarnations.
    fn open_asked(
        &mut self,
        context: &Context<'_>,
        limits: &SubjectLimits,
        counter: &CounterId,
        may_open: bool,
    ) -> Option<(&mut WindowCounter, ClusterMs, u64)> {
        let mut specs = limits.specs.iter().enumerate();
        let (at, spec) = specs.find(|(_, spec)| spec.tag == counter.limit)?;
        if !may_open {
            let cell = cell_of(&mut self.subjects, counter)?;
            let ends = spec.limit.window(cell.window()).end();
            return cell.keeps_up(context.incarnation).then_some((cell, ends, 0));
        }
        let (subjects, order) = (&mut self.subjects, &mut self.order);
        let counters = subjects.entry(&counter.subject, context.now);
        let waits = counters.waits();
        let limit = counters.limit(at, spec);
        let place = limit.cell_at(context, &counter.subject, limits, spec, counter.window, order);
        counters.note_unopened(order);
        let place = place?;
        let limit = counters.limit(at, spec);
        let (ends, cell) = (limit.end_of(counter.window), &mut limit.cells[place]);
        cell.keeps_up(context.incarnation).then_some((cell, ends, waits))
    }

    /// Takes a transfer reply, or the handoff of a stopping node. Returns whether this node knows
    /// the counter, so that the giver may forget the tokens.
    pub fn handle_transfer_reply(
        &mut self,
        context: &Context<'_>,
        find: Find<'_>,
        sender: &Sender,
        reply: &TransferReply,
        out: &mut Vec<Effect>,
    ) -> bool {
        let context = &self.follow(context);
        let counter = &reply.counter;
        // The peer has answered, even if the reply turns out unusable: a counter that kept waiting
        // for this peer would ask no other until the time-out.
        let asked = cell_of(&mut self.subjects, counter);
        if let Some(search) = asked.and_then(WindowCounter::search) {
            search.note_answer(sender.node);
        }
        let Some(limits) = find(&counter.subject).filter(|_| context.is_newest(sender)) else {
            return false;
        };
        let may_open = context.leased && !self.draining;
        let Some((cell, _, waits)) = self.open_asked(context, &limits, counter, may_open) else {
            return false;
        };
        let incarnations = &context.incarnation.incarnations;
        let gained = cell.receive(incarnations, sender, reply.given);
        let mut news = reply.mine.is_some_and(|mine| cell.hear(incarnations, sender, &mine));
        // Only of nodes in the replicated state: an account of any other node would keep the proof
        // waiting for a report that never comes.
        let view = context.view;
        let is_known = |node: &NodeId| {
            let shares = |map: &ShareMap| map.nodes.iter().any(|(sharer, _)| sharer == node);
            view.nodes.contains_key(node) || view.share_maps.iter().any(shares)
        };
        for (node, spent) in &reply.known {
            if *node != context.incarnation.me && is_known(node) {
                cell.hear_of(incarnations, *node, *spent);
            }
        }
        if gained > 0 {
            news = true;
            if let Some(search) = cell.search() {
                (search.rounds, search.failed) = (0, false);
                search.tried.clear();
            }
        }
        if let (true, Some(counters)) = (news, self.subjects.get_mut(&counter.subject)) {
            counters.forget_degraded();
        }
        if waits > 0 {
            self.advance_queue(context, &counter.subject, &limits, out);
        }
        true
    }

    /// A transfer request could not be delivered: ask another peer.
    pub fn handle_transfer_failed(
        &mut self,
        context: &Context<'_>,
        find: Find<'_>,
        peer: NodeId,
        counter: &CounterId,
        out: &mut Vec<Effect>,
    ) {
        let context = &self.follow(context);
        let Some(cell) = cell_of(&mut self.subjects, counter) else {
            return;
        };
        if let Some(search) = cell.search() {
            search.note_failed(peer);
        }
        if let Some(limits) = find(&counter.subject) {
            self.advance_queue(context, &counter.subject, &limits, out);
        }
    }
}

/// The peer to ask next for this counter and how much is missing. `None` while a reply is
/// pending, if nothing is missing, or before the next round.
pub(super) fn next_to_ask(
    context: &Context<'_>,
    cell: &mut WindowCounter,
    counter: &CounterId,
    waits: u64,
) -> Option<(NodeId, u64)> {
    let missing = i64::try_from(waits).unwrap_or(i64::MAX).saturating_sub(cell.balance());
    let need = u64::try_from(missing).ok().filter(|need| *need > 0)?;
    if Mutation::NobodyAsks.active() {
        return None;
    }
    if !cell.begin_search().is_due(context.boot) {
        return None;
    }
    let salt = share_map::salt(&counter.subject, counter.limit, counter.window);
    let reachable = context.incarnation.peers.iter().filter(|peer| peer.reachable);
    let untried = reachable.map(|peer| peer.id).filter(|node| !cell.has_tried(*node));
    let best =
        untried.map(|node| (cell.believed_left(context, node, salt), node)).reduce(|a, b| {
            if (b.0, outranks(context, &counter.subject, b.1, a.1)) > (a.0, false) { b } else { a }
        });
    let Some((_, peer)) = best else {
        cell.begin_search().end_round(context.boot);
        return None;
    };
    Some((peer, need))
}

/// For how long the nodes rank in one order, milliseconds of cluster time.
const RANK_MS: u64 = 1_000;

/// Whether `a` ranks before `b`: `b` gives way when both wait for more than half of the rest.
///
/// One order for all counters at a time: otherwise two nodes, each waiting for the other's balance of
/// a different counter, would deadlock. Another one each second, so that no node always gives way;
/// where two nodes disagree about the second, both give way or neither, for a moment. Before a
/// cluster knows subjects other than keys, it is one order for all limits of a key, as in versions
/// that know no others.
fn outranks(context: &Context<'_>, subject: &Subject, a: NodeId, b: NodeId) -> bool {
    let is_per_key = context.view.seed.is_none() || Mutation::RankPerSubject.active();
    let salt = if is_per_key { subject.mix() } else { mix64(context.now.0 / RANK_MS) };
    share_map::outranks(salt, a, b)
}

/// How much of a subject's tokens a requester needs and wants, with what it has spent itself.
struct Demand {
    subject: Subject,
    need: u64,
    want: u64,
    spent: u64,
}

/// How much to give: all that is wanted if there is no traffic here, half if both nodes are
/// equally busy, and never less than the requester needs, as far as the balance allows.
fn amount_to_give(
    context: &Context<'_>,
    cell: &WindowCounter,
    to: &Sender,
    waits: u64,
    demand: Demand,
) -> u64 {
    let balance = u64::try_from(cell.balance()).unwrap_or(0);
    if waits > 0 && demand.need > 0 {
        // Both nodes wait: one gives its whole balance, so that they do not both starve on half.
        let gives_way = outranks(context, &demand.subject, to.node, context.incarnation.me);
        return if gives_way { balance } else { balance.saturating_sub(waits).min(demand.need) };
    }
    let (theirs, ours) = (u128::from(demand.spent) + 1, u128::from(cell.spent()));
    let fair = (u128::from(balance) * theirs * 2 + theirs + ours) / ((theirs + ours) * 2);
    let fair = u64::try_from(fair).unwrap_or(balance);
    balance.min(demand.need.max(demand.want.min(fair)))
}
