//! Requests to the gateway and admin listeners of a whole node, and answers as a client reads them.
//!
//! Up to eight requests in an input, one after the other: a line that chooses the endpoint and the
//! caller, then a body. Every answer must match the contract: a failure is the two-field body of
//! its status and never a 500, a success reads back as its type, a secret appears only in the
//! answer that creates it, and a write is what later reads return.

use bytes::Bytes;
use fluxgate_api::ErrorBody;
use fluxgate_api::cluster::{ClusterChange, ClusterView, Health};
use fluxgate_api::keys::{CreateKey, CreatedKey, KeyList, KeyRecord, LimitSpec, WriteAnswer};
use fluxgate_api::usage::{AuditList, Usage, Whoami};
use fluxgate_api::validate::{BatchAnswer, BatchRequest, ValidateAnswer};
use fluxgate_server::{Answer, Listener};
use fluxgate_types::caps;
use http::{HeaderName, HeaderValue, Method, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host::{self, Host, OPERATOR};
use crate::source::Source;

/// Separates the requests of an input.
const NEXT: u8 = 0x1e;
const REQUESTS_MAX: usize = 8;
/// Pages that are followed.
const PAGES_MAX: usize = 4;
/// The id of no key.
const UNKNOWN_KEY: &str = "key_000000000000";

/// The type of a successful answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    Created,
    Written,
    Record,
    Keys,
    Usage,
    Audit,
    Whoami,
    View,
    Change,
    Health,
    Validated,
    Batch,
    Authorized,
    Text,
}

/// One endpoint: listener, method, path and answer. `{}` is an id that the input chooses.
type Endpoint = (Listener, &'static str, &'static str, Reads);

const ENDPOINTS: [Endpoint; 24] = [
    (Listener::Admin, "POST", "/v1/keys", Reads::Created),
    (Listener::Admin, "PATCH", "/v1/keys/{}", Reads::Written),
    (Listener::Admin, "POST", "/v1/keys/{}/rotate", Reads::Created),
    (Listener::Admin, "DELETE", "/v1/keys/{}", Reads::Written),
    (Listener::Admin, "GET", "/v1/keys/{}", Reads::Record),
    (Listener::Admin, "GET", "/v1/keys", Reads::Keys),
    (Listener::Admin, "GET", "/v1/keys/{}/usage", Reads::Usage),
    (Listener::Admin, "GET", "/v1/audit", Reads::Audit),
    (Listener::Admin, "GET", "/v1/whoami", Reads::Whoami),
    (Listener::Admin, "GET", "/v1/cluster", Reads::View),
    (Listener::Admin, "POST", "/v1/cluster/nodes", Reads::Change),
    (Listener::Admin, "DELETE", "/v1/cluster/nodes/{}", Reads::Change),
    (Listener::Admin, "POST", "/v1/cluster/leader", Reads::Change),
    (Listener::Admin, "GET", "/livez", Reads::Health),
    (Listener::Admin, "GET", "/metrics", Reads::Text),
    (Listener::Gateway, "POST", "/v1/validate", Reads::Validated),
    (Listener::Gateway, "POST", "/v1/validate/batch", Reads::Batch),
    (Listener::Gateway, "GET", "/v1/authorize/read", Reads::Authorized),
    (Listener::Gateway, "PUT", "/v1/authorize/by-method", Reads::Authorized),
    (Listener::Gateway, "GET", "/v1/authorize/by-forwarded-method", Reads::Authorized),
    (Listener::Gateway, "GET", "/v1/authorize/{}", Reads::Authorized),
    (Listener::Gateway, "GET", "/readyz", Reads::Health),
    (Listener::Admin, "GET", "/{}", Reads::Text),
    (Listener::Gateway, "PUT", "/{}", Reads::Text),
];

/// Headers that an input may set, one at a time.
const HEADERS: [&str; 9] = [
    "idempotency-key",
    "if-match",
    "content-type",
    "x-api-key",
    "authorization",
    "x-forwarded-method",
    "x-original-method",
    "traceparent",
    "x-gateway-token",
];

