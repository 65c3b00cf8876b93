//! What a leader must know before it grants a lease.

use fluxgate_engine::clock::sync::ClockAnswer;
use fluxgate_engine::lease::LeaseRefusal;
use fluxgate_engine::member::{ClocksHeard, Effect, LeaseAnswer, NotRenewed, SubmitError};
use fluxgate_engine::state::cluster_state::StartId;
use fluxgate_engine::state::command::Command;
use fluxgate_types::{BootId, LogIndex, NodeId};

use crate::world::{ME, PEER, START, THIRD, World, answered, committed, proving};

const PEERS: StartId = StartId { boot: BootId(1), nonce: 5 };
/// The number of a request of the peer.
const ASKED: u64 = 7_000;

fn leading_with_peer() -> World {
    let mut world = World::leading();
    world.register(PEER, PEERS);
    world
}

/// The call that asks others for their clocks, and how many answers suffice.
fn asks_clocks(effects: &[Effect]) -> Option<(u64, Option<usize>)> {
    effects.iter().find_map(|effect| {
        if let Effect::AskClocks { call, enough, .. } = effect {
            Some((*call, *enough))
        } else {
            None
        }
    })
}

/// These nodes say of their clocks what `say` makes of what this one says of its own.
fn heard(world: &mut World, nodes: &[NodeId], say: impl Fn(&mut ClockAnswer)) -> ClocksHeard {
    let ((own, now), _) = world.step(|member, step| (member.own_clocks(step), step.now()));
    let mut heard = ClocksHeard::default();
    for node in nodes {
        let mut answer = ClockAnswer { node: *node, ..own };
        say(&mut answer);
        heard.add(answer, None, now);
    }
    heard
}

/// Both other nodes say what this one says of its clock.
fn same_clocks(world: &mut World) -> ClocksHeard {
    heard(world, &[PEER, THIRD], |_| {})
}

#[test]
fn a_node_that_does_not_lead_grants_nothing() {
    let mut world = World::new();
    let effects = world.lease_request(PEER, PEERS, ASKED);
    assert_eq!(answered(&effects, ASKED), Some(LeaseAnswer::NotLeader));
}

#[test]
fn a_leader_whose_clock_no_leader_has_set_asks_the_others_first() {
    let mut world = World::new();
    world.register(ME, START);
    world.register(PEER, PEERS);
    world.lead(1);
    let effects = world.lease_request(PEER, PEERS, ASKED);
    assert_eq!(answered(&effects, ASKED), Some(LeaseAnswer::NotLeader));
    assert_eq!(world.member.led_in(), None);
    let effects = world.timeout();
    let effects = match effects[..] {
        [Effect::SaveStart { start, registered }] => {
            world.act(|member, at| member.handle_start_saved(start, registered, true, at))
        }
        _ => effects,
    };
    let (call, enough) = asks_clocks(&effects).expect("a question");
    assert_eq!(enough, None, "two clocks alone do not show which is wrong");
    let none = ClocksHeard::default();
    let effects = world.act(|member, at| member.handle_clocks(call, &none, at));
    assert!(
        effects.iter().any(|e| matches!(e, Effect::Renewed(Err(NotRenewed::NoQuorumOfClocks)))),
        "one clock of three is no quorum: {effects:?}"
    );
}

