//! The gateway listener's verdicts, byte for byte.
//!
//! Answers for: every status, body and header of the contract.

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, GATEWAY};
use crate::support::wait::{roomy_period_s, seconds_until, unix_now};
use crate::support::{Answer, Key, Request, wait_until};

/// The 401 of the contract.
const UNAUTHENTICATED: (&str, &str) = ("authentication_failed", "Invalid or missing API key");

/// Fails unless this is the only 401, with the headers of a caller without a budget.
#[track_caller]
fn assert_unauthenticated(answer: &Answer, presented: bool) {
    let answer = answer.clone().expect_error(401, UNAUTHENTICATED.0, UNAUTHENTICATED.1);
    let challenge = if presented { "Bearer error=\"invalid_token\"" } else { "Bearer" };
    assert_eq!(answer.header("www-authenticate"), Some(challenge), "{answer}");
    let (limit, remaining, reset) = answer.window();
    assert_eq!((limit, remaining), (100, 0), "{answer}");
    assert_eq!(reset % 60, 0, "{answer}");
    assert!((1..=60).contains(&seconds_until(reset)), "{answer}");
    assert_no_identity(&answer);
}

#[track_caller]
fn assert_no_identity(answer: &Answer) {
    let identity = answer.headers.iter().find(|(name, _)| name.starts_with("x-auth-"));
    assert_eq!(identity, None, "{answer}");
}

/// Fails unless the answer names the presented key.
#[track_caller]
fn assert_identity(answer: &Answer, key: &Key, name: &str, owner: Option<&str>, scope: &str) {
    assert_eq!(answer.header("x-auth-key-id"), Some(&*key.id), "{answer}");
    assert_eq!(answer.header("x-auth-key-name"), Some(name), "{answer}");
    assert_eq!(answer.header("x-auth-owner"), owner, "{answer}");
    assert_eq!(answer.header("x-auth-scope"), Some(scope), "{answer}");
}

#[test]
fn an_admission_matches_the_contract_byte_for_byte() {
    let cluster = Cluster::start(1);
    let key = cluster.write_key();
    let answer = cluster.ask(1, &key.validate()).expect(200);
    let (limit, remaining, reset) = answer.window();
    assert_eq!((limit, remaining), (100, 99));
    assert_eq!(reset % 60, 0);
    assert!((1..=60).contains(&seconds_until(reset)));
    let body = format!(
        r#"{{"valid":true,"key_id":"{}","name":"Production Sync","owner":"user_42","scope":"write","limit":100,"remaining":99,"reset":{reset}}}"#,
        key.id
    );
    assert_eq!(answer.text(), body);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("content-length"), Some(&*body.len().to_string()));
    assert_eq!(answer.header("retry-after"), None);
    assert_eq!(answer.header("www-authenticate"), None);
    assert_eq!(answer.header("ratelimit"), None);
    assert_identity(&answer, &key, "Production%20Sync", Some("user_42"), "write");
}

#[test]
fn a_key_is_accepted_in_every_place_of_the_contract() {
    let cluster = Cluster::start(1);
    let key = cluster.write_key();
    let secret = key.secret.as_str();
    let post = || Request::post("/v1/validate");
    for request in [
        post().header("Authorization", &format!("Bearer {secret}")),
        post().header("authorization", &format!("bearer {secret}")),
        post().header("AUTHORIZATION", &format!("BEARER {secret}")),
        post().header("X-API-Key", secret),
        post().header("x-api-key", secret),
        post().json(&json!({ "key": secret })),
        post().bearer(secret).header("x-api-key", secret),
        post().bearer(secret).json(&json!({ "key": secret })),
        post().bearer(secret).json(&json!({})),
        post().bearer(secret).header("content-type", "application/json; charset=utf-8").body("{}"),
        post().bearer(secret).header("content-type", "application/json").body(""),
    ] {
        let answer = cluster.ask(1, &request);
        assert_eq!(answer.status, 200, "{request:?}: {answer}");
    }
}

