//! What a client says of itself, and what it says to the ones behind the gateway.

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
    // An owner that a key does not have is not taken from the client either.
    let nobodys = stage.cluster.create(1, &json!({"name": "n", "scope": "read"}));
    let (answer, seen) = stage.pass(&forge(get("/api/v1/x")).bearer(&nobodys.secret));
    answer.expect(200);
    assert_eq!(seen[0].header("x-auth-owner"), None, "{seen:?}");
    assert_eq!(seen[0].header("x-auth-key-id"), Some(&*nobodys.id), "{seen:?}");
    // A claimed method makes no write a read, a claimed scope opens nothing.
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

/// Tokens that the application itself gave out, beside one of our keys: they decide nothing, and it
/// gets them; the key it does not.
pub(super) fn an_authorization_of_the_applications_own_arrives(stage: &Stage, reader: &Key) {
    let nobodys = stage.cluster.create(1, &json!({"name": "n", "scope": "read"}));
    for own in ["Bearer eyJhbGciOiJub25lIn0.e30.", "Basic dXNlcjpwYXNzd29yZA=="] {
        for key in [reader, &nobodys] {
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
    // The port that a client named arrives too.
    let request = get("/api/v1/x").bearer(&reader.secret).header("Host", "api.example.com:8443");
    let (answer, seen) = stage.pass(&request);
    assert_eq!((answer.status, seen.len()), (200, 1), "{answer}");
    assert_eq!(seen[0].header("host"), Some("api.example.com:8443"), "{seen:?}");
}

/// Names that CGI, PHP, lighttpd and others read as those of the gateway.
pub(super) fn no_spelling_of_them_arrives(stage: &Stage) {
    // Nothing true would stand beside a forged owner.
    let nobodys = stage.cluster.create(1, &json!({"name": "n", "scope": "read"}));
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
        let request = get("/api/v1/x").bearer(&nobodys.secret).header(name, "forged");
        let (answer, seen) = stage.pass(&request);
        assert!(matches!(answer.status, 200 | 400), "{name}: {answer}");
        assert_eq!(seen.len(), usize::from(answer.status == 200), "{name}: {seen:?}");
        for seen in seen {
            assert!(!format!("{seen:?}").contains("forged"), "{name}: {seen:?}");
            assert_eq!(seen.header("x-auth-key-id"), Some(&*nobodys.id), "{name}: {seen:?}");
        }
    }
}

/// A gateway takes away what a client's `Connection` names, before it adds its own.
pub(super) fn what_connection_names_is_ours_still(stage: &Stage, reader: &Key) {
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

/// No upgrade but to WebSocket: what follows one passes unseen.
pub(super) fn nothing_is_tunnelled(stage: &Stage, reader: &Key, kind: Kind) {
    for upgrade in ["h2c", "H2C", "websocket, h2c", "tls/1.2"] {
        let request = get("/api/v1/x")
            .bearer(&reader.secret)
            .header("Connection", "Upgrade, HTTP2-Settings")
            .header("Upgrade", upgrade)
            .header("HTTP2-Settings", "AAMAAABkAAQAAP__");
        let (answer, seen) = stage.pass(&request);
        assert!(matches!(answer.status, 200 | 400 | 403), "{upgrade}: {answer}");
        for seen in seen {
            // Without a word in Connection it asks for nothing, and without one in Upgrade neither.
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
