//! Limits in mode shadow: counted after an admission, each by itself. No request waits for them.

use std::sync::Arc;

use fluxgate_engine::quota::{LookedUp, SubjectLimits, Verdict, Which};
use fluxgate_peer::process;
use fluxgate_types::{Cost, Subject};

use super::{Counters, unavailable};

impl Counters {
    /// Counts an admitted request against limits in mode shadow of a subject. Where tokens are missing,
    /// other nodes are asked for them in the background, as for any request; what would have been denied
    /// appears in the metrics, under what `name` makes of the name of the limit.
    pub fn shadow(
        self: &Arc<Self>,
        subject: &Subject,
        known: &LookedUp,
        cost: Cost,
        name: &dyn Fn(&str) -> String,
    ) {
        let subject = subject.shadow();
        for spec in &*known.limits.specs {
            let which = Which::one(spec);
            let limits = SubjectLimits { specs: [spec.clone()].into(), ..known.limits.clone() };
            let known = LookedUp { limits, revision: known.revision, which };
            match self.decide_or_wait(&subject, known, cost) {
                Err(decided) => {
                    self.note_shadow(decided.decision.verdict, || name(&spec.limit.name));
                }
                // At most `caps::WAITING_PER_KEY_MAX` of a subject.
                Ok((wait, _)) => {
                    let (counters, name) = (Arc::clone(self), name(&spec.limit.name));
                    self.waiting.notify_one();
                    tokio::spawn(process::bind(async move {
                        let lost = |_| (unavailable(), Arc::default());
                        let (decision, _) = wait.await.unwrap_or_else(lost);
                        counters.note_shadow(decision.verdict, || name);
                    }));
                }
            }
        }
    }

    fn note_shadow(&self, verdict: Verdict, name: impl FnOnce() -> String) {
        match verdict {
            Verdict::Admitted | Verdict::Unavailable => {}
            Verdict::Limited => self.parts.metrics.shadow_denied(name(), true),
            Verdict::Degraded => self.parts.metrics.shadow_denied(name(), false),
        }
    }
}
