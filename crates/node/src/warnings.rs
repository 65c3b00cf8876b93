//! Warnings for the operator, as text: for `/v1/cluster`, the console, `cluster status` and the log
//! of a start.

use fluxgate_raft::Role;
use fluxgate_types::NodeId;
use fluxgate_wire::peer::{More, Writes};

use crate::state::NodeState;

/// Warn of a certificate that expires within this time, seconds: two weeks.
const CERTIFICATE_ENDS_SOON_S: i64 = 14 * 24 * 3_600;
/// What to do if states differ.
const COMPARE: &str = "The majority itself may run on older data directories: compare the keys that were \
                       changed recently before you empty anything; then remove the nodes with the wrong \
                       state, empty their data directories, and add them again";

impl NodeState {
    /// All warnings of this node.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.of_its_own();
        warnings.extend(self.of_certificates());
        warnings.extend(self.of_states());
        warnings.extend(self.of_clocks());
        let status = self.raft.status();
        for node in status.nodes.keys() {
            let more =
                if *node == self.me { Some(self.peers.more()) } else { self.heard.more_of(*node) };
            warnings.extend(more.iter().flat_map(|more| self.of_node(*node, more, status.leader)));
        }
        if let Some((old, new)) = &status.changing {
            let list = |nodes: &[NodeId]| {
                nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ")
            };
            warnings.push(format!(
                "the members are being changed from nodes {} to nodes {}: until that has ended, writes \
                 and leases need a majority of both",
                list(old),
                list(new)
            ));
        }
        if status.role == Role::Leader {
            // A follower that answers although it is behind is receiving the missing entries.
            for (node, member) in status.nodes.iter().filter(|(node, _)| **node != self.me) {
                let lag = status.last_log.0.saturating_sub(member.matched.map_or(0, |at| at.0));
                if self.heard.heard_lately(*node) && lag > LAG_LARGE {
                    warnings
                        .push(format!("node {node} is {lag} log entries behind and catches up"));
                }
            }
        }
        warnings
    }

    /// Warnings about this node itself, which may answer nevertheless.
    pub fn own_warnings(&self) -> Vec<String> {
        let mut warnings = self.of_node(self.me, &self.peers.more(), self.raft.status().leader);
        let offset_ms = self.clock.offset_ms();
        if offset_ms.unsigned_abs() > self.member.terms_in_force().clock_error_ms_max {
            warnings.push(of_clock(&(self.me, offset_ms)));
        }
        warnings.extend(self.of_certificates());
        warnings
    }

    /// Certificates of this node's listeners that expire soon, or have expired.
    fn of_certificates(&self) -> Vec<String> {
        let now_s = i64::try_from(crate::clock::wall_ns() / 1_000_000_000).unwrap_or(i64::MAX);
        let of = |(listener, ends_s): (String, i64)| {
            let left_s = ends_s.saturating_sub(now_s);
            let when = if left_s <= 0 {
                "has expired: callers reject it".to_owned()
            } else if left_s < CERTIFICATE_ENDS_SOON_S {
                format!("expires in {}", span(left_s.saturating_mul(1_000)))
            } else {
                return None;
            };
            Some(format!(
                "the certificate of the {listener} listener of node {} {when}; replace it",
                self.me
            ))
        };
        self.metrics.certificates().into_iter().filter_map(of).collect()
    }

    fn of_its_own(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.config.members.len() > 1 && !self.config.peer_listen.ip().is_loopback() {
            match &self.config.peer_tls {
                None => warnings
                    .push("peer traffic is not encrypted and leaves this machine".to_owned()),
                Some(tls) if tls.accept_plain => warnings.push(
                    "peer traffic may be unencrypted: [peer] tls still has accept_plain".to_owned(),
                ),
                Some(_) => {}
            }
        }
        if self.config.operator_token.is_none() {
            warnings
                .push("no operator token is configured: only admin keys can administer".to_owned());
        }
        warnings
    }

    fn of_states(&self) -> Option<String> {
        let different: Vec<String> =
            self.agreement.different().iter().map(NodeId::to_string).collect();
        if different.is_empty() {
            return None;
        }
        let nodes = different.join(", ");
        Some(if self.agreement.differs() {
            format!(
                "the state of node {} differs from that of node {nodes} at the same log entry, and is \
                 not that of a majority: node {0} answers nothing. {COMPARE}",
                self.me
            )
        } else {
            format!(
                "the state of node {nodes} differs from that of a majority at the same log entry. {COMPARE}"
            )
        })
    }

    /// Wall clocks that differ from cluster time by more than the cluster's terms allow.
    fn of_clocks(&self) -> Vec<String> {
        let bound_ms = self.member.terms_in_force().clock_error_ms_max;
        let nodes = self.raft.status().nodes;
        let offset = |node: &NodeId| {
            if *node == self.me {
                return Some(self.clock.offset_ms());
            }
            let about = self.heard.about(*node).filter(|_| self.heard.heard_lately(*node))?;
            Some(about.clock_offset_ms)
        };
        let wrong = nodes.keys().filter_map(|node| {
            let offset = offset(node)?;
            (offset.unsigned_abs() > bound_ms).then_some((*node, offset))
        });
        let wrong: Vec<(NodeId, i64)> = wrong.collect();
        // If most nodes are off in one direction, cluster time is more likely wrong than each of
        // them.
        let most = wrong.len() * 2 > nodes.len();
        let middle = |wrong: &[(NodeId, i64)]| {
            let mut offsets: Vec<i64> = wrong.iter().map(|(_, offset)| *offset).collect();
            offsets.sort_unstable();
            offsets.get(offsets.len() / 2).copied().unwrap_or(0)
        };
        if most && wrong.iter().all(|(_, ms)| *ms > 0) {
            return vec![format!(
                "cluster time is {} behind the wall clocks of most nodes: if those are right, \
                 `fluxgate cluster set-time` sets it forward",
                span(middle(&wrong))
            )];
        }
        if most && wrong.iter().all(|(_, ms)| *ms < 0) {
            return vec![format!(
                "cluster time is {} ahead of the wall clocks of most nodes, and keys expire by it: if \
                 those are right, a wrong clock has set it forward, and it never goes back: wait until \
                 they have caught up, or restore a backup into a new cluster",
                span(middle(&wrong))
            )];
        }
        wrong.iter().map(of_clock).collect()
    }

    fn of_node(&self, node: NodeId, more: &More, leader: Option<NodeId>) -> Vec<String> {
        let mut warnings = Vec::new();
        let what = match more.writes {
            Writes::Fine => None,
            Writes::DiskFull => Some("the disk of its data directory is full"),
            Writes::Stalled => Some("its disk does not confirm writes"),
        };
        if let Some(what) = what {
            let means = if leader == Some(node) {
                "it leads, and writes wait until another node does"
            } else {
                "it falls behind at the next write, and then answers nothing"
            };
            warnings.push(format!("node {node} cannot write: {what}. Free some space; {means}"));
        }
        let (own, terms) = (more.configured, self.shared.cluster().terms());
        if let Some(terms) = terms.filter(|terms| *terms != own) {
            warnings.push(format!(
                "the file of node {node} has a lease of {} ms and a clock error of {} ms, but {} ms and \
                 {} ms are in force in the cluster: give all files the same values",
                own.lease_ms, own.clock_error_ms_max, terms.lease_ms, terms.clock_error_ms_max
            ));
        }
        warnings
    }
}

/// A follower may be this many entries behind without a warning.
const LAG_LARGE: u64 = 1_000;

fn of_clock((node, offset_ms): &(NodeId, i64)) -> String {
    let direction = if *offset_ms > 0 { "ahead of" } else { "behind" };
    let by = span(*offset_ms);
    format!("the wall clock of node {node} is {by} {direction} cluster time: set it, or repair NTP")
}

/// A time span for people.
fn span(ms: i64) -> String {
    let seconds = ms.unsigned_abs() / 1_000;
    match seconds {
        0..=9 => format!("{} ms", ms.unsigned_abs()),
        10..=599 => format!("{seconds} s"),
        600..=172_799 => format!("{} min", seconds / 60),
        _ => format!("{} days", seconds / 86_400),
    }
}
