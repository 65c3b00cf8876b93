//! Each rule of who may take part (`docs/protocol.md`, "Who may take part").

use std::collections::{BTreeMap, BTreeSet};

use fluxgate_engine::clock::sync::{ClocksDiffer, WallClock};
use fluxgate_engine::join::{
    ANSWER_TIMEOUT_MS, Effect, FORM_ALONE_MS, FORM_PATIENCE_MS, Heard, Introduction, Join,
    JoinError, RETRY_MS, RegisteredDirectory, Report, Settings, Situation, Times,
};
use fluxgate_engine::state::cluster_state::StartId;
use fluxgate_types::{BootId, BootNs, DirId, NodeId};

const SECOND_NS: u64 = 1_000_000_000;
const WALL_NS: u64 = 20_000 * 86_400 * SECOND_NS;
const MY_DIRECTORY: DirId = DirId(70);
const MY_START: StartId = start(5, 1);

const fn start(boot: u64, nonce: u64) -> StartId {
    StartId { boot: BootId(boot), nonce }
}

fn times(wall_ns: u64) -> Times {
    Times { synced_ns: None, stamp_ns: 0, carried_ns: None, wall_ns, plausible: true }
}

/// A node that knows nothing of a cluster.
fn new_node(node: u64) -> Introduction {
    Introduction {
        node: NodeId(node),
        dir_id: DirId(node),
        start_id: start(1, node),
        formed: false,
        directories: Vec::new(),
        start_ids: Vec::new(),
        heard: Vec::new(),
        time: times(WALL_NS),
    }
}

/// A node of a cluster.
fn member(node: u64) -> Introduction {
    Introduction { formed: true, ..new_node(node) }
}

/// A node of a cluster that knows a directory and the newest start of node 1.
fn knows(node: u64, dir_id: DirId, removed: bool, newest: StartId) -> Introduction {
    Introduction {
        directories: vec![RegisteredDirectory { node: NodeId(1), dir_id, removed }],
        start_ids: vec![(NodeId(1), newest)],
        ..member(node)
    }
}

fn with_wall(introduction: Introduction, wall_ns: u64) -> Introduction {
    Introduction { time: times(wall_ns), ..introduction }
}

fn ids(nodes: impl IntoIterator<Item = u64>) -> BTreeSet<NodeId> {
    nodes.into_iter().map(NodeId).collect()
}

/// A machine and its driver, which carries out what needs no other node.
struct Driven {
    join: Join,
    now: BootNs,
    situation: Situation,
    made: Vec<StartId>,
    asked: BTreeSet<NodeId>,
}

impl Driven {
    /// Node `me`, on a directory without a log.
    fn new(me: u64, members: impl IntoIterator<Item = u64>) -> Self {
        let now = BootNs(77 * SECOND_NS);
        let settings = Settings {
            me: NodeId(me),
            dir_id: MY_DIRECTORY,
            members: ids(members),
            clock_error_ms_max: 1_000,
        };
        let situation = Situation {
            formed: false,
            takes_part: false,
            members: BTreeMap::new(),
            start_id: MY_START,
            times: times(WALL_NS),
        };
        let made = vec![MY_START];
        Self { join: Join::new(settings, now), now, situation, made, asked: BTreeSet::new() }
    }

    /// Node 1, on a directory with a log whose members are these voters.
    fn with_log(voters: impl IntoIterator<Item = u64>) -> Self {
        let mut driven = Self::new(1, [1, 2, 3]);
        driven.situation.formed = true;
        driven.situation.members = voters.into_iter().map(|node| (NodeId(node), true)).collect();
        driven
    }

    fn poll(&mut self) -> Option<Effect> {
        let effect = self.join.poll_effect(self.now, &self.situation);
        match &effect {
            Some(Effect::TakePart) => self.situation.takes_part = true,
            Some(Effect::CountOn(boot)) => self.situation.start_id.boot = *boot,
            Some(_) | None => {}
        }
        effect
    }

