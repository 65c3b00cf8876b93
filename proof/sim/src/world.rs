//! The world: true time, the queue of events, machines, and what an observer sees.

mod clients;
mod faults;
mod host;
mod machine_faults;
mod operator;
mod packets;
mod queue;

mod watch;

use std::collections::VecDeque;

use fluxgate_engine::clock::signed_difference;
use fluxgate_types::id::mix64;
use fluxgate_types::{BootId, ClusterMs, DirId, NodeId};

use crate::book::Observations;
use crate::invariants::{self, Invariant, Violation};
use crate::machine::{EPOCH_MS, Machine};
use crate::messages::{Request, Seen, Timer};
use crate::mutation::DriverMutation;
use crate::node::Node;
use crate::step::{Action, Step};
use fluxgate_plan::Net;
use fluxgate_plan::Rng;
use fluxgate_plan::{MS, Plan, SECOND, Us};

use clients::Clients;
pub use host::{Directory, Host};

use packets::Packet;
use queue::Queue;

/// Something that will happen.
#[derive(Debug)]
enum Event {
    Packet(Packet),
    Timer { node: NodeId, epoch: u64, timer: Timer },
    Request { node: NodeId, request: Request },
    Traffic(usize),
    Write,
    Limits,
    Fault,
    Start(NodeId),
    Operator,
    Judge,
}

/// The rules that the nodes of a run leave out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Broken {
    /// A rule of the driver that is left out.
    pub driver_mutation: Option<DriverMutation>,
    /// The one invariant that judges; none: all do.
    pub judge: Option<&'static str>,
}

/// A cluster under its plan.
pub struct World {
    /// The plan.
    pub plan: Plan,
    /// True time.
    pub now: Us,
    /// Machines, the first is node 1.
    pub slots: Vec<Host>,
    /// What really happened.
    pub book: Observations,
    /// A digest of everything that happened: equal for equal runs.
    pub trace: u64,
    broken: Broken,
    net: Net,
    rng: Rng,
    queue: Queue,
    next: u64,
    clients: Clients,
    judges: Vec<Box<dyn Invariant>>,
    faulty: bool,
    operator: operator::Operator,
    /// The newest lines of the trace, and how many are kept.
    log: (VecDeque<String>, usize),
}

/// The longest sync of a healthy disk.
const SYNC_MAX: Us = 5 * MS;
/// Events of one run: several times what the longest plan takes.
const EVENTS_MAX: u64 = 20_000_000;

impl World {
    /// The world of a plan, at rest, which keeps so many lines of its trace.
    #[must_use]
    pub fn new(plan: Plan, broken: Broken, lines: usize) -> Self {
        let mut rng = Rng::new(plan.seed.rotate_left(17) ^ 0xc1);
        // A minority of the wall clocks is wrong: no cluster forms while no majority of them agrees.
        let wrong = rng.below(plan.nodes);
        let machine = |rng: &mut Rng, place: u64| {
            let signed = |rng: &mut Rng, most: u64| {
                let size = i64::try_from(rng.below(most + 1)).unwrap_or(0);
                if rng.permille(500) { size } else { -size }
            };
            let is_wrong = (place + wrong) % plan.nodes < (plan.nodes - 1) / 2;
            let within_ms = plan.wall_error_ms.min(plan.terms.clock_error_ms_max / 2 - 1);
            let wall_error_ms = if is_wrong { plan.wall_error_ms } else { within_ms };
            Machine {
                drift_ppm: signed(rng, plan.drift_ppm),
                boot_ns: rng.between(1, 1_000_000) * 1_000_000_000,
                wall_ms: signed(rng, wall_error_ms),
                sync: rng.between(300, SYNC_MAX),
                full_until: 0,
            }
        };
        let host = |place| Host::new(machine(&mut rng, place), DirId(place + 1));
        let slots = (0..plan.nodes).map(host);
        let slots = slots.collect();
        let mut net = Net::default();
        net.twice_permille = plan.twice_permille;
        let operator = operator::Operator::new(plan.nodes);
        let mut world = Self {
            clients: Clients::new(&plan, &mut rng),
            plan,
            now: 0,
            slots,
            book: Observations::default(),
            trace: 0,
            broken,
            net,
            rng,
            queue: Queue::default(),
            next: 0,
            judges: invariants::all()
                .into_iter()
                .filter(|judge| broken.judge.is_none_or(|only| only == judge.name()))
                .collect(),
            faulty: true,
            operator,
            log: (VecDeque::new(), lines),
        };
        // The beginning is no calm time: no node has a lease.
        let settle = world.settle_time();
        world.book.disturb(0, world.plan.starts, settle);
        for node in 1..=world.plan.nodes {
            let at = world.rng.below(world.plan.starts);
            world.schedule(at, Event::Start(NodeId(node)));
        }
        world.schedule(settle / 4, Event::Write);
        if world.plan.limit_changes > 0 {
            world.schedule(settle, Event::Limits);
        }
        let fault = settle + world.rng.span(world.plan.faults);
        world.schedule(fault, Event::Fault);
        world.schedule(SECOND, Event::Judge);
        world
    }

