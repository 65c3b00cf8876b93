//! The console without a browser: its answers to forms, sessions and strangers, byte for byte.

use std::time::Duration;

use serde_json::json;

use crate::support::cluster::{Cluster, OPERATOR};
use crate::support::keys::limit;
use crate::support::wait::roomy_period_s;
use crate::support::{Answer, Key, Request, wait_until};

/// A form, as a browser without scripts sends it.
pub(super) fn form(path: &str, fields: &[(&str, &str)]) -> Request {
    let body: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    Request::post(path)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.join("&"))
}

fn escaped(text: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    let one = |c: u8| if plain(c) { char::from(c).to_string() } else { format!("%{c:02X}") };
    text.bytes().map(one).collect()
}

/// A signed-in client.
pub(super) struct Visitor<'a> {
    cluster: &'a Cluster,
    pub(super) cookie: String,
}

impl<'a> Visitor<'a> {
    #[track_caller]
    pub(super) fn sign_in(cluster: &'a Cluster, node: u64, token: &str) -> Self {
        let answer = sign_in(cluster, node, token).expect(303);
        let cookie = answer.must_header("set-cookie").split(';').next().unwrap();
        Self { cluster, cookie: cookie.to_owned() }
    }

    #[track_caller]
    pub(super) fn send(&self, node: u64, request: Request) -> Answer {
        request.header("cookie", &self.cookie).send(self.cluster.node(node).at.admin)
    }

    #[track_caller]
    pub(super) fn get(&self, node: u64, path: &str) -> Answer {
        self.send(node, Request::get(path))
    }

    /// The value of a hidden field of a page.
    #[track_caller]
    pub(super) fn field(&self, node: u64, path: &str, name: &str) -> String {
        let page = self.get(node, path).expect(200).text();
        let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\"")).unwrap();
        rest.split('"').next().unwrap().to_owned()
    }

    fn create(&self, node: u64, token: &str, once: &str) -> Answer {
        let fields = [("form_token", token), ("once", once), ("name", "Form"), ("scope", "read")];
        self.send(node, form("/console/keys", &fields))
    }
}

#[track_caller]
pub(super) fn sign_in(cluster: &Cluster, node: u64, token: &str) -> Answer {
    form("/console/sign-in", &[("token", token)]).send(cluster.node(node).at.admin)
}

/// The key that a page shows.
#[track_caller]
fn shown(answer: &Answer) -> String {
    let text = answer.text();
    let (_, rest) = text.split_once("aria-label=\"API key\">").expect("the page shows a key");
    rest.split('<').next().unwrap().to_owned()
}

#[test]
fn every_answer_forbids_caching_framing_and_other_hosts() {
    let cluster = Cluster::start(1);
    let visitor = Visitor::sign_in(&cluster, 1, OPERATOR);
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
        img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    for path in [
        "/console",
        "/console/",
        "/console/sign-in",
        "/console/keys",
        "/console/keys/new",
        "/console/audit",
        "/console/cluster",
        "/console/nothing/here",
        "/console/api/usage?ids=",
    ] {
        let answer = visitor.get(1, path);
        assert_eq!(answer.must_header("content-security-policy"), policy, "{path}");
        assert_eq!(answer.must_header("cache-control"), "no-store", "{path}");
        assert_eq!(answer.must_header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.must_header("referrer-policy"), "same-origin", "{path}");
        assert_eq!(answer.must_header("cross-origin-opener-policy"), "same-origin", "{path}");
        let text = answer.text();
        assert!(!text.contains(" style=") && !text.contains("<style"), "{path}: inline style");
        assert!(!text.contains(" onclick=") && !text.contains("<script>"), "{path}: inline script");
    }
    let lost = visitor.get(1, "/console/nothing/here").expect(404);
    assert!(lost.text().contains("No such page"), "{lost}");
    let home = visitor.get(1, "/console").expect(303);
    assert_eq!(home.must_header("location"), "/console/");
    // Files are cached forever under a name that changes with their content.
    let page = visitor.get(1, "/console/keys").text();
    let (_, name) = page.split_once("/console/assets/console.").unwrap();
    let path = format!("/console/assets/console.{}", name.split('"').next().unwrap());
    let file = visitor.get(1, &path).expect(200);
    assert!(file.must_header("cache-control").contains("immutable"), "{file}");
    let tag = file.must_header("etag").to_owned();
    visitor.send(1, Request::get(&path).header("if-none-match", &tag)).expect(304);
    visitor.get(1, "/console/assets/console.000000000000.css").expect(404);
    // The HTTP interface beside the console is unchanged.
    Request::get("/nothing").send(cluster.node(1).at.admin).expect_code(404, "not_found");
}

