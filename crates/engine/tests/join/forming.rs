//! Which node forms the cluster, and by whose clocks.

use fluxgate_engine::clock::sync::{ClocksDiffer, WallClock};
use fluxgate_engine::join::{Effect, FORM_ALONE_MS, FORM_PATIENCE_MS, Heard, Report};
use fluxgate_types::NodeId;

use crate::driven::{
    Driven, SECOND_NS, WALL_NS, forms, member, new_node, takes_part, times, with_wall,
};

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
    // The answer came two seconds ago, and the clock has advanced since.
    let mut driven = Driven::new(1, 1..=2);
    let said = with_wall(new_node(2), WALL_NS - 2 * SECOND_NS);
    let at = driven.now;
    driven.wait_ms(2_000);
    assert_eq!(driven.ask(), Ok(()));
    let heard = [(NodeId(2), Heard { said, at })].into();
    driven.join.handle_introductions(driven.now, &driven.situation, |_| true, &heard);
    assert!(forms(&driven.drain()));
}
