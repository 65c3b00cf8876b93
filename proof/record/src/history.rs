//! The events of a run, as JSON lines: the judge reads nothing else.
//!
//! All times are microseconds since the run began, on the harness's monotonic clock. A request
//! without an answer has status 0 and an unknown outcome. Must never contain a key in plain text.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// Microseconds since the run began.
pub type Us = u64;
pub const SECOND: Us = 1_000_000;
/// The exit code of a process whose directory the cluster rejects.
pub const REJECTED_CODE: i32 = 1;
/// Largest size of a history file: a longer run is cut off and void.
const BYTES_MAX: u64 = 2 << 30;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "e", rename_all = "snake_case")]
pub enum Event {
    Run(Run),
    Validate(Box<Validate>),
    Write(Box<Write>),
    Fault(Fault),
    Heal(Heal),
    Start(Start),
    Exit(Exit),
    Stall(Stall),
    Record(Record),
    Log(Log),
    Rejection(Rejection),
    Mistake(Mistake),
    FirstStart(FirstStart),
    Shares(Shares),
    End(End),
}

/// The parameters of the run, first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    pub seed: u64,
    pub nodes: u64,
    pub seconds: u64,
    pub lease_us: Us,
    pub default_tokens: u64,
    pub default_period_s: u64,
    /// The true wall clock at time 0, microseconds since 1970; 0 if unknown.
    #[serde(default)]
    pub wall_us: Us,
    /// The leases in the nodes' configuration files.
    #[serde(default)]
    pub terms: String,
}

/// The headers of a verdict that are part of the contract.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VerdictHeaders {
    pub limit: Option<u64>,
    pub remaining: Option<u64>,
    pub reset: Option<u64>,
    pub retry_after: Option<u64>,
    pub www: Option<String>,
    pub kind: Option<String>,
    pub key_id: Option<String>,
    pub key_name: Option<String>,
    pub owner: Option<String>,
    pub scope: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Validate {
    pub n: u64,
    /// The number of the key; 0: text that is not a key.
    pub k: u64,
    pub cost: u64,
    pub scope: Option<String>,
    pub t0: Us,
    pub t1: Us,
    pub s: u16,
    pub err: Option<String>,
    pub body: String,
    pub h: VerdictHeaders,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Create { name: String, owner: String, scope: String, tokens: Option<u64>, period_s: u64 },
    Limit(u64),
    Enabled(bool),
    Scope(String),
    Revoke,
}

/// A write, through any node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Write {
    pub n: u64,
    pub k: u64,
    pub change: Change,
    pub t0: Us,
    pub t1: Us,
    pub s: u16,
    pub err: Option<String>,
    /// The id, if a creation was answered.
    pub id: Option<String>,
    /// The error code of a rejected write.
    pub code: Option<String>,
}

/// A fault, from before it was injected to the end of its last renewal; healing comes after.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fault {
    pub kind: String,
    pub nodes: Vec<u64>,
    pub t0: Us,
    pub installed: Us,
    pub t1: Us,
    /// No other node may notice it.
    pub quiet: bool,
    /// The named nodes hear nothing from a majority.
    pub isolates: bool,
    pub alone: bool,
}

/// All faults were removed at `t0`; from `t1` on all was well.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Heal {
    pub t0: Us,
    pub t1: Us,
    pub well: bool,
    pub why: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    pub n: u64,
    pub t: Us,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exit {
    pub n: u64,
    pub t: Us,
    pub how: String,
    pub expected: bool,
}

/// The harness itself was not scheduled in time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stall {
    pub t: Us,
    pub late_us: Us,
}

/// A key as a node shows it at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub n: u64,
    pub id: String,
    pub name: String,
    pub status: String,
    pub scope: String,
    pub tokens: u64,
    pub revision: u64,
}

/// Panics and secrets in a node's log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Log {
    pub n: u64,
    pub bytes: u64,
    pub secrets_looked_for: u64,
    pub panics: Vec<String>,
    pub secrets: u64,
}

/// The start of a directory that is older than what the cluster knows, or that also runs elsewhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rejection {
    pub what: String,
    pub n: u64,
    pub t0: Us,
    pub t1: Us,
    /// Whether the cluster must reject it.
    pub expected: bool,
    /// The exit code, if the process exited on its own.
    pub code: Option<i32>,
    /// The last line that it logged.
    pub line: String,
}

/// A command that an operator should not have given.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mistake {
    pub what: String,
    pub t0: Us,
    pub t1: Us,
    pub s: u16,
    pub body: String,
    /// The nodes that the error must name.
    pub named: Vec<u64>,
    /// The members as every healthy node showed them, before and after: node, then id and address.
    pub before: Members,
    pub after: Members,
}

/// Members by the node that shows them.
pub type Members = Vec<(u64, Vec<(u64, String)>)>;

/// The first start, with one wall clock that is years off.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FirstStart {
    pub n: u64,
    pub off_s: i64,
    pub t0: Us,
    pub t1: Us,
    /// Whether all nodes became ready.
    pub ready: bool,
    /// A line about clocks in a log, if there is one.
    pub line: String,
}

/// How often the share map changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shares {
    pub changes: u64,
}

/// The last line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct End {
    pub t: Us,
    /// Faults were injected until this time.
    pub faults_until: Us,
    pub faults: u64,
    pub scanned: Vec<u64>,
    pub cut_off: bool,
}

struct Sink {
    file: BufWriter<File>,
    bytes: u64,
    cut_off: bool,
    error: Option<std::io::Error>,
}

/// The history of a running harness.
pub struct Writer {
    begun: Instant,
    sink: Mutex<Sink>,
}

impl Writer {
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        let file = BufWriter::with_capacity(1 << 20, file);
        let sink = Sink { file, bytes: 0, cut_off: false, error: None };
        Ok(Self { begun: Instant::now(), sink: Mutex::new(sink) })
    }

    pub fn now(&self) -> Us {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(Us::MAX)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn write(&self, event: &Event) {
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        let mut sink = self.lock();
        let bytes = line.len() as u64;
        if sink.bytes + bytes > BYTES_MAX {
            sink.cut_off = true;
            return;
        }
        sink.bytes += bytes;
        if let Err(error) = sink.file.write_all(&line) {
            sink.error.get_or_insert(error);
        }
    }

    pub fn is_cut_off(&self) -> bool {
        self.lock().cut_off
    }

    /// Makes everything that was written visible to a reader.
    pub fn finish(&self) -> anyhow::Result<()> {
        let mut sink = self.lock();
        if let Some(error) = sink.error.take() {
            return Err(error).context("write the history");
        }
        sink.file.flush().context("write the history")
    }
}

pub fn read(path: &Path) -> anyhow::Result<Vec<Event>> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut events = Vec::new();
    for (at, line) in BufReader::new(file).lines().enumerate() {
        let line = line.with_context(|| format!("read {}", path.display()))?;
        let event = serde_json::from_str(&line);
        events.push(event.with_context(|| format!("{}:{}", path.display(), at + 1))?);
    }
    Ok(events)
}
