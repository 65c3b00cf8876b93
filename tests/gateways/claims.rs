//! Claims of a client: headers about itself, and headers for the servers behind the gateway.

use serde_json::json;

use super::program::Kind;
use super::{Stage, get};
use crate::support::{Key, Request};

pub(super) fn forged_headers_have_no_effect(stage: &Stage, reader: &Key) {
    let forge = |request: Request| {
        let claims = [
            ("X-Auth-Key-Id", "key_forged"),
            ("X-Auth-Key-Name", "forged"),
            ("X-Auth-Owner", "forged"),
            ("X-Auth-Scope", "admin"),
            ("X-Auth-Status", "200"),
            ("X_Auth_Owner", "forged"),
            ("X-Required-Scope", "read"),
            ("X-Forwarded-Uri", "/v1/authorize/any"),
            ("X-Original-URI", "/v1/authorize/any"),
            ("X-RateLimit-Limit", "7"),
        ];
        claims.iter().fold(request, |request, (name, value)| request.header(name, value))
    };
    let (answer, seen) = stage.pass(&forge(get("/api/v1/x")).bearer(&reader.secret));
    answer.expect(200);
    seen[0].assert_knows(reader);
    // Nor is an owner that the key does not have taken from the client.
    let unowned = stage.cluster.create(1, &json!({"name": "n", "scope": "read"}));
    let (answer, seen) = stage.pass(&forge(get("/api/v1/x")).bearer(&unowned.secret));
    answer.expect(200);
    assert_eq!(seen[0].header("x-auth-owner"), None, "{seen:?}");
    assert_eq!(seen[0].header("x-auth-key-id"), Some(&*unowned.id), "{seen:?}");
    // A claimed method does not make a write a read, and a claimed scope opens nothing.
    let post = Request::post("/api/v1/x").bearer(&reader.secret);
    let claims = post.header("X-Forwarded-Method", "GET").header("X-Original-Method", "GET");
    for request in [forge(claims), forge(get("/api/admin/x")).bearer(&reader.secret)] {
        let (answer, seen) = stage.pass(&request);
        assert_eq!(answer.status, 403, "{request:?}: {answer}");
        assert!(seen.is_empty(), "{seen:?}");
    }
    let (answer, seen) = stage.pass(&forge(get("/api/v1/x?key=1&scope=any")));
    assert_eq!((answer.status, seen.len()), (401, 0), "{answer}");
}

/// Tokens that the application itself issued, beside one of our keys: they decide nothing, and they
/// reach the application; our key does not.
pub(super) fn the_applications_own_authorization_arrives(stage: &Stage, reader: &Key) {
    let unowned = stage.cluster.create(1, &json!({"name": "n", "scope": "read"}));
    for own in ["Bearer eyJhbGciOiJub25lIn0.e30.", "Basic dXNlcjpwYXNzd29yZA=="] {
        for key in [reader, &unowned] {
            let request = get("/api/v1/x").header("x-api-key", &key.secret);
            let (answer, seen) = stage.pass(&request.header("authorization", own));
            assert_eq!((answer.status, seen.len()), (200, 1), "{own}: {answer}");
            assert_eq!(seen[0].header("authorization"), Some(own), "{seen:?}");
            assert_eq!(seen[0].header("x-api-key"), None, "{seen:?}");
            assert_eq!(seen[0].header("x-auth-key-id"), Some(&*key.id), "{seen:?}");
        }
        let wrong = "fx_live_AAAAAAAAAAAA_nonsense";
        let request = get("/api/v1/x").header("x-api-key", wrong).header("authorization", own);
        let (answer, seen) = stage.pass(&request);
        assert_eq!((answer.status, seen.len()), (401, 0), "{own}: {answer}");
    }
    // The client's port in `Host` arrives, too.
    let request = get("/api/v1/x").bearer(&reader.secret).header("Host", "api.example.com:8443");
    let (answer, seen) = stage.pass(&request);
    assert_eq!((answer.status, seen.len()), (200, 1), "{answer}");
    assert_eq!(seen[0].header("host"), Some("api.example.com:8443"), "{seen:?}");
}