#[test]
fn every_invalid_key_gets_the_same_401() {
    let cluster = Cluster::start(1);
    let (key, other) = (cluster.write_key(), cluster.write_key());
    let secret = key.secret.as_str();
    let post = || Request::post("/v1/validate");
    assert_unauthenticated(&cluster.ask(1, &post()), false);
    assert_unauthenticated(&cluster.ask(1, &post().json(&json!({"scope": "read"}))), false);

    let (head, tail) = secret.split_at(30);
    let swapped = if tail.starts_with('a') { "b" } else { "a" };
    let wrong_checksum = format!("{head}{swapped}{}", &tail[1..]);
    let wrong_secret = with_checksum(&wrong_checksum[..wrong_checksum.len() - 6]);
    let unknown = with_checksum(&format!(
        "fx_live_000000000000_{}",
        &secret[secret.len() - 49..secret.len() - 6]
    ));
    let long = format!("{secret}{}", "x".repeat(300));
    for wrong in
        [&*wrong_checksum, &wrong_secret, &unknown, &long, "x", "fx_live_", "ключ", &secret[..69]]
    {
        assert_unauthenticated(&cluster.ask(1, &post().bearer(wrong)), true);
        assert_unauthenticated(&cluster.ask(1, &post().header("x-api-key", wrong)), true);
        assert_unauthenticated(&cluster.ask(1, &post().json(&json!({ "key": wrong }))), true);
    }
    for request in [
        post().bearer(secret).header("x-api-key", &other.secret),
        post().bearer(secret).bearer(secret),
        post().header("x-api-key", secret).header("x-api-key", secret),
        post().header("authorization", &format!("Basic {secret}")),
        post().header("authorization", secret),
        post().header("authorization", "Bearer"),
        post().header("authorization", "Bearer "),
        post().header("authorization", &format!("Bearer {secret} {secret}")),
        post().header("x-api-key", ""),
        post().json(&json!({"key": ""})),
        post().bearer(secret).json(&json!({"key": other.secret})),
    ] {
        let answer = cluster.ask(1, &request);
        assert_eq!(
            (answer.status, answer.json()["error"].as_str()),
            (401, Some(UNAUTHENTICATED.0)),
            "{request:?}: {answer}"
        );
    }
    // None of these requests spent a token.
    assert_eq!(cluster.ask(1, &key.validate()).expect(200).window().1, 99);
}

/// A well-formed key with the right checksum, in the base 62 of the contract.
fn with_checksum(body: &str) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut crc = u32::MAX;
    for byte in body.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
        }
    }
    let mut value = !crc;
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[usize::try_from(value % 62).unwrap()];
        value /= 62;
    }
    format!("{body}{}", String::from_utf8_lossy(&digits))
}

