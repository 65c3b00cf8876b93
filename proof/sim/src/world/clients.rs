//! Clients: the traffic of keys in every shape, and administrators that change them.

use std::collections::BTreeMap;

use fluxgate_engine::member::{SubmitError, Written};
use fluxgate_engine::state::command::{Actor, Command, KeyChange, NewKey, Outcome, Proposal};
use fluxgate_engine::state::governing::DEFAULT_PLAN;
use fluxgate_engine::state::named::{Definition, NamedKind};
use fluxgate_engine::state::terms::Terms;
use fluxgate_types::{Digest, KeyId, Limit, NodeId, Scope};

use super::{Event, World};
use crate::book::LimitsSet;
use crate::invariants::Violation;
use crate::messages::Request;
use fluxgate_plan::Rng;
use fluxgate_plan::{MS, Plan, SECOND, Shape, Us, limit_name};

/// Limits that were replaced are remembered for this long, and for three periods of the longest.
const LIMITS_KEPT: Us = 60 * SECOND;

/// The pool of all keys.
const POOL: &str = "all";

/// A change that an administrator asked for.
#[derive(Clone, Debug)]
enum Asked {
    Create(KeyId, usize),
    End(KeyId),
    Limits(KeyId, Vec<Limit>),
    /// A step towards a pool that all keys are charged to.
    Pool,
}

/// The stream of requests of one key.
#[derive(Clone, Copy, Debug)]
struct Stream {
    key: Option<KeyId>,
    shape: Shape,
    home: NodeId,
}

/// All clients.
#[derive(Debug)]
pub(super) struct Clients {
    streams: Vec<Stream>,
    asked: BTreeMap<u64, (Asked, Us)>,
    made: u64,
    /// What is still to be made of the pool of all keys, in this order.
    pool: Vec<NamedKind>,
}

impl Clients {
    pub(super) fn new(plan: &Plan, rng: &mut Rng) -> Self {
        let stream = |rng: &mut Rng| Stream {
            key: None,
            shape: rng.pick(&[Shape::Even, Shape::Sticky, Shape::Skewed, Shape::Burst]),
            home: NodeId(rng.between(1, plan.nodes)),
        };
        let streams = (0..plan.keys).map(|_| stream(rng)).collect();
        let pool = if plan.pooled { vec![NamedKind::Plan, NamedKind::Pool] } else { Vec::new() };
        Self { streams, asked: BTreeMap::new(), made: 0, pool }
    }
}

impl World {
    fn key_id(&mut self) -> KeyId {
        self.clients.made += 1;
        let mut chars = *b"sim000000000";
        let mut n = self.clients.made;
        for place in (3..12).rev() {
            chars[place] = b'0' + u8::try_from(n % 10).unwrap_or(0);
            n /= 10;
        }
        // The head differs from seed to seed, so that ranks and shares do.
        for (place, shift) in [(0, 0), (1, 8), (2, 16)] {
            chars[place] = b'a' + u8::try_from((self.plan.seed >> shift) % 26).unwrap_or(0);
        }
        KeyId::new(chars).unwrap_or_else(|_| unreachable!("letters and digits make an id"))
    }

    fn ask(&mut self, asked: Asked, command: Command) -> Result<(), Violation> {
        let node = NodeId(self.rng.between(1, self.plan.nodes));
        self.next += 1;
        let id = self.next;
        let request = u128::from(self.rng.draw()) << 64 | u128::from(self.rng.draw());
        let proposal =
            Proposal { request, actor: Actor::Operator, presented: None, from: None, command };
        let slot = self.slot(node);
        if slot.node.is_none() || slot.paused_until > 0 && slot.paused_until > self.now {
            self.book.counts.writes.1 += 1;
            return Ok(());
        }
        let now = self.now;
        match &asked {
            Asked::Create(key, _) => {
                let named = self.plan.limits.iter().enumerate();
                let tokens = named.map(|(n, (tokens, _))| (limit_name(n), *tokens)).collect();
                let set = LimitsSet { asked: 0, answered: Some(0), tokens };
                self.book.keys.entry(*key).or_default().limits.push(set);
            }
            Asked::End(key) => {
                self.book.keys.entry(*key).or_default().ending.get_or_insert(now);
            }
            Asked::Pool => {}
            Asked::Limits(key, limits) => {
                let longest = self.plan.limits.iter().map(|(_, ms)| ms * MS).max().unwrap_or(0);
                let tokens = limits.iter().map(|limit| (limit.name.clone(), limit.tokens));
                let set = LimitsSet { asked: now, answered: None, tokens: tokens.collect() };
                // A window is judged by the limits since its begin, however late that is.
                let windows = self.book.windows_of(*key);
                let begun = windows.map(|(_, w)| w.taken.min(w.seen.0).saturating_sub(longest));
                let kept = now.saturating_sub(3 * longest + LIMITS_KEPT);
                let kept = begun.min().unwrap_or(kept).min(kept);
                let facts = self.book.keys.entry(*key).or_default();
                facts.forget_limits_before(kept);
                facts.limits.push(set);
                (facts.limits_asked, facts.limits_answered) = (Some(now), None);
                facts.limits_open += 1;
            }
        }
        self.say(|| format!("administrator asks node {node}: {asked:?}"));
        self.clients.asked.insert(id, (asked, now));
        self.step(node, |node, step| node.write(id, proposal, step))
    }

