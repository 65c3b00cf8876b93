//! Where a change goes, and what its failed attempts permit to conclude.

use fluxgate_engine::member::{SubmitError, Submitted, Written};
use fluxgate_engine::state::command::{Command, CommandError, Outcome};
use fluxgate_types::LogIndex;

use crate::world::{ME, PEER, START, TERMS, THIRD, World, ended, forwarded, submitted};

fn written() -> Written {
    Written { outcome: Outcome::Done, applied_on: vec![PEER], waited_ms: 3 }
}

#[test]
fn a_change_goes_to_the_leader_and_its_answer_to_the_client() {
    let mut world = World::new();
    let (write, effects) = world.write(true);
    let (call, to) = forwarded(&effects).expect("forwarded");
    assert_eq!(to, PEER);
    let effects = world.act(|member, at| member.handle_forwarded(call, Ok(written()), at));
    assert_eq!(ended(&effects, write), Some(Ok(written())));
}

#[test]
fn a_change_waits_for_a_leader_and_ends_unmade_at_its_deadline() {
    let mut world = World::new();
    world.around.leader = None;
    let (write, effects) = world.write(true);
    assert_eq!(ended(&effects, write), None);
    world.pass_ms(9_000);
    assert_eq!(ended(&world.timeout(), write), None);
    world.pass_ms(1_000);
    assert_eq!(ended(&world.timeout(), write), Some(Err(SubmitError::NotLeader)));
}

#[test]
fn another_leader_gets_a_change_that_the_old_one_did_not_answer() {
    let mut world = World::new();
    let (write, effects) = world.write(true);
    let (old, _) = forwarded(&effects).expect("forwarded");
    world.around.leader = Some(THIRD);
    let mut effects = world.timeout();
    if forwarded(&effects).is_none() {
        world.pass_ms(20);
        effects = world.timeout();
    }
    let (call, to) = forwarded(&effects).expect("forwarded again");
    assert_eq!(to, THIRD);
    let late = world.act(|member, at| member.handle_forwarded(old, Ok(written()), at));
    assert_eq!(ended(&late, write), None, "the answer of an attempt that was given up");
    let effects = world.act(|member, at| member.handle_forwarded(call, Ok(written()), at));
    assert_eq!(ended(&effects, write), Some(Ok(written())));
}

#[test]
fn a_rejection_does_not_make_an_earlier_unknown_attempt_unmade() {
    let mut world = World::new();
    let (write, effects) = world.write(true);
    let (call, _) = forwarded(&effects).expect("forwarded");
    world.act(|member, at| member.handle_forwarded(call, Err(SubmitError::Unknown), at));
    world.pass_ms(20);
    let (call, _) = forwarded(&world.timeout()).expect("tried again");
    let busy = Err(SubmitError::Busy);
    let effects = world.act(|member, at| member.handle_forwarded(call, busy, at));
    assert_eq!(ended(&effects, write), Some(Err(SubmitError::Unknown)));
}

#[test]
fn a_busy_leader_ends_a_change_at_once() {
    let mut world = World::new();
    let (write, effects) = world.write(true);
    let (call, _) = forwarded(&effects).expect("forwarded");
    let busy = Err(SubmitError::Busy);
    let effects = world.act(|member, at| member.handle_forwarded(call, busy, at));
    assert_eq!(ended(&effects, write), Some(Err(SubmitError::Busy)));
}

#[test]
fn a_leader_without_room_is_waited_for_because_it_hands_over() {
    let mut world = World::new();
    let (write, effects) = world.write(true);
    let (call, _) = forwarded(&effects).expect("forwarded");
    let full = Err(SubmitError::DiskFull);
    let effects = world.act(|member, at| member.handle_forwarded(call, full, at));
    assert_eq!(ended(&effects, write), None);
    world.around.leader = None;
    world.pass_ms(10_000);
    assert_eq!(ended(&world.timeout(), write), Some(Err(SubmitError::Busy)));
}

#[test]
fn a_forwarded_change_is_not_forwarded_again() {
    let mut world = World::new();
    let (write, effects) = world.write(false);
    assert_eq!(forwarded(&effects), None);
    assert_eq!(ended(&effects, write), Some(Err(SubmitError::NotLeader)));
}

