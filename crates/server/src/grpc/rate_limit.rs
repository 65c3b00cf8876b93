//! `envoy.service.ratelimit.v3.RateLimitService`: the limits of a key, for gateways that authenticate
//! by other means.
//!
//! The entry `api_key` of a descriptor contains the key as presented, with or without `Bearer `. The
//! cost is the descriptor's own `hits_addend` or, without one, that of the call, by default 1. If
//! several descriptors of a call contain the same key, the largest of their costs is spent, once: a
//! client may present a key in both headers. An `Authorization` next to an `X-API-Key` counts only if
//! it has the shape of one of our keys. This service has only two answers, so a key that is not valid
//! is over its limit, and the body says why. A descriptor without `api_key` is not limited.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use fluxgate_api::paths::header as names;
use fluxgate_api::verdict::{GrpcCode, Verdict};
use fluxgate_node::metrics::Endpoint;
use fluxgate_node::state::NodeState;
use fluxgate_types::Cost;
use fluxgate_types::credential::is_like_a_key;
use tonic::Status;

use super::messages::{
    Descriptor, DescriptorStatus, Header, OK, OVER_LIMIT, RateLimitRequest, RateLimitResponse,
};
use crate::gateway::authorize::shape_plain;
use crate::gateway::validate::{PresentedCredential, Requirement, bearer_token, validate};

/// Descriptors of one call.
const DESCRIPTORS_MAX: usize = 16;
/// The headers for the client.
const FOR_CLIENT: [&str; 3] =
    [names::X_RATELIMIT_LIMIT, names::X_RATELIMIT_REMAINING, names::X_RATELIMIT_RESET];

/// The service.
pub(super) struct Service(pub(super) Arc<NodeState>);

impl tonic::server::UnaryService<RateLimitRequest> for Service {
    type Response = RateLimitResponse;
    type Future =
        Pin<Box<dyn Future<Output = Result<tonic::Response<RateLimitResponse>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<RateLimitRequest>) -> Self::Future {
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            super::check_gateway(&state, request.metadata())?;
            let begun = Instant::now();
            let answer = decide(&state, request.into_inner()).await;
            let status = match &answer {
                Ok(response) if response.overall_code == OK => 200,
                Ok(_) => 429,
                Err(_) => 503,
            };
            state.metrics.served(super::SHOULD_RATE_LIMIT, "POST", status, begun.elapsed());
            answer.map(tonic::Response::new)
        })
    }
}

async fn decide(state: &NodeState, request: RateLimitRequest) -> Result<RateLimitResponse, Status> {
    if request.descriptors.len() > DESCRIPTORS_MAX {
        return Err(Status::invalid_argument(format!("at most {DESCRIPTORS_MAX} descriptors")));
    }
    let mut response = RateLimitResponse { overall_code: OK, ..RateLimitResponse::default() };
    for charge in charges(&request) {
        let (key, cost) = match charge {
            Charge::Key { key, cost } => (key, cost),
            Charge::Nothing => {
                response.statuses.push(DescriptorStatus { code: OK, limit_remaining: 0 });
                continue;
            }
            Charge::As(before) => {
                response.statuses.push(response.statuses[before].clone());
                continue;
            }
        };
        let answer = validate(
            state,
            PresentedCredential::One(key),
            Requirement::Any,
            Cost(cost),
            Endpoint::RateLimit,
        )
        .await;
        super::check_decided(&answer)?;
        let shaped = shape_plain(&answer);
        let value = |name: &str| shaped.headers().get(name)?.to_str().ok().map(str::to_owned);
        let remaining = value(names::X_RATELIMIT_REMAINING).and_then(|text| text.parse().ok());
        let code = overall_code(answer.verdict());
        response.statuses.push(DescriptorStatus { code, limit_remaining: remaining.unwrap_or(0) });
        // The headers of the first denial or, without one, of the last admission.
        if response.overall_code == OK {
            let header = |name: &&str| value(name).map(|value| header_of(name, value));
            response.response_headers_to_add = FOR_CLIENT.iter().filter_map(header).collect();
        }
        if code == OVER_LIMIT && response.overall_code == OK {
            response.overall_code = OVER_LIMIT;
            let json = header_of("content-type", "application/json".to_owned());
            let after = value("retry-after").map(|after| header_of("retry-after", after));
            response.response_headers_to_add.extend([Some(json), after].into_iter().flatten());
            let body = answer.error_body().map(|error| error.to_json()).unwrap_or_default();
            response.raw_body = body.into_bytes();
        }
    }
    Ok(response)
}

/// The code of a verdict. A node that may not decide has failed the call before.
fn overall_code(verdict: Verdict) -> i32 {
    match verdict.grpc_code() {
        GrpcCode::Ok => OK,
        GrpcCode::Unauthenticated
        | GrpcCode::PermissionDenied
        | GrpcCode::ResourceExhausted
        | GrpcCode::Unavailable => OVER_LIMIT,
    }
}

fn header_of(name: &str, value: String) -> Header {
    Header { key: name.to_owned(), value, raw_value: Vec::new() }
}

