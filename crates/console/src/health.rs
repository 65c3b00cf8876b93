//! Problems of the cluster, and what they mean for callers.
//!
//! Answers for: every problem says what callers notice and what an operator can do. Uses the view
//! of one node and nothing else.

use fluxgate_api::cluster::ClusterView;

/// A wall clock that differs this much from cluster time is reported, milliseconds.
const OFFSET_MS_LARGE: u64 = 1_000;
/// A node that lags by this many log entries is reported.
const LAG_LARGE: u64 = 1_000;

/// How severe a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Should be checked; callers notice nothing.
    Notice,
    /// Callers are served, with restrictions.
    Degraded,
    /// Some node rejects callers.
    Critical,
}

impl Severity {
    /// The name, for style classes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Degraded => "degraded",
            Self::Critical => "critical",
        }
    }
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How severe it is.
    pub severity: Severity,
    /// What is wrong.
    pub what: String,
    /// What it means for callers, and what to do.
    pub means: String,
}

/// "node 1", "nodes 1 and 3", "nodes 1, 2 and 3", "no node".
#[must_use]
pub fn nodes_text(nodes: &[u64]) -> String {
    match nodes {
        [] => "no node".to_owned(),
        [one] => format!("node {one}"),
        [before @ .., last] => {
            let before: Vec<String> = before.iter().map(u64::to_string).collect();
            format!("nodes {} and {last}", before.join(", "))
        }
    }
}

fn problem(severity: Severity, what: impl Into<String>, means: impl Into<String>) -> Problem {
    Problem { severity, what: what.into(), means: means.into() }
}

/// All problems of the view, the most severe first.
#[must_use]
pub fn problems(view: &ClusterView) -> Vec<Problem> {
    let ready: Vec<u64> =
        view.nodes.iter().filter(|node| node.ready == Some(true)).map(|node| node.id).collect();
    let mut found = Vec::new();
    let reached = view.nodes.iter().filter(|node| node.reachable).count();
    let lost = if view.leader.is_none() {
        Some(format!("Node {} knows no leader.", view.node_id))
    } else if reached * 2 <= view.nodes.len() {
        // A leader that lost the other nodes does not notice immediately that it has no majority.
        Some(format!("Node {} reaches no majority of the nodes.", view.node_id))
    } else {
        None
    };
    if let Some(what) = lost {
        found.push(problem(
            Severity::Critical,
            what,
            "Keys cannot be created, changed or revoked until a majority of the nodes elect a \
             leader. Nodes answer callers while their lease lasts, a few seconds, and then return \
             503. Start the nodes that are down, or repair the network between them.",
        ));
    }
    let clocks_are_named = view.warnings.iter().any(|warning| warning.contains("wall clock"));
    let of_node = |node| of_node(node, view.node_id, &ready, clocks_are_named);
    found.extend(view.nodes.iter().filter_map(of_node));
    if view.pending_share_map.is_some() {
        found.push(problem(
            Severity::Notice,
            "A new share map takes effect with the next windows.".to_owned(),
            "Callers notice nothing: each window uses a single map.",
        ));
    }
    found.extend(
        view.warnings.iter().map(|warning| {
            problem(severity_of(warning), sentence(warning), "Reported by this node.")
        }),
    );
    found.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
    found
}

/// Parts of warnings that report more than a setting: a function is missing, or a value may be
/// wrong.
const GRAVE: [&str; 5] = [
    "has expired: callers",
    "differs from that of",
    "cannot write",
    "are being changed",
    "ahead of the wall clocks of most",
];

fn severity_of(warning: &str) -> Severity {
    if GRAVE.iter().any(|words| warning.contains(words)) {
        Severity::Degraded
    } else {
        Severity::Notice
    }
}

