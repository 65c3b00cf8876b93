//! Clients: the traffic of keys in every shape, at every node.

use std::sync::Arc;

use bytes::Bytes;
use fluxgate_plan::{MS, SECOND, Shape, Us};
use fluxgate_server::{Answer, Listener};
use fluxgate_types::NodeId;

use super::Shared;
use super::nodes::PATIENCE;
use crate::checks;

/// A validate, as its client saw it.
#[derive(Clone, Debug)]
pub(crate) struct Validate {
    /// Index of the credential in the observations.
    pub(crate) credential: usize,
    /// Index of the key.
    pub(crate) key: usize,
    pub(crate) node: NodeId,
    pub(crate) incarnation: u64,
    pub(crate) cost: u64,
    pub(crate) began: Us,
    pub(crate) ended: Us,
}

/// Starts one stream of traffic per key of the plan.
pub(super) async fn run(world: Arc<Shared>) {
    for stream in 0..world.plan.base.keys {
        tokio::spawn(traffic(Arc::clone(&world), stream));
    }
}

/// The requests of one key after another: when a key is revoked or uncertain, the next is created.
async fn traffic(world: Arc<Shared>, stream: usize) {
    // Every stream is its own administrator.
    world.sleep(world.plan.cooldown() / 4).await;
    loop {
        if world.lock().over {
            return;
        }
        let Some(credential) = super::writes::create(&world).await else {
            world.sleep(SECOND).await;
            continue;
        };
        let shape = {
            let mut state = world.lock();
            state.rng.pick(&[Shape::Even, Shape::Sticky, Shape::Skewed, Shape::Burst])
        };
        world.say(|| format!("stream {stream} continues with credential {credential}, {shape:?}"));
        let (go, stop) = tokio::sync::watch::channel(credential);
        let sending = tokio::spawn(send(Arc::clone(&world), shape, stop));
        super::writes::manage_key(&world, credential, &go).await;
        sending.abort();
    }
}

/// Sends requests with the stream's credential until the task is aborted.
async fn send(world: Arc<Shared>, shape: Shape, credential: tokio::sync::watch::Receiver<usize>) {
    let (tokens, period_ms) = world.plan.base.limits[0];
    let demand = (tokens * world.plan.base.demand_percent / 100).max(1);
    let home = world.draw(u64::MAX - 1);
    loop {
        let pause = match shape {
            Shape::Burst => period_ms * MS,
            Shape::Even | Shape::Sticky | Shape::Skewed => {
                let mean = (period_ms * MS / demand).max(1);
                world.lock().rng.span(mean)
            }
        };
        world.sleep(pause.max(MS)).await;
        if world.lock().over {
            return;
        }
        let burst = if shape == Shape::Burst { demand } else { 1 };
        for _ in 0..burst {
            let node = world.node_for(shape, home);
            let Some(node) = node else { continue };
            let known = *credential.borrow();
            tokio::spawn(validate(Arc::clone(&world), known, node));
        }
        // Revoked credentials must stay revoked.
        if world.draw(19) == 0 {
            let revoked = {
                let mut state = world.lock();
                let revoked: Vec<usize> = (0..state.observations.credentials.len())
                    .filter(|at| state.observations.credentials[*at].ended.is_some())
                    .collect();
                (!revoked.is_empty()).then(|| state.rng.pick(&revoked))
            };
            if let (Some(revoked), Some(node)) = (revoked, world.node_for(Shape::Even, 0)) {
                tokio::spawn(validate(Arc::clone(&world), revoked, node));
            }
        }
    }
}

/// Sends one validate and judges the answer.
pub(crate) async fn validate(world: Arc<Shared>, credential: usize, node: NodeId) {
    let (secret, key, cost) = {
        let mut state = world.lock();
        let cost_max = world.plan.base.cost_max;
        let cost = if cost_max > 1 { state.rng.between(1, cost_max) } else { 1 };
        let known = &state.observations.credentials[credential];
        (known.secret.clone(), known.key, cost)
    };
    let incarnation = world.lock().hosts.get(&node).map_or(0, |host| host.incarnation);
    let began = world.now();
    let answer = match request(&secret, cost) {
        Some(request) => world.ask(node, Listener::Gateway, request, PATIENCE).await,
        None => None,
    };
    let asked = Validate { credential, key, node, incarnation, cost, began, ended: world.now() };
    let status = answer.as_ref().map_or(1, |answer| answer.as_ref().map_or(0, |a| a.status));
    world.say(|| {
        let known: Option<&Answer> = answer.as_ref().and_then(Option::as_ref);
        let remaining = known.and_then(|a| a.header("x-ratelimit-remaining")).unwrap_or("-");
        let reset = known.and_then(|a| a.header("x-ratelimit-reset")).unwrap_or("-");
        format!("validate {credential} at {node}/{incarnation} cost {cost} from {began}: {status} {remaining} {reset}")
    });
    *world.lock().observations.counts.statuses.entry(status).or_default() += 1;
    checks::answered(&world, &asked, answer);
}

fn request(secret: &str, cost: u64) -> Option<http::Request<Bytes>> {
    let body = if cost == 1 { String::new() } else { format!("{{\"cost\":{cost}}}") };
    http::Request::post("/v1/validate")
        .header("authorization", format!("Bearer {secret}"))
        .header("content-type", "application/json")
        .body(Bytes::from(body))
        .ok()
}

impl Shared {
    /// The target of a request of this shape.
    pub(super) fn node_for(&self, shape: Shape, home: u64) -> Option<NodeId> {
        let nodes = self.nodes();
        let count = u64::try_from(nodes.len()).ok().filter(|count| *count > 0)?;
        let at_home = usize::try_from(home % count).ok().and_then(|at| nodes.get(at).copied());
        let mut state = self.lock();
        let anywhere = state.rng.pick(&nodes);
        match shape {
            Shape::Even | Shape::Burst => Some(anywhere),
            Shape::Sticky => at_home,
            Shape::Skewed => {
                if state.rng.permille(800) {
                    at_home
                } else {
                    Some(anywhere)
                }
            }
        }
    }
}
