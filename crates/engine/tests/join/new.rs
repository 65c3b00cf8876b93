//! A directory without a log.

use fluxgate_engine::join::{
    Effect, FORM_PATIENCE_MS, Introduction, JoinError, RegisteredDirectory, Report,
};
use fluxgate_types::{BootId, DirId, NodeId};

use crate::driven::{Driven, MY_START, forms, knows, member, new_node, start, takes_part};

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
    // A node that its own configuration does not list never forms the cluster.
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
    // The effect comes nevertheless: the share of the open windows may be spent.
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