#[test]
fn a_leader_whose_machine_stood_still_takes_the_time_of_a_majority_before_it_grants() {
    let mut world = leading_with_peer();
    let clock_ns = |world: &mut World| world.step(|m, step| m.clock().now_ns(step.now())).0;
    // Others led while its clocks stood still, and it is elected again.
    let others_ns = clock_ns(&mut world) + 90_000_000_000;
    world.lead(2);
    let effects = world.timeout();
    assert_eq!(
        answered(&world.lease_request(PEER, PEERS, ASKED), ASKED),
        Some(LeaseAnswer::NotLeader)
    );
    let (call, enough) = asks_clocks(&effects).expect("a question");
    assert_eq!(enough, Some(1), "its own clock and another one are a majority of three");
    let heard = heard(&mut world, &[PEER], |answer| answer.synced_ns = Some(others_ns));
    let effects = world.act(|member, at| member.handle_clocks(call, &heard, at));
    assert!(clock_ns(&mut world) >= others_ns);
    assert!(
        effects.iter().any(|effect| matches!(effect, Effect::LeaseDropped(_))),
        "its lease is older than it believes: {effects:?}"
    );
    let effects = world.lease_request(PEER, PEERS, ASKED);
    let proof = proving(&effects).expect("a proof");
    let read = Some(LogIndex(world.around.applied));
    let effects = world.act(|member, at| member.handle_proof(proof, read, at));
    let Some(LeaseAnswer::Granted(grant)) = answered(&effects, ASKED) else { panic!("a grant") };
    assert!(grant.cluster_ns >= others_ns);
}

#[test]
fn clocks_that_were_asked_for_in_an_earlier_term_do_not_count() {
    let mut world = leading_with_peer();
    world.lead(2);
    let (earlier, _) = asks_clocks(&world.timeout()).expect("a question");
    world.lead(3);
    let heard = same_clocks(&mut world);
    world.act(|member, at| member.handle_clocks(earlier, &heard, at));
    assert_eq!(world.member.led_in(), Some(1));
    let (call, _) = asks_clocks(&world.timeout()).expect("asked again at once");
    world.act(|member, at| member.handle_clocks(call, &heard, at));
    assert_eq!(world.member.led_in(), Some(3));
}

#[test]
fn clocks_that_are_taken_too_late_do_not_count() {
    let mut world = leading_with_peer();
    world.lead(2);
    let (call, _) = asks_clocks(&world.timeout()).expect("a question");
    let heard = same_clocks(&mut world);
    world.pass_ms(60_000);
    world.act(|member, at| member.handle_clocks(call, &heard, at));
    assert_eq!(world.member.led_in(), Some(1), "the process was paused, and the answers waited");
}

#[test]
fn only_clocks_that_a_leader_has_set_suffice() {
    let mut world = leading_with_peer();
    let synced = same_clocks(&mut world);
    assert!(synced.suffice(Some(1)));
    assert!(!synced.suffice(None), "all are asked");
    let unset = heard(&mut world, &[PEER, THIRD], |answer| answer.synced_ns = None);
    assert!(!unset.suffice(Some(1)));
}

#[test]
fn a_leader_proves_that_it_leads_before_each_grant() {
    let mut world = leading_with_peer();
    let effects = world.lease_request(PEER, PEERS, ASKED);
    assert_eq!(answered(&effects, ASKED), None);
    let proof = proving(&effects).expect("a proof");
    let effects = world.act(|member, at| member.handle_proof(proof, None, at));
    assert_eq!(answered(&effects, ASKED), Some(LeaseAnswer::NotLeader));
}

#[test]
fn a_grant_waits_until_everything_committed_before_the_proof_is_applied() {
    let mut world = leading_with_peer();
    let applied = world.around.applied;
    let proof = proving(&world.lease_request(PEER, PEERS, ASKED)).expect("a proof");
    let read = Some(LogIndex(applied + 2));
    let effects = world.act(|member, at| member.handle_proof(proof, read, at));
    assert_eq!(answered(&effects, ASKED), None);
    world.around.applied = applied + 2;
    let Some(LeaseAnswer::Granted(grant)) = answered(&world.timeout(), ASKED) else {
        panic!("a grant")
    };
    assert_eq!(grant.index, LogIndex(applied + 2));
}

#[test]
fn a_grant_states_cluster_time_from_before_the_proof() {
    let mut world = leading_with_peer();
    let before_ns = world.step(|member, step| member.clock().now_ns(step.now())).0;
    let proof = proving(&world.lease_request(PEER, PEERS, ASKED)).expect("a proof");
    world.pass_ms(200);
    let read = Some(LogIndex(world.around.applied));
    let effects = world.act(|member, at| member.handle_proof(proof, read, at));
    let Some(LeaseAnswer::Granted(grant)) = answered(&effects, ASKED) else { panic!("a grant") };
    assert_eq!(grant.cluster_ns, before_ns);
}