/// What is spent for one descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charge<'a> {
    /// Nothing: the descriptor is not limited here.
    Nothing,
    /// Nothing more: the descriptor at this place has the same key.
    As(usize),
    /// `cost` tokens of this key.
    Key { key: &'a [u8], cost: u64 },
}

/// What is spent for each descriptor of a call, in their order.
fn charges(request: &RateLimitRequest) -> Vec<Charge<'_>> {
    let values: Vec<Option<&[u8]>> = request.descriptors.iter().map(value_of).collect();
    let keys: Vec<Option<&[u8]>> =
        values.iter().map(|value| value.and_then(|value| key_of(value, &values))).collect();
    let cost_of_key = |key| {
        let same = request.descriptors.iter().zip(&keys).filter(|(_, known)| **known == Some(key));
        same.map(|(descriptor, _)| cost_of(descriptor, request)).max().unwrap_or(0)
    };
    let mut charges = Vec::with_capacity(keys.len());
    for (at, key) in keys.iter().enumerate() {
        let before = keys[..at].iter().position(|known| known == key);
        charges.push(match (*key, before) {
            (None, _) => Charge::Nothing,
            (Some(_), Some(before)) => Charge::As(before),
            (Some(key), None) => Charge::Key { key, cost: cost_of_key(key) },
        });
    }
    charges
}

/// The key in one of the values of a call; `None` if the value is the application's own
/// `Authorization`. A value with a scheme came from `Authorization`, one without from `X-API-Key`.
fn key_of<'a>(value: &'a [u8], values: &[Option<&[u8]>]) -> Option<&'a [u8]> {
    let has_scheme = |value: &[u8]| value.contains(&b' ');
    let bearer = bearer_token(value);
    let key = bearer.unwrap_or(value);
    let mut direct = values.iter().flatten().filter(|v| !v.is_empty() && !has_scheme(v)).peekable();
    if !has_scheme(value) || direct.peek().is_none() || bearer.is_some_and(is_like_a_key) {
        return Some(key);
    }
    // An imported key may have any shape, and both headers may contain it.
    direct.any(|other| *other == key).then_some(key)
}

fn cost_of(descriptor: &Descriptor, request: &RateLimitRequest) -> u64 {
    match descriptor.hits_addend {
        _ if descriptor.is_negative_hits => 0,
        Some(own) => own.value,
        None => u64::from(request.hits_addend.max(1)),
    }
}

/// The credential in a descriptor, as it came.
fn value_of(descriptor: &Descriptor) -> Option<&[u8]> {
    let entry = descriptor.entries.iter().find(|entry| entry.key == "api_key")?;
    Some(entry.value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::messages::{DescriptorEntry, UInt64};
    use super::*;

    const OURS: &str = "fx_live_AAAAAAAAAAAA_nonsense";

    fn descriptor(value: &str, hits: Option<u64>) -> Descriptor {
        let entry = DescriptorEntry { key: "api_key".to_owned(), value: value.to_owned() };
        let hits_addend = hits.map(|value| UInt64 { value });
        Descriptor { entries: vec![entry], hits_addend, is_negative_hits: false }
    }

    fn call(descriptors: Vec<Descriptor>, hits_addend: u32) -> RateLimitRequest {
        RateLimitRequest { descriptors, hits_addend }
    }

    fn of(key: &str, cost: u64) -> Charge<'_> {
        Charge::Key { key: key.as_bytes(), cost }
    }

    #[test]
    fn the_hits_of_a_descriptor_override_those_of_the_call() {
        for (own, all, cost) in
            [(None, 0, 1), (None, 4, 4), (Some(4), 0, 4), (Some(2), 4, 2), (Some(0), 4, 0)]
        {
            let request = call(vec![descriptor("k1", own)], all);
            assert_eq!(charges(&request), [of("k1", cost)], "{own:?} of {all}");
        }
        let refund = Descriptor { is_negative_hits: true, ..descriptor("k1", Some(5)) };
        assert_eq!(charges(&call(vec![refund], 3)), [of("k1", 0)]);
    }

    #[test]
    fn one_key_is_charged_once_and_a_foreign_authorization_is_not() {
        let both = |key: &str, authorization: &str| {
            call(vec![descriptor(key, None), descriptor(authorization, Some(3))], 0)
        };
        assert_eq!(charges(&both("k1", "Bearer k1")), [of("k1", 3), Charge::As(0)]);
        for foreign in ["Bearer eyJ.e30.", "Basic dTpw"] {
            assert_eq!(charges(&both("k1", foreign)), [of("k1", 1), Charge::Nothing]);
            // Without another value it is the presented credential.
            assert!(matches!(
                charges(&call(vec![descriptor(foreign, None)], 0))[..],
                [Charge::Key { .. }]
            ));
        }
        let bearer = format!("Bearer {OURS}");
        assert_eq!(charges(&both("k1", &bearer)), [of("k1", 1), of(OURS, 3)]);
        let unnamed = Descriptor { entries: Vec::new(), ..descriptor("", None) };
        assert_eq!(charges(&call(vec![unnamed], 0)), [Charge::Nothing]);
    }
}
