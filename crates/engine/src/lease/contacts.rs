//! When a node can last have acknowledged a leader: what a new leader asks its voters for, to know
//! how long its predecessor's own lease can last.
//!
//! Answers for: every message of a leader is recorded BEFORE consensus sees it, and so before it can
//! be acknowledged; and a node answers only once its vote rules out that it acknowledges an earlier
//! leader later. Then a contact that is older than the answer says proves that no earlier leader was
//! acknowledged since.

use std::collections::BTreeMap;

use fluxgate_types::{BootNs, NodeId};

use crate::fault::Mutation;

/// A leader or a candidate. A term may have several, in the order of their ids: a node that has
/// voted for one acknowledges none before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaderId {
    /// The term.
    pub term: u64,
    /// The node.
    pub node: NodeId,
}

impl LeaderId {
    /// Before every leader.
    const NONE: Self = Self { term: 0, node: NodeId(0) };
}

/// The vote of a node, as its disk has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Voted {
    /// For whom.
    pub leader: LeaderId,
    /// A majority is known to have voted so.
    pub is_elected: bool,
}

impl Voted {
    /// The vote of a node that has not voted.
    pub const NONE: Self = Self { leader: LeaderId::NONE, is_elected: false };
}

/// The contacts of one process with leaders, by its boot clock.
#[derive(Clone, Debug)]
pub struct Contacts {
    me: NodeId,
    voted: Voted,
    // The newest leader, with the last contact with it, and the last contact with any before it.
    newest: (LeaderId, BootNs),
    before: BootNs,
}

impl Contacts {
    /// A process begins to take part in consensus with the vote that its disk has. An earlier
    /// process acknowledged nothing after `begun`.
    #[must_use]
    pub fn new(me: NodeId, voted: Voted, begun: BootNs) -> Self {
        Self { me, voted, newest: (LeaderId::NONE, begun), before: begun }
    }

    /// A message of a leader has come. Call BEFORE consensus sees it.
    pub fn handle_message(&mut self, from: LeaderId, now: BootNs) {
        let (newest, at) = &mut self.newest;
        if from > *newest {
            self.before = self.before.max(*at);
            self.newest = (from, now);
        } else if from == *newest {
            if !Mutation::FirstContactCounts.active() {
                *at = (*at).max(now);
            }
        } else {
            self.before = self.before.max(now);
        }
    }

    /// The vote on the disk has changed. A leader acknowledges itself until it votes for a later
    /// one, so its own leadership is a contact until then.
    pub fn handle_voted(&mut self, voted: Voted, now: BootNs) {
        let Voted { leader, is_elected } = self.voted;
        if is_elected && leader.node == self.me && voted.leader > leader {
            self.handle_message(leader, now);
        }
        self.voted = self.voted.max(voted);
    }

    /// When this node last had contact with a leader before `leader`; `None` if it may still
    /// acknowledge one.
    #[must_use]
    pub fn last_before(&self, leader: LeaderId) -> Option<BootNs> {
        if self.voted.leader < leader && !Mutation::ContactWithoutVote.active() {
            return None;
        }
        let (newest, at) = self.newest;
        // Of leaders between the two, also later contacts count: an answer may be too careful.
        Some(if newest < leader { self.before.max(at) } else { self.before })
    }
}

