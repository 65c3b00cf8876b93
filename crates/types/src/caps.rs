//! Every maximum of the system, in one place, with its unit in its name.
//!
//! A queue, body, batch, cache or list that has no bound here is a defect.

/// Most characters of a key's name.
pub const NAME_CHARS_MAX: usize = 100;
/// Most characters of an owner.
pub const OWNER_CHARS_MAX: usize = 100;
/// Most entries in a key's metadata.
pub const METADATA_ENTRIES_MAX: usize = 16;
/// Most characters of one metadata name.
pub const METADATA_NAME_CHARS_MAX: usize = 64;
/// Most characters of one metadata value.
pub const METADATA_VALUE_CHARS_MAX: usize = 512;
/// Most limits that one key may have.
pub const LIMITS_PER_KEY_MAX: usize = 8;
/// Most characters of a limit's name.
pub const LIMIT_NAME_CHARS_MAX: usize = 32;
/// Most tokens of one limit in one period.
pub const LIMIT_TOKENS_MAX: u64 = 1_000_000_000;
/// Shortest period of a limit, milliseconds.
pub const LIMIT_PERIOD_MS_MIN: u64 = 1_000;
/// Longest period of a limit that is split into shares, milliseconds.
pub const LIMIT_PERIOD_MS_MAX: u64 = 600_000;
/// Longest credential that is looked at, bytes.
pub const CREDENTIAL_BYTES_MAX: usize = 4_096;
/// Most requests in one validate batch.
pub const BATCH_REQUESTS_MAX: usize = 1_000;
/// Most keys of one batch whose entries are decided at one time.
pub const BATCH_KEYS_AT_ONCE: usize = 64;
/// Most records on one page of a list.
pub const LIST_PAGE_MAX: usize = 200;
/// Records on one page of a list when the caller names no number.
pub const LIST_PAGE_DEFAULT: usize = 50;
/// Most characters of a search text.
pub const SEARCH_CHARS_MAX: usize = 100;
/// Most characters of an idempotency key.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 128;
/// How long an idempotency key is remembered, milliseconds of cluster time.
pub const IDEMPOTENCY_TTL_MS: u64 = 24 * 3_600 * 1_000;
/// Most idempotency keys remembered at once; past it the oldest go first.
pub const IDEMPOTENCY_KEYS_MAX: usize = 100_000;
/// Most audit entries kept in the replicated state; past it the oldest go first.
pub const AUDIT_ENTRIES_MAX: usize = 50_000;
/// Largest revision that a restored record keeps: exact in JSON (2^53), and never counted up to.
pub const REVISION_RESTORED_MAX: u64 = 1 << 53;
/// Most characters of what one audit entry says of a change; the rest is cut off.
pub const AUDIT_DETAILS_CHARS_MAX: usize = 1_024;
/// Most records that one command erases.
pub const ERASED_AT_ONCE_MAX: usize = 48;
/// Most keys whose last use one note holds: those that were used in one minute.
pub const LAST_USES_NOTED_MAX: usize = 4_194_304;
/// Most request ids remembered to answer a repeated proposal with its first outcome. Only those are
/// remembered whose repeat would change something.
pub const REQUEST_IDS_MAX: usize = 262_144;
/// How long a request id is remembered, milliseconds of cluster time: twice as long as the longest
/// time for which a node repeats a proposal.
pub const REQUEST_IDS_TTL_MS: u64 = 2 * REQUEST_TIMEOUT_MS_MAX;
/// Longest time that a request may take as configured (`http.request_timeout`), milliseconds.
pub const REQUEST_TIMEOUT_MS_MAX: u64 = 300_000;
/// Most request ids remembered before level 2, of every command.
pub const REQUEST_IDS_MAX_BEFORE: usize = 32_768;
/// Latest cluster time, milliseconds since 1970 (the year 2200): in nanoseconds it fits 64 bits, with
/// room for what is added to it.
pub const CLUSTER_TIME_MS_MAX: u64 = 7_258_118_400_000;
/// Longest grace of a rotation, milliseconds (30 days).
pub const ROTATE_GRACE_MS_MAX: u64 = 30 * 24 * 3_600 * 1_000;
/// Most nodes of one cluster, learners included.
pub const NODES_MAX: usize = 9;
/// Most requests that may wait for tokens of one key on one node.
pub const WAITING_PER_KEY_MAX: usize = 4_096;
/// Most keys with waiting requests that are looked at while one lock is held.
pub const WAITING_KEYS_PER_HOLD_MAX: usize = 256;
/// Most counters and keys that are forgotten while one lock is held.
pub const SWEPT_PER_HOLD_MAX: usize = 128;
/// Most items of a peer message that are looked at while one lock is held.
pub const ITEMS_PER_HOLD_MAX: usize = 64;
/// Most figures that one shard keeps of counters that this node has not opened.
pub const FIGURES_HEARD_PER_SHARD_MAX: usize = 4_096;
/// Most asks that wait to be sent to one peer.
pub const ASKS_PENDING_MAX: usize = 4 * PEER_ITEMS_MAX;
/// A queue or map that is longer than this gives its memory back when it is empty, items.
pub const QUEUE_KEPT: usize = 64;
/// Most figures or asks in one peer message.
pub const PEER_ITEMS_MAX: usize = 4_096;
/// Largest peer message, bytes (a snapshot travels in chunks below this).
pub const PEER_MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// One chunk of a snapshot on the wire, bytes.
pub const SNAPSHOT_CHUNK_BYTES: usize = 1024 * 1024;
/// Most commands in one log entry.
pub const COMMANDS_PER_ENTRY_MAX: usize = 128;
/// Most bytes of encoded commands in one log entry; a single larger command travels alone.
pub const ENTRY_BYTES_MAX: usize = 32 * 1024;
/// Most proposals that may queue for the batcher.
pub const PROPOSALS_QUEUED_MAX: usize = 8_192;
/// Windows of usage history that a node keeps for a key in use.
pub const USAGE_WINDOWS: usize = 60;
/// Latest end of a key, milliseconds since 1970: the last that RFC 3339 can write.
pub const EXPIRES_AT_MS_MAX: u64 = 253_402_300_799_999;
/// Longest session of the console, however busy, seconds.
pub const CONSOLE_SESSION_S_MAX: u64 = 8 * 3_600;
/// Longest rest of a session of the console, seconds.
pub const CONSOLE_REST_S_MAX: u64 = 30 * 60;
/// A session of the console in use is noted so often, seconds.
pub const CONSOLE_RENEW_S: u64 = 60;
/// Most keys whose use one page of the console asks for.
pub const CONSOLE_USAGE_KEYS_MAX: usize = 50;
/// Most fields of one form of the console.
pub const FORM_FIELDS_MAX: usize = 64;
/// Audit entries in one piece of an export.
pub const EXPORT_PIECE_ENTRIES: usize = LIST_PAGE_MAX;
/// Failed tries to sign in to the console that cost nothing.
pub const SIGN_IN_FREE_TRIES: u32 = 5;
/// Longest wait after a failed try to sign in, seconds.
pub const SIGN_IN_WAIT_S_MAX: u64 = 60;
/// How long tries to sign in are remembered, seconds.
pub const SIGN_IN_MEMORY_S: u64 = 15 * 60;
/// Most addresses whose tries to sign in are remembered.
pub const SIGN_IN_ADDRESSES_MAX: usize = 4_096;
/// Most failed tries to sign in of all addresses together in one minute.
pub const SIGN_IN_FAILURES_PER_MINUTE_MAX: u32 = 300;
/// Failed tries to sign in that get a line in the audit trail, a node and minute; the others are counted.
pub const SIGN_IN_FAILURES_NOTED_PER_MINUTE_MAX: u32 = 10;

const _: () = assert!(LIMIT_PERIOD_MS_MIN < LIMIT_PERIOD_MS_MAX);
const _: () = assert!(SNAPSHOT_CHUNK_BYTES < PEER_MESSAGE_BYTES_MAX);
const _: () = assert!(LIST_PAGE_DEFAULT <= LIST_PAGE_MAX);
const _: () = assert!(CONSOLE_REST_S_MAX < CONSOLE_SESSION_S_MAX);
const _: () = assert!(LIST_PAGE_DEFAULT <= CONSOLE_USAGE_KEYS_MAX);
