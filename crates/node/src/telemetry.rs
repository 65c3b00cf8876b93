//! Logs and traces.
//!
//! Log lines go to standard error, as text or JSON. If an endpoint is configured, a separate thread
//! with a bounded queue sends spans there over OTLP/HTTP: an unreachable endpoint does not slow
//! requests down. The `traceparent` of a gateway is passed on to peers.

use std::io::IsTerminal as _;
use std::pin::Pin;
use std::time::Duration;

use http::{HeaderMap, Response};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{TraceContextExt as _, TraceId, TracerProvider as _};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::level_filters::LevelFilter;
use tracing::{Instrument as _, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::config::Config;

/// The exporter of spans.
#[derive(Debug, Default)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sends the queued spans and ends the exporter. Blocks until the endpoint has answered, some
    /// seconds at most.
    pub fn shutdown(self) {
        if let Some(Err(error)) = self.provider.map(|provider| provider.shutdown()) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("telemetry: {0}")]
pub struct TelemetryError(String);

/// Sets up logs and traces for the whole process. `RUST_LOG` takes precedence over the configuration.
///
/// # Errors
/// If the filter is invalid, or logs were set up before.
pub fn init(config: &Config) -> Result<Telemetry, TelemetryError> {
    let wrong = |error: &dyn std::fmt::Display| TelemetryError(error.to_string());
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.is_empty() => EnvFilter::try_new(filter),
        // openraft logs a warning for every call to a node that is down, and an error for a rejected
        // change of members; the node itself logs each once.
        Ok(_) | Err(_) => EnvFilter::try_new(format!(
            "openraft=error,openraft::raft::api::management=off,sled=warn,hyper=warn,{}",
            config.log
        )),
    };
    let mut filter = filter.map_err(|error| wrong(&error))?;
    if config.log_json || config.otlp_endpoint.is_some() {
        // This module makes all spans of requests. Each log line within a span names its trace, and
        // these spans are exported.
        let spans = concat!(module_path!(), "=debug").parse();
        filter = filter.add_directive(spans.map_err(|error| wrong(&error))?);
    }
    let provider =
        config.otlp_endpoint.as_deref().map(|endpoint| provider(config, endpoint)).transpose()?;
    // One filter for both layers. With a filter per layer, an event that the `log` crate only probes
    // makes the next span of its thread disappear (tracing-subscriber 0.3).
    let spans = provider
        .as_ref()
        .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("fluxgate")));
    let registry = tracing_subscriber::registry().with(filter).with(spans).with(lines(config));
    registry.try_init().map_err(|error| wrong(&error))?;
    Ok(Telemetry { provider })
}

/// Checks a filter of the configuration.
///
/// # Errors
/// Names the invalid part. The library would take a misspelt level for the name of a module, and
/// then log nothing else.
pub fn check_filter(filter: &str) -> Result<(), String> {
    // The library takes an empty word for `error`.
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    let targeted = |word: &str| word.contains(['=', '[', ']', '{', '}']);
    if let Some(word) = filter.split(',').find(|word| !targeted(word) && !is_level(word)) {
        return Err(format!(
            "`{word}` is not a level (off, error, warn, info, debug, trace); set the level of a \
             module as in `fluxgate_node=debug`"
        ));
    }
    EnvFilter::try_new(filter).map(drop).map_err(|error| error.to_string())
}

/// Log lines on standard error.
fn lines<S>(config: &Config) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    if config.log_json { lines.json().boxed() } else { lines.boxed() }
}

fn provider(config: &Config, endpoint: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(exporting_client(endpoint)?)
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .build()
        .map_err(|error| TelemetryError(error.to_string()))?;
    let resource = Resource::builder()
        .with_service_name("fluxgate")
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(opentelemetry::KeyValue::new(
            "service.instance.id",
            config.node_id.to_string(),
        ))
        .build();
    let ratio = Sampler::TraceIdRatioBased(config.trace_sample_ratio);
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        // If a gateway samples a trace, the node's spans of it are sent too.
        .with_sampler(Sampler::ParentBased(Box::new(ratio)))
        .build())
}

/// Longest time for one batch of spans.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// The HTTP client of the exporter. The exporter's own client would load the system's CAs even for a
/// plaintext endpoint, and an image without an operating system has none.
fn exporting_client(endpoint: &str) -> Result<reqwest::blocking::Client, TelemetryError> {
    // The linked provider; another part of the process may have installed it already.
    rustls::crypto::ring::default_provider().install_default().ok();
    let plain = endpoint.starts_with("http://");
    let build = move || {
        let builder = reqwest::blocking::Client::builder().timeout(EXPORT_TIMEOUT).no_proxy();
        let builder = if plain { builder.tls_certs_only(std::iter::empty()) } else { builder };
        builder.build().map_err(|error| TelemetryError(error.to_string()))
    };
    // A blocking client makes and drops a runtime, which must not happen within another one.
    std::thread::spawn(build)
        .join()
        .unwrap_or_else(|_| Err(TelemetryError("the exporter's client cannot be made".to_owned())))
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// Makes a span part of the trace in a request's headers, and returns its context; `None` without
/// one.
fn continue_trace(span: &Span, headers: &HeaderMap) -> Option<Context> {
    if span.is_disabled() || !headers.contains_key("traceparent") {
        return None;
    }
    let context = TraceContextPropagator::new().extract(&Headers(headers));
    span.set_parent(context.clone()).ok();
    Some(context)
}

/// The span of a request, in the trace of its headers. `route` is a template, never a path.
pub fn server_span(route: &str, headers: &HeaderMap) -> Span {
    let span = tracing::debug_span!(
        "request",
        otel.name = route,
        otel.kind = "server",
        http.route = route,
        http.response.status_code = tracing::field::Empty,
        trace_id = tracing::field::Empty
    );
    let remote = continue_trace(&span, headers);
    if !span.is_disabled() {
        note_trace(&span, remote.as_ref());
    }
    span
}

/// The span of a call between nodes, in the trace of its headers.
pub fn peer_span(call: &str, from: u64, headers: &HeaderMap) -> Span {
    let span = tracing::debug_span!(
        "peer",
        otel.name = call,
        otel.kind = "server",
        call,
        from,
        http.response.status_code = tracing::field::Empty
    );
    continue_trace(&span, headers);
    span
}

/// Answers a request within its span, and records the status in it. The work stays where the caller
/// pinned it: it holds a whole request, and each move would copy that.
pub async fn within<B>(
    span: Span,
    work: Pin<&mut impl Future<Output = Response<B>>>,
) -> Response<B> {
    let response = work.instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    response
}

/// Records the id of a span's trace in its fields, for log lines: the span's own trace if spans are
/// exported, otherwise the trace of the request's headers.
fn note_trace(span: &Span, remote: Option<&Context>) {
    let of = |context: &Context| context.span().span_context().trace_id();
    let known = [Some(of(&span.context())), remote.map(of)];
    if let Some(id) = known.into_iter().flatten().find(|id| *id != TraceId::INVALID) {
        span.record("trace_id", tracing::field::display(id));
    }
}

struct Pairs(Vec<(String, String)>);

impl Injector for Pairs {
    fn set(&mut self, key: &str, value: String) {
        self.0.push((key.to_owned(), value));
    }
}

/// The headers that pass the current trace on to a peer; none outside a trace.
pub fn trace_headers() -> Vec<(String, String)> {
    let span = Span::current();
    if span.is_disabled() {
        return Vec::new();
    }
    let mut pairs = Pairs(Vec::new());
    TraceContextPropagator::new().inject_context(&span.context(), &mut pairs);
    pairs.0
}
