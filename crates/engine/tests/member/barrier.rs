//! A committed write is acknowledged once no node can answer without it.

use fluxgate_engine::member::{Effect, LeaseAnswer, SeenLeadership};
use fluxgate_engine::state::cluster_state::StartId;
use fluxgate_types::{BootId, BootNs, LogIndex, NodeId};

use crate::world::{
    ME, PEER, START, TERMS, THIRD, World, answered, committed, ended, proving, submitted,
};

const PEERS: StartId = StartId { boot: BootId(1), nonce: 5 };

/// A leader that knows the standing of both peers: the first has a lease, the other has none.
fn leading_with_lease_of_peer() -> World {
    let mut world = World::leading();
    world.register(PEER, PEERS);
    // Leases of leaders before it have run out.
    world.pass_ms(2 * TERMS.lease_ms);
    world.renew();
    grant_to_peer(&mut world, 7_000);
    world
}

fn grant_to_peer(world: &mut World, number: u64) {
    let proof = proving(&world.lease_request(PEER, PEERS, number)).expect("a proof");
    let read = Some(LogIndex(world.around.applied));
    let effects = world.act(|member, at| member.handle_proof(proof, read, at));
    assert!(matches!(answered(&effects, number), Some(LeaseAnswer::Granted(_))));
}

/// A write is committed and applied here: its number, and what follows.
fn commit(world: &mut World, term: u64) -> (u64, Vec<Effect>) {
    let (write, effects) = world.write(true);
    let call = submitted(&effects).expect("submitted");
    world.around.applied += 1;
    let done = committed(term, world.around.applied);
    (write, world.act(|member, at| member.handle_submitted(call, done, at)))
}

fn asked(effects: &[Effect]) -> Vec<NodeId> {
    let asked = |effect: &Effect| {
        if let Effect::AskApplied { peer, .. } = effect { Some(*peer) } else { None }
    };
    effects.iter().filter_map(asked).collect()
}

#[test]
fn a_write_waits_for_the_node_that_holds_a_lease() {
    let mut world = leading_with_lease_of_peer();
    let (write, effects) = commit(&mut world, 1);
    assert_eq!(ended(&effects, write), None);
    assert_eq!(asked(&effects), [PEER]);
    let applied = Some(LogIndex(world.around.applied));
    let effects = world.act(|member, at| member.handle_applied_answer(PEER, applied, at));
    let answer = ended(&effects, write).expect("an answer").expect("no error");
    assert!(answer.applied_on.contains(&PEER) && answer.applied_on.contains(&ME), "{answer:?}");
    assert!(!answer.applied_on.contains(&THIRD));
}

#[test]
fn a_peer_that_has_not_applied_it_holds_it_up() {
    let mut world = leading_with_lease_of_peer();
    let (write, _) = commit(&mut world, 1);
    let before = Some(LogIndex(world.around.applied - 1));
    let effects = world.act(|member, at| member.handle_applied_answer(PEER, before, at));
    assert_eq!(ended(&effects, write), None);
    assert_eq!(asked(&effects), [PEER], "it is asked again");
}

#[test]
fn a_silent_peer_holds_it_up_until_its_lease_has_run_out() {
    let mut world = leading_with_lease_of_peer();
    let (write, _) = commit(&mut world, 1);
    world.act(|member, at| member.handle_applied_answer(PEER, None, at));
    world.pass_ms(TERMS.holder_ms());
    assert_eq!(ended(&world.timeout(), write), None, "its clock may be slower");
    world.pass_ms(TERMS.granter_ms() - TERMS.holder_ms() + 1);
    let answer = ended(&world.timeout(), write).expect("an answer").expect("no error");
    assert!(answer.waited_ms >= TERMS.granter_ms(), "{answer:?}");
    assert!(!answer.applied_on.contains(&PEER));
}

#[test]
fn a_request_that_shows_the_entry_applied_lets_the_write_pass() {
    let mut world = leading_with_lease_of_peer();
    let (write, _) = commit(&mut world, 1);
    let proof = proving(&world.lease_request(PEER, PEERS, 7_001)).expect("a proof");
    let read = Some(LogIndex(world.around.applied));
    let effects = world.act(|member, at| member.handle_proof(proof, read, at));
    assert!(ended(&effects, write).is_some());
}