    fn drain(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.poll()).collect()
    }

    /// Begins the next attempt, up to its questions to the other nodes. What came instead of them
    /// otherwise.
    fn ask(&mut self) -> Result<(), Vec<Effect>> {
        if let Some(until) = self.join.poll_timeout() {
            self.now = self.now.max(until);
        }
        let mut effects = self.drain();
        if effects == [Effect::LookForCopy { timeout_ms: ANSWER_TIMEOUT_MS }] {
            self.join.handle_own_addresses(self.situation.start_id, &[]);
            effects = self.drain();
        }
        match effects.as_slice() {
            [Effect::Introduce { nodes, timeout_ms: ANSWER_TIMEOUT_MS }] => {
                self.asked.clone_from(nodes);
                Ok(())
            }
            _ => Err(effects),
        }
    }

    /// What follows when these answer the questions.
    fn answer(&mut self, said: &[Introduction]) -> Vec<Effect> {
        let at = self.now;
        let heard = said.iter().map(|said| (said.node, Heard { said: said.clone(), at }));
        let heard: BTreeMap<NodeId, Heard> = heard.collect();
        assert!(heard.keys().all(|node| self.asked.contains(node)), "{heard:?} were not asked");
        let made = |start| self.made.contains(&start);
        self.join.handle_introductions(self.now, &self.situation, made, &heard);
        self.drain()
    }

    /// One attempt that these nodes answer.
    fn attempt(&mut self, said: &[Introduction]) -> Vec<Effect> {
        match self.ask() {
            Ok(()) => self.answer(said),
            Err(instead) => instead,
        }
    }

    fn wait_ms(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
    }
}

fn takes_part(effects: &[Effect]) -> bool {
    effects.contains(&Effect::TakePart)
}

fn forms(effects: &[Effect]) -> bool {
    effects.contains(&Effect::Form)
}

#[test]
fn a_new_directory_waits_until_one_that_answered_must_know_an_earlier_one() {
    // Members, answers that are needed where no cluster is, and where one is.
    for (members, without, with) in [(2, 1, 1), (3, 1, 2), (4, 2, 2), (5, 2, 3), (9, 4, 5)] {
        for answers in 0..members {
            let said = |formed: bool| -> Vec<Introduction> {
                let mut said: Vec<_> = (2..2 + answers).map(new_node).collect();
                said.iter_mut().take(1).for_each(|one| one.formed = formed);
                said
            };
            for (formed, needed) in [(false, without), (true, with)] {
                let effects = Driven::new(1, 1..=members).attempt(&said(formed));
                let of = format!("{answers} answers of {members} nodes, formed: {formed}");
                assert_eq!(takes_part(&effects), answers >= needed, "{of}");
                assert_eq!(forms(&effects), answers >= needed && !formed, "{of}");
            }
        }
    }
}

#[test]
fn a_node_that_its_own_list_does_not_name_counts_itself() {
    // A node that is about to be added: with itself, four nodes.
    let mut driven = Driven::new(4, [1, 2, 3]);
    let effects = driven.attempt(&[member(1)]);
    assert_eq!(
        effects,
        [Effect::Report(Report::Waiting { missing: vec![NodeId(2), NodeId(3)], needed: 1 })]
    );
    assert_eq!(driven.attempt(&[member(1), member(2)]), [Effect::TakePart]);
    // It forms nothing, whatever it hears.
    let mut unlisted = Driven::new(4, [1, 2, 3]);
    unlisted.wait_ms(2 * FORM_PATIENCE_MS);
    assert_eq!(unlisted.attempt(&[new_node(2), new_node(3)]), [Effect::TakePart]);
}

#[test]
fn a_new_directory_says_once_which_nodes_it_waits_for() {
    let mut driven = Driven::new(1, 1..=5);
    let waiting = Report::Waiting { missing: [2, 4, 5].map(NodeId).to_vec(), needed: 2 };
    assert_eq!(driven.attempt(&[member(3)]), [Effect::Report(waiting)]);
    assert_eq!(driven.attempt(&[member(2)]), []);
}

#[test]
fn a_node_ends_if_another_directory_is_registered_under_its_id() {
    let other = knows(2, DirId(71), false, start(9, 9));
    let ended = [Effect::End(JoinError::OtherDirectory { node: NodeId(1) })];
    // One answer is enough, whatever the others say.
    assert_eq!(Driven::new(1, 1..=5).attempt(std::slice::from_ref(&other)), ended);
    let mut driven = Driven::new(1, [1, 2, 3]);
    assert_eq!(driven.attempt(&[other.clone(), member(3)]), ended);
    assert_eq!(driven.join.poll_timeout(), None);
    assert_eq!(driven.attempt(&[]), []);
    // It is found later too: the first answers came from nodes that were behind.
    let mut late = Driven::new(1, [1, 2, 3]);
    assert!(takes_part(&late.attempt(&[member(2), member(3)])));
    assert_eq!(late.attempt(&[other]), ended);
}

