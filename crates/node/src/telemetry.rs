//! Logs and traces.
//!
//! Log lines go to standard error, as text or JSON. Where an endpoint is configured, spans go
//! there over OTLP/HTTP, from a thread of their own with a bounded queue: an endpoint that cannot
//! be reached costs requests nothing. `traceparent` is taken from a gateway and carried to peers.

use std::io::IsTerminal as _;
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

/// Ends the exporter: spans that wait are sent.
#[derive(Debug, Default)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sends what waits. Blocks for as long as the endpoint takes, some seconds at most.
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

/// Sets logs and traces up for the whole process. `RUST_LOG` wins over the configuration.
///
/// # Errors
/// When the filter is not understood, or logs were set up before.
pub fn init(config: &Config) -> Result<Telemetry, TelemetryError> {
    let wrong = |error: &dyn std::fmt::Display| TelemetryError(error.to_string());
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.is_empty() => EnvFilter::try_new(filter),
        // openraft warns of every call to a node that is down, and calls a refused change of members
        // an error; the node says so once, itself.
        Ok(_) | Err(_) => EnvFilter::try_new(format!(
            "openraft=error,openraft::raft::api::management=off,sled=warn,hyper=warn,{}",
            config.log
        )),
    };
    let mut filter = filter.map_err(|error| wrong(&error))?;
    if config.log_json || config.otlp_endpoint.is_some() {
        // The spans of requests, all made here: each line within one names its trace, and they are
        // what is exported.
        let spans = concat!(module_path!(), "=debug").parse();
        filter = filter.add_directive(spans.map_err(|error| wrong(&error))?);
    }
    let provider =
        config.otlp_endpoint.as_deref().map(|endpoint| provider(config, endpoint)).transpose()?;
    // One filter for both layers. With filters of their own, what `log` asks in vain leaves the
    // next span of its thread out (tracing-subscriber 0.3).
    let spans = provider
        .as_ref()
        .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("fluxgate")));
    let registry = tracing_subscriber::registry().with(filter).with(spans).with(lines(config));
    registry.try_init().map_err(|error| wrong(&error))?;
    Ok(Telemetry { provider })
}

/// Whether a filter of the configuration says what its writer meant.
///
/// # Errors
/// Says what does not: a level that is misspelt is the name of a module to the library, which would
/// then log nothing else.
pub fn check_filter(filter: &str) -> Result<(), String> {
    // The library takes nothing for `error`.
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    let targeted = |word: &str| word.contains(['=', '[', ']', '{', '}']);
    if let Some(word) = filter.split(',').find(|word| !targeted(word) && !is_level(word)) {
        return Err(format!(
            "`{word}` is no level (off, error, warn, info, debug, trace); that of a module is \
             given as `fluxgate_node=debug`"
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
        // A gateway that samples a trace gets our part of it.
        .with_sampler(Sampler::ParentBased(Box::new(ratio)))
        .build())
}

/// Longest time for one batch of spans.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// What carries spans. Its own, because the exporter's would look for the system's CAs even where
/// the endpoint is plain, and an image without an operating system has none.
fn exporting_client(endpoint: &str) -> Result<reqwest::blocking::Client, TelemetryError> {
    // The one that is linked; another part of the process may have said so before.
    rustls::crypto::ring::default_provider().install_default().ok();
    let plain = endpoint.starts_with("http://");
    let build = move || {
        let builder = reqwest::blocking::Client::builder().timeout(EXPORT_TIMEOUT).no_proxy();
        let builder = if plain { builder.tls_certs_only(std::iter::empty()) } else { builder };
        builder.build().map_err(|error| TelemetryError(error.to_string()))
    };
    // It makes and drops a runtime on the way, which must not happen within another one.
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

/// Makes a span a part of the trace that a request came with, if it came with one. Returns that.
fn continue_trace(span: &Span, headers: &HeaderMap) -> Option<Context> {
    if span.is_disabled() || !headers.contains_key("traceparent") {
        return None;
    }
    let context = TraceContextPropagator::new().extract(&Headers(headers));
    span.set_parent(context.clone()).ok();
    Some(context)
}

/// The span of a request, in the trace that it came with. `route` is a template, never a path.
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

/// The span of a call between nodes, in the trace that it came with.
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

/// Answers a request within its span, which learns the status.
pub async fn within<B>(span: Span, work: impl Future<Output = Response<B>>) -> Response<B> {
    let response = work.instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    response
}

/// Writes the trace that a span belongs to into its fields, for log lines: its own where spans are
/// exported, else the one that the request came with.
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

/// The headers that carry the current trace to a peer; none outside a trace.
pub fn trace_headers() -> Vec<(String, String)> {
    let span = Span::current();
    if span.is_disabled() {
        return Vec::new();
    }
    let mut pairs = Pairs(Vec::new());
    TraceContextPropagator::new().inject_context(&span.context(), &mut pairs);
    pairs.0
}
