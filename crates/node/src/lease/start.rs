//! Which start of the node this is, as its data directory remembers it.

use std::sync::Arc;

use fluxgate_engine::registry::cluster_state::Incarnation;
use fluxgate_raft::process;

use crate::core::Core;

/// What was noted on the disk of this start.
#[derive(Default)]
pub(super) struct StartNote {
    asked: Option<Incarnation>,
    registered: Option<Incarnation>,
}

impl StartNote {
    /// Durable BEFORE the first ask: the first lease registers this start, and a directory that does
    /// not remember a registered start is taken for a copy.
    pub(super) async fn ask(&mut self, core: &Arc<Core>) -> std::io::Result<()> {
        let own = core.incarnation();
        if self.asked != Some(own) {
            let noting = Arc::clone(core);
            process::on_disk(move || noting.note_asking()).await??;
            self.asked = Some(own);
        }
        Ok(())
    }

    pub(super) async fn registered(&mut self, core: &Arc<Core>) {
        let own = core.incarnation();
        if self.registered == Some(own) {
            return;
        }
        let noting = Arc::clone(core);
        let noted = process::on_disk(move || noting.note_registered()).await;
        // Tried again with the next renewal; until then earlier starts are remembered too.
        match noted.and_then(|noted| noted) {
            Ok(()) => self.registered = Some(own),
            Err(error) => tracing::warn!(%error, "this start was not noted on the disk"),
        }
    }
}