#[test]
fn a_leader_whose_clock_is_not_set_stamps_nothing() {
    let mut world = World::new();
    world.lead(1);
    let (write, effects) = world.write(false);
    assert_eq!(submitted(&effects), None);
    assert_eq!(ended(&effects, write), Some(Err(SubmitError::NotLeader)));
}

#[test]
fn a_leader_proposes_nothing_before_its_clock_is_compared() {
    let mut world = World::leading();
    world.lead(2);
    assert!(world.is_leased(), "the lease that it took as the leader of term 1");
    let (write, effects) = world.write(false);
    assert_eq!(submitted(&effects), None);
    assert_eq!(ended(&effects, write), Some(Err(SubmitError::NotLeader)));
    world.renew();
    let (_, effects) = world.write(false);
    assert!(submitted(&effects).is_some());
}

#[test]
fn a_leader_that_lost_its_majority_proposes_nothing() {
    let mut world = World::leading();
    world.pass_ms(TERMS.lease_ms);
    assert!(!world.is_leased());
    let (write, effects) = world.write(true);
    assert_eq!(submitted(&effects), None, "its outcome would be unknown");
    world.pass_ms(10_000);
    assert_eq!(ended(&world.timeout(), write), Some(Err(SubmitError::NotLeader)));
}

#[test]
fn a_leader_whose_state_differs_proposes_nothing() {
    let mut world = World::leading();
    world.around.own.differs = true;
    let (write, effects) = world.write(false);
    assert_eq!(submitted(&effects), None);
    assert_eq!(ended(&effects, write), Some(Err(SubmitError::NotLeader)));
}

#[test]
fn a_change_that_is_still_being_made_at_its_deadline_is_unknown() {
    let mut world = World::leading();
    let (write, effects) = world.write(true);
    assert!(submitted(&effects).is_some());
    world.pass_ms(10_000);
    assert_eq!(ended(&world.timeout(), write), Some(Err(SubmitError::Unknown)));
}

#[test]
fn a_change_whose_client_has_gone_is_not_tried_again() {
    let mut world = World::new();
    world.around.leader = None;
    let (write, _) = world.write(true);
    world.member.forget_write(write);
    world.around.leader = Some(PEER);
    world.pass_ms(20);
    assert_eq!(forwarded(&world.timeout()), None);
}

#[test]
fn a_change_that_was_rejected_needs_no_barrier() {
    let mut world = World::leading();
    let (write, effects) = world.write(true);
    let call = submitted(&effects).expect("submitted");
    world.around.applied += 1;
    let outcome = Outcome::Refused(CommandError::NotFound);
    let refused = Submitted { term: 1, index: LogIndex(world.around.applied), outcome };
    let effects = world.act(|member, at| member.handle_submitted(call, Ok(refused), at));
    let answer = ended(&effects, write).expect("an answer").expect("no error");
    assert!(matches!(answer.outcome, Outcome::Refused(_)), "no node can miss anything: {answer:?}");
}

/// A member that cannot read an entry of the log stops at it.
#[test]
fn a_leader_proposes_nothing_that_a_member_could_not_read() {
    let erase = || Command::EraseKeys { ids: Vec::new(), ended_before: None };
    let mut world = World::leading_at(2);
    let (write, effects) = world.write_command(erase(), true);
    assert_eq!(submitted(&effects), None);
    let refused = ended(&effects, write).expect("an answer at once").map(|done| done.outcome);
    assert!(matches!(refused, Ok(Outcome::Refused(CommandError::Invalid(_)))), "{refused:?}");
    // A leader of an older version may have proposed it.
    let mut world = World::at_level(2);
    let (write, effects) = world.write_command(erase(), true);
    let (call, _) = forwarded(&effects).expect("forwarded");
    world.act(|member, at| member.handle_forwarded(call, Err(SubmitError::Unknown), at));
    world.register(ME, START);
    world.lead(1);
    world.renew();
    world.pass_ms(20);
    assert_eq!(ended(&world.timeout(), write), Some(Err(SubmitError::Unknown)));
    let mut world = World::leading();
    let (write, effects) = world.write_command(erase(), true);
    assert!(submitted(&effects).is_some() && ended(&effects, write).is_none());
}
