//! Whether this node forms the new cluster.
//!
//! Answers for: a cluster begins only with wall clocks that agree, and one node forms it. Forming
//! twice is harmless: both write the same list of members, and consensus elects one leader.

use std::collections::BTreeMap;

use fluxgate_types::{BootNs, NodeId};

use super::{Effect, Heard, Join, Report, Situation};
use crate::clock::sync::{self, ClockAnswer, ClocksDiffer};
use crate::fault::Mutation;

/// How long a node waits for those with lower ids before it forms the cluster itself, milliseconds:
/// longer than nodes that are started together take to come up one after the other, and short
/// enough that a first start with a node missing is not held up for long.
pub const FORM_PATIENCE_MS: u64 = 5_000;
/// How long a node that knows no other listens before it forms a cluster alone, milliseconds. If it
/// has lost its disk, the other nodes of its cluster call it meanwhile, each several times a
/// second; such a call names another data directory, and this node ends.
pub const FORM_ALONE_MS: u64 = 500;

impl Join {
    fn waits_longer_than(&self, now: BootNs, ms: u64) -> bool {
        now > self.begun.plus_ms(ms)
    }

    /// Whether a node that knows no other has listened long enough to form a cluster alone.
    pub(super) fn has_listened_alone(&self, now: BootNs) -> bool {
        self.waits_longer_than(now, FORM_ALONE_MS)
    }

    /// Whether this node must form a new cluster: it has the lowest id of those whose clocks agree,
    /// or the nodes with lower ids do not come.
    pub(super) fn forms(
        &mut self,
        now: BootNs,
        situation: &Situation,
        heard: &BTreeMap<NodeId, Heard>,
    ) -> bool {
        let me = self.settings.me;
        if !self.settings.members.contains(&me) {
            return false;
        }
        let others = heard.iter().map(|(node, by)| by.said.time.answer(*node, by.at, now));
        let answers: Vec<ClockAnswer> =
            others.chain([situation.times.answer(me, now, now)]).collect();
        let bound_ns = self.settings.clock_error_ms_max.saturating_mul(1_000_000);
        let fit = match sync::fit_to_form(&answers, self.settings.members.len(), bound_ns) {
            Ok(fit) => fit,
            Err(_) if Mutation::UnsetClockLeads.active() => {
                answers.iter().map(|answer| answer.node).collect()
            }
            Err(differ) => {
                self.note_clocks_differ(differ);
                return false;
            }
        };
        self.effects.push_back(Effect::NoteClocks(None));
        let wrong = answers.iter().map(|answer| answer.node).filter(|node| !fit.contains(node));
        self.report_wrong_clocks(wrong.collect());
        let lower = self.settings.members.iter().take_while(|node| **node != me);
        let patient = self.waits_longer_than(now, FORM_PATIENCE_MS);
        let mut waits_for = lower.filter(|node| match heard.get(*node) {
            Some(_) => fit.contains(*node),
            None => !patient,
        });
        fit.contains(&me) && waits_for.next().is_none()
    }

    fn note_clocks_differ(&mut self, differ: ClocksDiffer) {
        if !std::mem::replace(&mut self.reported.clocks, true) {
            self.report(Report::ClocksDiffer(differ.clone()));
        }
        self.effects.push_back(Effect::NoteClocks(Some(differ)));
    }

    fn report_wrong_clocks(&mut self, nodes: Vec<NodeId>) {
        if !nodes.is_empty() && !std::mem::replace(&mut self.reported.clocks, true) {
            self.report(Report::WrongClocks { nodes });
        }
    }
}
