//! Bodies and headers of verdicts are exactly those of `docs/http-api.md`.

use serde_json::Value;

use super::CheckResult;
use crate::history::Validate;
use crate::knowledge::Knowledge;

const UNAUTHENTICATED: &str =
    r#"{"error":"authentication_failed","message":"Invalid or missing API key"}"#;
const INVALID_TOKEN: &str = "Bearer error=\"invalid_token\"";

pub(super) fn judge(known: &Knowledge) -> CheckResult {
    let mut result = CheckResult::new("answers_to_the_letter");
    for validate in known.validates.iter().filter(|validate| validate.s != 0) {
        let flaw = flaw(known, validate);
        result.judge(flaw.is_none(), || format!("{}: {validate:?}", flaw.unwrap_or_default()));
    }
    result
}

fn flaw(known: &Knowledge, v: &Validate) -> Option<&'static str> {
    let h = &v.h;
    let limited = h.limit.is_some() && h.remaining.is_some() && h.reset.is_some();
    if h.kind.as_deref() != Some("application/json") {
        return Some("not application/json");
    }
    if matches!(v.s, 200 | 403 | 429) && !names_the_key(known, v) {
        return Some("the headers do not name the key");
    }
    match v.s {
        200 => (!limited || !admission(v)).then_some("the body and the headers differ"),
        401 => {
            let default = known.run.as_ref().map(|run| (run.default_tokens, run.default_period_s));
            let window = default.is_none_or(|(tokens, period_s)| {
                h.limit == Some(tokens)
                    && h.remaining == Some(0)
                    && h.reset.is_some_and(|reset| reset % period_s == 0)
            });
            let sound =
                v.body == UNAUTHENTICATED && h.www.as_deref() == Some(INVALID_TOKEN) && window;
            (!sound || h.key_id.is_some()).then_some("not the 401")
        }
        403 => {
            let scope = v.scope.as_deref().unwrap_or_default();
            let body = format!(
                r#"{{"error":"insufficient_scope","message":"This endpoint requires '{scope}' scope"}}"#
            );
            let www = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
            let sound = v.body == body && h.www == Some(www) && limited;
            (!sound).then_some("not the 403")
        }
        429 => {
            let seconds = h.retry_after.unwrap_or(0);
            let body = format!(
                r#"{{"error":"rate_limit_exceeded","message":"Rate limit exceeded. Try again in {seconds} seconds."}}"#
            );
            let period = known.keys.get(&v.k).map_or(u64::MAX, |key| key.period_s);
            let sound = v.body == body && (1..=period).contains(&seconds) && limited;
            (!sound).then_some("not the 429")
        }
        503 => {
            let sound = two_fields(v, "unavailable") && h.retry_after.is_some() && !limited;
            (!sound || h.key_id.is_some()).then_some("not the 503")
        }
        400 => (!two_fields(v, "invalid_request")).then_some("not the 400"),
        _ => None,
    }
}

/// A body of two fields, with this error code.
fn two_fields(v: &Validate, code: &str) -> bool {
    let body: Option<Value> = serde_json::from_str(&v.body).ok();
    body.is_some_and(|body| {
        body["error"] == code
            && body["message"].is_string()
            && body.as_object().is_some_and(|fields| fields.len() == 2)
    })
}

fn names_the_key(known: &Knowledge, v: &Validate) -> bool {
    let Some(key) = known.keys.get(&v.k) else { return v.k == 0 };
    let name = v.h.key_name.as_deref().map(|name| name.replace("%20", " "));
    let scope = v.h.scope.as_deref().unwrap_or_default();
    v.h.key_id == key.created.id
        && name.as_deref() == Some(&key.name)
        && v.h.owner.as_deref() == Some(&key.owner)
        && key.scopes((v.t0, v.t1)).iter().any(|possible| possible == scope)
}