/// Sends the requests of an input to a node, and reads the same bytes as answers.
pub fn http_bodies(data: &[u8]) {
    answers(data);
    let requests: Vec<&[u8]> = data.split(|byte| *byte == NEXT).take(REQUESTS_MAX).collect();
    if requests.iter().all(|request| request.is_empty()) {
        return;
    }
    host::with(|host| {
        let mut session = Session { host, made: Vec::new() };
        for request in requests {
            session.request(Source::new(request));
        }
    });
}

struct Session<'a> {
    host: &'a mut Host,
    /// The keys that this input created: id and credential.
    made: Vec<(String, String)>,
}

impl Session<'_> {
    /// Sends one request. Its first bytes choose the endpoint, the caller, the id and a header; the
    /// rest of the line is the header's value or the query, and the remaining bytes are the body.
    fn request(&mut self, mut source: Source<'_>) {
        let (listener, method, path, reads) = ENDPOINTS[source.below(ENDPOINTS.len())];
        let caller = source.below(8);
        let id = self.id(&mut source);
        let header = source.below(2 * HEADERS.len());
        let rest = source.rest();
        let split = rest.iter().position(|byte| *byte == b'\n');
        let (line, body) = split.map_or((rest, &[][..]), |at| (&rest[..at], &rest[at + 1..]));
        let line = String::from_utf8_lossy(line);
        let id = if id.is_empty() { segment(&line) } else { id };
        let mut path = path.replace("{}", &id);
        if header >= HEADERS.len() && !line.is_empty() {
            path = format!("{path}?{line}");
        }
        let Ok(uri) = path.parse::<http::Uri>() else { return };
        let mut request = Request::new(Bytes::copy_from_slice(body));
        *request.method_mut() = method.parse().unwrap_or(Method::GET);
        *request.uri_mut() = uri;
        let operator = format!("Bearer {OPERATOR}");
        let presented = match caller {
            0..=4 => Some(operator),
            5 => self.made.last().map(|(_, key)| format!("Bearer {key}")),
            6 => self.made.first().map(|(_, key)| format!("Bearer {key}")),
            _ => None,
        };
        if let Some(value) = presented.and_then(|text| HeaderValue::try_from(text).ok()) {
            request.headers_mut().insert("authorization", value);
        }
        if let (Some(name), Ok(value)) = (HEADERS.get(header), HeaderValue::from_str(&line)) {
            request.headers_mut().append(HeaderName::from_static(name), value);
        }
        let answer = self.host.call(listener, request);
        self.judge(reads, listener, (rest, body), &answer);
    }

    /// An id: of a created key, of no key, or (empty) one from the line.
    fn id(&self, source: &mut Source<'_>) -> String {
        let choice = source.byte();
        match choice {
            0..=159 => {
                let made = self.made.get(usize::from(choice) % self.made.len().max(1));
                made.map_or(UNKNOWN_KEY.to_owned(), |(id, _)| id.clone())
            }
            160..=169 => UNKNOWN_KEY.to_owned(),
            170..=179 => "1".to_owned(),
            _ => String::new(),
        }
    }

    /// Judges the answer to a request; `sent` is its line with its body, and the body.
    fn judge(&mut self, reads: Reads, listener: Listener, sent: (&[u8], &[u8]), answer: &Answer) {
        let (sent, body) = sent;
        // An error names an unknown field, and the list of keys shows names: a request that uses a
        // secret there gets it back.
        let secrets = self.made.iter().map(|(_, key)| key.as_str()).chain([OPERATOR]);
        let allowed = secrets.filter(|secret| holds(sent, secret)).map(ToOwned::to_owned);
        self.host.printable_secrets.extend(allowed);
        let allowed = &self.host.printable_secrets;
        let reveals = |secret: &str, text: &str| text.contains(secret) && !allowed.contains(secret);
        let text = std::str::from_utf8(&answer.body).expect("an answer is text");
        assert_ne!(answer.status, 500, "an internal error: {text}");
        assert!(!reveals(OPERATOR, text), "the operator's token was printed");
        for (_, key) in &self.made {
            assert!(!reveals(key, text), "a credential was printed again: {text}");
            let leaks = |(_, value): &(String, String)| reveals(key, value);
            assert!(!answer.headers.iter().any(leaks), "a credential in a header");
        }
        if reads == Reads::Authorized && listener == Listener::Gateway {
            return check_authorized(answer);
        }
        if answer.status >= 400 {
            return check_error(answer, text);
        }
        assert!((200..300).contains(&answer.status), "{}", answer.status);
        match reads {
            Reads::Created => self.created(body, answer),
            Reads::Written => {
                let written: WriteAnswer = same(&answer.body);
                self.is_read(&written.record);
            }
            Reads::Record => {
                let record: KeyRecord = same(&answer.body);
                self.is_read(&record);
            }
            Reads::Keys => self.pages(same(&answer.body)),
            Reads::Usage => drop(same::<Usage>(&answer.body)),
            Reads::Audit => {
                let list: AuditList = same(&answer.body);
                assert!(list.entries.len() <= caps::LIST_PAGE_MAX);
                assert!(list.entries.windows(2).all(|pair| pair[0].seq > pair[1].seq));
            }
            Reads::Whoami => drop(same::<Whoami>(&answer.body)),
            Reads::View => drop(same::<ClusterView>(&answer.body)),
            Reads::Change => drop(same::<ClusterChange>(&answer.body)),
            Reads::Health => drop(same::<Health>(&answer.body)),
            Reads::Validated => drop(same::<ValidateAnswer>(&answer.body)),
            Reads::Batch => {
                let sent: BatchRequest = serde_json::from_slice(body).expect("it was accepted");
                let results: BatchAnswer = same(&answer.body);
                assert_eq!(results.results.len(), sent.requests.len());
            }
            Reads::Authorized | Reads::Text => {}
        }
    }

    /// A new secret: the key has the requested fields, can be read, and its credential works.
    fn created(&mut self, body: &[u8], answer: &Answer) {
        let made: CreatedKey = same(&answer.body);
        let record = &made.written.record;
        let credential = made.key.expose().to_owned();
        assert!(credential.starts_with(&record.prefix), "the prefix of another key");
        if answer.status == 201 {
            let sent: CreateKey = serde_json::from_slice(body).expect("it was accepted");
            let is = (&record.name, record.scope, record.expires_at);
            assert_eq!((&sent.name, sent.scope, sent.expires_at), is);
            assert!(sent.owner.is_none() || sent.owner == record.owner);
            assert_eq!(sent.metadata.unwrap_or_default(), record.metadata);
            if let Some(limits) = sent.limits {
                // Those in force: in another order, and with those of the plan.
                for limit in limits.into_iter().filter(|limit| limit.tokens.is_some()) {
                    let period_ms = limit.period.map(|period| period.ms);
                    let is_it = |known: &LimitSpec| {
                        let is = (&known.name, Some(known.tokens), Some(known.period.ms));
                        is == (&limit.name, limit.tokens, period_ms)
                    };
                    assert!(record.limits.iter().any(is_it), "{limit:?} of {record:?}");
                }
            }
        }
        let mut validate = Request::new(Bytes::new());
        *validate.method_mut() = Method::POST;
        *validate.uri_mut() = "/v1/validate".parse().expect("a path");
        let value = HeaderValue::try_from(&credential).expect("a credential is ASCII");
        validate.headers_mut().insert("x-api-key", value);
        let opened = self.host.call(Listener::Gateway, validate);
        let usable = record.enabled && record.status == fluxgate_api::keys::KeyStatus::Active;
        let fits = if usable { matches!(opened.status, 200 | 429) } else { opened.status == 401 };
        assert!(fits, "a new credential: {} {record:?}", opened.status);
        self.is_read(record);
        let id = record.id.to_string();
        self.made.retain(|(known, _)| *known != id);
        self.made.push((id, credential));
    }

    /// The answer to a write is what a read returns afterwards.
    fn is_read(&self, record: &KeyRecord) {
        let uri = format!("/v1/keys/{}", record.id);
        let answer = self.as_operator(&uri);
        assert_eq!(answer.status, 200);
        let read: KeyRecord = same(&answer.body);
        let read = KeyRecord { last_used_at: record.last_used_at, ..read };
        assert_eq!(read, *record);
        let tag = format!("\"{}\"", record.revision);
        assert_eq!(answer.header("etag"), Some(tag.as_str()));
    }

    /// A cursor from a list is accepted, and leads to other keys.
    fn pages(&self, list: KeyList) {
        assert!(list.keys.len() <= caps::LIST_PAGE_MAX);
        let (mut seen, mut next) = (list.keys, list.next_cursor);
        for _ in 0..PAGES_MAX {
            let Some(cursor) = next.take() else { break };
            assert!(!seen.is_empty(), "an empty page with a next one");
            let answer = self.as_operator(&format!("/v1/keys?cursor={cursor}"));
            let page: KeyList = same(&answer.body);
            let again = page.keys.iter().any(|key| seen.iter().any(|known| known.id == key.id));
            assert!(!again, "a key on two pages");
            seen.extend(page.keys);
            next = page.next_cursor;
        }
    }

    fn as_operator(&self, uri: &str) -> Answer {
        let request = Request::get(uri).header("authorization", format!("Bearer {OPERATOR}"));
        self.host.call(Listener::Admin, request.body(Bytes::new()).expect("a request"))
    }
}