#[test]
fn a_grant_after_the_commit_does_not_hold_the_write_up() {
    let mut world = World::leading();
    world.register(PEER, PEERS);
    world.pass_ms(2 * TERMS.lease_ms);
    world.renew();
    let (write, effects) = commit(&mut world, 1);
    assert!(ended(&effects, write).is_some(), "no node holds a lease");
}

#[test]
fn a_new_leader_waits_for_every_lease_that_an_earlier_one_may_have_granted() {
    let mut world = World::leading();
    let (write, effects) = commit(&mut world, 1);
    assert_eq!(ended(&effects, write), None);
    let mut waiting = asked(&effects);
    waiting.sort();
    assert_eq!(waiting, [PEER, THIRD]);
}

#[test]
fn an_older_term_of_this_node_does_not_judge_a_write_of_a_newer_one() {
    let mut world = leading_with_lease_of_peer();
    // Committed in term 3, in which this node has not taken the leadership over.
    let (write, _) = commit(&mut world, 3);
    world.around.leads_in = None;
    let applied = Some(LogIndex(world.around.applied));
    let effects = world.act(|member, at| member.handle_applied_answer(PEER, applied, at));
    assert_eq!(ended(&effects, write), None, "others may have granted in between");
    world.pass_ms(TERMS.lease_ms + 1);
    let answer = ended(&world.timeout(), write).expect("an answer").expect("no error");
    assert_eq!(answer.applied_on, [ME]);
}

/// This node has just been elected after node 2, which led for long, and asks for the clocks. Its own
/// last contact with node 2 was 900 ms ago.
fn elected_after_peer() -> World {
    let mut world = World::new();
    world.register(ME, START);
    let since = BootNs(0).plus_ms(world.boot_ms);
    world.around.leaderships.0 = Some(SeenLeadership { term: 1, node: PEER, since });
    world.pass_ms(2 * TERMS.lease_ms);
    world.lead(2);
    world.around.contact = Some(BootNs(0).plus_ms(world.boot_ms - 900));
    world
}

/// How long a write of the new leader waits, milliseconds, if the third node says that its last
/// contact with an earlier leader was so long ago. It has applied the entry.
fn waits_after_peer(world: &mut World, contact_ago_ms: Option<u64>) -> u64 {
    world.contact_of_third_ns = contact_ago_ms.map(|ms| ms * 1_000_000);
    world.renew();
    let (write, effects) = commit(world, 2);
    assert_eq!(ended(&effects, write), None);
    let applied = Some(LogIndex(world.around.applied));
    let mut effects = world.act(|member, at| member.handle_applied_answer(THIRD, applied, at));
    for waited_ms in 0.. {
        if let Some(answer) = ended(&effects, write) {
            assert!(!answer.expect("no error").applied_on.contains(&PEER));
            return waited_ms;
        }
        world.pass_ms(1);
        effects = world.timeout();
        assert!(waited_ms < 2 * TERMS.lease_ms);
    }
    unreachable!()
}

#[test]
fn a_new_leader_counts_the_old_ones_lease_from_the_last_contact_of_a_majority() {
    let own_ms = TERMS.own_granter_ms();
    let waits = |ago_ms| waits_after_peer(&mut elected_after_peer(), ago_ms) / 10;
    assert_eq!(waits(Some(700)), (own_ms - 700) / 10);
    assert_eq!(waits(Some(1_000)), (own_ms - 900) / 10, "its own contact was later");
    assert_eq!(waits(None), own_ms / 10, "the third node does not know");
    // Two nodes of each half are needed, and of the second only this one is known.
    let mut joint = elected_after_peer();
    joint.around.electorate.push(vec![ME, NodeId(4), NodeId(5)]);
    assert_eq!(waits_after_peer(&mut joint, Some(700)) / 10, own_ms / 10);
    let mut changed = elected_after_peer();
    changed.around.electorate.clear();
    assert_eq!(waits_after_peer(&mut changed, Some(700)) / 10, own_ms / 10);
}
