//! After the faults every node is ready, knows a new key, admits requests with it, and takes a
//! write.

use std::sync::Arc;

use fluxgate_server::Listener;

use crate::world::{PATIENCE, Shared, create, operator, validate};

/// Attempts of a write: another node's hand-over may be in progress.
const TRIES: usize = 3;

pub(crate) async fn look(world: &Arc<Shared>) {
    for id in world.nodes() {
        let ready = operator("GET", "/readyz", None);
        let Some(ready) = ready else { return };
        let answer = world.ask(id, Listener::Admin, ready, PATIENCE).await.flatten();
        if answer.as_ref().is_none_or(|answer| answer.status != 200) {
            let text = answer.map(|a| String::from_utf8_lossy(&a.body).into_owned());
            world.violate("cluster_heals", format!("node {id} is not ready: {text:?}"));
        }
    }
    let mut fresh = None;
    for _ in 0..TRIES {
        fresh = create(world).await;
        if fresh.is_some() {
            break;
        }
    }
    let Some(fresh) = fresh else {
        return world.violate("cluster_heals", "no node takes a write".to_owned());
    };
    for id in world.nodes() {
        validate(Arc::clone(world), fresh, id).await;
    }
}