#[test]
fn directories_and_starts_of_other_nodes_do_not_matter() {
    let mut said = member(2);
    said.directories =
        vec![RegisteredDirectory { node: NodeId(3), dir_id: DirId(71), removed: false }];
    said.start_ids = vec![(NodeId(3), start(9, 9))];
    assert_eq!(Driven::new(1, [1, 2, 3]).attempt(&[said, member(3)]), [Effect::TakePart]);
}

#[test]
fn a_directory_whose_predecessor_was_removed_counts_on_above_all_its_starts() {
    let mut removed = knows(2, DirId(71), true, start(8, 9));
    removed.heard = vec![(NodeId(1), BootId(11)), (NodeId(3), BootId(40))];
    let mut driven = Driven::new(1, [1, 2, 3]);
    // It counts on before it takes part, and already while it waits for more answers.
    let counts_on =
        [Effect::Report(Report::CountsOn { after: BootId(11) }), Effect::CountOn(BootId(12))];
    let effects = driven.attempt(std::slice::from_ref(&removed));
    assert_eq!(effects[..2], counts_on);
    assert!(!takes_part(&effects));
    let effects = driven.attempt(&[removed.clone(), member(3)]);
    assert_eq!(effects, [Effect::CountOn(BootId(12)), Effect::TakePart]);
    // Once it takes part, other nodes know this start by its number.
    removed.heard = vec![(NodeId(1), BootId(12))];
    assert_eq!(driven.attempt(&[removed, member(3)]), []);
}

#[test]
fn a_start_that_is_above_the_earlier_ones_keeps_its_number() {
    let removed = knows(2, DirId(71), true, start(4, 9));
    let mut driven = Driven::new(1, [1, 2, 3]);
    let effects = driven.attempt(&[removed, member(3)]);
    // The effect comes all the same: the share of the open windows may be spent.
    assert_eq!(effects, [Effect::CountOn(MY_START.boot), Effect::TakePart]);
}

#[test]
fn while_a_node_is_behind_a_removal_the_new_directory_waits() {
    let behind = knows(2, DirId(71), false, start(8, 9));
    let informed = knows(3, DirId(71), true, start(8, 9));
    let mut driven = Driven::new(1, [1, 2, 3]);
    assert_eq!(driven.attempt(&[behind, informed.clone()]), []);
    let informed_too = Introduction { node: NodeId(2), ..informed.clone() };
    assert!(takes_part(&driven.attempt(&[informed_too, informed])));
}

#[test]
fn a_directory_with_a_log_needs_a_majority_of_the_voters() {
    // Voters, answers of voters other than this node, and whether they suffice.
    for (voters, answers, enough) in [
        (1, 0, true),
        (2, 0, false),
        (2, 1, true),
        (3, 0, false),
        (3, 1, true),
        (4, 1, false),
        (4, 2, true),
        (5, 1, false),
        (5, 2, true),
    ] {
        let mut driven = Driven::with_log(1..=voters);
        let said: Vec<_> = (2..2 + answers).map(member).collect();
        let effects = driven.attempt(&said);
        let of = format!("{answers} answers of {voters} voters");
        if enough {
            let done = [Effect::TakePart, Effect::AskForLease, Effect::Done];
            assert_eq!(effects, done, "{of}");
            assert_eq!(driven.join.poll_timeout(), None, "{of}");
        } else {
            let (answered, voters) = (said.len() + 1, usize::try_from(voters).unwrap());
            let waiting = Effect::Report(Report::WaitingForMajority { answered, voters });
            assert_eq!(effects, [waiting], "{of}");
            assert_eq!(driven.attempt(&said), [], "{of}");
        }
    }
}

#[test]
fn nodes_without_a_vote_are_asked_and_do_not_count() {
    let mut driven = Driven::with_log(1..=3);
    driven.situation.members.insert(NodeId(4), false);
    driven.situation.members.insert(NodeId(5), false);
    assert!(!takes_part(&driven.attempt(&[member(4), member(5)])));
    // They may know a later start.
    let later = knows(4, MY_DIRECTORY, false, start(6, 6));
    assert!(matches!(driven.attempt(&[later])[..], [Effect::End(_)]));
    // This node has no vote itself: two of the three voters must answer.
    let mut learner = Driven::with_log(2..=4);
    assert!(!takes_part(&learner.attempt(&[member(2)])));
    assert!(takes_part(&learner.attempt(&[member(2), member(3)])));
}

