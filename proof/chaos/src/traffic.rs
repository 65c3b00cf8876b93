//! Clients: requests with keys in many shapes, at all nodes, each recorded with its answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::http::{Answer, Call, Caller};
use crate::process::GATEWAY;
use fluxgate_plan::Rng;
use fluxgate_record::history::{Event, Validate, VerdictHeaders, Writer};

/// Timeout of a validate: the longest wait for tokens is a second.
const PATIENCE: Duration = Duration::from_secs(2);
/// Concurrent requests to one node: a silent node must not tie up everything.
const UNDER_WAY_MAX: usize = 64;
/// Pause before looking again for a key to use.
const NO_KEY: Duration = Duration::from_millis(200);

/// How a key's requests are spread over the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Any node.
    Even,
    /// One node.
    Sticky,
    /// One node four times out of five.
    Skewed,
    /// All at once, anywhere.
    Burst,
}

#[derive(Clone, Debug)]
pub(crate) struct IssuedKey {
    pub(crate) k: u64,
    pub(crate) secret: String,
}

/// State that clients and administrators share.
pub(crate) struct World {
    pub(crate) caller: Caller,
    pub(crate) history: Arc<Writer>,
    pub(crate) nodes: Vec<u64>,
    pub(crate) seed: u64,
    pub(crate) over: AtomicBool,
    /// Every secret that an administrator received.
    pub(crate) shown: Mutex<Vec<String>>,
    /// Keys that were revoked, or may have been.
    pub(crate) revoked: Mutex<Vec<IssuedKey>>,
    gates: BTreeMap<u64, Arc<Semaphore>>,
}

impl World {
    pub(crate) fn new(history: Arc<Writer>, nodes: Vec<u64>, seed: u64) -> Self {
        let gate = |node: &u64| (*node, Arc::new(Semaphore::new(UNDER_WAY_MAX)));
        let gates = nodes.iter().map(gate).collect();
        Self {
            caller: Caller::new(),
            history,
            nodes,
            seed,
            over: AtomicBool::new(false),
            shown: Mutex::new(Vec::new()),
            revoked: Mutex::new(Vec::new()),
            gates,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(crate) fn any_node(&self, rng: &mut Rng) -> u64 {
        self.nodes.get(rng.place(self.nodes.len())).copied().unwrap_or(1)
    }

    fn node_for(&self, shape: Shape, home: u64, rng: &mut Rng) -> u64 {
        match shape {
            Shape::Even | Shape::Burst => self.any_node(rng),
            Shape::Sticky => home,
            Shape::Skewed if rng.percent(80) => home,
            Shape::Skewed => self.any_node(rng),
        }
    }

    /// Sends a validate in the background, unless the node has too many already.
    pub(crate) fn send(self: &Arc<Self>, asked: ValidateRequest) {
        let Some(gate) = self.gates.get(&asked.node) else { return };
        let Ok(permit) = Arc::clone(gate).try_acquire_owned() else { return };
        let world = Arc::clone(self);
        tokio::spawn(async move {
            world.validate(asked).await;
            drop(permit);
        });
    }

    /// Sends a validate and records the answer.
    pub(crate) async fn validate(&self, asked: ValidateRequest) -> u16 {
        let mut fields = serde_json::Map::new();
        if let Some(scope) = asked.scope {
            fields.insert("scope".to_owned(), json!(scope));
        }
        if asked.cost != 1 {
            fields.insert("cost".to_owned(), json!(asked.cost));
        }
        let body = (!fields.is_empty()).then(|| serde_json::Value::Object(fields).to_string());
        let t0 = self.history.now();
        let call = Call {
            node: asked.node,
            port: GATEWAY,
            method: "POST",
            path: "/v1/validate",
            bearer: &asked.key.secret,
            body,
            within: PATIENCE,
        };
        let came = self.caller.call(call).await;
        let t1 = self.history.now();
        let mut line = Validate {
            n: asked.node,
            k: asked.key.k,
            cost: asked.cost,
            scope: asked.scope.map(ToOwned::to_owned),
            t0,
            t1,
            ..Validate::default()
        };
        match came {
            Ok(answer) => {
                (line.s, line.h) = (answer.status, headers(&answer));
                line.body = answer.body;
            }
            Err(error) => line.err = Some(error.as_str().to_owned()),
        }
        let status = line.s;
        self.history.write(&Event::Validate(Box::new(line)));
        status
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ValidateRequest {
    pub(crate) node: u64,
    pub(crate) key: IssuedKey,
    pub(crate) cost: u64,
    pub(crate) scope: Option<&'static str>,
}

fn headers(answer: &Answer) -> VerdictHeaders {
    VerdictHeaders {
        limit: answer.number("x-ratelimit-limit"),
        remaining: answer.number("x-ratelimit-remaining"),
        reset: answer.number("x-ratelimit-reset"),
        retry_after: answer.number("retry-after"),
        www: answer.text("www-authenticate"),
        kind: answer.text("content-type"),
        key_id: answer.text("x-auth-key-id"),
        key_name: answer.text("x-auth-key-name"),
        owner: answer.text("x-auth-owner"),
        scope: answer.text("x-auth-scope"),
    }
}

/// The traffic of one key after another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    pub(crate) shape: Shape,
    /// Pause between requests, or between bursts.
    pub(crate) every: Duration,
    /// Requests at once.
    pub(crate) at_once: u64,
    pub(crate) cost_max: u64,
    /// Percentage of requests that require a scope the key does not have.
    pub(crate) out_of_scope: u64,
}

/// Sends a stream's requests until the run is over. The stream's administrator publishes the key.
pub(crate) async fn send(
    world: Arc<World>,
    stream: Stream,
    number: u64,
    key: tokio::sync::watch::Receiver<Option<IssuedKey>>,
) {
    let mut rng = Rng::stream(world.seed, 100 + number);
    let home = world.any_node(&mut rng);
    let mut every = interval(stream.every);
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while !world.is_over() {
        every.tick().await;
        let held = key.borrow().clone();
        let Some(held) = held else {
            sleep(NO_KEY).await;
            continue;
        };
        for _ in 0..stream.at_once {
            let node = world.node_for(stream.shape, home, &mut rng);
            let small = rng.percent(stream.out_of_scope);
            let scope = if small { Some("admin") } else { None };
            let cost = match stream.cost_max {
                1 => 1,
                most => rng.between(0, most),
            };
            world.send(ValidateRequest { node, key: held.clone(), cost, scope });
        }
    }
}

/// Validates revoked keys: they must stay revoked on every node. Also text that is not a key.
pub(crate) async fn probe_revoked_keys(world: Arc<World>, every: Duration) {
    let mut rng = Rng::stream(world.seed, 99);
    let mut every = interval(every);
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while !world.is_over() {
        every.tick().await;
        let node = world.any_node(&mut rng);
        let key = {
            let revoked = world.revoked.lock().unwrap_or_else(PoisonError::into_inner);
            revoked.get(rng.place(revoked.len())).cloned()
        };
        let no_key = IssuedKey { k: 0, secret: "fx_live_nobody".to_owned() };
        let key = key.filter(|_| !rng.percent(20)).unwrap_or(no_key);
        world.send(ValidateRequest { node, key, cost: 1, scope: None });
    }
}
