//! Reads the first members and their addresses.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use fluxgate_types::{NodeId, caps};
use toml::Value;

use super::reader::{Reader, is_default};

pub(super) fn members(reader: &mut Reader<'_>) -> BTreeMap<NodeId, String> {
    let mut members = BTreeMap::new();
    let list = reader.raw("cluster", "members").and_then(Value::as_array).cloned();
    let list = list.unwrap_or_default();
    for (at, member) in (1..).zip(&list) {
        let id = member.get("id").and_then(Value::as_integer);
        let id = id.and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
        let peer = member.get("peer").and_then(Value::as_str).filter(|peer| is_host_port(peer));
        let plain = member.as_table().is_some_and(|table| table.len() == 2);
        let (Some(id), Some(peer), true) = (id, peer, plain) else {
            let why = format!("number {at} must be {{ id = 1, peer = \"host:port\" }}");
            reader.wrong("cluster", "members", &why);
            continue;
        };
        if is_unspecified(peer) {
            let why = format!("{peer} of node {id} is an address to listen on, not one to call");
            reader.wrong("cluster", "members", &why);
        }
        if members.values().any(|known| known == peer) {
            reader.wrong("cluster", "members", &format!("two members have the address {peer}"));
        }
        if members.insert(NodeId(id), peer.to_owned()).is_some() {
            reader.wrong("cluster", "members", &format!("node {id} is listed twice"));
        }
    }
    if list.is_empty() || list.len() > caps::NODES_MAX {
        let why = format!("must list 1 to {} members", caps::NODES_MAX);
        reader.wrong("cluster", "members", &why);
    }
    members
}

/// Whether this address is only for listening, such as `0.0.0.0:7301`.
pub(super) fn is_unspecified(address: &str) -> bool {
    address.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_unspecified())
}

/// Whether this is a host name or address with a port.
pub fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let named =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '[' | ']' | ':');
    !host.is_empty()
        && text.len() <= 255
        && host.chars().all(named)
        && port.parse::<u16>().is_ok_and(|p| p > 0)
}

/// This node's address in `members`, if it is listed.
pub(super) fn own_address(
    reader: &mut Reader<'_>,
    members: &mut BTreeMap<NodeId, String>,
    me: NodeId,
    listen: SocketAddr,
    advertise: Option<&String>,
) -> Option<String> {
    if is_default(reader.table, "cluster", "members") && members.contains_key(&me) {
        // No `members` are configured: this node forms a cluster of one, at its own address.
        members.insert(me, advertise.cloned().unwrap_or_else(|| listen.to_string()));
    }
    let listed = members.get(&me).cloned();
    if let (Some(advertise), Some(listed)) = (advertise, &listed)
        && advertise != listed
    {
        let why = format!("`cluster.members` has {listed} for this node: give one address");
        reader.wrong("peer", "advertise", &why);
    }
    listed
}