#[test]
fn replicated_members_count_and_configured_ones_are_asked_too() {
    // A copy from when the cluster was smaller: its log lists two, its configuration three.
    let mut driven = Driven::with_log([1, 4]);
    assert_eq!(driven.ask(), Ok(()));
    assert_eq!(driven.asked, ids([2, 3, 4]));
    assert!(!takes_part(&driven.answer(&[member(2), member(3)])));
    assert!(takes_part(&driven.attempt(&[member(4)])));
    // The list of members is not applied yet: those of the configuration count.
    let mut unapplied = Driven::with_log([]);
    assert_eq!(unapplied.ask(), Ok(()));
    assert_eq!(unapplied.asked, ids([2, 3]));
    assert!(!takes_part(&unapplied.answer(&[])));
    assert!(takes_part(&unapplied.attempt(&[member(3)])));
}

#[test]
fn the_voters_count_as_they_were_when_they_were_asked() {
    let mut driven = Driven::with_log(1..=5);
    assert_eq!(driven.ask(), Ok(()));
    driven.situation.members = [(NodeId(1), true)].into();
    assert!(!takes_part(&driven.answer(&[member(2)])));
}

#[test]
fn a_directory_that_does_not_remember_a_later_start_ends() {
    let registered = start(6, 60);
    let newest = registered.boot;
    let ended = [Effect::End(JoinError::OlderDirectory { node: NodeId(1), newest })];
    let later = knows(2, MY_DIRECTORY, false, registered);
    // One answer is enough, without a majority too.
    assert_eq!(Driven::with_log(1..=3).attempt(&[member(3), later.clone()]), ended);
    assert_eq!(Driven::with_log(1..=5).attempt(std::slice::from_ref(&later)), ended);
    // The start was made from this directory: it remembers the number and the nonce.
    let mut original = Driven::with_log(1..=3);
    original.made.push(registered);
    assert!(takes_part(&original.attempt(&[later])));
    // The number alone does not do: a copy of the directory counts to the same one.
    let copy = knows(2, MY_DIRECTORY, false, start(MY_START.boot.0, 2));
    assert!(matches!(Driven::with_log(1..=3).attempt(&[copy])[..], [Effect::End(_)]));
}

#[test]
fn starts_of_another_or_a_removed_directory_are_left_to_the_leader() {
    for (dir_id, removed) in [(DirId(71), false), (MY_DIRECTORY, true)] {
        let said = knows(2, dir_id, removed, start(9, 9));
        assert!(takes_part(&Driven::with_log(1..=3).attempt(&[said])), "{dir_id:?} {removed}");
    }
}

#[test]
fn a_copy_at_the_own_address_ends_the_node() {
    let copy = Introduction { start_id: start(5, 2), ..member(1) };
    let itself = Introduction { start_id: MY_START, ..member(1) };
    let at = |said: &Introduction| ("10.0.0.1:9000".to_owned(), said.clone());
    let look = [Effect::LookForCopy { timeout_ms: ANSWER_TIMEOUT_MS }];
    let ended = JoinError::Copy { node: NodeId(1), address: at(&copy).0 };

    let mut driven = Driven::with_log(1..=3);
    assert_eq!(driven.drain(), look);
    driven.join.handle_own_addresses(MY_START, &[at(&itself), at(&copy)]);
    assert_eq!(driven.drain(), [Effect::End(ended)]);
    assert_eq!(driven.join.poll_timeout(), None);

    // This process answers itself, and another member may have the previous address.
    let mut alone = Driven::with_log(1..=3);
    assert_eq!(alone.drain(), look);
    alone.join.handle_own_addresses(MY_START, &[at(&itself), at(&member(2))]);
    assert!(matches!(alone.drain()[..], [Effect::Introduce { .. }]));
    // Each attempt looks again.
    alone.answer(&[]);
    alone.wait_ms(RETRY_MS);
    assert_eq!(alone.drain(), look);
}

#[test]
fn the_lowest_id_forms_the_cluster() {
    let others = |me: u64| (1..=3).filter(|node| *node != me).map(new_node).collect::<Vec<_>>();
    for (me, expected) in [(1, true), (2, false), (3, false)] {
        let mut driven = Driven::new(me, 1..=3);
        let effects = driven.attempt(&others(me));
        assert_eq!(forms(&effects), expected, "node {me}");
        assert!(takes_part(&effects), "node {me}");
        // Patience does not matter for nodes that answer.
        driven.wait_ms(2 * FORM_PATIENCE_MS);
        assert_eq!(forms(&driven.attempt(&others(me))), expected, "node {me}");
    }
}