    /// How long a fault may be felt after it: leases, elections, share maps that come and go.
    #[must_use]
    pub fn settle_time(&self) -> Us {
        (10 * self.plan.terms.lease_ms + 2 * self.plan.terms.clock_error_ms_max) * MS + 10 * SECOND
    }

    /// The most that a full disk may hold writes up: until the leader has handed over, or until the
    /// lease of a node that cannot store entries has ended.
    #[must_use]
    pub fn full_disk_time(&self) -> Us {
        2 * self.plan.terms.lease_ms * MS
            + 4 * (self.plan.gossip + self.plan.leader_look)
            + 5 * SECOND
    }

    /// The newest lines of the trace.
    #[must_use]
    pub fn log_lines(&self) -> Vec<String> {
        self.log.0.iter().cloned().collect()
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        let (lines, most) = &mut self.log;
        if *most == 0 {
            return;
        }
        if lines.len() == *most {
            lines.pop_front();
        }
        lines.push_back(format!("{:>14} {}", self.now, line()));
    }

    fn schedule(&mut self, at: Us, event: Event) {
        self.next += 1;
        self.queue.push(at.max(self.now), self.next, event);
    }

    fn slot(&mut self, node: NodeId) -> &mut Host {
        &mut self.slots[usize::try_from(node.0 - 1).unwrap_or(0)]
    }

    /// The machine of a node.
    #[must_use]
    pub fn host(&self, node: NodeId) -> Option<&Host> {
        self.slots.get(usize::try_from(node.0 - 1).ok()?)
    }

    /// The process of a node, if one runs.
    #[must_use]
    pub fn node(&self, node: NodeId) -> Option<&Node> {
        self.host(node)?.node.as_deref()
    }