fn holds(sent: &[u8], secret: &str) -> bool {
    sent.windows(secret.len()).any(|part| part == secret.as_bytes())
}

/// Text as one segment of a path.
fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~%/".contains(&byte);
    text.bytes().filter(|byte| plain(*byte)).map(char::from).collect()
}

/// A failure is the two-field body of its code, byte for byte, with the code's status.
fn check_error(answer: &Answer, text: &str) {
    let error: ErrorBody = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(error.to_json(), text);
    assert_eq!(error.status(), answer.status, "{text}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(!error.message.is_empty(), "an error without a message");
}

/// Forward authentication uses five statuses, and for nginx a 403 without a body.
fn check_authorized(answer: &Answer) {
    if let Some(status) = answer.header("x-auth-status").filter(|status| *status != "200") {
        assert_eq!(answer.status, 403);
        assert!(answer.body.is_empty() && matches!(status, "401" | "403" | "429" | "503"));
        let error = answer.header("x-auth-body").expect("a reason");
        let error: ErrorBody = serde_json::from_str(error).expect("an error body");
        assert_eq!(error.status().to_string(), status);
        return;
    }
    assert!(matches!(answer.status, 200 | 401 | 403 | 429 | 503), "{}", answer.status);
    if answer.status != 200 {
        let text = String::from_utf8_lossy(&answer.body);
        check_error(answer, &text);
    }
}

/// Reads an answer, which must serialize to the same value.
fn same<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(body: &[u8]) -> T {
    let read: T = serde_json::from_slice(body)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(body)));
    again(&read);
    read
}

fn again<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(value: &T) {
    let text = serde_json::to_vec(value).expect("it writes itself");
    let second: T = serde_json::from_slice(&text)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&text)));
    assert_eq!(second, *value, "another answer the second time");
}

/// Bytes as an answer: a client reads them or reports an error.
fn answers(data: &[u8]) {
    fn look<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(data: &[u8]) {
        if let Ok(value) = serde_json::from_slice::<T>(data) {
            again(&value);
        }
    }
    let looks: [fn(&[u8]); 13] = [
        look::<ErrorBody>,
        look::<CreatedKey>,
        look::<WriteAnswer>,
        look::<KeyRecord>,
        look::<KeyList>,
        look::<Usage>,
        look::<AuditList>,
        look::<Whoami>,
        look::<ClusterView>,
        look::<ClusterChange>,
        look::<Health>,
        look::<ValidateAnswer>,
        look::<BatchAnswer>,
    ];
    if data.first() == Some(&b'{') {
        looks.iter().for_each(|look| look(data));
    }
}
