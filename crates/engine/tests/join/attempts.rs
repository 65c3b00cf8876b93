//! Attempts that are repeated, and answers that come late or make no sense.

use fluxgate_engine::join::{Effect, Heard, RETRY_MS, Times};
use fluxgate_types::{BootNs, DirId, NodeId};

use crate::driven::{Driven, knows, member, new_node, start, takes_part, times};

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
