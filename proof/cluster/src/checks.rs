//! The invariants of `docs/protocol.md` that clients of a whole cluster can judge, one file each,
//! by name.
//!
//! Clients know what they sent and what answers they got. Three checks also look into the nodes:
//! `replicas_agree`, `tokens_are_conserved` and `time_is_bounded`. `denials_are_proven`,
//! `no_second_life`, `one_map_per_window` and `loss_is_bounded` need an observer of every single
//! step and belong to the protocol's simulator.

pub(crate) mod acked_is_durable;
pub(crate) mod cluster_heals;
mod created_means_usable;
mod healthy_is_exact;
mod never_over_admits;
mod remaining_is_honest;
pub(crate) mod replicas_agree;
mod revoked_means_revoked;
pub(crate) mod time_is_bounded;
mod tokens_are_conserved;

use std::collections::BTreeMap;
use std::sync::Arc;

use fluxgate_plan::{SECOND, Us};
use fluxgate_server::Answer;

use crate::observations::Window;
use crate::world::Shared;
use crate::world::Validate;

/// How often the checks look into the nodes.
const EVERY: Us = 10 * SECOND;

/// The limit headers of an answer.
#[derive(Clone, Copy, Debug)]
struct LimitHeaders {
    limit: u64,
    remaining: u64,
    reset: u64,
}

fn headers(answer: &Answer) -> Option<LimitHeaders> {
    let number = |name| answer.header(name)?.parse().ok();
    Some(LimitHeaders {
        limit: number("x-ratelimit-limit")?,
        remaining: number("x-ratelimit-remaining")?,
        reset: number("x-ratelimit-reset")?,
    })
}

/// A validate has ended. `None`: no node was listening; `Some(None)`: no answer result.
pub(crate) fn answered(world: &Shared, asked: &Validate, answer: Option<Option<Answer>>) {
    let Some(answer) = answer else {
        return world.judge("healthy_is_exact", healthy_is_exact::answered(world, asked, None));
    };
    let status = answer.as_ref().map(|answer| answer.status);
    world.judge("healthy_is_exact", healthy_is_exact::answered(world, asked, status));
    world.judge("created_means_usable", created_means_usable::answered(world, asked, status));
    world.judge("revoked_means_revoked", revoked_means_revoked::answered(world, asked, status));
    let Some(answer) = answer else { return };
    // A cost above a lowered limit can never be admitted.
    let too_dear = answer.status == 400 && asked.cost > 1;
    if !too_dear && !matches!(answer.status, 200 | 401 | 429 | 503) {
        world.violate("healthy_is_exact", format!("{asked:?} was answered {}", answer.status));
    }
    if !matches!(answer.status, 200 | 429) {
        return;
    }
    let Some(headers) = headers(&answer) else {
        return world.violate("remaining_is_honest", format!("no headers: {answer:?}"));
    };
    let period = world.plan.base.limits[0].1 * 1_000;
    let mut state = world.lock();
    let calm = state.observations.was_calm(asked.began.saturating_sub(period), asked.ended);
    let new = || Window {
        limit: (headers.limit, headers.limit),
        admitted: 0,
        denied_min: None,
        seen: (asked.began, asked.ended),
        remaining: BTreeMap::new(),
    };
    let window = state.observations.windows.entry((asked.key, headers.reset)).or_insert_with(new);
    window.limit = (window.limit.0.min(headers.limit), window.limit.1.max(headers.limit));
    window.seen = (window.seen.0.min(asked.began), window.seen.1.max(asked.ended));
    if answer.status == 200 {
        window.admitted += asked.cost;
    } else {
        let smallest = window.denied_min.map_or(asked.cost, |min| min.min(asked.cost));
        window.denied_min = Some(smallest);
    }
    let honest = remaining_is_honest::answered(window, calm, asked, answer.status, headers);
    let window = window.clone();
    drop(state);
    if honest.is_err() {
        tokens_are_conserved::log_holdings(world);
    }
    world.judge("remaining_is_honest", honest);
    world.judge("never_over_admits", never_over_admits::look(world, asked.key, &window));
}

/// Looks into the nodes periodically, and closes windows that are over.
pub(crate) async fn run(world: Arc<Shared>) {
    let mut looked = 0;
    loop {
        world.sleep(EVERY).await;
        looked += 1;
        world.judge("tokens_are_conserved", tokens_are_conserved::look(&world));
        world.judge("time_is_bounded", time_is_bounded::look(&world));
        if looked % 6 == 0 {
            replicas_agree::look(&world, false);
            close_windows(&world, false);
        }
    }
}

/// Judges each window once, when no more requests will use it, and removes it.
pub(crate) fn close_windows(world: &Shared, all: bool) {
    let period = world.plan.base.limits[0].1 * 1_000;
    let patience = 60 * SECOND;
    let now = world.now();
    let over: Vec<_> = {
        let mut state = world.lock();
        let over = |window: &Window| all || window.seen.1 + 2 * period + patience < now;
        let ids = state.observations.windows.iter().filter(|(_, window)| over(window));
        let ids: Vec<_> = ids.map(|(id, _)| *id).collect();
        ids.into_iter()
            .filter_map(|id| Some((id, state.observations.windows.remove(&id)?)))
            .collect()
    };
    for ((key, reset), window) in over {
        let result = healthy_is_exact::closed(world, key, reset, &window);
        world.judge("healthy_is_exact", result);
    }
}

/// Whether the limit of a key may have changed while a window was in use.
fn was_changed(world: &Shared, key: usize, window: &Window) -> bool {
    let period = world.plan.base.limits[0].1 * 1_000;
    let state = world.lock();
    let Some(key) = state.observations.keys.get(key) else { return true };
    let settled = key.limit_answered.is_some_and(|at| at + period < window.seen.0);
    window.limit.0 != window.limit.1
        || key.limit_asked.is_some_and(|asked| asked <= window.seen.1 && !settled)
}
