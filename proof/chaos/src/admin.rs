//! Administrators: they create keys, change them and revoke them, through any node, under any
//! fault.
//!
//! Each administrator manages the key of one stream and sends one request at a time. When a write
//! has an unknown outcome, the administrator leaves that key alone, and the judge accepts both
//! states.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::http::Call;
use crate::process::{ADMIN, OPERATOR};
use crate::traffic::{IssuedKey, ValidateRequest, World};
use fluxgate_plan::Rng;
use fluxgate_record::history::{Change, Event, Write};

/// Timeout of a write: it may wait for a lease and for an election.
const PATIENCE: Duration = Duration::from_secs(6);
/// Pause after a write that was not applied.
const AGAIN: Duration = Duration::from_millis(300);

static KEYS: AtomicU64 = AtomicU64::new(1);

/// Properties of the keys of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyPolicy {
    /// Tokens of a new key; `None`: the default limit.
    pub(crate) tokens: Option<u64>,
    pub(crate) period_s: u64,
    /// Mean pause between changes; `None`: no changes.
    pub(crate) every: Option<Duration>,
    /// Whether the key is never revoked.
    pub(crate) keeps: bool,
}

struct Administrator {
    world: Arc<World>,
    rng: Rng,
    care: KeyPolicy,
    /// The id of the newest key.
    id: String,
}

enum WriteOutcome {
    Done(Value),
    NotDone,
    Unknown,
}

/// Creates and changes the keys of one stream until the run is over.
pub(crate) async fn manage_key(
    world: Arc<World>,
    care: KeyPolicy,
    number: u64,
    publish: watch::Sender<Option<IssuedKey>>,
) {
    let rng = Rng::stream(world.seed, 1_000 + number);
    let mut me = Administrator { world, rng, care, id: String::new() };
    while !me.world.is_over() {
        let Some(held) = me.create().await else {
            sleep(AGAIN).await;
            continue;
        };
        publish.send_replace(Some(held.clone()));
        me.validate_on_every_node(&held);
        me.change_until_ended(&held).await;
        let mut revoked = me.world.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        revoked.push(held);
    }
}

impl Administrator {
    async fn write(&mut self, k: u64, change: Change, id: &str) -> WriteOutcome {
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
        let answer = self.world.caller.call(call).await;
        let t1 = self.world.history.now();
        let err = answer.as_ref().err().map(|error| error.as_str().to_owned());
        let s = answer.as_ref().map_or(0, |answer| answer.status);
        let fields: Value = answer
            .ok()
            .and_then(|answer| serde_json::from_str(&answer.body).ok())
            .unwrap_or_default();
        let text = |field: &str| fields[field].as_str().map(ToOwned::to_owned);
        let created = matches!(change, Change::Create { .. }) && s == 201;
        let id = if created { text("id") } else { None };
        let write = Write { n, k, change, t0, t1, s, err, id, code: text("error") };
        let outcome = fluxgate_record::outcome(&write);
        self.world.history.write(&Event::Write(Box::new(write)));
        match outcome {
            fluxgate_record::Outcome::Done => WriteOutcome::Done(fields),
            fluxgate_record::Outcome::NotDone => WriteOutcome::NotDone,
            fluxgate_record::Outcome::Unknown => WriteOutcome::Unknown,
        }
    }

    async fn create(&mut self) -> Option<IssuedKey> {
        let k = KEYS.fetch_add(1, Ordering::Relaxed);
        let change = Change::Create {
            name: format!("Chaos key {k}"),
            owner: format!("user_{k}"),
            scope: "write".to_owned(),
            tokens: self.care.tokens,
            period_s: self.care.period_s,
        };
        let WriteOutcome::Done(made) = self.write(k, change, "").await else { return None };
        let secret = made["key"].as_str()?.to_owned();
        let mut shown = self.world.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.push(secret.clone());
        drop(shown);
        made["id"].as_str()?.clone_into(&mut self.id);
        Some(IssuedKey { k, secret })
    }

    /// Validates a key on every node at once: the moment at which a promise is hardest to keep.
    fn validate_on_every_node(&self, held: &IssuedKey) {
        for node in self.world.nodes.clone() {
            self.world.send(ValidateRequest { node, key: held.clone(), cost: 1, scope: None });
        }
    }

    async fn change_until_ended(&mut self, held: &IssuedKey) {
        let id = self.id.clone();
        let first = self.care.tokens.unwrap_or(100);
        while !self.world.is_over() {
            let Some(every) = self.care.every else {
                sleep(AGAIN).await;
                continue;
            };
            let mean = u64::try_from(every.as_millis()).unwrap_or(1_000);
            sleep(Duration::from_millis(self.rng.between(mean / 2, mean * 3 / 2))).await;
            let change = match self.rng.draw() % 8 {
                0 | 1 if !self.care.keeps => Change::Revoke,
                2 => Change::Enabled(false),
                3 => Change::Scope(["read", "write", "admin"][self.rng.place(3)].to_owned()),
                _ => Change::Limit(self.rng.between(first.div_ceil(2), first * 2)),
            };
            let answer = self.write(held.k, change.clone(), &id).await;
            if matches!(answer, WriteOutcome::Done(_)) {
                self.validate_on_every_node(held);
            }
            match (change, answer) {
                (Change::Revoke, WriteOutcome::Done(_) | WriteOutcome::Unknown)
                | (_, WriteOutcome::Unknown) => return,
                (Change::Enabled(false), WriteOutcome::Done(_)) => {
                    sleep(AGAIN).await;
                    if !self.switch_on(held, &id).await {
                        return;
                    }
                }
                _ => {}
            }
        }
    }

    /// Returns whether the key is certainly enabled again.
    async fn switch_on(&mut self, held: &IssuedKey, id: &str) -> bool {
        while !self.world.is_over() {
            match self.write(held.k, Change::Enabled(true), id).await {
                WriteOutcome::Done(_) => {
                    self.validate_on_every_node(held);
                    return true;
                }
                WriteOutcome::NotDone => sleep(AGAIN).await,
                WriteOutcome::Unknown => return false,
            }
        }
        false
    }
}