#[test]
fn a_proof_of_an_earlier_term_grants_nothing() {
    let mut world = leading_with_peer();
    let proof = proving(&world.lease_request(PEER, PEERS, ASKED)).expect("a proof");
    // Deposed and elected again while the quorum was asked.
    world.lead(3);
    world.timeout();
    let read = Some(LogIndex(world.around.applied));
    let effects = world.act(|member, at| member.handle_proof(proof, read, at));
    assert_eq!(answered(&effects, ASKED), Some(LeaseAnswer::NotLeader));
}

#[test]
fn a_new_start_is_registered_before_anything_is_proven() {
    let mut world = leading_with_peer();
    let next = StartId { boot: BootId(2), nonce: 6 };
    let effects = world.lease_request(PEER, next, ASKED);
    assert_eq!(proving(&effects), None);
    let Some((call, Command::RegisterStart { start_id, .. })) = effects.iter().find_map(|effect| {
        if let Effect::Propose { call, command } = effect {
            Some((*call, (**command).clone()))
        } else {
            None
        }
    }) else {
        panic!("{effects:?}")
    };
    assert_eq!(start_id, next);
    world.register(PEER, next);
    let done = committed(1, world.around.applied);
    let effects = world.act(|member, at| member.handle_proposed(call, &done, at));
    assert!(proving(&effects).is_some());
}

#[test]
fn a_node_that_is_no_member_gets_no_lease_and_is_not_registered() {
    let mut world = leading_with_peer();
    let stranger = NodeId(4);
    let effects = world.lease_request(stranger, StartId { boot: BootId(1), nonce: 9 }, ASKED);
    let answer = answered(&effects, ASKED);
    assert!(matches!(answer, Some(LeaseAnswer::Refused(LeaseRefusal::Other(_)))), "{answer:?}");
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Propose { .. })), "{effects:?}");
}

#[test]
fn a_start_that_could_not_be_registered_gets_no_lease() {
    let mut world = leading_with_peer();
    let next = StartId { boot: BootId(2), nonce: 6 };
    let effects = world.lease_request(PEER, next, ASKED);
    let call = crate::world::call_of(&effects, |effect| {
        if let Effect::Propose { call, .. } = effect { Some(*call) } else { None }
    });
    let failed = Err(SubmitError::Unknown);
    let effects = world.act(|member, at| member.handle_proposed(call, &failed, at));
    assert_eq!(answered(&effects, ASKED), Some(LeaseAnswer::NotLeader));
}

#[test]
fn an_earlier_start_of_a_node_is_rejected() {
    let mut world = leading_with_peer();
    world.register(PEER, StartId { boot: BootId(2), nonce: 6 });
    let effects = world.lease_request(PEER, PEERS, ASKED);
    let answer = answered(&effects, ASKED);
    assert!(matches!(answer, Some(LeaseAnswer::Refused(LeaseRefusal::Older { .. }))), "{answer:?}");
}

#[test]
fn a_leader_whose_state_differs_refuses() {
    let mut world = leading_with_peer();
    world.around.own.differs = true;
    let effects = world.lease_request(PEER, PEERS, ASKED);
    assert_eq!(answered(&effects, ASKED), Some(LeaseAnswer::Refused(LeaseRefusal::Differs)));
}

#[test]
fn the_newest_request_of_a_node_replaces_its_earlier_one() {
    let mut world = leading_with_peer();
    let first = proving(&world.lease_request(PEER, PEERS, ASKED)).expect("a proof");
    let effects = world.lease_request(PEER, PEERS, ASKED + 1);
    assert_eq!(answered(&effects, ASKED), Some(LeaseAnswer::NotLeader));
    let read = Some(LogIndex(world.around.applied));
    let effects = world.act(|member, at| member.handle_proof(first, read, at));
    assert!(effects.is_empty(), "{effects:?}");
}