    /// Every running process.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.slots.iter().filter_map(|slot| slot.node.as_deref())
    }

    /// The running process that has applied most.
    #[must_use]
    pub fn newest(&self) -> Option<&Node> {
        self.nodes().max_by_key(|node| node.replica.applied)
    }

    /// How far a node's cluster time is ahead of true time, milliseconds.
    #[must_use]
    pub fn ahead_of_true_ms(&self, node: &Node) -> i64 {
        let true_ms = EPOCH_MS + self.now / MS;
        signed_difference(node.cluster_now(self.now).0, true_ms)
    }

    /// The latest cluster time that any node has had, though it may have ended since.
    #[must_use]
    pub fn cluster_max(&self) -> ClusterMs {
        let synced = self.nodes().filter(|node| node.member.clock().is_synced());
        let running = synced.map(|node| node.cluster_now(self.now)).max();
        running.unwrap_or(ClusterMs(0)).max(self.book.reached)
    }

    /// Runs the whole plan: faults, healing, and a calm end.
    ///
    /// # Errors
    /// The first violation of an invariant.
    pub fn run(&mut self) -> Result<(), Violation> {
        self.run_until(self.plan.span)?;
        self.heal();
        let settle = self.settle_time();
        self.run_until(self.plan.span + settle)?;
        self.judge(|judge, world| judge.healed(world))?;
        let longest = self.plan.limits.iter().map(|(_, period_ms)| *period_ms).max().unwrap_or(0);
        let calm = 2 * longest * MS + settle;
        self.run_until(self.plan.span + settle + calm)?;
        self.judge(|judge, world| judge.at_end(world))?;
        // Of the processes that run at the end: enough to see that it happens.
        let torn: u64 = self.nodes().map(Node::torn_steps).sum();
        if torn > 0 {
            *self.book.counts.faults.entry("torn_context").or_default() += torn;
        }
        self.book.counts.leaderships +=
            self.nodes().filter(|node| node.is_leading()).count() as u64;
        let maps = self.nodes().map(|node| node.view().share_maps.len() as u64).max();
        self.book.counts.maps = maps.unwrap_or(0);
        Ok(())
    }

    fn run_until(&mut self, until: Us) -> Result<(), Violation> {
        while let Some((at, event)) = self.queue.pop_until(until) {
            self.now = at;
            self.book.counts.events += 1;
            if self.book.counts.events > EVENTS_MAX {
                // Nodes that never come to rest, such as two that repeat the same messages endlessly.
                let what = format!("more than {EVENTS_MAX} events");
                return Err(Violation { invariant: "cluster_heals", at, what });
            }
            self.happen(event)?;
        }
        self.now = until;
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Packet(packet) => self.arrive(packet),
            Event::Timer { node, epoch, timer } => {
                let (now, slot) = (self.now, self.slot(node));
                if slot.epoch != epoch || slot.node.is_none() {
                    return Ok(());
                }
                if slot.paused_until > now {
                    let at = slot.paused_until;
                    self.schedule(at, Event::Timer { node, epoch, timer });
                    return Ok(());
                }
                self.fold(node.0 ^ 2 << 60);
                self.step(node, |node, step| node.handle_timer(timer, step))
            }
            Event::Request { node, request } => {
                let (now, slot) = (self.now, self.slot(node));
                if slot.node.is_none() {
                    self.book.counts.unheard += 1;
                    return Ok(());
                }
                if slot.paused_until > now {
                    let at = slot.paused_until;
                    self.schedule(at, Event::Request { node, request });
                    return Ok(());
                }
                let request = Request { taken: now, ..request };
                self.step(node, |node, step| node.validate(request, step))
            }
            Event::Traffic(key) => {
                self.traffic(key);
                Ok(())
            }
            Event::Write => self.next_write(),
            Event::Limits => self.next_limits(),
            Event::Fault => self.next_fault(),
            Event::Start(node) => self.start(node),
            Event::Operator => self.operate(),
            Event::Judge => {
                self.schedule(self.now + SECOND, Event::Judge);
                self.note_clocks_apart();
                self.close_windows()?;
                self.judge(|judge, world| judge.each_second(world))
            }
        }
    }

    fn fold(&mut self, what: u64) {
        self.trace = mix64(self.trace ^ what ^ self.now.rotate_left(20));
    }

    fn new_step(&mut self) -> Step<'_> {
        Step {
            now: self.now,
            rng: &mut self.rng,
            plan: &self.plan,
            driver_mutation: self.broken.driver_mutation,
            faulty: self.faulty,
            next: &mut self.next,
            out: Vec::new(),
        }
    }

    /// A step of a node, with everything that it wants done.
    fn step(
        &mut self,
        id: NodeId,
        act: impl FnOnce(&mut Node, &mut Step<'_>),
    ) -> Result<(), Violation> {
        let at = usize::try_from(id.0 - 1).unwrap_or(0);
        let Some(mut node) = self.slots[at].node.take() else { return Ok(()) };
        let mut step = self.new_step();
        act(&mut node, &mut step);
        let out = step.out;
        self.slots[at].node = Some(node);
        self.carry_out(id, out)
    }

    fn carry_out(&mut self, id: NodeId, out: Vec<Action>) -> Result<(), Violation> {
        let epoch = self.slot(id).epoch;
        let mut all = Vec::new();
        for action in out {
            match action {
                Action::Send(to, message) => self.deliver(id, to, message),
                Action::At(at, timer) => {
                    self.schedule(at, Event::Timer { node: id, epoch, timer });
                }
                Action::See(seen) => all.push(seen),
            }
        }
        // A step may decide several requests, and the balances of its node are those after all of
        // them: all are in the book BEFORE the first is judged.
        all.iter().for_each(|seen| self.note(id, seen));
        for seen in &all {
            if !matches!(seen, Seen::Stopped) {
                self.judge(|judge, world| judge.see(world, id, seen))?;
            }
            match seen {
                Seen::Stopped => self.stopped(id),
                Seen::Ended(_) => self.ended(id),
                Seen::TookPart => self.took_part(id),
                Seen::Decided { .. }
                | Seen::Rejected(_)
                | Seen::Unavailable(_)
                | Seen::Wrote(..)
                | Seen::Moved(_)
                | Seen::AppliedEntry(_)
                | Seen::Renewed(_)
                | Seen::Elected(_) => {}
            }
        }
        Ok(())
    }

    /// The incarnation of a node that runs.
    #[must_use]
    pub fn boot(&self, node: NodeId) -> Option<BootId> {
        self.node(node).map(|node| node.boot)
    }
}