#[test]
fn the_checksum_is_the_crc_of_the_contract() {
    let cluster = Cluster::start(1);
    let key = cluster.write_key();
    assert_eq!(with_checksum(&key.secret[..key.secret.len() - 6]), key.secret);
    assert_eq!(key.secret.len(), 70);
    assert_eq!(format!("key_{}", &key.secret[8..20]), key.id);
    assert!(key.secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
}

#[test]
fn disabled_revoked_and_expired_keys_get_the_same_401() {
    let cluster = Cluster::start(1);
    let (disabled, revoked) = (cluster.write_key(), cluster.write_key());
    let change = Request::new("PATCH", &disabled.path()).json(&json!({"enabled": false}));
    cluster.admin(1, change).expect(200);
    cluster.admin(1, Request::new("DELETE", &revoked.path())).expect(200);
    assert_unauthenticated(&cluster.ask(1, &disabled.validate()), true);
    assert_unauthenticated(&cluster.ask(1, &revoked.validate()), true);
    // Even if the scope is too small: the status is checked first.
    assert_unauthenticated(&cluster.ask(1, &revoked.validate_scope("admin")), true);

    let soon = humantime_of(unix_now().as_secs() + 2);
    let expiring =
        cluster.create(1, &json!({"name": "soon gone", "scope": "read", "expires_at": soon}));
    cluster.ask(1, &expiring.validate()).expect(200);
    wait_until("the key expires", std::time::Duration::from_secs(10), || {
        cluster.ask(1, &expiring.validate_cost(0)).status == 401
    });
    assert_unauthenticated(&cluster.ask(1, &expiring.validate()), true);
    let record = cluster.admin(1, Request::get(&expiring.path())).expect(200).json();
    assert_eq!(record["status"], "expired", "{record}");
}

/// RFC 3339 in UTC (Hinnant, `days_from_civil`, reversed).
pub(crate) fn humantime_of(unix_s: u64) -> String {
    let days = unix_s / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) =
        (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + u64::from(month <= 2);
    let second = unix_s % 86_400;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[test]
fn a_small_scope_gets_the_403_of_the_contract_and_costs_nothing() {
    let cluster = Cluster::start(1);
    for (has, requires, status) in [
        ("read", "read", 200),
        ("read", "write", 403),
        ("read", "admin", 403),
        ("write", "read", 200),
        ("write", "write", 200),
        ("write", "admin", 403),
        ("admin", "read", 200),
        ("admin", "write", 200),
        ("admin", "admin", 200),
    ] {
        let key = cluster.create(1, &json!({"name": "Näme, ü/%", "scope": has}));
        let answer = cluster.ask(1, &key.validate_scope(requires));
        assert_identity(&answer, &key, "N%C3%A4me%2C%20%C3%BC%2F%25", None, has);
        if status == 200 {
            assert_eq!(answer.expect(200).window().1, 99);
            continue;
        }
        let message = format!("This endpoint requires '{requires}' scope");
        let answer = answer.expect_error(403, "insufficient_scope", &message);
        let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{requires}\"");
        assert_eq!(answer.header("www-authenticate"), Some(&*challenge));
        assert_eq!((answer.window().0, answer.window().1), (100, 100));
        assert_eq!(cluster.ask(1, &key.validate()).expect(200).window().1, 99);
    }
}

#[test]
fn request_101_gets_the_429_of_the_contract() {
    let cluster = Cluster::start(3);
    let period_s = roomy_period_s(60);
    let key = cluster.limited_key(100, period_s);
    for at in 0..100 {
        cluster.ask(1 + at % 3, &key.validate()).expect(200);
    }
    for id in cluster.ids() {
        let before = unix_now();
        let answer = cluster.ask(id, &key.validate()).expect(429);
        let (limit, remaining, reset) = answer.window();
        assert_eq!((limit, remaining, reset % period_s), (100, 0, 0), "{answer}");
        let retry_s = answer.number("retry-after");
        let left_s = reset - before.as_secs();
        assert!(retry_s == left_s || retry_s + 1 == left_s, "{retry_s} of {left_s}: {answer}");
        let message = format!("Rate limit exceeded. Try again in {retry_s} seconds.");
        let answer = answer.expect_error(429, "rate_limit_exceeded", &message);
        assert_identity(&answer, &key, "limited", None, "write");
        assert_eq!(answer.header("www-authenticate"), None);
    }
}

#[test]
fn a_peek_spends_nothing_and_a_costly_request_its_cost() {
    let cluster = Cluster::start(3);
    let key = cluster.limited_key(10, roomy_period_s(60));
    for _ in 0..20 {
        let peek = cluster.ask(2, &key.validate_cost(0)).expect(200);
        assert_eq!((peek.window().1, peek.json()["remaining"].as_u64()), (10, Some(10)));
    }
    assert_eq!(cluster.ask(1, &key.validate_cost(7)).expect(200).window().1, 3);
    cluster.ask(2, &key.validate_cost(4)).expect(429);
    cluster.ask(3, &key.validate_cost(3)).expect(200);
    cluster.ask(1, &key.validate_cost(1)).expect(429);
    for id in cluster.ids() {
        wait_until("a peek shows that nothing is left", std::time::Duration::from_secs(5), || {
            let answer = cluster.ask(id, &key.validate_cost(0));
            matches!(answer.status, 200 | 429) && answer.window().1 == 0
        });
    }
}

#[test]
fn an_invalid_request_gets_a_400_that_names_the_field() {
    let cluster = Cluster::start(1);
    let key = cluster.write_key();
    for (body, named) in [
        ("{", ""),
        ("nonsense", ""),
        ("[]", ""),
        ("[1]", ""),
        ("7", ""),
        ("\"text\"", ""),
        ("null", ""),
        ("{}{}", ""),
        (r#"{"cost":1,"cost":1}"#, "cost"),
        (r#"{"kosten":1}"#, "kosten"),
        (r#"{"scope":"owner"}"#, "scope"),
        (r#"{"scope":"Write"}"#, "scope"),
        (r#"{"scope":7}"#, "scope"),
        (r#"{"cost":-1}"#, "cost"),
        (r#"{"cost":1.5}"#, "cost"),
        (r#"{"cost":"1"}"#, "cost"),
        (r#"{"cost":101}"#, "cost"),
        (r#"{"cost":18446744073709551615}"#, "cost"),
        (r#"{"cost":18446744073709551616}"#, "cost"),
        (r#"{"cost":1e400}"#, ""),
        (r#"{"key":7}"#, "key"),
        ("{\"key\":\"\\ud800\"}", ""),
        ("\u{feff}{}", ""),
    ] {
        let answer = cluster.ask(1, &key.validate().raw_json(body));
        assert_eq!(answer.status, 400, "{body}: {answer}");
        let answer = answer.expect_code(400, "invalid_request");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(named), "`{named}` is not named for {body}: {answer}");
        assert!(!message.contains(&key.secret), "{answer}");
    }
    let binary =
        key.validate().header("content-type", "application/json").body(vec![0xff, 0xfe, 0x00]);
    cluster.ask(1, &binary).expect_code(400, "invalid_request");
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    cluster.ask(1, &key.validate().raw_json(&deep)).expect_code(400, "invalid_request");
    assert_eq!(cluster.ask(1, &key.validate()).expect(200).window().1, 99);
}

#[test]
fn wrong_paths_methods_types_and_sizes_get_a_two_field_error() {
    let cluster = Cluster::start(1);
    let key = cluster.write_key();
    for path in [
        "/",
        "/v1",
        "/v1/validat",
        "/v1/validate/",
        "/v1/keys",
        "/metrics",
        "/v1/cluster",
        "//v1/validate",
        "/v1/validate/batch/x",
        "/v1/%ff",
        "/v1/../v1/validate",
    ] {
        cluster.ask(1, &Request::post(path).bearer(&key.secret)).expect_code(404, "not_found");
    }
    for (path, allow) in [
        ("/v1/validate", "POST"),
        ("/v1/validate/batch", "POST"),
        ("/livez", "GET,HEAD"),
        ("/readyz", "GET,HEAD"),
    ] {
        for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "FOO"] {
            let answer = cluster.ask(1, &Request::new(method, path));
            let answer = answer.expect_code(405, "method_not_allowed");
            let allowed = answer.must_header("allow").replace(' ', "");
            assert_eq!(allowed, allow, "{method} {path}: {answer}");
        }
    }
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""]
    {
        let request = key.validate().header("content-type", content_type).body("{}");
        cluster.ask(1, &request).expect_code(415, "unsupported_media_type");
    }
    let exact = format!("{{\"scope\":\"read\"{}}}", " ".repeat(65_536 - 16));
    assert_eq!(exact.len(), 65_536);
    cluster.ask(1, &key.validate().raw_json(&exact)).expect(200);
    let large = key.validate().raw_json(&format!("{exact} "));
    cluster.ask(1, &large).expect_code(413, "too_large");
}

#[test]
fn the_verdict_names_the_limit_that_decides() {
    let cluster = Cluster::start(1);
    let period_s = roomy_period_s(120);
    let limits = json!([
        {"name": "small", "tokens": 4, "period": format!("{period_s}s")},
        {"name": "large", "tokens": 1000, "period": format!("{period_s}s")},
    ]);
    let key = cluster.create(1, &json!({"name": "two", "scope": "read", "limits": limits}));
    let first = cluster.ask(1, &key.validate()).expect(200);
    assert_eq!(
        (first.window().0, first.window().1),
        (4, 3),
        "the small limit has the smallest part left"
    );
    for _ in 0..3 {
        cluster.ask(1, &key.validate()).expect(200);
    }
    let denied = cluster.ask(1, &key.validate()).expect(429);
    assert_eq!((denied.window().0, denied.window().1), (4, 0));
    // Above the smaller limit, so it can never be admitted: answered at once, without waiting for a
    // window.
    cluster.ask(1, &key.validate_cost(5)).expect_code(400, "invalid_request");
}

#[test]
fn the_draft_headers_are_sent_where_configured() {
    let cluster = Cluster::start_with(1, |settings| {
        settings.set("gateway", "ratelimit_draft_headers", true);
    });
    let period_s = roomy_period_s(60);
    let key = cluster.limited_key(2, period_s);
    for (status, left) in [(200, 1), (200, 0), (429, 0)] {
        let answer = cluster.ask(1, &key.validate()).expect(status);
        assert_eq!(
            answer.header("ratelimit-policy"),
            Some(&*format!("\"requests\";q=2;w={period_s}")),
            "{answer}"
        );
        let shown = answer.must_header("ratelimit");
        let (head, seconds) = shown.rsplit_once(";t=").unwrap();
        assert_eq!(head, format!("\"requests\";r={left}"), "{answer}");
        let (seconds, until) = (seconds.parse::<u64>().unwrap(), seconds_until(answer.window().2));
        assert!(seconds.abs_diff(until) <= 1, "{answer}");
        answer.window();
    }
}

#[test]
fn a_gateway_without_its_token_gets_an_error_of_its_own() {
    let cluster = Cluster::start_with(1, Cluster::gateway_token_file);
    let key = cluster.write_key();
    let (error, message) = ("gateway_unauthorized", "Invalid or missing gateway token");
    let batch =
        || Request::post("/v1/validate/batch").json(&json!({"requests": [{"key": key.secret}]}));
    let authorize = || Request::get("/v1/authorize/read").bearer(&key.secret);
    for request in [key.validate(), batch(), authorize()] {
        cluster.ask(1, &request).expect_error(401, error, message);
        let wrong = request.clone().header("x-gateway-token", "gateway-token-of-another-one");
        cluster.ask(1, &wrong).expect_error(401, error, message);
        cluster.ask(1, &request.header("x-gateway-token", GATEWAY)).expect(200);
    }
    let nginx = Request::get("/v1/authorize/nginx/read").bearer(&key.secret);
    let nginx = cluster.ask(1, &nginx).expect(403);
    assert_eq!(nginx.header("x-auth-status"), Some("401"), "{nginx}");
    cluster.ask(1, &Request::get("/livez")).expect(200);
    cluster.ask(1, &Request::get("/readyz")).expect(200);
}

#[test]
fn both_listeners_serve_health() {
    let cluster = Cluster::start(1);
    let at = cluster.node(1).at;
    for to in [at.gateway, at.admin] {
        for path in ["/livez", "/readyz"] {
            let answer = Request::get(path).send(to).expect(200);
            assert_eq!(answer.text(), r#"{"status":"ok","node_id":1}"#);
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_eq!(Request::new("HEAD", path).send(to).expect(200).text(), "");
        }
    }
    let document = Request::get("/openapi.json").send(at.admin).expect(200);
    assert_eq!(document.header("content-type"), Some("application/json"));
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/api/openapi.json");
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(kept).unwrap()).unwrap();
    assert!(document.json() == kept, "the served document is not the one in git");
}
