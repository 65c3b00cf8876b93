//! Every metric: its name, its labels, what it means, and what an operator does about it.
//!
//! Answers for: names and label values never change, because dashboards and alerts use them; no
//! label holds a key, an owner or an address. `docs/metrics.md` is generated from this table.

use fluxgate_api::Verdict;
use fluxgate_engine::state::record::Status;
use fluxgate_peer::Call;
use prometheus::{
    Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};

use super::labels::{
    BARRIERS, DIRECTIONS, ELECTIONS, Endpoint, Kind, LISTENERS, METHODS, PEER_RESULTS, PROOFS,
    PROPOSALS, RENEWALS, SHARED_SETTINGS, TOKENS, TRANSFERS,
};
use super::striped::Striped;
use super::table::{closed, later, open};

/// From 10 µs to 1 s.
const SECONDS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025,
    0.05, 0.1, 0.25, 0.5, 1.0,
];
/// For durations of up to a lease or more.
const LONG_SECONDS: &[f64] =
    &[0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

super::table::metrics! {
    "Requests" => {
        validate_requests: Striped<IntCounterVec> {
            name: "fluxgate_validate_requests_total",
            help: "Validates by verdict and endpoint.",
            labels: [
                closed("verdict", Verdict::ALL.map(Verdict::label)),
                closed("endpoint", Endpoint::ALL.map(Endpoint::as_str))
            ],
            means: "Every check of a key; each item of a batch counts. `limited` is a denial with \
                a proof that no token was left, `degraded` a denial without one. `unavailable`: the \
                node may not answer, for example without a lease; it counted nothing, and the \
                caller should try another node. `invalid`: the cost exceeds a limit of the key. \
                The endpoint `admin` counts requests to the admin listener, including the console, \
                that do not present the operator token.",
            advice: "For `unavailable` read `/readyz` of the node. `degraded` means that a node \
                with tokens does not answer the others. For `unauthenticated` find the caller in \
                the gateway's log; for `limited` run `fluxgate keys usage` for its key.",
        }
        validate_duration: Striped<HistogramVec> {
            name: "fluxgate_validate_duration_seconds",
            help: "Time from a validate to its verdict.",
            labels: [closed("endpoint", Endpoint::ALL.map(Endpoint::as_str))],
            buckets: SECONDS,
            means: "It includes waits for tokens of other nodes, but not reading from and writing \
                to the socket. A local decision takes microseconds.",
            advice: "Compare `fluxgate_counter_wait_seconds`: if waits grow too, limits are small \
                or another node is slow. Otherwise the node lacks processor time.",
        }
        http_requests: Striped<IntCounterVec> {
            name: "fluxgate_http_requests_total",
            help: "HTTP and gRPC requests by route, method and status.",
            labels: [
                open("route", "the template of the route, never a path; `other` if no route matched"),
                later("method", METHODS),
                open("status", "the HTTP status")
            ],
            means: "Requests that the gateway, gRPC and admin listeners answered. The route of a \
                gRPC call is its full method name.",
            advice: "500 is a fault in Fluxgate: keep the node's log and report it. 503 on a \
                validate route is the verdict `unavailable` above.",
        }
        http_seconds: Striped<HistogramVec> {
            name: "fluxgate_http_request_seconds",
            help: "Duration of HTTP and gRPC requests by route.",
            labels: [open("route", "as in `fluxgate_http_requests_total`")],
            buckets: LONG_SECONDS,
            means: "From the headers of the request to its response. A write waits for its barrier: \
                for a slow write route see `fluxgate_raft_proposal_seconds`.",
            advice: "Check whether reads are slow too. If they are, check the machine's load.",
        }
        tls_failures: IntCounterVec {
            name: "fluxgate_tls_handshake_failures_total",
            help: "Failed TLS handshakes by listener.",
            labels: [closed("listener", LISTENERS)],
            means: "The caller speaks plain HTTP, does not trust the node's certificate, or presents \
                no certificate that the node trusts.",
            advice: "The node's log names the caller's address and the cause.",
        }
        certificate_ends: IntGaugeVec {
            name: "fluxgate_tls_certificate_expiry_timestamp_seconds",
            help: "Unix time at which a listener's certificate expires.",
            labels: [later("listener", LISTENERS)],
            means: "Only listeners with TLS have a series.",
            advice: "Replace the certificate file. The node reads it within five seconds, without a \
                restart.",
        }
    }
    "Keys and counters" => {
        keys: IntGaugeVec {
            name: "fluxgate_keys",
            help: "Keys by status.",
            labels: [closed("status", Status::ALL.map(Status::as_str))],
            means: "Records in this node's copy of the state, counted every five seconds. Nodes \
                differ only by entries that one of them has not applied yet. Erased records do not \
                count.",
            advice: "Plan memory by it: 200 to 300 bytes per key. If `revoked` and `expired` keep \
                growing, set `purge_after` in `[keys]`.",
        }
        counters: IntGauge {
            name: "fluxgate_counters",
            help: "Window counters in memory.",
            means: "One for each key, limit and window in use on this node. The number falls when \
                windows end.",
            advice: "Plan memory by it: about 400 bytes each, or 1 200 where other nodes use the same \
                keys. If it rises without more traffic, more different keys are in use.",
        }
        decisions: Striped<IntCounterVec> {
            name: "fluxgate_counter_decisions_total",
            help: "Decisions on limits by the way this node reached them.",
            labels: [closed("kind", Kind::ALL.map(Kind::as_str))],
            means: "`local`: admitted with tokens that the node had. `waited`: admitted after \
                another node transferred tokens. `proven`: denied with a proof that no token was \
                left. `degraded`: no proof was possible, and the request was denied or answered as \
                unavailable.",
            advice: "Many `waited` are normal with small limits. For `degraded` find the node that \
                does not answer.",
        }
        shadow_denied: IntCounterVec {
            name: "fluxgate_shadow_denied_total",
            help: "Requests that a limit in mode shadow would have denied.",
            labels: [
                open("limit", "the name of the limit; `other` beyond the first two hundred names"),
                closed("proof", PROOFS)
            ],
            means: "`proven`: no node had tokens left. `unproven`: one that may have had some did not \
                answer. Limits of owners and pools are named as in `X-RateLimit-Name`.",
            advice: "Compare it with the admitted requests before you enforce the limit.",
        }
        wait_seconds: Histogram {
            name: "fluxgate_counter_wait_seconds",
            help: "Time that requests waited for tokens of other nodes.",
            buckets: SECONDS,
            means: "Only requests that this node could not decide alone. A wait takes about one \
                round trip between nodes, and at most `transfer_wait` if a node is unreachable.",
            advice: "A slow or unreachable node causes longer waits: compare \
                `fluxgate_peer_request_seconds{call=\"ask\"}`.",
        }
        asks: IntCounterVec {
            name: "fluxgate_transfer_asks_total",
            help: "Transfer requests between nodes by direction and result.",
            labels: [closed("direction", DIRECTIONS), closed("result", TRANSFERS)],
            except: [["in", "failed"]],
            means: "`out`: this node requested tokens from another. `in`: another node requested \
                tokens from this one. `gave`: the reply carried tokens. `nothing`: it carried none. \
                `failed`: no reply came. Only the requesting node sees that, so `in` has no \
                `failed`.",
            advice: "If `failed` grows, see `fluxgate_peer_requests_total{call=\"ask\"}`. Keys near \
                or over their limits cause many `nothing`.",
        }
        tokens: IntCounterVec {
            name: "fluxgate_transfer_tokens_total",
            help: "Tokens that nodes transferred on request, by direction.",
            labels: [closed("direction", DIRECTIONS), closed("result", TOKENS)],
            means: "`out`: tokens that this node received for its requests. `in`: tokens that it \
                gave to other nodes. The handoff of an orderly stop does not count.",
            advice: "No action. A node that only receives tokens serves more traffic than the \
                others: check how the gateways spread it.",
        }
    }
    "Leases and writes" => {
        lease_remaining: Gauge {
            name: "fluxgate_lease_remaining_seconds",
            help: "Time until this node's lease ends; 0 without a lease.",
            means: "A node answers validates while it holds a lease. Renewals keep the value between \
                80 and 97 % of `lease.duration`, on the leader between 32 and 39 %.",
            advice: "At 0 the node answers 503: `/readyz` says why.",
        }
        renewals: IntCounterVec {
            name: "fluxgate_lease_renewals_total",
            help: "Lease renewals by result.",
            labels: [closed("result", RENEWALS)],
            means: "`failed`: the renewal brought no new lease, because the leader did not answer, \
                has no majority, or rejected the node. A few fail at a start and at an election.",
            advice: "`/readyz` and the node's log say why. A lease outlasts several failed \
                renewals: find the cause before it ends.",
        }
        proposals: IntCounterVec {
            name: "fluxgate_raft_proposals_total",
            help: "Writes that this node received, by result.",
            labels: [closed("result", PROPOSALS)],
            means: "`refused`: the state rejected the write, for example a change of a key that \
                does not exist. `no_leader`: nothing was written, because there is no leader, too \
                much is queued, or the disk takes no entries. `unknown`: the write may be \
                committed, but its answer was lost.",
            advice: "`refused` is the caller's mistake. For the other two see role and column DISK \
                in `cluster status`; callers receive 503 and try again.",
        }
        proposal_seconds: Histogram {
            name: "fluxgate_raft_proposal_seconds",
            help: "Time from the first attempt of a write on this node to its result.",
            buckets: LONG_SECONDS,
            means: "It includes forwarding to the leader, retries with another leader, the commit on \
                a majority, and the write barrier.",
            advice: "Compare `fluxgate_write_barrier_seconds` (a node applies slowly) with \
                `fluxgate_storage_fsync_seconds` (a disk is slow).",
        }
        barrier: HistogramVec {
            name: "fluxgate_write_barrier_seconds",
            help: "Time from a write's commit until it is in force on every node, by what ended the wait.",
            labels: [closed("outcome", BARRIERS)],
            buckets: LONG_SECONDS,
            means: "Recorded on the leader. `all_applied`: every node with a lease had applied the \
                write. `lease_expired`: the lease of a silent node had ended.",
            advice: "For `lease_expired`, a member is down or cut off: bring it back or remove it. \
                For a slow `all_applied`, find the node that is behind \
                (`fluxgate_raft_applied_index`).",
        }
    }
    "Consensus" => {
        term: IntGauge {
            name: "fluxgate_raft_term",
            help: "Raft term of this node.",
            means: "It rises with each election and is the same on all nodes that reach each other.",
            advice: "If it keeps rising, elections repeat: see `fluxgate_raft_elections_total`.",
        }
        last_log: IntGauge {
            name: "fluxgate_raft_last_log_index",
            help: "Index of the last entry in this node's log.",
            means: "Entries after `fluxgate_raft_committed_index` are not yet known to be on a \
                majority.",
            advice: "If it runs ahead of the committed index on the leader, followers do not \
                confirm entries: check them and their disks.",
        }
        committed: IntGauge {
            name: "fluxgate_raft_committed_index",
            help: "Index of the last entry that this node knows to be committed.",
            means: "Committed entries are on a majority of disks.",
            advice: "If it does not rise during writes, there is no majority.",
        }
        applied: IntGauge {
            name: "fluxgate_raft_applied_index",
            help: "Index of the last entry applied to this node's state.",
            means: "Callers of this node see the state up to this entry. Scrapes are not \
                simultaneous: under load nodes always differ by a few entries.",
            advice: "A node that stays behind has a slow disk or too little processor time. Writes \
                wait for it while it holds a lease.",
        }
        snapshot: IntGauge {
            name: "fluxgate_raft_snapshot_index",
            help: "Index of the last entry that a snapshot of this node covers.",
            means: "It jumps after every `raft.snapshot_every` applied entries; the log is then \
                truncated.",
            advice: "If it does not follow the applied index, the disk has no room for a snapshot, \
                or the node's log says why.",
        }
        is_leader: IntGauge {
            name: "fluxgate_raft_is_leader",
            help: "1 on the leader, 0 on the others.",
            means: "The sum over a cluster is 1. During a change of the leader it may be 0 or 2 for \
                one scrape.",
            advice: "If the sum stays at 2, restart the node with the lower `fluxgate_raft_term`: \
                it cannot commit anything.",
        }
        has_leader: IntGauge {
            name: "fluxgate_raft_has_leader",
            help: "1 if this node knows a leader.",
            means: "Without a leader the node accepts no writes and loses its lease within seconds.",
            advice: "0 on all nodes: check that a majority is up and that the peer ports reach each \
                other. 0 on one node: it is cut off, or was removed.",
        }
        voters: IntGauge {
            name: "fluxgate_raft_voters",
            help: "Nodes that vote; 0 before this node knows its cluster.",
            means: "The size of the cluster as this node knows it. The recording rules compute the \
                majority from it.",
            advice: "If it is not the number of nodes that you run, compare `cluster status`, and \
                add or remove nodes.",
        }
        leader_changes: IntCounter {
            name: "fluxgate_raft_leader_changes_total",
            help: "Changes of the leader that this node saw, including the first one.",
            means: "The node checks every five seconds: several changes in between count as one.",
            advice: "`fluxgate_raft_elections_total` distinguishes lost leaders from hand-overs.",
        }
        elections: IntCounterVec {
            name: "fluxgate_raft_elections_total",
            help: "How often this node became leader, by whether the previous leader handed over.",
            labels: [closed("cause", ELECTIONS)],
            means: "`handed_over`: an orderly stop, the command `hand-over`, or a leader that could \
                not write. `unplanned`: the previous leader was lost, which delays writes by about \
                a second.",
            advice: "For many `unplanned`, check the previous leader for slow syncs, high load and \
                lost messages.",
        }
        peer_requests: IntCounterVec {
            name: "fluxgate_peer_requests_total",
            help: "Calls of this node to other nodes, by call and result.",
            labels: [
                closed("call", Call::ALL.map(Call::as_str)),
                closed("result", PEER_RESULTS)
            ],
            means: "`append`, `vote`, `pre_vote`, `transfer_leader` and `snapshot` belong to Raft. \
                `ask` requests tokens, `give` hands them off, `gossip` reports what was spent, \
                `lease` renews the lease. The others forward writes, wait until they are applied, \
                and collect data for commands, the console and a starting node.",
            advice: "The log names the node that does not answer: it is down, paused or cut off, or \
                it rejects the certificate or the secret.",
        }
        peer_seconds: HistogramVec {
            name: "fluxgate_peer_request_seconds",
            help: "Duration of calls to other nodes, including failed ones.",
            labels: [closed("call", Call::ALL.map(Call::as_str))],
            buckets: LONG_SECONDS,
            means: "`ask` and `gossip` take about a round trip; `append` also waits for a sync of \
                the other node's disk. `propose` includes the write barrier, and `applied` waits by \
                design.",
            advice: "If `ask` is slow, check the network and the processors; if only `append` is, \
                check the disks.",
        }
    }
    "Storage" => {
        fsync_seconds: Histogram {
            name: "fluxgate_storage_fsync_seconds",
            help: "Duration of syncs of the log.",
            buckets: SECONDS,
            means: "One sync covers all entries that waited for it. Each write waits for a sync on \
                a majority of the nodes.",
            advice: "Look for other work on the disk, or for a slow device. If this node leads, \
                `fluxgate cluster hand-over` takes its disk off the path of writes.",
        }
        storage_bytes: IntGauge {
            name: "fluxgate_storage_size_bytes",
            help: "Size of the log on the disk.",
            means: "Measured every five seconds. Snapshots are separate files and do not count.",
            advice: "If it keeps growing, compare `fluxgate_raft_snapshot_index`: snapshots keep \
                the log short.",
        }
        storage_free: IntGauge {
            name: "fluxgate_storage_free_bytes",
            help: "Free space on the disk of the data directory.",
            means: "Measured every five seconds. If the disk does not answer, the last value stays, \
                or 0. The node writes no entries while less than a sixteenth of the disk (1 to \
                16 MiB) is free.",
            advice: "Free some space: find out what else is on this disk.",
        }
        can_write: IntGauge {
            name: "fluxgate_storage_can_write",
            help: "1 while this node can write new log entries; 0 with a full or stalled disk.",
            means: "A leader at 0 hands over to a node that can write. A follower at 0 answers \
                validates until the next write, then 503.",
            advice: "Free some space, or find out why the disk does not confirm writes.",
        }
    }
    "State, configuration and time" => {
        state_differs: IntGauge {
            name: "fluxgate_state_differs",
            help: "1 while the replicated state of this node and of another one differ.",
            means: "Two nodes that applied the same entry have different states: an older copy of a \
                disk was put back, or memory was damaged. A node whose state is not that of a \
                majority answers nothing.",
            advice: "The log and `cluster status` name the nodes. Take a backup of each side before \
                you empty a data directory.",
        }
        config_differs: IntGaugeVec {
            name: "fluxgate_config_differs",
            help: "1 if this node's configuration differs from the value in force in the cluster.",
            labels: [closed("setting", SHARED_SETTINGS)],
            means: "The cluster keeps these settings in its log; the leader takes them from its \
                file. If this node becomes leader, its own values come into force.",
            advice: "Give all nodes the same values, then restart node by node, the leader last.",
        }
        clock_offset: Gauge {
            name: "fluxgate_clock_offset_seconds",
            help: "This node's wall clock minus cluster time.",
            means: "Limits stay exact whatever the value. Windows and Reset headers follow cluster \
                time.",
            advice: "Off on one node: repair its time service. Off on most nodes in the same \
                direction: cluster time is wrong, see [Clocks](operations.md#clocks).",
        }
        unplanned_stops: IntCounter {
            name: "fluxgate_unplanned_stops_total",
            help: "Runs of this node that did not end with an orderly stop; kept across restarts.",
            means: "The count is kept in the data directory. It rises at the start that follows a \
                crash, a kill or a power cut.",
            advice: "Read the exit code and the last log lines of the previous run; 4 most likely \
                means a failed disk.",
        }
        build_info: IntGaugeVec {
            name: "fluxgate_build_info",
            help: "Version and revision of the binary, always 1.",
            labels: [
                open("version", "the release"),
                open("revision", "the commit it was built from, `unknown` for a local build"),
                open("rustc", "the oldest Rust version that builds it")
            ],
            means: "One series per node. Alerts on new series use it to recognize a node that is \
                new to Prometheus.",
            advice: "Several versions in one cluster: an upgrade was begun and not finished.",
        }
    }
}
