//! Reads each setting and checks its value.

use std::path::PathBuf;
use std::time::Duration;

use fluxgate_types::{Limit, NodeId, credential, parse_duration_ms};
use toml::{Table, Value};

use super::members::{is_host_port, is_unspecified, members, own_address};
use super::reader::Reader;
use super::{Config, Problems};

const HOUR_MS: u64 = 3_600_000;

fn limits(reader: &mut Reader<'_>) -> Vec<Limit> {
    let list = reader.raw("limits", "default").and_then(Value::as_array).cloned();
    let read = |value: &Value| {
        let table = value.as_table().filter(|table| table.len() == 3)?;
        let name = table.get("name")?.as_str()?;
        let tokens = u64::try_from(table.get("tokens")?.as_integer()?).ok()?;
        let period_ms = parse_duration_ms(table.get("period")?.as_str()?).ok()?;
        Some(Limit::new(name, tokens, period_ms))
    };
    let limits: Option<Vec<Limit>> = list.unwrap_or_default().iter().map(read).collect();
    let Some(limits) = limits else {
        let why = "each must be { name = \"requests\", tokens = 100, period = \"60s\" }";
        reader.wrong("limits", "default", why);
        return Vec::new();
    };
    if let Err(error) = Limit::check_all(&limits) {
        reader.wrong("limits", "default", &error.to_string());
    }
    limits
}

fn election(reader: &mut Reader<'_>, heartbeat_ms: u64) -> (u64, u64) {
    let text = reader.text("raft", "election_timeout").unwrap_or_default();
    let range = text
        .split_once("..")
        .and_then(|(from, to)| Some((parse_duration_ms(from).ok()?, parse_duration_ms(to).ok()?)));
    let Some((min, max)) = range.filter(|(min, max)| min < max && *max <= 60_000) else {
        reader.wrong("raft", "election_timeout", "must be a range such as `300ms..600ms`");
        return (300, 600);
    };
    if min < 2 * heartbeat_ms {
        reader.wrong("raft", "election_timeout", "must begin at twice the heartbeat or more");
    }
    (min, max)
}

fn prefix(reader: &mut Reader<'_>, setting: &str) -> String {
    let text = reader.text("keys", setting).unwrap_or_default();
    if !credential::is_prefix(&text) {
        reader.wrong("keys", setting, "must be 1 to 8 lower-case letters and digits");
    }
    text
}

/// Reads the whole table and adds what is wrong to `problems`. The result is valid only if nothing
/// was added.
pub(super) fn check(table: &Table, problems: &mut Problems) -> Option<Config> {
    let reader = &mut Reader { table, problems };
    let mut members = members(reader);
    let node_id = NodeId(reader.number("node", "id", 1..=u64::from(u32::MAX)));
    let heartbeat_ms = reader.duration_ms("raft", "heartbeat", 10..=10_000);
    let election_ms = election(reader, heartbeat_ms);
    let peer_listen = reader.address("peer", "listen");
    let advertise = reader.text("peer", "advertise");
    let listed = own_address(reader, &mut members, node_id, peer_listen, advertise.as_ref());
    let ratio = reader.raw("telemetry", "trace_sample_ratio");
    let whole = |v: &Value| i32::try_from(v.as_integer()?).ok().map(f64::from);
    let ratio = ratio.and_then(|v| v.as_float().or_else(|| whole(v)));
    let log_format = reader.text("telemetry", "log_format").unwrap_or_default();
    let config = Config {
        cluster_name: reader.text("cluster", "name").unwrap_or_default(),
        cluster_secret: reader.secret("cluster", "secret"),
        cluster_secret_file: reader.text("cluster", "secret_file").map(PathBuf::from),
        node_id,
        data_dir: PathBuf::from(reader.text("node", "data_dir").unwrap_or_default()),
        drain_ms: reader.duration_ms("node", "drain", 0..=300_000),
        gateway_listen: reader.address("gateway", "listen"),
        grpc_listen: reader
            .raw("gateway", "grpc_listen")
            .map(|_| reader.address("gateway", "grpc_listen")),
        gateway_token: reader.tokens("gateway", "token"),
        gateway_tls: super::tls::read(reader, "gateway", "client_ca_file"),
        ratelimit_draft_headers: reader.flag("gateway", "ratelimit_draft_headers"),
        admin_listen: reader.address("admin", "listen"),
        admin_tls: super::tls::read(reader, "admin", "client_ca_file"),
        metrics_without_certificate: reader.flag("admin", "metrics_without_certificate"),
        operator_token: reader.tokens("admin", "operator_token"),
        max_body_bytes: usize::try_from(reader.number(
            "http",
            "max_body_bytes",
            1_024..=16_777_216,
        ))
        .unwrap_or(65_536),
        request_timeout: Duration::from_millis(reader.duration_ms(
            "http",
            "request_timeout",
            1_000..=300_000,
        )),
        peer_listen,
        peer_tls: super::tls::read(reader, "peer", "ca_file"),
        peer_advertise: advertise.or(listed).unwrap_or_else(|| peer_listen.to_string()),
        key_prefix: prefix(reader, "prefix"),
        key_environment: prefix(reader, "environment"),
        purge_after_ms: reader.duration_or_off(
            "keys",
            "purge_after",
            HOUR_MS..=3_650 * 24 * HOUR_MS,
        ),
        default_limits: limits(reader),
        transfer_wait_ms: reader.duration_ms("limits", "transfer_wait", 1..=10_000),
        transfer_timeout_ms: reader.duration_ms("limits", "transfer_timeout", 10..=10_000),
        gossip_ms: reader.duration_ms("limits", "gossip", 10..=10_000),
        lease_ms: reader.duration_ms("lease", "duration", 500..=60_000),
        clock_error_ms_max: reader.duration_ms("lease", "clock_error_max", 100..=10_000),
        heartbeat_ms,
        election_ms,
        snapshot_every: reader.number("raft", "snapshot_every", 100..=10_000_000),
        log: reader.text("telemetry", "log").unwrap_or_default(),
        log_json: log_format == "json",
        otlp_endpoint: reader.text("telemetry", "otlp_endpoint"),
        trace_sample_ratio: ratio.unwrap_or(-1.0),
        members,
    };
    check_together(&config, &log_format, reader);
    Some(config)
}

