//! Which start of the node this is, as its data directory remembers it.

use std::sync::Arc;

use fluxgate_engine::state::cluster_state::StartId;
use fluxgate_peer::process;

use crate::state::NodeState;

/// What was recorded on disk for this start.
#[derive(Default)]
pub(super) struct StartNote {
    asked: Option<StartId>,
    registered: Option<StartId>,
}

impl StartNote {
    /// Durable BEFORE the first request: the first lease registers this start, and a directory that
    /// does not remember a registered start is taken for a copy.
    pub(super) async fn ask(&mut self, state: &Arc<NodeState>) -> std::io::Result<()> {
        let own = state.start_id();
        if self.asked != Some(own) {
            let noting = Arc::clone(state);
            process::on_disk(move || noting.note_asking()).await??;
            self.asked = Some(own);
        }
        Ok(())
    }

    pub(super) async fn registered(&mut self, state: &Arc<NodeState>) {
        let own = state.start_id();
        if self.registered == Some(own) {
            return;
        }
        let noting = Arc::clone(state);
        let noted = process::on_disk(move || noting.note_registered()).await;
        // Retried at the next renewal; until then the file keeps earlier starts too.
        match noted.and_then(|noted| noted) {
            Ok(()) => self.registered = Some(own),
            Err(error) => tracing::warn!(%error, "this start was not noted on the disk"),
        }
    }
}