/// `clocks_are_named`: the node's own warnings already name the clocks that are wrong.
fn of_node(
    node: &fluxgate_api::cluster::NodeView,
    me: u64,
    ready: &[u64],
    clocks_are_named: bool,
) -> Option<Problem> {
    let id = node.id;
    let answered = match ready {
        // This node may be the one that is cut off.
        [] => format!("Node {me} knows of no node that answers requests: check another node too."),
        some => format!("Requests are still answered by {}.", nodes_text(some)),
    };
    let lost = if ready.is_empty() { Severity::Critical } else { Severity::Degraded };
    if !node.reachable {
        return Some(problem(
            lost,
            match &node.trouble {
                None => format!("Node {id} does not answer node {me}."),
                Some(why) => format!("Node {me} cannot call node {id}: {why}."),
            },
            format!(
                "{answered} Limits hold. Node {id}'s unspent share of the current windows may be \
                 unavailable, so callers may hit their limits slightly early until budgets are \
                 redistributed. Bring it back; if it is lost for good, remove it."
            ),
        ));
    }
    if node.trouble.as_ref().is_some_and(|why| why.starts_with("stopping")) {
        return Some(problem(
            Severity::Degraded,
            format!("Node {id} is stopping."),
            format!("It answers until its drain period ends, but is not ready. {answered}"),
        ));
    }
    if let (Some(why), false) = (&node.trouble, node.ready == Some(true)) {
        return Some(problem(
            lost,
            format!("Node {id} does not serve requests ({why})."),
            format!("Callers get 503 from it, and gateways ask the next node. {answered}"),
        ));
    }
    if node.lease_remaining_ms == Some(0) {
        return Some(problem(
            lost,
            format!("Node {id} holds no lease."),
            format!("Callers get 503 from it, and gateways ask the next node. {answered}"),
        ));
    }
    if node.ready == Some(false) {
        return Some(problem(
            lost,
            format!("Node {id} is not ready."),
            format!(
                "Callers get 503 from it until it has caught up, or it is stopping. {answered}"
            ),
        ));
    }
    let is_far = |offset: i64| offset.unsigned_abs() >= OFFSET_MS_LARGE;
    if node.clock_offset_ms.is_some_and(is_far) && !clocks_are_named {
        return Some(problem(
            Severity::Notice,
            format!("The clock of node {id} is off by {} ms.", node.clock_offset_ms.unwrap_or(0)),
            "Windows follow cluster time, so callers notice nothing. Check the machine's \
             time service before you restart the node.",
        ));
    }
    node.lag.is_some_and(|lag| lag >= LAG_LARGE).then(|| {
        problem(
            Severity::Notice,
            format!("Node {id} lags by {} log entries.", node.lag.unwrap_or(0)),
            "Changes wait for it until its lease ends; callers notice nothing.",
        )
    })
}

/// A text with a capital first letter and a full stop.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let stop = if text.ends_with('.') { "" } else { "." };
    format!("{first}{}{stop}", chars.as_str())
}

#[cfg(test)]
pub(crate) mod tests {
    use fluxgate_api::Text;
    use fluxgate_api::cluster::{NodeView, Role, ShareMapView};
    use fluxgate_types::ClusterMs;

    use super::*;

    pub(crate) fn healthy() -> ClusterView {
        let node = |id| NodeView {
            id,
            peer: format!("127.0.0.1:730{id}"),
            role: if id == 1 { Role::Leader } else { Role::Follower },
            term: Some(1),
            applied: Some(9),
            lag: Some(0),
            lease_remaining_ms: Some(2_000),
            ready: Some(true),
            reachable: true,
            trouble: None,
            peer_tls: None,
            clock_offset_ms: Some(1),
            version: Some("0.1.0".to_owned()),
            writes: None,
            free_bytes: None,
            configured_lease_ms: None,
            start: None,
        };
        ClusterView {
            cluster: "test".to_owned(),
            node_id: 1,
            leader: Some(1),
            term: 1,
            committed: 9,
            applied: 9,
            cluster_time: Text(ClusterMs(0)),
            clock_offset_ms: 1,
            version: "0.1.0".to_owned(),
            share_map: ShareMapView { from: Text(ClusterMs(0)), nodes: Vec::new() },
            pending_share_map: None,
            nodes: (1..=3).map(node).collect(),
            lease_ms: 3_000,
            clock_error_max_ms: 1_000,
            certificates: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_healthy_cluster_has_no_problem() {
        assert_eq!(problems(&healthy()), []);
    }

    #[test]
    fn a_lost_node_is_named_with_those_that_still_answer() {
        let mut view = healthy();
        view.nodes[1].reachable = false;
        view.nodes[1].ready = None;
        let found = problems(&view);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].severity, Severity::Degraded);
        assert!(found[0].means.contains("still answered by nodes 1 and 3"), "{found:?}");
    }

    #[test]
    fn a_leader_without_a_majority_is_reported() {
        let mut view = healthy();
        view.nodes[1].reachable = false;
        view.nodes[2].reachable = false;
        let found = problems(&view);
        assert_eq!(found[0].what, "Node 1 reaches no majority of the nodes.");
    }

    #[test]
    fn problems_are_sorted_by_severity() {
        let mut view = healthy();
        view.leader = None;
        view.warnings = vec!["peers speak plain".to_owned()];
        view.nodes[2].lease_remaining_ms = Some(0);
        let found = problems(&view);
        let severities: Vec<_> = found.iter().map(|problem| problem.severity).collect();
        assert_eq!(severities, [Severity::Critical, Severity::Degraded, Severity::Notice]);
        assert_eq!(found[2].what, "Peers speak plain.");
    }

    #[test]
    fn lists_of_nodes_are_written_in_words() {
        assert_eq!(nodes_text(&[1]), "node 1");
        assert_eq!(nodes_text(&[1, 3]), "nodes 1 and 3");
        assert_eq!(nodes_text(&[1, 2, 3]), "nodes 1, 2 and 3");
    }
}
