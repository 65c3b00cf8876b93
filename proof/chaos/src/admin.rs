//! Administrators: they make keys, change them and end them, through any node, under any fault.
//!
//! One administrator looks after one stream, and asks for one thing at a time. When nobody knows
//! whether a key is ended it is left alone, and counted as possibly either.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::history::{Change, Event, Write};
use crate::http::Call;
use crate::process::{ADMIN, OPERATOR};
use crate::rng::Rng;
use crate::traffic::{Asked, Held, World};

/// Patience with a write: it may wait for a lease, and for an election.
const PATIENCE: Duration = Duration::from_secs(6);
/// Pause after a write that was not made.
const AGAIN: Duration = Duration::from_millis(300);

static KEYS: AtomicU64 = AtomicU64::new(1);

/// What the keys of a stream are like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Care {
    /// Tokens at first; none: the default limit.
    pub(crate) tokens: Option<u64>,
    pub(crate) period_s: u64,
    /// Mean pause between changes; none: never.
    pub(crate) every: Option<Duration>,
    /// Whether the key stays the same one.
    pub(crate) keeps: bool,
}

struct Administrator {
    world: Arc<World>,
    rng: Rng,
    care: Care,
    /// The id of the key that was made last.
    id: String,
}

/// What came of a write.
enum Came {
    Done(Value),
    Not,
    Unknown,
}

/// Looks after the key of one stream until the run is over.
pub(crate) async fn look_after(
    world: Arc<World>,
    care: Care,
    number: u64,
    told: watch::Sender<Option<Held>>,
) {
    let rng = Rng::new(world.seed, 1_000 + number);
    let mut me = Administrator { world, rng, care, id: String::new() };
    while !me.world.is_over() {
        let Some(held) = me.create().await else {
            sleep(AGAIN).await;
            continue;
        };
        told.send_replace(Some(held.clone()));
        me.everywhere(&held);
        me.change_until_ended(&held).await;
        let mut dead = me.world.dead.lock().unwrap_or_else(PoisonError::into_inner);
        dead.push(held);
    }
}

impl Administrator {
    async fn write(&mut self, k: u64, change: Change, id: &str) -> Came {
        let n = self.world.any_node(&mut self.rng);
        let path = format!("/v1/keys/{id}");
        let limits = |tokens: u64, period_s: u64| {
            let period = format!("{period_s}s");
            json!([{"name": "requests", "tokens": tokens, "period": period}])
        };
        let (method, path, body) = match &change {
            Change::Create { name, owner, scope, tokens, period_s } => {
                let mut body = json!({"name": name, "owner": owner, "scope": scope});
                if let Some(tokens) = tokens {
                    body["limits"] = limits(*tokens, *period_s);
                }
                ("POST", "/v1/keys", Some(body))
            }
            Change::Limit(tokens) => {
                let body = json!({"limits": limits(*tokens, self.care.period_s)});
                ("PATCH", path.as_str(), Some(body))
            }
            Change::Enabled(on) => ("PATCH", path.as_str(), Some(json!({ "enabled": on }))),
            Change::Scope(scope) => ("PATCH", path.as_str(), Some(json!({ "scope": scope }))),
            Change::Revoke => ("DELETE", path.as_str(), None),
        };
        let t0 = self.world.history.now();
        let body = body.map(|body| body.to_string());
        let call =
            Call { node: n, port: ADMIN, method, path, bearer: OPERATOR, body, within: PATIENCE };
        let came = self.world.caller.call(call).await;
        let t1 = self.world.history.now();
        let err = came.as_ref().err().map(|silence| silence.as_str().to_owned());
        let s = came.as_ref().map_or(0, |answer| answer.status);
        let said: Value = came
            .ok()
            .and_then(|answer| serde_json::from_str(&answer.body).ok())
            .unwrap_or_default();
        let text = |field: &str| said[field].as_str().map(ToOwned::to_owned);
        let created = matches!(change, Change::Create { .. }) && s == 201;
        let id = if created { text("id") } else { None };
        let write = Write { n, k, change, t0, t1, s, err, id, code: text("error") };
        let outcome = crate::knowledge::outcome(&write);
        self.world.history.write(&Event::Write(Box::new(write)));
        match outcome {
            crate::knowledge::Outcome::Done => Came::Done(said),
            crate::knowledge::Outcome::NotDone => Came::Not,
            crate::knowledge::Outcome::Unknown => Came::Unknown,
        }
    }

    async fn create(&mut self) -> Option<Held> {
        let k = KEYS.fetch_add(1, Ordering::Relaxed);
        let change = Change::Create {
            name: format!("Chaos key {k}"),
            owner: format!("user_{k}"),
            scope: "write".to_owned(),
            tokens: self.care.tokens,
            period_s: self.care.period_s,
        };
        let Came::Done(made) = self.write(k, change, "").await else { return None };
        let secret = made["key"].as_str()?.to_owned();
        let mut shown = self.world.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.push(secret.clone());
        drop(shown);
        made["id"].as_str()?.clone_into(&mut self.id);
        Some(Held { k, secret })
    }

    /// Asks every node about a key, at once: the moment at which a promise is hardest to keep.
    fn everywhere(&self, held: &Held) {
        for node in self.world.nodes.clone() {
            self.world.send(Asked { node, key: held.clone(), cost: 1, scope: None });
        }
    }

    async fn change_until_ended(&mut self, held: &Held) {
        let id = self.id.clone();
        let first = self.care.tokens.unwrap_or(100);
        while !self.world.is_over() {
            let Some(every) = self.care.every else {
                sleep(AGAIN).await;
                continue;
            };
            let mean = u64::try_from(every.as_millis()).unwrap_or(1_000);
            sleep(Duration::from_millis(self.rng.between(mean / 2, mean * 3 / 2))).await;
            let change = match self.rng.next() % 8 {
                0 | 1 if !self.care.keeps => Change::Revoke,
                2 => Change::Enabled(false),
                3 => Change::Scope(["read", "write", "admin"][self.rng.place(3)].to_owned()),
                _ => Change::Limit(self.rng.between(first.div_ceil(2), first * 2)),
            };
            let came = self.write(held.k, change.clone(), &id).await;
            if matches!(came, Came::Done(_)) {
                self.everywhere(held);
            }
            match (change, came) {
                (Change::Revoke, Came::Done(_) | Came::Unknown) | (_, Came::Unknown) => return,
                (Change::Enabled(false), Came::Done(_)) => {
                    sleep(AGAIN).await;
                    if !self.switch_on(held, &id).await {
                        return;
                    }
                }
                _ => {}
            }
        }
    }

    /// Returns whether the key is surely on again.
    async fn switch_on(&mut self, held: &Held, id: &str) -> bool {
        while !self.world.is_over() {
            match self.write(held.k, Change::Enabled(true), id).await {
                Came::Done(_) => {
                    self.everywhere(held);
                    return true;
                }
                Came::Not => sleep(AGAIN).await,
                Came::Unknown => return false,
            }
        }
        false
    }
}
