//! `envoy.service.ratelimit.v3.RateLimitService`: the limit of a key, for gateways that authenticate
//! by other means.
//!
//! A descriptor names a key by an entry `api_key` (as presented, with or without `Bearer `), and
//! spends `hits_addend` of it, 1 by default, once for all descriptors of a call that name the same
//! key: a client may show it in both of its headers. This interface has two answers only, so a key
//! that is not valid is over its limit, and the body says why; a descriptor without `api_key` is
//! nothing that is limited here.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use fluxgate_api::paths::header as names;
use tonic::Status;

use super::messages::{
    Descriptor, DescriptorStatus, Header, OK, OVER_LIMIT, RateLimitRequest, RateLimitResponse,
};
use crate::core::Core;
use crate::http::authorize::shape_plain;
use crate::http::validate::{Answer, Presented, Requirement, bearer_token};
use crate::metrics::Endpoint;

/// Descriptors of one call.
const DESCRIPTORS_MAX: usize = 16;
/// What the client of a gateway is shown.
const SHOWN: [&str; 3] =
    [names::X_RATELIMIT_LIMIT, names::X_RATELIMIT_REMAINING, names::X_RATELIMIT_RESET];

/// The service.
pub(super) struct Service(pub(super) Arc<Core>);

impl tonic::server::UnaryService<RateLimitRequest> for Service {
    type Response = RateLimitResponse;
    type Future =
        Pin<Box<dyn Future<Output = Result<tonic::Response<RateLimitResponse>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<RateLimitRequest>) -> Self::Future {
        let core = Arc::clone(&self.0);
        Box::pin(async move {
            super::check_gateway(&core, request.metadata())?;
            let begun = Instant::now();
            let answer = decide(&core, request.into_inner()).await;
            let status = match &answer {
                Ok(response) if response.overall_code == OK => 200,
                Ok(_) => 429,
                Err(_) => 503,
            };
            core.metrics.served(super::SHOULD_RATE_LIMIT, "POST", status, begun.elapsed());
            answer.map(tonic::Response::new)
        })
    }
}

async fn decide(core: &Core, request: RateLimitRequest) -> Result<RateLimitResponse, Status> {
    if request.descriptors.len() > DESCRIPTORS_MAX {
        return Err(Status::invalid_argument(format!("at most {DESCRIPTORS_MAX} descriptors")));
    }
    let cost = u64::from(request.hits_addend.max(1));
    let mut response = RateLimitResponse { overall_code: OK, ..RateLimitResponse::default() };
    let keys: Vec<Option<&[u8]>> = request.descriptors.iter().map(key_of).collect();
    for (at, key) in keys.iter().enumerate() {
        let Some(key) = *key else {
            response.statuses.push(DescriptorStatus { code: OK, limit_remaining: 0 });
            continue;
        };
        if let Some(before) = keys[..at].iter().position(|known| *known == Some(key)) {
            response.statuses.push(response.statuses[before].clone());
            continue;
        }
        let answer =
            core.validate(Presented::One(key), Requirement::Any, cost, Endpoint::RateLimit).await;
        if let Answer::Unavailable(why) = answer {
            return Err(Status::unavailable(why));
        }
        let shaped = shape_plain(core, &answer);
        let value = |name: &str| shaped.headers().get(name)?.to_str().ok().map(str::to_owned);
        let remaining = value(names::X_RATELIMIT_REMAINING).and_then(|text| text.parse().ok());
        let code = if matches!(answer, Answer::Admitted(..)) { OK } else { OVER_LIMIT };
        response.statuses.push(DescriptorStatus { code, limit_remaining: remaining.unwrap_or(0) });
        // Those of the first that denies, else of the last.
        if response.overall_code == OK {
            let header =
                |name: &&str| Some(Header { key: (*name).to_owned(), value: value(name)? });
            response.response_headers_to_add = SHOWN.iter().filter_map(header).collect();
        }
        if code == OVER_LIMIT && response.overall_code == OK {
            response.overall_code = OVER_LIMIT;
            let json =
                |key: &str, value: &str| Header { key: key.to_owned(), value: value.to_owned() };
            response.response_headers_to_add.push(json("content-type", "application/json"));
            if let Some(after) = value("retry-after") {
                response.response_headers_to_add.push(json("retry-after", &after));
            }
            let body = answer.error_body().map(|error| error.to_json()).unwrap_or_default();
            response.raw_body = body.into_bytes();
        }
    }
    Ok(response)
}

/// The key that a descriptor names.
fn key_of(descriptor: &Descriptor) -> Option<&[u8]> {
    let entry = descriptor.entries.iter().find(|entry| entry.key == "api_key")?;
    let value = entry.value.as_bytes();
    Some(bearer_token(value).unwrap_or(value))
}