fn admission(v: &Validate) -> bool {
    let Ok(body) = serde_json::from_str::<Value>(&v.body) else { return false };
    let fields = ["valid", "key_id", "name", "owner", "scope", "limit", "remaining", "reset"];
    let name = v.h.key_name.as_deref().map(|name| name.replace("%20", " "));
    body.as_object().is_some_and(|object| object.keys().eq(fields))
        && body["valid"] == true
        && body["key_id"].as_str() == v.h.key_id.as_deref()
        && body["name"].as_str() == name.as_deref()
        && body["owner"].as_str() == v.h.owner.as_deref()
        && body["scope"].as_str() == v.h.scope.as_deref()
        && body["limit"].as_u64() == v.h.limit
        && body["remaining"].as_u64() == v.h.remaining
        && body["reset"].as_u64() == v.h.reset
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, counts, known, validate};
    use super::*;
    use crate::history::VerdictHeaders;

    fn whole(s: u16, body: &str, change: impl FnOnce(&mut VerdictHeaders)) -> (u64, u64) {
        let mut v = Validate { body: body.to_owned(), ..answer((10, 20), s, 5, 4) };
        v.scope = (s == 403).then(|| "admin".to_owned());
        v.h.kind = Some("application/json".to_owned());
        if matches!(s, 200 | 403 | 429) {
            v.h.key_id = Some("key_1".to_owned());
            v.h.key_name = Some("key%201".to_owned());
            v.h.owner = Some("owner".to_owned());
            v.h.scope = Some("write".to_owned());
        }
        change(&mut v.h);
        counts(&judge(&known(vec![validate(v)])))
    }

    #[test]
    fn body_and_headers_of_an_admission_must_agree() {
        let body = r#"{"valid":true,"key_id":"key_1","name":"key 1","owner":"owner","scope":"write","limit":10,"remaining":5,"reset":4}"#;
        assert_eq!(whole(200, body, |_| {}), (1, 0));
        assert_eq!(whole(200, body, |h| h.remaining = Some(6)), (1, 1));
        assert_eq!(whole(200, body, |h| h.owner = None), (1, 1));
        assert_eq!(whole(200, &body.replace("true", "false"), |_| {}), (1, 1));
    }

    #[test]
    fn denials_must_match_the_contract_exactly() {
        let unauthenticated = |h: &mut VerdictHeaders| {
            h.www = Some(INVALID_TOKEN.to_owned());
            (h.limit, h.remaining, h.reset) = (Some(100), Some(0), Some(60));
        };
        assert_eq!(whole(401, UNAUTHENTICATED, unauthenticated), (1, 0));
        assert_eq!(whole(401, UNAUTHENTICATED, |_| {}), (1, 1));
        let scope = |h: &mut VerdictHeaders| {
            h.www = Some("Bearer error=\"insufficient_scope\", scope=\"admin\"".to_owned());
        };
        let body =
            r#"{"error":"insufficient_scope","message":"This endpoint requires 'admin' scope"}"#;
        assert_eq!(whole(403, body, scope), (1, 0));
        assert_eq!(whole(403, &body.replace("admin", "write"), scope), (1, 1));
        let body = r#"{"error":"rate_limit_exceeded","message":"Rate limit exceeded. Try again in 2 seconds."}"#;
        assert_eq!(whole(429, body, |h| h.retry_after = Some(2)), (1, 0));
        assert_eq!(whole(429, body, |h| h.retry_after = Some(1)), (1, 1));
        assert_eq!(whole(429, &body.replace('2', "3"), |h| h.retry_after = Some(3)), (1, 1));
        let body = r#"{"error":"unavailable","message":"no lease"}"#;
        let silent = |h: &mut VerdictHeaders| {
            (h.limit, h.remaining, h.reset, h.retry_after) = (None, None, None, Some(1));
        };
        assert_eq!(whole(503, body, silent), (1, 0));
        assert_eq!(whole(503, body, |_| {}), (1, 1));
    }
}
