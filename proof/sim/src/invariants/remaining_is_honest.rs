//! Remaining never rises on one node within a window; what a denial shows is less than its cost, and
//! an admission that shows 0 took the last token.

use std::collections::BTreeMap;

use fluxgate_engine::quota::{CounterId, Verdict};
use fluxgate_types::{BootId, NodeId};

use super::{Invariant, find};
use crate::messages::{Charged, Seen};
use crate::world::World;

type Shown = ((Option<u64>, u64), u64);

#[derive(Default)]
pub(super) struct Judge {
    // With the revision of the key's record and the tokens of the limit.
    shown: BTreeMap<(CounterId, NodeId, BootId), Shown>,
}

impl Invariant for Judge {
    fn name(&self) -> &'static str {
        "remaining_is_honest"
    }

    fn see(&mut self, world: &World, node: NodeId, seen: &Seen) -> Result<(), String> {
        let Seen::Decided { request, decision, at, charged } = seen else { return Ok(()) };
        if matches!(decision.verdict, Verdict::Unavailable) {
            return Ok(());
        }
        let Some((one, spec)) = Charged::deciding(charged, decision) else { return Ok(()) };
        let Some(boot) = world.boot(node) else { return Ok(()) };
        let remaining = decision.remaining;
        if decision.verdict == Verdict::Limited && remaining >= request.cost.max(1) {
            return Err(format!("node {node} denied {} and showed {remaining}", request.cost));
        }
        let counter = one.counter(spec, *at);
        if decision.verdict == Verdict::Admitted
            && remaining == 0
            && world.limit_is_settled(&(counter.subject, counter.limit, counter.window))
        {
            let left = find(world, &counter, &one.limits, spec).reachable;
            if left > 0 {
                return Err(format!("{counter:?}: node {node} showed 0 with {left} left"));
            }
        }
        // Starts again after a change of the limit, also a change there and back; requests that
        // waited while the key lost the limit each have its tokens as they were. A thread that has been
        // held up since before the share map was known counts and shows by the earlier tokens.
        let table = world.node(node).map(|node| &node.replica.shared.table);
        let key = counter.subject.key();
        let revision = table.zip(key).and_then(|(table, key)| table.with(&key, |e| e.revision()));
        let under = (revision, decision.tokens);
        let new = (under, u64::MAX);
        let shown = self.shown.entry((counter, node, boot)).or_insert(new);
        if shown.0 != under {
            *shown = new;
        }
        if remaining > shown.1 {
            return Err(format!(
                "{counter:?}: node {node} showed {} and then {remaining}",
                shown.1
            ));
        }
        shown.1 = remaining;
        Ok(())
    }

    fn each_second(&mut self, world: &World) -> Result<(), String> {
        if self.shown.len() > 10_000 {
            let windows = &world.book.windows;
            self.shown.retain(|(c, ..), _| windows.contains_key(&(c.subject, c.limit, c.window)));
        }
        Ok(())
    }
}