    /// An administrator does the next thing.
    pub(super) fn next_write(&mut self) -> Result<(), Violation> {
        let calm = !self.faulty;
        let gap = self.rng.span(self.plan.writes);
        let free = self.clients.streams.iter().position(|stream| stream.key.is_none());
        let after = if free.is_some() { gap.min(2 * SECOND) } else { gap };
        self.schedule(self.now + after.max(MS), Event::Write);
        if let Some(kind) = self.clients.pool.last().copied() {
            self.ask(Asked::Pool, self.of_pool(kind))?;
        }
        if let Some(place) = free {
            let id = self.key_id();
            let digest =
                Digest::from_bytes([u8::try_from(self.clients.made % 251).unwrap_or(0); 32]);
            let new = NewKey {
                terms: Terms::default(),
                id,
                prefix: format!("fx_sim_{}", id.as_str()).into(),
                digest,
                name: "sim".into(),
                scope: Scope::Read,
                owner: None,
                limits: None,
                expires_at: None,
                metadata: Vec::new(),
                idempotency_key: None,
            };
            // Not the stream's key before it is known to be made.
            return self.ask(Asked::Create(id, place), Command::CreateKey(Box::new(new)));
        }
        if calm {
            return Ok(());
        }
        let place = usize::try_from(self.rng.below(self.clients.streams.len() as u64)).unwrap_or(0);
        let Some(key) = self.clients.streams[place].key else { return Ok(()) };
        match self.rng.below(4) {
            0 => {
                self.clients.streams[place].key = None;
                self.ask(Asked::End(key), Command::RevokeKey { id: key, if_revision: None })
            }
            1 => {
                self.clients.streams[place].key = None;
                let change = KeyChange { enabled: Some(false), ..unchanged(key) };
                self.ask(Asked::End(key), Command::UpdateKey(Box::new(change)))
            }
            _ => self.change_limits(key),
        }
    }

    /// An administrator changes the limits of some key, where the plan wants it often.
    pub(super) fn next_limits(&mut self) -> Result<(), Violation> {
        let after = self.rng.span(self.plan.limit_changes).max(MS);
        if !self.faulty {
            return Ok(());
        }
        self.schedule(self.now + after, Event::Limits);
        let place = usize::try_from(self.rng.below(self.clients.streams.len() as u64)).unwrap_or(0);
        self.clients.streams[place].key.map_or(Ok(()), |key| self.change_limits(key))
    }

    /// The pool of all keys has room for half of what they may use; the plan `default` names it.
    fn of_pool(&self, kind: NamedKind) -> Command {
        let limits = self.plan.limits.iter().enumerate();
        let (name, limits, pools): (_, Vec<Limit>, _) = if kind == NamedKind::Pool {
            let (tokens, period_ms) = self.plan.limits[0];
            let tokens = (tokens * self.plan.keys as u64).div_ceil(2);
            (POOL, vec![Limit::new("all", tokens, period_ms)], None)
        } else {
            let of_plan =
                |(n, &(tokens, ms)): (usize, &(u64, u64))| Limit::new(limit_name(n), tokens, ms);
            (DEFAULT_PLAN, limits.map(of_plan).collect(), Some([POOL.into()].into()))
        };
        Command::PutNamed {
            kind,
            name: name.into(),
            definition: Box::new(Definition {
                limits,
                terms: Terms { pools, ..Terms::default() },
                exposes: Vec::new(),
                enabled: true,
                metadata: Vec::new(),
            }),
            if_revision: None,
        }
    }

    /// Other tokens for the first limit, and for some of the others; the key loses the rest.
    fn change_limits(&mut self, key: KeyId) -> Result<(), Violation> {
        let mut limits = Vec::new();
        for (n, (tokens, period_ms)) in self.plan.limits.clone().into_iter().enumerate() {
            if n == 0 || self.rng.permille(700) {
                let tokens = self.rng.between(1, 2 * tokens);
                limits.push(Limit::new(limit_name(n), tokens, period_ms));
            }
        }
        let change = KeyChange { limits: Some(Some(limits.clone())), ..unchanged(key) };
        self.ask(Asked::Limits(key, limits), Command::UpdateKey(Box::new(change)))
    }