#[test]
fn a_cluster_is_formed_before_its_node_takes_part_and_again_until_it_is_formed() {
    let mut driven = Driven::new(1, 1..=3);
    let formed = [Effect::NoteClocks(None), Effect::Form];
    let effects = driven.attempt(&[new_node(2)]);
    assert_eq!(effects, [formed.clone().as_slice(), &[Effect::TakePart]].concat());
    assert_eq!(driven.attempt(&[new_node(2)]), formed);
    driven.situation.formed = true;
    assert_eq!(driven.attempt(&[]), [Effect::Done]);
}

#[test]
fn the_next_id_forms_the_cluster_if_the_lower_ones_do_not_come() {
    let mut driven = Driven::new(2, 1..=3);
    assert!(!forms(&driven.attempt(&[new_node(3)])));
    driven.wait_ms(FORM_PATIENCE_MS);
    assert!(!forms(&driven.attempt(&[new_node(3)])), "exactly then it still waits");
    assert!(forms(&driven.attempt(&[new_node(3)])));
}

#[test]
fn a_node_that_knows_no_other_listens_before_it_forms_a_cluster_alone() {
    let mut driven = Driven::new(1, [1]);
    let formed = [Effect::NoteClocks(None), Effect::Form, Effect::TakePart];
    assert_eq!(driven.attempt(&[]), []);
    driven.wait_ms(FORM_ALONE_MS);
    assert_eq!(driven.attempt(&[]), [], "exactly then it still listens");
    assert_eq!(driven.attempt(&[]), formed);
}

#[test]
fn no_cluster_is_formed_where_one_exists() {
    let mut driven = Driven::new(1, 1..=3);
    driven.wait_ms(2 * FORM_PATIENCE_MS);
    assert_eq!(driven.attempt(&[new_node(2), member(3)]), [Effect::TakePart]);
}

#[test]
fn a_node_that_formed_and_was_not_elected_counts_as_one_without_memory() {
    // Node 1 formed the cluster and says that there is none yet: one answer is enough for node 2.
    let mut driven = Driven::new(2, 1..=3);
    let effects = driven.attempt(&[new_node(1)]);
    assert!(takes_part(&effects) && !forms(&effects));
    // If it said that it belongs to a cluster, both would wait for node 3.
    assert!(!takes_part(&Driven::new(2, 1..=3).attempt(&[member(1)])));
}

#[test]
fn two_sets_of_clocks_form_no_cluster() {
    let ahead = WALL_NS + 2 * SECOND_NS;
    let said = [new_node(2), with_wall(new_node(3), ahead), with_wall(new_node(4), ahead)];
    let clock = |node: u64, wall_ns| WallClock { node: NodeId(node), wall_ns, plausible: true };
    let differ = ClocksDiffer {
        clocks: vec![clock(2, WALL_NS), clock(3, ahead), clock(4, ahead), clock(1, WALL_NS)],
    };
    let mut driven = Driven::new(1, 1..=4);
    let noted = Effect::NoteClocks(Some(differ.clone()));
    let reported = Effect::Report(Report::ClocksDiffer(differ));
    assert_eq!(driven.attempt(&said), [reported, noted.clone(), Effect::TakePart]);
    // Noted each time, reported once.
    assert_eq!(driven.attempt(&said), [noted]);
    // An operator has set one clock: three of four agree.
    let set = [new_node(2), new_node(3), with_wall(new_node(4), ahead)];
    assert_eq!(driven.attempt(&set), [Effect::NoteClocks(None), Effect::Form]);
}

#[test]
fn of_two_clocks_that_differ_the_third_decides() {
    let wrong = with_wall(new_node(2), WALL_NS + 86_400 * SECOND_NS);
    let mut driven = Driven::new(1, 1..=3);
    let effects = driven.attempt(std::slice::from_ref(&wrong));
    let [Effect::Report(Report::ClocksDiffer(differ)), Effect::NoteClocks(Some(noted)), ..] =
        effects.as_slice()
    else {
        panic!("{effects:?}")
    };
    assert_eq!(differ, noted);
    assert!(takes_part(&effects) && !forms(&effects));
    assert_eq!(driven.attempt(&[wrong, new_node(3)]), [Effect::NoteClocks(None), Effect::Form]);
}

