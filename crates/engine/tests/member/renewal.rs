//! When the member asks for its lease, and what an answer permits.

use fluxgate_engine::lease::LeaseRefusal;
use fluxgate_engine::member::{ClockJump, Effect, LeaseAnswer, NotRenewed};
use fluxgate_types::{BootId, BootNs};

use crate::world::{ME, PEER, START, TERMS, THIRD, World, grant, requested};

fn not_renewed(effects: &[Effect]) -> Option<&NotRenewed> {
    effects
        .iter()
        .find_map(|effect| if let Effect::Renewed(Err(why)) = effect { Some(why) } else { None })
}

#[test]
fn nothing_is_requested_before_the_directory_has_joined() {
    let mut world = World::new();
    world.around.own.has_joined = false;
    let effects = world.timeout();
    assert_eq!(not_renewed(&effects), Some(&NotRenewed::NotJoined));
    assert_eq!(requested(&effects), None);
}

#[test]
fn a_node_that_lacks_entries_and_cannot_store_them_requests_nothing() {
    let mut world = World::new();
    world.around.own.lacks_entries = true;
    let effects = world.timeout();
    assert_eq!(not_renewed(&effects), Some(&NotRenewed::LacksEntries));
    assert_eq!(requested(&effects), None);
}

#[test]
fn the_start_is_on_the_disk_before_the_first_request_leaves() {
    let mut world = World::new();
    let effects = world.timeout();
    assert!(matches!(effects[..], [Effect::SaveStart { start: START, registered: false }]));
    let effects = world.act(|member, at| member.handle_start_saved(START, false, false, at));
    assert_eq!(not_renewed(&effects), Some(&NotRenewed::StartNotSaved));
    assert_eq!(requested(&effects), None, "the disk did not take it");
    world.pass_ms(50);
    assert_eq!(world.request().1, PEER);
}

#[test]
fn a_lease_counts_from_before_its_request_was_sent() {
    let mut world = World::new();
    let (call, _) = world.request();
    let sent = BootNs(0).plus_ms(world.boot_ms);
    world.pass_ms(400);
    world.act(|member, at| member.handle_lease_answer(call, grant(0, 10_200), at));
    assert_eq!(world.member.holder().until(), sent.plus_ms(TERMS.holder_ms()));
}

#[test]
fn a_grant_waits_until_its_entry_is_applied() {
    let mut world = World::new();
    let (call, _) = world.request();
    world.act(|member, at| member.handle_lease_answer(call, grant(5, 10_000), at));
    assert!(!world.is_leased());
    world.around.applied = 5;
    world.timeout();
    assert!(world.is_leased());
}

#[test]
fn an_answer_across_a_jump_of_the_wall_clock_grants_nothing() {
    let mut world = World::new();
    let (call, _) = world.request();
    world.pass_ms(10);
    world.wall_ms += 60_000;
    let effects = world.act(|member, at| member.handle_lease_answer(call, grant(0, 10_000), at));
    assert_eq!(not_renewed(&effects), Some(&NotRenewed::ClockJumped));
    assert!(matches!(effects[0], Effect::LeaseDropped(ClockJump::Wall(_))));
    assert!(!world.is_leased());
}

#[test]
fn a_jump_of_the_wall_clock_ends_the_lease() {
    let mut world = World::new();
    let (call, _) = world.request();
    world.act(|member, at| member.handle_lease_answer(call, grant(0, 10_000), at));
    assert!(world.is_leased());
    world.wall_ms += 60_000;
    world.pass_ms(TERMS.renew_ms());
    world.timeout();
    assert!(!world.is_leased());
}

#[test]
fn another_leader_is_asked_at_once_and_the_late_answer_of_the_old_one_is_void() {
    let mut world = World::new();
    let (old, _) = world.request();
    world.around.leader = Some(THIRD);
    let (_, to) = requested(&world.timeout()).expect("a request");
    assert_eq!(to, THIRD);
    let effects = world.act(|member, at| member.handle_lease_answer(old, grant(0, 10_000), at));
    assert!(effects.is_empty());
    assert!(!world.is_leased());
}

#[test]
fn a_request_is_repeated_only_after_its_answer_and_a_pause() {
    let mut world = World::new();
    let (call, _) = world.request();
    world.pass_ms(300);
    assert_eq!(requested(&world.timeout()), None, "no answer yet");
    world.act(|member, at| member.handle_lease_answer(call, LeaseAnswer::NotLeader, at));
    assert_eq!(requested(&world.timeout()), None, "a pause");
    world.pass_ms(50);
    assert!(requested(&world.timeout()).is_some());
}

#[test]
fn a_higher_level_makes_the_member_ask_at_once() {
    let mut world = World::at_level(1);
    let (call, _) = world.request();
    world.act(|member, at| member.handle_lease_answer(call, grant(0, 10_000), at));
    assert_eq!(requested(&world.timeout()), None);
    world.apply(fluxgate_engine::state::command::Command::SetLevel { level: 2 });
    assert!(requested(&world.timeout()).is_some(), "its start must be registered by the new rules");
}

#[test]
fn an_answer_under_a_lower_level_is_followed_by_another_request() {
    let mut world = World::at_level(1);
    let (call, _) = world.request();
    world.apply(fluxgate_engine::state::command::Command::SetLevel { level: 2 });
    world.act(|member, at| member.handle_lease_answer(call, grant(0, 10_000), at));
    assert!(requested(&world.timeout()).is_some());
}

#[test]
fn a_directory_that_the_leader_knows_to_be_older_ends() {
    let mut world = World::new();
    let (call, _) = world.request();
    let refusal = LeaseRefusal::OtherDirectory(ME);
    let answer = LeaseAnswer::Refused(refusal.clone());
    let effects = world.act(|member, at| member.handle_lease_answer(call, answer, at));
    assert!(effects.iter().any(|e| matches!(e, Effect::End(why) if *why == refusal)));
    assert_eq!(world.member.lease_refusal(), Some(&refusal));
}

#[test]
fn a_new_directory_counts_on_behind_the_starts_of_the_earlier_one() {
    let mut world = World::new();
    let (call, _) = world.request();
    let answer = LeaseAnswer::Refused(LeaseRefusal::CountOn { node: ME, newest: BootId(4) });
    let effects = world.act(|member, at| member.handle_lease_answer(call, answer, at));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::CountOn(BootId(5)))));
    world.member.handle_counted_on(BootId(5));
    assert_eq!(world.member.incarnation().entitlement, None, "the earlier one may have spent");
    // The new number is a start of its own: it is saved before it is sent.
    world.pass_ms(50);
    let effects = world.timeout();
    assert!(effects.iter().any(|effect| matches!(
        effect,
        Effect::SaveStart { start, registered: false } if start.boot == BootId(5)
    )));
}
