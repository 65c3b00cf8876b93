//! The console without a browser: outdated forms, and requests for things that do not exist.

use serde_json::json;

use super::forms::{Visitor, form};
use crate::support::Request;
use crate::support::cluster::{Cluster, OPERATOR};

#[test]
fn an_outdated_form_undoes_nothing() {
    let cluster = Cluster::start(3);
    let key = cluster.create(1, &json!({"name": "Deploy", "scope": "admin", "owner": "ops"}));
    let visitor = Visitor::sign_in(&cluster, 1, OPERATOR);
    let path = format!("/console/keys/{}/edit", key.id);
    let token = visitor.field(1, &path, "form_token");
    let save = |revision: &str, tokens: &str| {
        let fields = [
            ("form_token", &*token),
            ("revision", revision),
            ("name", "Deploy"),
            ("scope", "admin"),
            ("owner", "ops"),
            ("limit_name", "requests"),
            ("limit_tokens", tokens),
            ("limit_period", "60s"),
            ("expiry", "keep"),
        ];
        visitor.send(1, form(&path, &fields))
    };
    let seen = visitor.field(1, &path, "revision");
    // Another administrator takes the scope away.
    cluster
        .admin(2, Request::new("PATCH", &key.path()).json(&json!({"scope": "read"})))
        .expect(200);
    // Rejected for a field: the form still has the revision that its reader saw.
    let rejected = save(&seen, "abc").expect(400).text();
    assert!(rejected.contains(&format!("name=\"revision\" value=\"{seen}\"")), "{rejected}");
    let behind = save(&seen, "50").expect(412).text();
    assert!(behind.contains("Somebody changed this key meanwhile"), "{behind}");
    for revision in ["", "x", "-1"] {
        save(revision, "50").expect(400);
    }
    let record = cluster.admin(3, Request::get(&key.path())).expect(200).json();
    assert_eq!((&record["scope"], &record["revision"]), (&json!("read"), &json!(2)));
    // The returned form shows the current key and can be sent.
    let now = visitor.field(1, &path, "revision");
    save(&now, "50").expect(200);
}

#[test]
fn errors_are_shown_and_sign_in_returns_to_the_page() {
    let cluster = Cluster::start(1);
    let key = cluster.create(1, &json!({"name": "Findable", "scope": "read"}));
    let visitor = Visitor::sign_in(&cluster, 1, OPERATOR);
    for wrong in ["?status=bogus", &format!("?{}", "a=1&".repeat(65))] {
        visitor.get(1, &format!("/console/keys{wrong}")).expect(400);
    }
    let prefix = key.created["prefix"].as_str().unwrap();
    for text in [&*key.id, &key.id[..9], &format!("{prefix}%E2%80%A6"), "FINDA"] {
        let page = visitor.get(1, &format!("/console/keys?search={text}")).expect(200).text();
        assert!(page.contains("Findable</a>"), "{text}: {page}");
    }
    // After the next sign-in the browser returns to the page; a file is no page to return to.
    let stranger = |path: &str| {
        let turned = Request::get(path).send(cluster.node(1).at.admin).expect(303);
        turned.must_header("location").to_owned()
    };
    assert_eq!(stranger("/console/keys"), "/console/sign-in?to=");
    let way = stranger("/console/audit/export?format=csv&action=key.create");
    assert_eq!(way, "/console/sign-in?to=/console/audit?format=csv%26action=key.create");
    let page = Request::get(&way).send(cluster.node(1).at.admin).expect(200).text();
    assert!(page.contains("value=\"/console/audit?format=csv"), "{page}");
    // A forged cookie before ours does not hide it.
    let both = format!("fluxgate_session=1.00.00; {}", visitor.cookie);
    Request::get("/console/keys")
        .header("cookie", &both)
        .send(cluster.node(1).at.admin)
        .expect(200);
}