#[test]
fn a_session_is_sealed_works_on_every_node_and_ends_with_sign_out() {
    let cluster = Cluster::start(3);
    let answer = sign_in(&cluster, 1, OPERATOR).expect(303);
    let cookie = answer.must_header("set-cookie");
    for part in
        ["fluxgate_session=1.", "Path=/console/", "HttpOnly", "SameSite=Strict", "Max-Age=1800"]
    {
        assert!(cookie.contains(part), "{part}: {cookie}");
    }
    assert!(!cookie.contains("Secure"), "without TLS it would not be kept: {cookie}");
    assert!(!cookie.contains(OPERATOR), "{cookie}");
    let visitor = Visitor::sign_in(&cluster, 1, OPERATOR);
    for node in cluster.ids() {
        visitor.get(node, "/console/keys").expect(200);
    }
    let forged = Visitor { cookie: visitor.cookie.replace("=1.01", "=1.02"), ..visitor };
    let turned = forged.get(2, "/console/keys").expect(303);
    assert!(turned.must_header("location").starts_with("/console/sign-in"), "{turned}");
    forged.get(2, "/console/api/usage?ids=").expect_code(401, "authentication_failed");

    let visitor = Visitor::sign_in(&cluster, 2, OPERATOR);
    let token = visitor.field(3, "/console/keys", "form_token");
    let out = visitor.send(3, form("/console/sign-out", &[("form_token", &token)])).expect(303);
    assert!(out.must_header("set-cookie").contains("fluxgate_session=; "), "{out}");
    assert!(out.must_header("set-cookie").contains("Max-Age=0"), "{out}");
    // For any target the sign-in leads only to a page of ours.
    let fields = [("token", OPERATOR), ("to", "https://evil.example/console/")];
    let answer = form("/console/sign-in", &fields).send(cluster.node(1).at.admin).expect(303);
    assert_eq!(answer.must_header("location"), "/console/keys");
    let fields = [("token", OPERATOR), ("to", "/console/audit")];
    let answer = form("/console/sign-in", &fields).send(cluster.node(1).at.admin).expect(303);
    assert_eq!(answer.must_header("location"), "/console/audit");
}

#[test]
fn a_session_ends_on_every_node_with_its_key() {
    let cluster = Cluster::start(3);
    let admin =
        |name: &str| cluster.create(1, &json!({"name": name, "scope": "admin", "owner": "blue"}));
    let patch = |key: &Key, change: serde_json::Value| {
        cluster.admin(1, Request::new("PATCH", &key.path()).json(&change)).expect(200);
    };
    let ends = |visitor: &Visitor<'_>, why: &str| {
        for node in cluster.ids() {
            let answer = visitor.get(node, "/console/keys");
            assert_eq!(answer.status, 303, "{why}, node {node}: {answer}");
        }
    };
    let key = admin("disabled");
    let visitor = Visitor::sign_in(&cluster, 2, &key.secret);
    visitor.get(3, "/console/keys").expect(200);
    patch(&key, json!({"enabled": false}));
    ends(&visitor, "disabled");
    let key = admin("demoted");
    let visitor = Visitor::sign_in(&cluster, 2, &key.secret);
    patch(&key, json!({"scope": "write"}));
    ends(&visitor, "no longer admin");
    let key = admin("rotated");
    let visitor = Visitor::sign_in(&cluster, 2, &key.secret);
    let rotate = |grace: &str| {
        let path = format!("{}/rotate", key.path());
        let body = json!({ "grace": grace, "end_previous": true });
        cluster.admin(1, Request::post(&path).json(&body)).expect(200)
    };
    rotate("1h");
    visitor.get(3, "/console/keys").expect(200);
    rotate("0s");
    ends(&visitor, "rotated out");
    let key = admin("revoked");
    let visitor = Visitor::sign_in(&cluster, 2, &key.secret);
    cluster.admin(3, Request::new("DELETE", &key.path())).expect(200);
    ends(&visitor, "revoked");
}