/// The earliest moment at which a majority of each of these sets of voters had had its last contact.
/// `None` if too few contacts are known, or the voters are not.
#[must_use]
pub fn majority_contact(
    electorate: &[Vec<NodeId>],
    contacts: &BTreeMap<NodeId, BootNs>,
) -> Option<BootNs> {
    let of_set = |voters: &Vec<NodeId>| {
        let known = voters.iter().filter_map(|voter| contacts.get(voter).copied());
        let mut known: Vec<BootNs> = known.collect();
        known.sort_unstable();
        known.get(voters.len() / 2).copied()
    };
    let sets: Option<Vec<BootNs>> = electorate.iter().map(of_set).collect();
    sets?.into_iter().max()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId(2);

    fn ms(ms: u64) -> BootNs {
        BootNs(0).plus_ms(ms)
    }

    fn leader(term: u64, node: u64) -> LeaderId {
        LeaderId { term, node: NodeId(node) }
    }

    fn voted(term: u64, node: u64) -> Voted {
        Voted { leader: leader(term, node), is_elected: false }
    }

    fn contacts() -> Contacts {
        Contacts::new(ME, voted(5, 1), ms(100))
    }

    #[test]
    fn only_a_node_that_has_voted_says_when_its_last_contact_was() {
        let mut contacts = contacts();
        contacts.handle_message(leader(5, 1), ms(200));
        assert_eq!(
            contacts.last_before(leader(6, 3)),
            None,
            "it may acknowledge the old leader yet"
        );
        contacts.handle_message(leader(5, 1), ms(300));
        contacts.handle_voted(voted(6, 3), ms(400));
        assert_eq!(contacts.last_before(leader(6, 3)), Some(ms(300)));
        assert_eq!(contacts.last_before(leader(6, 4)), None, "a later leader of the same term");
        assert_eq!(contacts.last_before(leader(7, 1)), None);
    }

    #[test]
    fn messages_of_the_new_leader_are_no_contact_and_late_ones_of_the_old_are() {
        let mut contacts = contacts();
        contacts.handle_message(leader(5, 1), ms(200));
        contacts.handle_voted(voted(5, 3), ms(250));
        contacts.handle_message(leader(5, 3), ms(300));
        assert_eq!(
            contacts.last_before(leader(5, 3)),
            Some(ms(200)),
            "the same term, another leader"
        );
        contacts.handle_message(leader(5, 1), ms(350));
        assert_eq!(contacts.last_before(leader(5, 3)), Some(ms(350)));
        contacts.handle_message(leader(6, 1), ms(500));
        assert_eq!(contacts.last_before(leader(5, 3)), Some(ms(350)));
        assert_eq!(contacts.last_before(leader(5, 2)), Some(ms(350)), "too careful at worst");
    }

    #[test]
    fn a_process_that_heard_nothing_counts_from_its_beginning() {
        let mut contacts = contacts();
        contacts.handle_voted(voted(6, 3), ms(400));
        contacts.handle_message(leader(6, 3), ms(450));
        assert_eq!(contacts.last_before(leader(6, 3)), Some(ms(100)));
    }

    #[test]
    fn a_node_that_led_was_in_contact_with_itself_until_it_voted_for_another() {
        let own = Voted { leader: leader(6, 2), is_elected: true };
        let mut contacts = contacts();
        contacts.handle_voted(own, ms(200));
        assert_eq!(contacts.last_before(leader(6, 2)), Some(ms(100)), "before its own leadership");
        contacts.handle_voted(voted(7, 3), ms(900));
        assert_eq!(contacts.last_before(leader(7, 3)), Some(ms(900)));
        // A candidate that was not elected acknowledged nothing.
        let mut candidate = super::Contacts::new(ME, voted(6, 2), ms(100));
        candidate.handle_voted(voted(7, 3), ms(900));
        assert_eq!(candidate.last_before(leader(7, 3)), Some(ms(100)));
    }

    #[test]
    fn of_the_voters_a_majority_of_each_set_counts() {
        let ids = |ids: &[u64]| -> Vec<NodeId> { ids.iter().copied().map(NodeId).collect() };
        let at = |all: &[(u64, u64)]| all.iter().map(|(id, at)| (NodeId(*id), ms(*at))).collect();
        let three = [ids(&[1, 2, 3])];
        assert_eq!(majority_contact(&three, &at(&[(1, 10), (3, 30)])), Some(ms(30)));
        assert_eq!(majority_contact(&three, &at(&[(1, 10), (2, 90), (3, 30)])), Some(ms(30)));
        assert_eq!(majority_contact(&three, &at(&[(1, 10), (4, 20)])), None, "one of three");
        assert_eq!(majority_contact(&[ids(&[1])], &at(&[(1, 10)])), Some(ms(10)));
        let joint = [ids(&[1, 2, 3]), ids(&[3, 4, 5])];
        assert_eq!(majority_contact(&joint, &at(&[(1, 10), (2, 20), (3, 30)])), None);
        let all = at(&[(1, 10), (2, 20), (3, 30), (5, 50)]);
        assert_eq!(majority_contact(&joint, &all), Some(ms(50)));
        assert_eq!(majority_contact(&[], &all), None, "the voters are not known");
    }
}
