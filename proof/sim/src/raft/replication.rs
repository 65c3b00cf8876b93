//! Replication: entries, the log-matching check, commitment, and proofs of leadership.

use std::rc::Rc;

use fluxgate_engine::state::command::Batch;
use fluxgate_types::NodeId;

use super::{Entry, Members, Message, Output, Raft, Role};
use fluxgate_plan::Rng;
use fluxgate_plan::Us;

impl Raft {
    pub(super) fn append(
        &mut self,
        batch: Option<Batch>,
        members: Option<Members>,
        out: &mut Vec<Output>,
    ) -> usize {
        let keep = self.log.len();
        let sets_members = members.is_some();
        self.log.push(Rc::new(Entry { term: self.term, node: self.me, batch, members }));
        if sets_members {
            self.find_members();
        }
        self.persist(keep, Vec::new(), out);
        self.replicate(out);
        self.log.len()
    }

    /// Proposes on the leader; the index that the entry gets.
    pub fn propose(&mut self, batch: Batch, out: &mut Vec<Output>) -> Option<(u64, usize)> {
        (self.role == Role::Leader).then(|| (self.term, self.append(Some(batch), None, out)))
    }

    /// Asks a quorum whether this node leads; [`Output::Confirmed`] brings the answer.
    pub fn confirm(&mut self, token: u64, out: &mut Vec<Output>) {
        if self.role != Role::Leader || self.term_at(self.commit) != self.term {
            out.push(Output::Confirmed(token, None));
            return;
        }
        self.round += 1;
        self.confirms.push((self.round, token, self.commit));
        self.replicate(out);
        self.settle_confirms(out);
    }

    /// Gives a proof up.
    pub fn forget_confirm(&mut self, token: u64) {
        self.confirms.retain(|(_, of, _)| *of != token);
    }

    fn settle_confirms(&mut self, out: &mut Vec<Output>) {
        let proven = self.reached(&self.acked, self.round);
        let (done, open) = self.confirms.drain(..).partition(|(round, ..)| *round <= proven);
        self.confirms = open;
        let done: Vec<(u64, u64, usize)> = done;
        out.extend(done.into_iter().map(|(_, token, at)| Output::Confirmed(token, Some(at))));
    }

    pub(super) fn replicate(&mut self, out: &mut Vec<Output>) {
        for node in self.others() {
            self.send_to(node, out);
        }
        self.advance(out);
    }

    fn send_to(&mut self, node: NodeId, out: &mut Vec<Output>) {
        let next = self.next.get(&node).copied().unwrap_or(1).clamp(1, self.log.len() + 1);
        let entries = self.log[next - 1..].iter().take(64).cloned().collect();
        let prev = (self.term_at(next - 1), next - 1);
        let (term, commit, round) = (self.term, self.commit, self.round);
        out.push(Output::Send(node, Message::Append { term, prev, entries, commit, round }));
    }

    pub(super) fn advance(&mut self, out: &mut Vec<Output>) {
        let own = if self.driver_mutation { self.log.len() } else { self.durable };
        let by_quorum = self.reached(&self.matched, own);
        if by_quorum > self.commit && self.term_at(by_quorum) == self.term {
            self.commit = by_quorum;
        }
        self.settle_confirms(out);
    }

    pub(super) fn handle_appended(
        &mut self,
        from: NodeId,
        (term, matched, hint, round): (u64, Option<usize>, usize, u64),
        out: &mut Vec<Output>,
    ) {
        if term > self.term {
            self.become_follower(term, out);
            self.persist(self.log.len(), Vec::new(), out);
            return;
        }
        // A removed node may still answer.
        let is_member = self.members.0.contains(from);
        if self.role != Role::Leader || term != self.term || !is_member {
            return;
        }
        let acked = self.acked.entry(from).or_default();
        *acked = (*acked).max(round);
        match matched {
            Some(at) => {
                let known = self.matched.entry(from).or_default();
                // Only after progress: of several answers to the same entries each would send the
                // rest again, and a slow follower would get more and more messages. The next
                // heartbeat repeats what was lost.
                let is_new = at > *known;
                *known = (*known).max(at);
                self.next.insert(from, *known + 1);
                if is_new && hint == 0 && *known < self.log.len() {
                    self.send_to(from, out);
                }
            }
            None => {
                let known = self.matched.get(&from).copied().unwrap_or(0);
                let next = hint.max(known + 1);
                if self.next.insert(from, next) != Some(next) {
                    self.send_to(from, out);
                }
            }
        }
        self.advance(out);
    }

    pub(super) fn handle_append(
        &mut self,
        now: Us,
        from: NodeId,
        term: u64,
        (prev, entries, commit, round): ((u64, usize), Vec<Rc<Entry>>, usize, u64),
        rng: &mut Rng,
        out: &mut Vec<Output>,
    ) {
        if term < self.term {
            let answer = Message::Appended { term: self.term, matched: None, hint: 0, round };
            out.push(Output::Send(from, answer));
            return;
        }
        let news = term > self.term;
        self.become_follower(term, out);
        (self.leader, self.heard) = (Some(from), now);
        self.rest(now, rng);
        if self.log.len() < prev.1 || self.term_at(prev.1) != prev.0 {
            let hint = self.log.len().min(prev.1.saturating_sub(1)).max(1);
            let answer = Message::Appended { term, matched: None, hint, round };
            if news {
                self.persist(self.log.len(), vec![(from, answer)], out);
            } else {
                out.push(Output::Send(from, answer));
            }
            return;
        }
        let is_full = !self.has_room && !entries.is_empty();
        if !entries.is_empty() {
            self.lacks_entries = is_full && commit > prev.1;
        }
        // Counts as a heartbeat then, and the leader sends the entries again with the next one.
        let entries = if is_full { Vec::new() } else { entries };
        let hint = usize::from(is_full);
        let matched = prev.1 + entries.len();
        let same = entries
            .iter()
            .enumerate()
            .take_while(|(n, entry)| {
                self.entry(prev.1 + 1 + n).is_some_and(|mine| mine.term == entry.term)
            })
            .count();
        let answer = Message::Appended { term, matched: Some(matched), hint, round };
        if same < entries.len() {
            let keep = prev.1 + same;
            assert!(keep >= self.commit, "a committed entry would be overwritten");
            let new: Vec<_> = entries.into_iter().skip(same).collect();
            let changes = self.members.1 > keep || new.iter().any(|entry| entry.members.is_some());
            self.log.truncate(keep);
            self.log.extend(new);
            if changes {
                self.find_members();
            }
            self.persist(keep, vec![(from, answer)], out);
        } else if news || self.durable < matched {
            // What is acknowledged must be durable, also where it was appended before.
            self.persist(self.log.len(), vec![(from, answer)], out);
        } else {
            out.push(Output::Send(from, answer));
        }
        self.commit = self.commit.max(commit.min(matched));
    }
}
