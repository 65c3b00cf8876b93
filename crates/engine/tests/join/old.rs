//! A directory with a log.

use fluxgate_engine::join::{ANSWER_TIMEOUT_MS, Effect, Introduction, JoinError, RETRY_MS, Report};
use fluxgate_types::{DirId, NodeId};

use crate::driven::{Driven, MY_DIRECTORY, MY_START, ids, knows, member, start, takes_part};

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
    // One node that knows a later start ends this one, also if no majority has answered.
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
