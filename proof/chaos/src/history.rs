//! What happened, as JSON lines: the one thing that the judge reads.
//!
//! All times are microseconds of the harness's own monotonic clock, since the run began. A request
//! without an answer has status 0 and an unknown outcome. Keys in the clear never stand here.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// Microseconds since the run began.
pub(crate) type Us = u64;
/// One second.
pub(crate) const SECOND: Us = 1_000_000;
/// Bound of a history file: a run that says more is cut off and void.
const BYTES_MAX: u64 = 2 << 30;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "e", rename_all = "snake_case")]
pub(crate) enum Event {
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

/// The plan, first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) nodes: u64,
    pub(crate) seconds: u64,
    pub(crate) lease_us: Us,
    pub(crate) default_tokens: u64,
    pub(crate) default_period_s: u64,
    /// The true wall clock at time 0, microseconds since 1970; 0 where it is not known.
    #[serde(default)]
    pub(crate) wall_us: Us,
    /// What the nodes' files say of leases.
    #[serde(default)]
    pub(crate) terms: String,
}

/// The headers of a verdict that are part of the contract.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Head {
    pub(crate) limit: Option<u64>,
    pub(crate) remaining: Option<u64>,
    pub(crate) reset: Option<u64>,
    pub(crate) retry_after: Option<u64>,
    pub(crate) www: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) key_id: Option<String>,
    pub(crate) key_name: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) scope: Option<String>,
}

/// A validate.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Validate {
    pub(crate) n: u64,
    /// The key's number; 0: a text that is no key.
    pub(crate) k: u64,
    pub(crate) cost: u64,
    pub(crate) scope: Option<String>,
    pub(crate) t0: Us,
    pub(crate) t1: Us,
    pub(crate) s: u16,
    pub(crate) err: Option<String>,
    pub(crate) body: String,
    pub(crate) h: Head,
}

/// What a write is to change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    Create { name: String, owner: String, scope: String, tokens: Option<u64>, period_s: u64 },
    Limit(u64),
    Enabled(bool),
    Scope(String),
    Revoke,
}

/// A write, whoever was asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Write {
    pub(crate) n: u64,
    pub(crate) k: u64,
    pub(crate) change: Change,
    pub(crate) t0: Us,
    pub(crate) t1: Us,
    pub(crate) s: u16,
    pub(crate) err: Option<String>,
    /// The id, of a creation that was answered.
    pub(crate) id: Option<String>,
    /// The code of a refusal.
    pub(crate) code: Option<String>,
}

/// A fault, from before it began to when it was last renewed; healing comes after.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Fault {
    pub(crate) kind: String,
    pub(crate) nodes: Vec<u64>,
    pub(crate) t0: Us,
    pub(crate) installed: Us,
    pub(crate) t1: Us,
    /// It is promised that whoever is not named notices nothing.
    pub(crate) quiet: bool,
    /// The named nodes hear nothing from a majority.
    pub(crate) isolates: bool,
    pub(crate) alone: bool,
}

/// All faults were taken away at `t0`; from `t1` on all was well.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Heal {
    pub(crate) t0: Us,
    pub(crate) t1: Us,
    pub(crate) well: bool,
    pub(crate) why: String,
}

/// A process was started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) n: u64,
    pub(crate) t: Us,
}

/// A process ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Exit {
    pub(crate) n: u64,
    pub(crate) t: Us,
    pub(crate) how: String,
    pub(crate) expected: bool,
}

/// The harness itself was not run in time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stall {
    pub(crate) t: Us,
    pub(crate) late_us: Us,
}

/// A key as a node shows it at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) n: u64,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) scope: String,
    pub(crate) tokens: u64,
    pub(crate) revision: u64,
}

/// What a node's log holds that it must not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Log {
    pub(crate) n: u64,
    pub(crate) bytes: u64,
    pub(crate) secrets_looked_for: u64,
    pub(crate) panics: Vec<String>,
    pub(crate) secrets: u64,
}

/// A directory that is older than what the others know, or is there twice, was started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Rejection {
    pub(crate) what: String,
    pub(crate) n: u64,
    pub(crate) t0: Us,
    pub(crate) t1: Us,
    /// Whether it must be refused.
    pub(crate) expected: bool,
    /// The exit code of the process that ended by itself, if one did.
    pub(crate) code: Option<i32>,
    /// The last line that it said.
    pub(crate) line: String,
}

/// A command that an operator should not have given.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mistake {
    pub(crate) what: String,
    pub(crate) t0: Us,
    pub(crate) t1: Us,
    pub(crate) s: u16,
    pub(crate) body: String,
    /// The nodes that the refusal must name.
    pub(crate) named: Vec<u64>,
    /// The members as every healthy node showed them before and after: node, then id and address.
    pub(crate) before: Members,
    pub(crate) after: Members,
}

/// Members by the node that shows them.
pub(crate) type Members = Vec<(u64, Vec<(u64, String)>)>;

/// The first start of all, with one wall clock that is years off.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FirstStart {
    pub(crate) n: u64,
    pub(crate) off_s: i64,
    pub(crate) t0: Us,
    pub(crate) t1: Us,
    /// Whether all nodes became ready.
    pub(crate) ready: bool,
    /// What a node said of clocks, if it did.
    pub(crate) line: String,
}

/// How often budgets were split anew.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Shares {
    pub(crate) changes: u64,
}

/// The last line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) t: Us,
    /// Faults were to be made until then.
    pub(crate) faults_until: Us,
    pub(crate) faults: u64,
    pub(crate) scanned: Vec<u64>,
    pub(crate) cut_off: bool,
}

struct Sink {
    file: BufWriter<File>,
    bytes: u64,
    cut_off: bool,
    error: Option<std::io::Error>,
}

/// Where the running harness writes.
pub(crate) struct Writer {
    begun: Instant,
    sink: Mutex<Sink>,
}

impl Writer {
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        let file = BufWriter::with_capacity(1 << 20, file);
        let sink = Sink { file, bytes: 0, cut_off: false, error: None };
        Ok(Self { begun: Instant::now(), sink: Mutex::new(sink) })
    }

    /// Now, on the clock of the history.
    pub(crate) fn now(&self) -> Us {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(Us::MAX)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn write(&self, event: &Event) {
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

    pub(crate) fn is_cut_off(&self) -> bool {
        self.lock().cut_off
    }

    /// Makes all that was written visible to a reader.
    pub(crate) fn finish(&self) -> anyhow::Result<()> {
        let mut sink = self.lock();
        if let Some(error) = sink.error.take() {
            return Err(error).context("write the history");
        }
        sink.file.flush().context("write the history")
    }
}

/// Reads a history.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Event>> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut events = Vec::new();
    for (at, line) in BufReader::new(file).lines().enumerate() {
        let line = line.with_context(|| format!("read {}", path.display()))?;
        let event = serde_json::from_str(&line);
        events.push(event.with_context(|| format!("{}:{}", path.display(), at + 1))?);
    }
    Ok(events)
}
