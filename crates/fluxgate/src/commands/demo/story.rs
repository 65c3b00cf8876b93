//! The calls of the demo once its cluster is up, and their output.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use fluxgate_api::keys::{CreateKey, CreatedKey, ListQuery};
use fluxgate_api::validate::ValidateRequest;
use fluxgate_client::{Client, Token, Verdict, VerdictReport};
use fluxgate_types::{KeyId, Scope};

use super::{DemoKeys, DemoNode};
use crate::output;

/// The story needs this much of a window, seconds; otherwise it waits for the next window.
const WINDOW_LEFT_S: u64 = 5;

fn admin_client(nodes: &[DemoNode], at: usize, token: &str) -> anyhow::Result<Client> {
    let node = &nodes[at % nodes.len()];
    Ok(Client::new(std::slice::from_ref(&node.admin), Some(Token::new(token)?))?)
}

async fn create_key(client: &Client, name: &str, scope: Scope) -> anyhow::Result<CreatedKey> {
    let key = CreateKey {
        name: name.to_owned(),
        scope,
        owner: Some(OWNER.to_owned()),
        limits: None,
        plan: None,
        pools: None,
        expires_at: None,
        metadata: None,
    };
    client.create_key(&key, None).await.with_context(|| format!("cannot create the key `{name}`"))
}

/// Owner of the demo's keys.
const OWNER: &str = "demo";
/// Prefix of the names of the demo's keys.
const NAMES: &str = "Demo ";
/// Keys per page of a list.
const PAGE: usize = 200;

/// Erases the keys of an earlier demo in this directory: their secrets were shown once and are
/// lost.
async fn clean_up(client: &Client) -> anyhow::Result<()> {
    let mut query = ListQuery { owner: Some(OWNER.to_owned()), ..ListQuery::default() };
    query.limit = Some(PAGE);
    let mut old = Vec::new();
    loop {
        let page = client.list_keys(&query).await?;
        let ours = page.keys.into_iter().filter(|key| key.name.starts_with(NAMES));
        old.extend(ours.map(|key| key.id.0));
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => break,
        }
    }
    for id in old {
        erase(client, id).await?;
    }
    Ok(())
}

async fn erase(client: &Client, id: KeyId) -> anyhow::Result<()> {
    client.revoke_key(id).await?;
    client.erase_key(id).await?;
    Ok(())
}

/// Creates one key per scope, each through a different node.
pub(crate) async fn create_keys(nodes: &[DemoNode], token: &str) -> anyhow::Result<DemoKeys> {
    clean_up(&admin_client(nodes, 0, token)?).await?;
    let mut texts = Vec::new();
    for (at, scope) in Scope::ALL.into_iter().enumerate() {
        let client = admin_client(nodes, at, token)?;
        let made = create_key(&client, &format!("Demo {scope}"), scope).await?;
        texts.push(made.key.expose().to_owned());
    }
    let mut texts = texts.into_iter();
    let mut next = || texts.next().unwrap_or_default();
    Ok(DemoKeys { read: next(), write: next(), admin: next() })
}

async fn validate(node: &DemoNode, key: &Token, cost: u64) -> anyhow::Result<VerdictReport> {
    let client = Client::new(std::slice::from_ref(&node.gateway), None)?;
    let request = ValidateRequest { key: None, scope: None, cost: Some(cost) };
    Ok(client.validate(key, &request).await?)
}

/// Waits for a window with enough time left for the whole story.
async fn window_with_room(node: &DemoNode, key: &Token) -> anyhow::Result<u64> {
    let report = validate(node, key, 0).await?;
    let window = report.window.context("the verdict has no window")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let left = window.reset.saturating_sub(now.as_secs());
    if left < WINDOW_LEFT_S {
        output::data(&format!("  (waiting {left} s for the next minute)"))?;
        tokio::time::sleep(Duration::from_secs(left) + Duration::from_millis(200)).await;
    }
    Ok(window.limit)
}

/// Runs the story, and prints what to try next.
pub(crate) async fn run(nodes: &[DemoNode], token: &str, keys: &DemoKeys) -> anyhow::Result<()> {
    let count = nodes.len();
    output::data(&format!("Fluxgate: {count} nodes on loopback, one cluster.\n"))?;
    let client = admin_client(nodes, count - 1, token)?;
    let made = create_key(&client, "Demo story", Scope::Write).await?;
    let applied = made.written.applied_on.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    output::data(&format!(
        "1. Created the key `{}` through node {count}: it works on nodes {applied} after {} ms.",
        made.written.record.prefix, made.written.waited_ms
    ))?;
    let key = Token::new(made.key.expose())?;
    let limit = window_with_room(&nodes[0], &key).await?;
    output::data(&format!("2. Its limit is {limit} requests per minute for all nodes together:"))?;
    let mut admitted = 0;
    let mut by_node = vec![0u64; count];
    let denial = loop {
        let at = usize::try_from(admitted).unwrap_or(0) % count;
        let report = validate(&nodes[at], &key, 1).await?;
        match report.verdict {
            Verdict::Admitted(_) => {
                admitted += 1;
                by_node[at] += 1;
            }
            Verdict::Denied(body) => break (at + 1, report.status, body),
        }
    };
    for (node, admitted) in (1..).zip(&by_node) {
        output::data(&format!("     node {node} admitted {admitted}"))?;
    }
    let (node, status, body) = denial;
    output::data(&format!("3. Request {} went to node {node}: {status}", admitted + 1))?;
    output::data(&format!("     {}", body.to_json()))?;
    // This key was for the story only.
    erase(&client, made.written.record.id.0).await?;
    output::data(&addresses(nodes, token, keys)?)
}

fn addresses(nodes: &[DemoNode], token: &str, keys: &DemoKeys) -> anyhow::Result<String> {
    let mut text = String::from("\nThe nodes (Ctrl-C stops them):\n");
    for node in nodes {
        writeln!(text, "  {}  gateway {}  admin {}", node.id, node.gateway, node.admin)?;
    }
    writeln!(text, "\nConsole         {}/console/", nodes[0].admin)?;
    writeln!(text, "Operator token  {token}")?;
    writeln!(text, "read key        {}", keys.read)?;
    writeln!(text, "write key       {}", keys.write)?;
    writeln!(text, "admin key       {}", keys.admin)?;
    let (first, last) = (&nodes[0], &nodes[nodes.len() - 1]);
    writeln!(text, "\nTry:")?;
    writeln!(
        text,
        "  curl -i -X POST {}/v1/validate -H 'Authorization: Bearer {}'",
        first.gateway, keys.write
    )?;
    writeln!(text, "  curl -i {}/v1/authorize/admin -H 'X-API-Key: {}'", last.gateway, keys.read)?;
    writeln!(text, "  curl {}/v1/keys -H 'Authorization: Bearer {token}'", first.admin)?;
    let program =
        std::env::current_exe().map_or_else(|_| "fluxgate".into(), |p| p.display().to_string());
    writeln!(text, "  FLUXGATE_TOKEN={token} {program} cluster status --url {}", first.admin)?;
    Ok(text)
}
