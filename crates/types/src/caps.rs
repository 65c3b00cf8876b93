//! Every upper bound of the system, in one place, with its unit in its name.
//!
//! A queue, body, batch, cache or list without a bound in this file is a bug.

/// Longest name of a key, characters.
pub const NAME_CHARS_MAX: usize = 100;
/// Longest owner of a key, characters.
pub const OWNER_CHARS_MAX: usize = 100;
/// Most owners that have a record.
pub const OWNERS_MAX: usize = 1_000_000;
/// Longest name of a plan or a pool, characters.
pub const RECORD_NAME_CHARS_MAX: usize = 64;
/// Most plans.
pub const PLANS_MAX: usize = 10_000;
/// Most pools.
pub const POOLS_MAX: usize = 10_000;
/// Most pools that one key is charged to.
pub const POOLS_PER_KEY_MAX: usize = 2;
/// Most names of limits in mode shadow with a metric of their own.
pub const SHADOW_NAMES_MAX: usize = 200;
/// Most names of metadata that one plan exposes to applications.
pub const EXPOSES_MAX: usize = METADATA_ENTRIES_MAX;
/// Most metadata entries of one key.
pub const METADATA_ENTRIES_MAX: usize = 16;
/// Longest metadata name, characters.
pub const METADATA_NAME_CHARS_MAX: usize = 64;
/// Longest metadata value, characters.
pub const METADATA_VALUE_CHARS_MAX: usize = 512;
/// Most limits of one key.
pub const LIMITS_PER_KEY_MAX: usize = 8;
/// Longest name of a limit, characters.
pub const LIMIT_NAME_CHARS_MAX: usize = 32;
/// Most tokens per period that one limit may grant.
pub const LIMIT_TOKENS_MAX: u64 = 1_000_000_000;
/// Shortest period of a limit, milliseconds.
pub const LIMIT_PERIOD_MS_MIN: u64 = 1_000;
/// Longest period of a limit, milliseconds.
pub const LIMIT_PERIOD_MS_MAX: u64 = 600_000;
/// Longest credential that is parsed, bytes.
pub const CREDENTIAL_BYTES_MAX: usize = 4_096;
/// Most requests in one validate batch.
pub const BATCH_REQUESTS_MAX: usize = 1_000;
/// Most keys of one batch that are decided concurrently.
pub const BATCH_KEYS_AT_ONCE: usize = 64;
/// Most records on one page of a list.
pub const LIST_PAGE_MAX: usize = 200;
/// Records on one page of a list when the caller gives no page size.
pub const LIST_PAGE_DEFAULT: usize = 50;
/// Longest search text, characters.
pub const SEARCH_CHARS_MAX: usize = 100;
/// Longest idempotency key, characters.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 128;
/// How long an idempotency key is remembered, milliseconds of cluster time.
pub const IDEMPOTENCY_TTL_MS: u64 = 24 * 3_600 * 1_000;
/// Most idempotency keys remembered at once; beyond it the oldest are dropped.
pub const IDEMPOTENCY_KEYS_MAX: usize = 100_000;
/// Most audit entries kept in the replicated state; beyond it the oldest are dropped.
pub const AUDIT_ENTRIES_MAX: usize = 50_000;
/// Largest revision that a restored record keeps: still exact in JSON (2^53), and never reached by
/// counting.
pub const REVISION_RESTORED_MAX: u64 = 1 << 53;
/// Longest description of a change in one audit entry, characters; longer ones are cut.
pub const AUDIT_DETAILS_CHARS_MAX: usize = 1_024;
/// Most records that one command may erase.
pub const ERASED_AT_ONCE_MAX: usize = 48;
/// Erased keys whose counters are still to be dropped; those beyond are dropped as idle ones.
pub const ERASED_NOTED_MAX: usize = 16_384;
/// Most keys in one write of last-used times. One write covers the keys used within one minute.
pub const LAST_USES_NOTED_MAX: usize = 4_194_304;
/// Most request ids remembered, so that a repeated proposal gets its first outcome. Only ids whose
/// repeat would change something are remembered.
pub const REQUEST_IDS_MAX: usize = 262_144;
/// How long a request id is remembered, milliseconds of cluster time: twice the longest time for
/// which a node repeats a proposal.
pub const REQUEST_IDS_TTL_MS: u64 = 2 * REQUEST_TIMEOUT_MS_MAX;
/// Largest configurable request timeout (`http.request_timeout`), milliseconds.
pub const REQUEST_TIMEOUT_MS_MAX: u64 = 300_000;
/// Most request ids remembered before state level 2, which remembered the id of every command.
pub const REQUEST_IDS_MAX_BEFORE: usize = 32_768;
/// Latest cluster time, milliseconds since 1970 (the year 2200). In nanoseconds it fits into 64
/// bits, with room for additions.
pub const CLUSTER_TIME_MS_MAX: u64 = 7_258_118_400_000;
/// Longest grace period of a rotation, milliseconds (30 days).
pub const ROTATE_GRACE_MS_MAX: u64 = 30 * 24 * 3_600 * 1_000;
/// Most starts of one data directory: one each microsecond for nine years. The sum over tens of
/// thousands of nodes fits into 64 bits.
pub const STARTS_MAX: u64 = 1 << 48;
/// Most nodes of one cluster, learners included.
pub const NODES_MAX: usize = 9;
/// Most subjects that one request is charged to.
pub const CHARGES_MAX: usize = 4;
/// Most requests that may wait on one node for tokens of one key.
pub const WAITING_PER_KEY_MAX: usize = 4_096;
/// Most keys with waiting requests that are processed under one hold of the lock.
pub const WAITING_KEYS_PER_HOLD_MAX: usize = 64;
/// Most counters and keys that are dropped under one hold of the lock.
pub const SWEPT_PER_HOLD_MAX: usize = 64;
/// Most items of a peer message that are processed under one hold of the lock.
pub const ITEMS_PER_HOLD_MAX: usize = 64;
/// Most peer reports that one shard keeps about counters that this node has not opened.
pub const FIGURES_HEARD_PER_SHARD_MAX: usize = 3_200;
/// Most transfer requests queued for one peer.
pub const ASKS_PENDING_MAX: usize = 4 * PEER_ITEMS_MAX;
/// A queue or map whose capacity exceeds this frees its memory once it is empty, items.
pub const QUEUE_KEPT: usize = 64;
/// Most reports or transfer requests in one peer message.
pub const PEER_ITEMS_MAX: usize = 4_096;
/// Largest peer message, bytes (a snapshot travels in smaller chunks).
pub const PEER_MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Size of one snapshot chunk on the wire, bytes.
pub const SNAPSHOT_CHUNK_BYTES: usize = 1024 * 1024;
/// Most commands in one log entry.
pub const COMMANDS_PER_ENTRY_MAX: usize = 128;
/// Most bytes of encoded commands in one log entry; a larger single command gets an entry of its
/// own.
pub const ENTRY_BYTES_MAX: usize = 32 * 1024;
/// Most proposals queued for the batcher.
pub const PROPOSALS_QUEUED_MAX: usize = 8_192;
/// Windows of usage history that a node keeps for each key in use.
pub const USAGE_WINDOWS: usize = 60;
/// Latest expiry of a key, milliseconds since 1970: the last moment that RFC 3339 can express.
pub const EXPIRES_AT_MS_MAX: u64 = 253_402_300_799_999;
/// Longest console session, even in constant use, seconds.
pub const CONSOLE_SESSION_S_MAX: u64 = 8 * 3_600;
/// Longest idle time of a console session, seconds.
pub const CONSOLE_REST_S_MAX: u64 = 30 * 60;
/// How often the console renews a session in use, seconds.
pub const CONSOLE_RENEW_S: u64 = 60;
/// Most keys whose usage one console page requests.
pub const CONSOLE_USAGE_KEYS_MAX: usize = 50;
/// Most fields of one console form.
pub const FORM_FIELDS_MAX: usize = 64;
/// Audit entries in one chunk of an export.
pub const EXPORT_PIECE_ENTRIES: usize = LIST_PAGE_MAX;
/// Failed sign-ins to the console that cause no delay.
pub const SIGN_IN_FREE_TRIES: u32 = 5;
/// Longest delay after a failed sign-in, seconds.
pub const SIGN_IN_WAIT_S_MAX: u64 = 60;
/// How long failed sign-ins of an address are remembered, seconds.
pub const SIGN_IN_MEMORY_S: u64 = 15 * 60;
/// Most addresses whose failed sign-ins are remembered.
pub const SIGN_IN_ADDRESSES_MAX: usize = 4_096;
/// Most failed sign-ins per minute, all addresses together.
pub const SIGN_IN_FAILURES_PER_MINUTE_MAX: u32 = 300;
/// Failed sign-ins recorded in the audit trail, per node and minute; further ones are only counted.
pub const SIGN_IN_FAILURES_NOTED_PER_MINUTE_MAX: u32 = 10;

const _: () = assert!(LIMIT_PERIOD_MS_MIN < LIMIT_PERIOD_MS_MAX);
const _: () = assert!(SNAPSHOT_CHUNK_BYTES < PEER_MESSAGE_BYTES_MAX);
const _: () = assert!(LIST_PAGE_DEFAULT <= LIST_PAGE_MAX);
const _: () = assert!(CONSOLE_REST_S_MAX < CONSOLE_SESSION_S_MAX);
const _: () = assert!(LIST_PAGE_DEFAULT <= CONSOLE_USAGE_KEYS_MAX);