#[test]
fn no_other_site_can_send_a_form_and_no_form_creates_two_keys() {
    let cluster = Cluster::start(3);
    let visitor = Visitor::sign_in(&cluster, 1, OPERATOR);
    let token = visitor.field(1, "/console/keys/new", "form_token");
    let once = visitor.field(1, "/console/keys/new", "once");
    let good = || {
        let fields = [("form_token", &*token), ("once", &*once), ("name", "A"), ("scope", "read")];
        form("/console/keys", &fields)
    };
    for (name, value) in [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("origin", "http://fluxgate.test:7202"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let answer = visitor.send(1, good().header(name, value));
        assert_eq!(answer.status, 400, "{name}: {value}: {answer}");
        // A page, because a person behind a proxy sees it too.
        assert!(answer.text().contains("must hand on Host as it came"), "{answer}");
    }
    for wrong in ["", "0", &"0".repeat(64)] {
        visitor.create(1, wrong, &once).expect(403);
    }
    let other = Visitor::sign_in(&cluster, 1, OPERATOR);
    let of_another = other.field(1, "/console/keys/new", "form_token");
    visitor.create(1, &of_another, &once).expect(403);
    // A script of another site could send JSON without a preflight, so only forms are accepted.
    let json = Request::post("/console/keys").json(&json!({"name": "A", "scope": "read"}));
    assert_eq!(visitor.send(1, json).status, 415);
    let list = cluster.admin(1, Request::get("/v1/keys")).expect(200).json();
    assert_eq!(list["keys"], json!([]), "no key was created");

    let made = visitor.send(2, good().header("origin", "http://fluxgate.test")).expect(200);
    let key = shown(&made);
    assert_eq!(made.must_header("cache-control"), "no-store");
    Request::post("/v1/validate").bearer(&key).send(cluster.gateway(3)).expect(200);
    // Sent again, through another node: no second key is created, and the first is not shown again.
    let again = visitor.send(3, good()).expect(409);
    assert!(again.text().contains("Already made") && !again.text().contains(&key), "{again}");
    let list = cluster.admin(1, Request::get("/v1/keys")).expect(200).json();
    assert_eq!(list["keys"].as_array().unwrap().len(), 1);
}

#[test]
fn the_essentials_work_without_any_script() {
    let cluster = Cluster::start(1);
    let visitor = Visitor::sign_in(&cluster, 1, OPERATOR);
    let token = visitor.field(1, "/console/keys/new", "form_token");
    let send = |path: &str, fields: &[(&str, &str)]| {
        visitor.send(1, form(path, &[&[("form_token", &*token)], fields].concat()))
    };
    // An error is beside its field, and the typed text is kept.
    let rejected = send("/console/keys", &[("once", "a"), ("name", "No scope")]).expect(400);
    assert!(rejected.text().contains("choose what the key may do"), "{rejected}");
    assert!(rejected.text().contains("value=\"No scope\""), "{rejected}");
    let fields = [
        ("once", "a"),
        ("name", "<script>alert(1)</script>"),
        ("scope", "read"),
        ("limit_name", "requests"),
        ("limit_tokens", "7"),
        ("limit_period", "10s"),
        ("expiry", "30d"),
    ];
    let key = shown(&send("/console/keys", &fields).expect(200));
    let answer = Request::post("/v1/validate").bearer(&key).send(cluster.gateway(1)).expect(200);
    assert_eq!(answer.window().0, 7);
    let id = answer.json()["key_id"].as_str().unwrap().to_owned();
    for path in
        ["/console/keys".to_owned(), format!("/console/keys/{id}"), "/console/audit".to_owned()]
    {
        let page = visitor.get(1, &path).expect(200).text();
        assert!(!page.contains("<script>alert"), "{path}: a name is markup");
    }
    let path = format!("/console/keys/{id}");
    send(&format!("{path}/revoke"), &[("confirm", "script")]).expect(400);
    let fields = [("confirm", "<script>alert(1)</script>")];
    let receipt = send(&format!("{path}/revoke"), &fields).expect(200).text();
    assert!(receipt.contains("is revoked on node 1 after"), "{receipt}");
    Request::post("/v1/validate").bearer(&key).send(cluster.gateway(1)).expect(401);
    // An ended key can be erased by typing its name.
    let page = visitor.get(1, &path).expect(200).text();
    assert!(page.contains(&format!("{path}/erase")), "{page}");
    send(&format!("{path}/erase"), &[("confirm", "script")]).expect(400);
    let erased = send(&format!("{path}/erase"), &fields).expect(200).text();
    assert!(erased.contains("forgotten on every node") && erased.contains(&id), "{erased}");
    visitor.get(1, &path).expect(404);
    let trail = visitor.get(1, "/console/audit").expect(200).text();
    assert!(trail.contains("key.erase") && !trail.contains("alert(1)"), "{trail}");
    visitor.get(1, "/console/keys/key_000000000000").expect(404);
    visitor.get(1, "/console/keys?cursor=nonsense").expect(400);
}

#[test]
fn failed_sign_ins_cost_time_and_successful_ones_count_against_the_key() {
    let cluster = Cluster::start(1);
    let limits = limit(3, roomy_period_s(60));
    let body = json!({"name": "few", "scope": "admin", "owner": "o", "limits": limits});
    let key = cluster.create(1, &body);
    for _ in 0..3 {
        Visitor::sign_in(&cluster, 1, &key.secret);
    }
    let limited = sign_in(&cluster, 1, &key.secret).expect(429);
    assert!(limited.text().contains("Rate limit exceeded"), "{limited}");
    // Pages of a session spend nothing, and a denial by the limit is no failed sign-in.
    let visitor = Visitor::sign_in(&cluster, 1, OPERATOR);
    (0..6).for_each(|_| drop(visitor.get(1, "/console/keys").expect(200)));
    let reader = cluster.create(1, &json!({"name": "r", "scope": "read"}));
    let rejected = sign_in(&cluster, 1, &reader.secret).expect(403);
    assert!(rejected.text().contains("scope admin"), "{rejected}");
    // Text that cannot be a token is no failed sign-in either, and the form comes back.
    let too_long = sign_in(&cluster, 1, &"x".repeat(100_000)).expect(413);
    assert!(too_long.text().contains("name=\"token\""), "{too_long}");
    for wrong in 0..5 {
        sign_in(&cluster, 1, &format!("wrong-{wrong}")).expect(401);
    }
    let slowed = sign_in(&cluster, 1, OPERATOR).expect(429);
    assert!((1..=2).contains(&slowed.number("retry-after")), "{slowed}");
    assert!(slowed.text().contains("Try again in"), "{slowed}");
    // Sessions are not slowed down, and waiting ends the slowdown.
    visitor.get(1, "/console/keys").expect(200);
    wait_until("the wait is over", Duration::from_secs(10), || {
        sign_in(&cluster, 1, OPERATOR).status == 303
    });
}

#[test]
fn a_node_without_a_lease_rejects_keys_and_shows_the_operator_why() {
    let mut cluster = Cluster::start(3);
    let admin = cluster.create(1, &json!({"name": "a", "scope": "admin", "owner": "o"}));
    let (operator, key) = (
        Visitor::sign_in(&cluster, 1, OPERATOR).cookie,
        Visitor::sign_in(&cluster, 1, &admin.secret).cookie,
    );
    cluster.node_mut(2).kill();
    cluster.node_mut(3).kill();
    let visit = |cookie: &str, path: &str| {
        Request::get(path).header("cookie", cookie).send(cluster.node(1).at.admin)
    };
    wait_until("the lease has run out", Duration::from_secs(15), || {
        visit(&key, "/console/keys").status == 503
    });
    assert!(visit(&key, "/console/keys").text().contains("Open the console of another node"));
    wait_until("the page explains the loss", Duration::from_secs(15), || {
        visit(&operator, "/console/cluster").expect(200).text().contains("no majority of the nodes")
    });
    // A node that cannot check keys allows no more guesses at the token than another node.
    for _ in 0..5 {
        sign_in(&cluster, 1, "a guess").expect(503);
    }
    sign_in(&cluster, 1, "a guess").expect(429);
    let page = visit(&operator, "/console/cluster").text();
    assert!(page.contains("knows of no node that answers requests"), "{page}");
}