/// Spellings that CGI, PHP, lighttpd and others read as the gateway's headers.
pub(super) fn no_spelling_of_forged_headers_arrives(stage: &Stage) {
    // A key without an owner: no true owner would be beside the forged one.
    let unowned = stage.cluster.create(1, &json!({"name": "n", "scope": "read"}));
    for name in [
        "X_Auth_Key_Id",
        "X-Auth_Key-Id",
        "x-auth_scope",
        "X_Auth-Owner",
        "X.Auth.Owner",
        "X-Auth.Scope",
        "X.Auth-Key-Id",
        "X!Auth!Owner",
        "X+Auth-Owner",
        "X~Auth~Owner",
        "X|Auth|Owner",
        "X'Auth'Owner",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-HTTP-Method",
        "X-HTTP-Method-Override",
        "X-Method-Override",
    ] {
        let request = get("/api/v1/x").bearer(&unowned.secret).header(name, "forged");
        let (answer, seen) = stage.pass(&request);
        assert!(matches!(answer.status, 200 | 400), "{name}: {answer}");
        assert_eq!(seen.len(), usize::from(answer.status == 200), "{name}: {seen:?}");
        for seen in seen {
            assert!(!format!("{seen:?}").contains("forged"), "{name}: {seen:?}");
            assert_eq!(seen.header("x-auth-key-id"), Some(&*unowned.id), "{name}: {seen:?}");
        }
    }
}

/// A gateway removes the headers that a client's `Connection` names, before it adds its own.
pub(super) fn headers_named_in_connection_are_still_sent(stage: &Stage, reader: &Key) {
    for names in [
        "X-Auth-Key-Id, X-Auth-Scope, X-Auth-Key-Name, X-Auth-Owner",
        "close, X-Auth-Key-Id",
        "keep-alive, x-auth-key-id, x-auth-owner",
    ] {
        let request = get("/api/v1/x").bearer(&reader.secret).header("Connection", names);
        let (answer, seen) = stage.pass(&request);
        assert_eq!((answer.status, seen.len()), (200, 1), "{names}: {answer}");
        seen[0].assert_knows(reader);
    }
}

/// No upgrade except to WebSocket: bytes after an upgrade pass unchecked.
pub(super) fn no_upgrade_is_tunnelled(stage: &Stage, reader: &Key, kind: Kind) {
    for upgrade in ["h2c", "H2C", "websocket, h2c", "tls/1.2"] {
        let request = get("/api/v1/x")
            .bearer(&reader.secret)
            .header("Connection", "Upgrade, HTTP2-Settings")
            .header("Upgrade", upgrade)
            .header("HTTP2-Settings", "AAMAAABkAAQAAP__");
        let (answer, seen) = stage.pass(&request);
        assert!(matches!(answer.status, 200 | 400 | 403), "{upgrade}: {answer}");
        for seen in seen {
            // An upgrade needs both headers, so one of them alone requests nothing.
            let connection = seen.header("connection").unwrap_or_default().to_lowercase();
            let wanted = seen.header("upgrade").filter(|_| connection.contains("upgrade"));
            assert!(wanted.is_none_or(|wanted| wanted == "websocket"), "{upgrade}: {seen:?}");
        }
    }
    if matches!(kind, Kind::Caddy | Kind::Haproxy | Kind::Traefik) {
        let request = get("/api/v1/x").bearer(&reader.secret);
        let request = request
            .header("Connection", "Upgrade")
            .header("Upgrade", "WebSocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        let (answer, seen) = stage.pass(&request);
        assert_eq!((answer.status, seen.len()), (200, 1), "{answer}");
        let of = |name| seen[0].header(name).map(str::to_lowercase);
        let asked = (of("connection"), of("upgrade"));
        assert_eq!(asked, (Some("upgrade".into()), Some("websocket".into())), "{seen:?}");
    }
}