#[test]
fn an_implausible_clock_does_not_count() {
    let mut said = new_node(2);
    said.time.plausible = false;
    let effects = Driven::new(1, 1..=3).attempt(std::slice::from_ref(&said));
    assert!(takes_part(&effects) && !forms(&effects));
    assert!(forms(&Driven::new(1, 1..=3).attempt(&[said, new_node(3)])));
}

#[test]
fn a_node_with_a_wrong_clock_forms_nothing_and_is_passed_over() {
    let wrong = WALL_NS - 86_400 * SECOND_NS;
    let report = Effect::Report(Report::WrongClocks { nodes: vec![NodeId(1)] });
    let mut first = Driven::new(1, 1..=3);
    first.situation.times = times(wrong);
    let effects = first.attempt(&[new_node(2), new_node(3)]);
    assert_eq!(effects, [Effect::NoteClocks(None), report.clone(), Effect::TakePart]);
    // The next id does not wait for it, and reports it once.
    let said = [with_wall(new_node(1), wrong), new_node(3)];
    let mut second = Driven::new(2, 1..=3);
    let effects = second.attempt(&said);
    assert_eq!(effects, [Effect::NoteClocks(None), report, Effect::Form, Effect::TakePart]);
    assert_eq!(second.attempt(&said), [Effect::NoteClocks(None), Effect::Form]);
}

#[test]
fn clocks_are_compared_as_of_one_moment() {
    // The answer came two seconds ago, and the clock went on since.
    let mut driven = Driven::new(1, 1..=2);
    let said = with_wall(new_node(2), WALL_NS - 2 * SECOND_NS);
    let at = driven.now;
    driven.wait_ms(2_000);
    assert_eq!(driven.ask(), Ok(()));
    let heard = [(NodeId(2), Heard { said, at })].into();
    driven.join.handle_introductions(driven.now, &driven.situation, |_| true, &heard);
    assert!(forms(&driven.drain()));
}

#[test]
fn a_new_directory_that_takes_part_is_done_once_consensus_is_formed() {
    let mut driven = Driven::new(2, 1..=3);
    assert!(takes_part(&driven.attempt(&[new_node(1)])));
    driven.situation.formed = true;
    assert_eq!(driven.attempt(&[]), [Effect::Done]);
    assert_eq!(driven.join.poll_timeout(), None);
}

#[test]
fn a_directory_that_gets_a_log_before_it_takes_part_is_judged_as_one_with_a_log() {
    let mut driven = Driven::new(2, 1..=3);
    assert!(!takes_part(&driven.attempt(&[])));
    driven.situation.formed = true;
    assert!(!takes_part(&driven.attempt(&[])));
    // It stays so, even if consensus cannot say any more whether it is formed.
    driven.situation.formed = false;
    assert!(takes_part(&driven.attempt(&[member(1)])));
}

#[test]
fn attempts_have_a_pause_between_them_and_late_answers_change_nothing() {
    let mut driven = Driven::new(1, 1..=3);
    driven.attempt(&[]);
    let next = driven.now.plus_ms(RETRY_MS);
    assert_eq!(driven.join.poll_timeout(), Some(next));
    assert_eq!(driven.drain(), []);
    // Answers that no question awaits.
    assert_eq!(driven.answer(&[new_node(2), new_node(3)]), []);
    driven.join.handle_own_addresses(start(9, 9), &[("here".to_owned(), member(1))]);
    assert_eq!(driven.drain(), []);
    assert_eq!(driven.join.poll_timeout(), Some(next));
    driven.now = next;
    assert!(matches!(driven.drain()[..], [Effect::Introduce { .. }]));
    assert_eq!(driven.join.poll_timeout(), None);
}

#[test]
fn absurd_answers_do_no_harm() {
    let mut removed = knows(2, DirId(71), true, start(u64::MAX, 9));
    let time = times(u64::MAX);
    removed.time = Times { synced_ns: Some(u64::MAX), carried_ns: Some(u64::MAX), ..time };
    let mut driven = Driven::new(1, 1..=3);
    driven.attempt(&[]);
    assert_eq!(driven.ask(), Ok(()));
    driven.wait_ms(1);
    let said = new_node(3);
    let heard = [(2, removed), (3, said)];
    let heard = heard.map(|(node, said)| (NodeId(node), Heard { said, at: BootNs(0) }));
    driven.join.handle_introductions(driven.now, &driven.situation, |_| true, &heard.into());
    assert!(takes_part(&driven.drain()));
}
