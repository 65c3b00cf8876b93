//! Every metric: its name, its labels, what it means, and what an operator does about it.
//!
//! Answers for: names and label values that dashboards and alerts know, which never change; no key,
//! owner or address as a label. `docs/metrics.md` is made from here.

use fluxgate_api::Verdict;
use fluxgate_engine::state::record::Status;
use fluxgate_peer::Call;
use prometheus::{
    Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};

use super::labels::{
    BARRIERS, DIRECTIONS, ELECTIONS, Endpoint, Kind, LISTENERS, METHODS, PEER_RESULTS, PROPOSALS,
    RENEWALS, SHARED_SETTINGS, TOKENS, TRANSFERS,
};
use super::table::{closed, later, open};

/// From 10 µs to 1 s.
const SECONDS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025,
    0.05, 0.1, 0.25, 0.5, 1.0,
];
/// For what may take a lease or more.
const LONG_SECONDS: &[f64] =
    &[0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

super::table::metrics! {
    "Requests" => {
        validate_requests: IntCounterVec {
            name: "fluxgate_validate_requests_total",
            help: "Validates by verdict, and by the endpoint that took them.",
            labels: [
                closed("verdict", Verdict::ALL.map(Verdict::label)),
                closed("endpoint", Endpoint::ALL.map(Endpoint::as_str))
            ],
            means: "Every check of a key, one for each item of a batch. `limited` is a denial with \
                a proof that no token was left, `degraded` one without. `unavailable` is a node \
                that may not answer, such as one without a lease: it counted nothing, and the \
                caller asks another node. `invalid` costs more than a limit of the key ever allows. \
                `admin` are requests to the admin listener, console included, that do not present \
                the operator token.",
            advice: "For `unavailable` read `/readyz` of the node. `degraded` means that a node \
                which has tokens does not answer the others. For `unauthenticated` find the caller \
                in the gateway's log, for `limited` look at `fluxgate keys usage` of its key.",
        }
        validate_duration: HistogramVec {
            name: "fluxgate_validate_duration_seconds",
            help: "Time from a validate to its verdict.",
            labels: [closed("endpoint", Endpoint::ALL.map(Endpoint::as_str))],
            buckets: SECONDS,
            means: "It includes waits for tokens of other nodes, and not the reading and writing on \
                the socket. A node that decides alone takes microseconds.",
            advice: "Compare `fluxgate_counter_wait_seconds`: where waits grow too, limits are \
                small or another node is slow. Otherwise the processor is short.",
        }
        http_requests: IntCounterVec {
            name: "fluxgate_http_requests_total",
            help: "HTTP and gRPC requests by route, method and status.",
            labels: [
                open("route", "the template of the route, never a path, and `other` for no route"),
                later("method", METHODS),
                open("status", "the HTTP status")
            ],
            means: "Requests that the gateway, gRPC and admin listeners answered. The route of a \
                gRPC call is its full method name.",
            advice: "500 is a fault of the node: keep its log and report it. 503 on the routes of \
                validates is `unavailable` above.",
        }
        http_seconds: HistogramVec {
            name: "fluxgate_http_request_seconds",
            help: "Duration of HTTP and gRPC requests by route.",
            labels: [open("route", "as of `fluxgate_http_requests_total`")],
            buckets: LONG_SECONDS,
            means: "From the head of a request to its response. A write waits for its barrier, so a \
                slow route that writes is explained by `fluxgate_raft_proposal_seconds`.",
            advice: "Find out whether reads are slow too. If they are, look at the machine's load.",
        }
        tls_failures: IntCounterVec {
            name: "fluxgate_tls_handshake_failures_total",
            help: "Connections that failed before TLS was agreed, by listener.",
            labels: [closed("listener", LISTENERS)],
            means: "The caller speaks plain HTTP, does not trust the node's certificate, or \
                presents none that the node trusts.",
            advice: "The node's log names the caller's address and the cause.",
        }
        certificate_ends: IntGaugeVec {
            name: "fluxgate_tls_certificate_expiry_timestamp_seconds",
            help: "Unix time at which the certificate of a listener ends.",
            labels: [later("listener", LISTENERS)],
            means: "Only listeners that have TLS have a series.",
            advice: "Put a new certificate in the place of the old one. The node reads it within \
                five seconds, without a restart.",
        }
    }
    "Keys and counters" => {
        keys: IntGaugeVec {
            name: "fluxgate_keys",
            help: "Keys by status.",
            labels: [closed("status", Status::ALL.map(Status::as_str))],
            means: "Records in this node's copy of the state, counted every five seconds. Nodes \
                agree but for what one of them has still to apply. Erased records do not count.",
            advice: "It sizes memory: 400 to 500 bytes a key. Where `revoked` and `expired` grow \
                without end, set `purge_after` in `[keys]`.",
        }
        counters: IntGauge {
            name: "fluxgate_counters",
            help: "Window counters in memory.",
            means: "One for each key, limit and window in use on this node. It falls when windows \
                end.",
            advice: "It sizes memory: about 1 100 bytes each. A rise without more traffic means \
                that more different keys are used.",
        }
        decisions: IntCounterVec {
            name: "fluxgate_counter_decisions_total",
            help: "Decisions on limits by how this node came to them.",
            labels: [closed("kind", Kind::ALL.map(Kind::as_str))],
            means: "`local` was admitted with tokens that the node had, `waited` after it got some \
                from another node. `proven` was denied with a proof that no token was left. \
                `degraded` could not be proven, and was denied or answered as unavailable.",
            advice: "A large part of `waited` is normal where limits are small. For `degraded` find the node that does not answer.",
        }
        wait_seconds: Histogram {
            name: "fluxgate_counter_wait_seconds",
            help: "Time that requests waited for tokens of other nodes.",
            buckets: SECONDS,
            means: "Only requests that this node could not decide alone. About one round trip \
                between nodes; `transfer_wait` bounds it where a node is out of reach.",
            advice: "Longer waits come from a slow or unreachable node: compare \
                `fluxgate_peer_request_seconds{call=\"ask\"}`.",
        }
        asks: IntCounterVec {
            name: "fluxgate_transfer_asks_total",
            help: "Requests for tokens between nodes, by direction and result.",
            labels: [closed("direction", DIRECTIONS), closed("result", TRANSFERS)],
            means: "`out` are requests of this node to others, `in` those of others to this one. \
                `gave` brought tokens, `nothing` none. `failed` had no answer, which only the node \
                that asked can count, so it stays 0 for `in`.",
            advice: "Where `failed` grows, see `fluxgate_peer_requests_total{call=\"ask\"}`. Many \
                `nothing` come with keys that are near or over their limits.",
        }
        tokens: IntCounterVec {
            name: "fluxgate_transfer_tokens_total",
            help: "Tokens that moved between nodes on request, by direction.",
            labels: [closed("direction", DIRECTIONS), closed("result", TOKENS)],
            means: "`out` were got by this node's requests, `in` were given on those of others. \
                What a node hands over at an orderly stop does not count.",
            advice: "No action. A node that only receives gets more traffic than the others: look \
                at how the gateways spread it.",
        }
    }
    "Leases and writes" => {
        lease_remaining: Gauge {
            name: "fluxgate_lease_remaining_seconds",
            help: "Time until this node's lease ends; 0 without one.",
            means: "A node answers validates while it has a lease. Renewals keep the value between \
                80 and 97 % of `lease.duration`, on the leader between 32 and 39 %.",
            advice: "At 0 the node answers 503: `/readyz` says why.",
        }
        renewals: IntCounterVec {
            name: "fluxgate_lease_renewals_total",
            help: "Lease renewals by result.",
            labels: [closed("result", RENEWALS)],
            means: "`failed` is every renewal after which the node has no new lease: the leader did \
                not answer, has no majority, or rejected the node. A few fail at a start and at an \
                election.",
            advice: "`/readyz` and the log of the node say why. A lease lasts for several tries, so \
                find the cause before it ends.",
        }
        proposals: IntCounterVec {
            name: "fluxgate_raft_proposals_total",
            help: "Writes that came to this node, by result.",
            labels: [closed("result", PROPOSALS)],
            means: "`refused` was understood and rejected, such as a change of a key that does not \
                exist. `no_leader` was not written: no leader, too much queued, or no disk that \
                takes it. `unknown` may have been written: its answer was lost.",
            advice: "`refused` is the caller's matter. For the other two see `cluster status`, role \
                and column DISK; callers get 503 and try again.",
        }
        proposal_seconds: Histogram {
            name: "fluxgate_raft_proposal_seconds",
            help: "Time from the first try of a write on this node to its result.",
            buckets: LONG_SECONDS,
            means: "It includes the way to the leader, tries with another one, the commit on a \
                majority, and the write barrier.",
            advice: "Compare `fluxgate_write_barrier_seconds` (a node is slow to apply) with \
                `fluxgate_storage_fsync_seconds` (a disk is slow).",
        }
        barrier: HistogramVec {
            name: "fluxgate_write_barrier_seconds",
            help: "Time from a write's commit until it holds on every node, by what ended the wait.",
            labels: [closed("outcome", BARRIERS)],
            buckets: LONG_SECONDS,
            means: "Recorded on the leader. `all_applied` ended when every node with a lease had \
                applied the write, `lease_expired` when the lease of a silent node had ended.",
            advice: "With `lease_expired` a member is down or cut off: bring it back or remove it. \
                With a slow `all_applied` look for the node that is behind \
                (`fluxgate_raft_applied_index`).",
        }
    }
    "Consensus" => {
        term: IntGauge {
            name: "fluxgate_raft_term",
            help: "Raft term that this node is in.",
            means: "It rises with each election, and is the same on all nodes that reach each \
                other.",
            advice: "A term that keeps rising means that elections are repeated: see \
                `fluxgate_raft_elections_total`.",
        }
        last_log: IntGauge {
            name: "fluxgate_raft_last_log_index",
            help: "Index of the last entry in this node's log.",
            means: "Entries beyond `fluxgate_raft_committed_index` are not yet known to be on a \
                majority.",
            advice: "On a leader whose last entry runs ahead of its committed one, followers do not \
                confirm: look at them and their disks.",
        }
        committed: IntGauge {
            name: "fluxgate_raft_committed_index",
            help: "Index of the last entry that this node knows to be committed.",
            means: "Committed entries are on a majority of disks.",
            advice: "Where it does not rise during writes there is no majority.",
        }
        applied: IntGauge {
            name: "fluxgate_raft_applied_index",
            help: "Index of the last entry applied to this node's state.",
            means: "What callers see on this node. Scrapes are not simultaneous: under load \
                nodes always differ by a few entries.",
            advice: "A node that stays behind has a slow disk or too little processor. Writes wait \
                for it while it has a lease.",
        }
        snapshot: IntGauge {
            name: "fluxgate_raft_snapshot_index",
            help: "Index of the last entry that a snapshot of this node covers.",
            means: "It jumps each time that `raft.snapshot_every` entries were applied; then the \
                log is cut.",
            advice: "Where it does not follow, the disk has no room for a snapshot or the log says \
                why.",
        }
        is_leader: IntGauge {
            name: "fluxgate_raft_is_leader",
            help: "1 on the node that leads, 0 on the others.",
            means: "The sum over a cluster is 1. During a change of leaders it may be 0 or 2 for a \
                scrape.",
            advice: "Where it stays at 2, restart the node with the lower `fluxgate_raft_term`: it \
                can commit nothing.",
        }
        has_leader: IntGauge {
            name: "fluxgate_raft_has_leader",
            help: "1 where this node knows a leader.",
            means: "Without a leader the node takes no writes, and loses its lease within seconds.",
            advice: "0 on all nodes: look for a majority and the network between the peer ports. 0 \
                on one node: it is cut off, or was removed.",
        }
        voters: IntGauge {
            name: "fluxgate_raft_voters",
            help: "Nodes that vote; 0 before this node knows its cluster.",
            means: "The size of the cluster as this node knows it, from which the recorded series \
                take the majority.",
            advice: "If it is not the number of nodes that you run, look at `cluster status` and add \
                or remove the difference.",
        }
        leader_changes: IntCounter {
            name: "fluxgate_raft_leader_changes_total",
            help: "Changes of the leader that this node saw, its first one included.",
            means: "The node looks every five seconds, so several changes in between count as one.",
            advice: "Use `fluxgate_raft_elections_total` to tell losses from hand-overs.",
        }
        elections: IntCounterVec {
            name: "fluxgate_raft_elections_total",
            help: "Times that this node began to lead, by whether the leader before handed over.",
            labels: [closed("cause", ELECTIONS)],
            means: "`handed_over` is planned: an orderly stop, `hand-over`, or a leader that cannot \
                write. `unplanned` means that the leader before was lost, which holds writes up \
                for about a second.",
            advice: "Many `unplanned`: look for slow syncs, a busy machine and lost messages on the \
                node that led.",
        }
        peer_requests: IntCounterVec {
            name: "fluxgate_peer_requests_total",
            help: "Calls of this node to other nodes, by call and result.",
            labels: [
                closed("call", Call::ALL.map(Call::as_str)),
                closed("result", PEER_RESULTS)
            ],
            means: "`append`, `vote`, `pre_vote`, `transfer_leader` and `snapshot` are Raft's, \
                `ask`, `gossip` and `give` move tokens and reports of what was spent, `lease` renews \
                the lease. The others forward writes, wait until they are applied, and collect what \
                commands, the console and a start need.",
            advice: "The log names the node that does not answer: it is down, paused or cut off, or \
                its certificate or secret is not accepted.",
        }
        peer_seconds: HistogramVec {
            name: "fluxgate_peer_request_seconds",
            help: "Duration of calls to other nodes, failed ones included.",
            labels: [closed("call", Call::ALL.map(Call::as_str))],
            buckets: LONG_SECONDS,
            means: "`ask` and `gossip` take about a round trip, `append` a sync of the other node's \
                disk too. `propose` includes the write barrier, and `applied` waits by design.",
            advice: "Where `ask` is slow, look at the network and at the processors; where only \
                `append` is, at the disks.",
        }
    }
    "Storage" => {
        fsync_seconds: Histogram {
            name: "fluxgate_storage_fsync_seconds",
            help: "Duration of syncs of the log.",
            buckets: SECONDS,
            means: "One sync covers all entries that waited for it. Each write waits for a sync on \
                a majority of nodes.",
            advice: "Look for other work on the disk, or a slow device. If this node leads, \
                `fluxgate cluster hand-over` takes its disk out of the way of writes.",
        }
        storage_bytes: IntGauge {
            name: "fluxgate_storage_size_bytes",
            help: "Size of the log on the disk.",
            means: "Measured every five seconds. Snapshots are files beside it and do not count.",
            advice: "Where it keeps growing, compare `fluxgate_raft_snapshot_index`: snapshots \
                keep the log short.",
        }
        storage_free: IntGauge {
            name: "fluxgate_storage_free_bytes",
            help: "Free space on the disk of the data directory.",
            means: "Measured every five seconds. A disk that does not answer keeps its last value, \
                or 0. The node writes no entries once less than a sixteenth of the disk (1 to \
                16 MiB) is free.",
            advice: "Make room: find what else is on this disk.",
        }
        can_write: IntGauge {
            name: "fluxgate_storage_can_write",
            help: "1 while this node can write new log entries; 0 with a full or stalled disk.",
            means: "A leader at 0 hands over to a node that can write. A follower at 0 answers \
                until the next write, then it says 503.",
            advice: "Make room on the disk, or find out why it does not confirm writes.",
        }
    }
    "State, configuration and time" => {
        state_differs: IntGauge {
            name: "fluxgate_state_differs",
            help: "1 while the replicated state of another node, or of this one, differs.",
            means: "Two nodes that applied the same entry have different states: a disk was put \
                back to an older copy, or memory was damaged. Nodes without a majority that has \
                their state answer nothing.",
            advice: "The log and `cluster status` name the nodes. Take a backup of each side before \
                you empty one.",
        }
        config_differs: IntGaugeVec {
            name: "fluxgate_config_differs",
            help: "1 where this node's configuration differs from what the cluster runs by.",
            labels: [closed("setting", SHARED_SETTINGS)],
            means: "The cluster keeps these settings in its log and takes them from the leader's \
                file. If this node becomes the leader, its own values count.",
            advice: "Make the files of all nodes alike, then restart node by node, the leader last.",
        }
        clock_offset: Gauge {
            name: "fluxgate_clock_offset_seconds",
            help: "This node's wall clock minus cluster time.",
            means: "Limits stay exact whatever it is. Windows and Reset headers follow cluster time.",
            advice: "On one node: repair its time service. On most nodes alike: cluster time is \
                wrong, see [Clocks](operations.md#clocks).",
        }
        unplanned_stops: IntCounter {
            name: "fluxgate_unplanned_stops_total",
            help: "Runs of this node that did not end with an orderly stop; kept over restarts.",
            means: "The count is in the data directory and rises at the start after a crash, a kill \
                or a power cut.",
            advice: "Read the exit code and the last lines of the log before the start; 4 is most \
                likely a disk.",
        }
        build_info: IntGaugeVec {
            name: "fluxgate_build_info",
            help: "Version and revision of the binary, always 1.",
            labels: [
                open("version", "the release"),
                open("revision", "the commit it was built from, `unknown` for a local build"),
                open("rustc", "the oldest Rust version that builds it")
            ],
            means: "One series for each node. Alerts on new series use it to tell a node that is \
                new to Prometheus.",
            advice: "Several versions in one cluster: an upgrade was begun and not finished.",
        }
    }
}