/// Checks that depend on more than one setting.
fn check_together(config: &Config, log_format: &str, reader: &mut Reader<'_>) {
    let name = &config.cluster_name;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        reader.wrong("cluster", "name", "must be 1 to 64 letters, digits, `-`, `_`, `.`");
    }
    if config.members.len() > 1 && config.cluster_secret.is_none() {
        let why = "a cluster of more than one member needs `cluster.secret_file`";
        reader.wrong("cluster", "secret", why);
    }
    if config.data_dir.as_os_str().is_empty() {
        reader.wrong("node", "data_dir", "must name a directory");
    }
    if !is_host_port(&config.peer_advertise) {
        reader.wrong("peer", "advertise", "must be a host and a port");
    } else if is_unspecified(&config.peer_advertise) && config.members.len() > 1 {
        let why = "is an address to listen on: give the one at which other nodes reach this node";
        reader.wrong("peer", "advertise", why);
    }
    if !(0.0..=1.0).contains(&config.trace_sample_ratio) {
        reader.wrong("telemetry", "trace_sample_ratio", "must be from 0 to 1");
    }
    if let Err(why) = crate::telemetry::check_filter(&config.log) {
        reader.wrong("telemetry", "log", &why);
    }
    if !matches!(log_format, "text" | "json") {
        reader.wrong("telemetry", "log_format", "must be \"text\" or \"json\"");
    }
    let is_url = |e: &String| e.starts_with("http://") || e.starts_with("https://");
    if config.otlp_endpoint.as_ref().is_some_and(|e| !is_url(e)) {
        reader.wrong("telemetry", "otlp_endpoint", "must begin with http:// or https://");
    }
    // The remaining nodes must elect a new leader and renew their leases well before these end.
    if config.lease_ms < 4 * config.election_ms.1 {
        let why = format!(
            "must be at least four times the longest election timeout ({}ms)",
            config.election_ms.1
        );
        reader.wrong("lease", "duration", &why);
    }
    // Otherwise a healthy node may deny without a proof while a spend report is in flight.
    let patience_ms = config.waits().patience_ms();
    if config.gossip_ms >= patience_ms {
        let why = format!(
            "must be less than transfer_wait and four times transfer_timeout ({patience_ms}ms)"
        );
        reader.wrong("limits", "gossip", &why);
    }
    let mut listeners = vec![config.gateway_listen, config.admin_listen, config.peer_listen];
    listeners.extend(config.grpc_listen);
    for (at, listener) in listeners.iter().enumerate() {
        if listener.port() != 0 && listeners[..at].contains(listener) {
            reader.problems.add(format!("two listeners share {listener}"));
        }
    }
}