    /// A write was answered.
    pub(super) fn wrote(&mut self, id: u64, came: &Result<Written, SubmitError>) {
        self.operator.answered(id);
        let Some((asked, began)) = self.clients.asked.remove(&id) else { return };
        let record = match came.as_ref().map(|written| &written.outcome) {
            Ok(Outcome::Key(record)) => Some(record),
            Ok(Outcome::Named(row)) => {
                self.clients.pool.retain(|kind| *kind != row.kind);
                None
            }
            Ok(Outcome::Done | Outcome::Put(_) | Outcome::Refused(_)) | Err(_) => None,
        };
        if came.is_err() {
            self.book.failed_writes.push((began, self.now));
        }
        let Some(record) = record else {
            self.book.counts.writes.1 += 1;
            return;
        };
        self.book.counts.writes.0 += 1;
        let now = self.now;
        match &asked {
            &Asked::Create(key, place) => {
                self.book.keys.entry(key).or_default().created = Some(now);
                let stream = &mut self.clients.streams[place];
                if stream.key.is_none() {
                    stream.key = Some(key);
                    self.schedule(now, Event::Traffic(place));
                }
            }
            Asked::End(key) => self.book.keys.entry(*key).or_default().ended = Some(now),
            Asked::Limits(key, _) => {
                let facts = self.book.keys.entry(*key).or_default();
                facts.limits_answered = Some(now);
                for set in facts.limits.iter_mut().filter(|set| set.asked == began) {
                    set.answered = Some(now);
                }
                facts.limits_open -= 1;
                // A repeat is answered with the record as it is now, later changes included.
                let limits = record.limits.iter().flatten();
                let tokens = limits.map(|limit| limit.tokens).next();
                let sure = tokens.map(|tokens| (record.revision, tokens));
                facts.limits_sure = facts.limits_sure.max(sure);
            }
            Asked::Pool => {}
        }
        // Clients use the key on every node: soon after, and when a node may have a new lease.
        let uses: (KeyId, u64, &[Us]) = match asked {
            Asked::Create(key, _) => (key, 0, &[0, 5 * MS, 20 * MS, 50 * MS, 100 * MS]),
            Asked::End(key) => (key, 1, &[0, MS, 20 * MS, 50 * MS, 200 * MS, 3 * SECOND]),
            Asked::Limits(..) | Asked::Pool => return,
        };
        let (key, cost, moments) = uses;
        for node in 1..=self.plan.nodes {
            for after in moments {
                self.ask_for(now + after, NodeId(node), key, cost);
            }
        }
    }

    fn ask_for(&mut self, began: Us, node: NodeId, key: KeyId, cost: u64) {
        let request = Request { began, taken: began, key, cost };
        let at = began + 50 + self.rng.below(200);
        self.schedule(at, Event::Request { node, request });
    }

    /// The next request of a stream, or a burst of them.
    pub(super) fn traffic(&mut self, place: usize) {
        let Stream { key: Some(key), shape, home } = self.clients.streams[place] else { return };
        let (tokens, period_ms) = self.plan.limits[0];
        let demand = (tokens * self.plan.demand_percent / 100).max(1);
        let cost_mean = self.plan.cost_max.div_ceil(2);
        let requests = (demand / cost_mean).max(1);
        let (count, after) = match shape {
            Shape::Burst => (requests, period_ms * MS),
            Shape::Even | Shape::Sticky | Shape::Skewed => {
                (1, self.rng.span(period_ms * MS / requests).max(MS))
            }
        };
        for _ in 0..count {
            let node = match shape {
                Shape::Sticky => home,
                Shape::Skewed if self.rng.permille(800) => home,
                Shape::Even | Shape::Skewed | Shape::Burst => {
                    NodeId(self.rng.between(1, self.plan.nodes))
                }
            };
            let cost = self.rng.between(1, self.plan.cost_max);
            let began = self.now + if count > 1 { self.rng.below(20 * MS) } else { 0 };
            self.ask_for(began, node, key, cost);
        }
        self.schedule(self.now + after, Event::Traffic(place));
    }
}

fn unchanged(id: KeyId) -> KeyChange {
    KeyChange {
        removes: Box::default(),
        plan: None,
        pools: None,
        id,
        if_revision: None,
        name: None,
        scope: None,
        owner: None,
        limits: None,
        enabled: None,
        expires_at: None,
        metadata: None,
    }
}
