//! How an entry of the table of metrics becomes a metric in the registry.
//!
//! Answers for: one declaration of each metric, from which the registry, the handles and the
//! operator's page are made, and every series of closed label sets at 0 from the start.

use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// What Prometheus reads of a metric, beside its samples.
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) labels: Vec<Label>,
    /// Upper bounds, for a histogram.
    pub(super) buckets: &'static [f64],
}

pub(super) struct Label {
    pub(super) name: &'static str,
    pub(super) values: Values,
}

pub(super) enum Values {
    /// All of them exist from the start, with 0.
    Closed(Vec<&'static str>),
    /// These alone, and a series exists once it has something to say.
    Later(
        #[cfg_attr(not(test), expect(dead_code, reason = "for docs/metrics.md"))] Vec<&'static str>,
    ),
    /// Few, and not listed here: what they are.
    Open(#[cfg_attr(not(test), expect(dead_code, reason = "for docs/metrics.md"))] &'static str),
}

/// A label whose values all exist from the start.
pub(super) fn closed<const N: usize>(name: &'static str, values: [&'static str; N]) -> Label {
    Label { name, values: Values::Closed(values.into()) }
}

/// A label with these values, each of which exists once it has something to say.
pub(super) fn later<const N: usize>(name: &'static str, values: [&'static str; N]) -> Label {
    Label { name, values: Values::Later(values.into()) }
}

/// A label with other values: what they are.
pub(super) fn open(name: &'static str, what: &'static str) -> Label {
    Label { name, values: Values::Open(what) }
}

impl Entry {
    pub(super) fn new(
        name: &'static str,
        help: &'static str,
        labels: Vec<Label>,
        buckets: &[&'static [f64]],
    ) -> Self {
        Self { name, help, labels, buckets: buckets.first().copied().unwrap_or_default() }
    }

    fn options(&self) -> Opts {
        Opts::new(self.name, self.help)
    }

    fn histogram_options(&self) -> HistogramOpts {
        HistogramOpts::new(self.name, self.help).buckets(self.buckets.to_vec())
    }

    fn label_names(&self) -> Vec<&'static str> {
        self.labels.iter().map(|label| label.name).collect()
    }

    /// The label values of each series that exists from the start.
    pub(super) fn series(&self) -> Vec<Vec<&'static str>> {
        self.labels.iter().fold(vec![Vec::new()], |series, label| match &label.values {
            Values::Closed(values) => {
                let extended = series.iter().flat_map(|start| {
                    values.iter().map(move |value| [start.as_slice(), &[*value]].concat())
                });
                extended.collect()
            }
            Values::Later(_) | Values::Open(_) => Vec::new(),
        })
    }
}

/// A type of metric.
pub(super) trait Handle: Collector + Clone + 'static {
    #[cfg(test)]
    const KIND: &'static str;

    fn make(entry: &Entry) -> prometheus::Result<Self>;

    /// Makes the series of these label values, where there are labels.
    fn touch(&self, _values: &[&str]) {}
}

macro_rules! handles {
    ($($handle:ty: $kind:literal, $make:ident($options:ident $(, $labels:ident)?) $($touch:ident)?;)+) => {$(
        impl Handle for $handle {
            #[cfg(test)]
            const KIND: &'static str = $kind;

            fn make(entry: &Entry) -> prometheus::Result<Self> {
                Self::$make(entry.$options() $(, &entry.$labels())?)
            }

            $(fn touch(&self, values: &[&str]) {
                self.$touch(values);
            })?
        }
    )+};
}

handles! {
    IntCounter: "Counter", with_opts(options);
    IntGauge: "Gauge", with_opts(options);
    Gauge: "Gauge", with_opts(options);
    Histogram: "Histogram", with_opts(histogram_options);
    IntCounterVec: "Counter", new(options, label_names) with_label_values;
    IntGaugeVec: "Gauge", new(options, label_names) with_label_values;
    HistogramVec: "Histogram", new(histogram_options, label_names) with_label_values;
}

/// Makes the metric of an entry, with every series that exists from the start.
pub(super) fn register<H: Handle>(registry: &Registry, entry: &Entry) -> H {
    // Names and labels are literals of the table: a mistake shows in the first test that makes a
    // node, never at run time.
    #[expect(clippy::expect_used, reason = "literals, covered by the first test of any node")]
    let handle = H::make(entry).expect("a metric has a valid name");
    #[expect(clippy::expect_used, reason = "literals, covered by the first test of any node")]
    registry.register(Box::new(handle.clone())).expect("a metric is registered once");
    for values in entry.series() {
        handle.touch(&values);
    }
    handle
}

/// The table of metrics: makes `Handles`, which has a field for each entry, and for the test of
/// `docs/metrics.md` `documented`.
macro_rules! metrics {
    ($($section:literal => {$(
        $field:ident: $handle:ty {
            name: $name:literal,
            help: $help:literal,
            $(labels: [$($label:expr),+],)?
            $(buckets: $buckets:expr,)?
            means: $means:literal,
            advice: $advice:literal,
        }
    )+})+) => {
        /// A handle for each metric.
        #[derive(Debug)]
        pub struct Handles {$($(
            #[doc = $help]
            pub $field: $handle,
        )+)+}

        impl Handles {
            /// Makes every metric.
            pub(super) fn register(registry: &prometheus::Registry) -> Self {
                use crate::metrics::table::{Entry, register};
                Self {$($(
                    $field: register(registry, &Entry::new($name, $help, vec![$($($label),+)?], &[$($buckets)?])),
                )+)+}
            }
        }

        /// Every entry, with what the page says of it.
        #[cfg(test)]
        pub(super) fn documented() -> Vec<crate::metrics::page::Documented> {
            use crate::metrics::page::Documented;
            use crate::metrics::table::{Entry, Handle};
            vec![$($(
                Documented {
                    section: $section,
                    kind: <$handle as Handle>::KIND,
                    entry: Entry::new($name, $help, vec![$($($label),+)?], &[$($buckets)?]),
                    means: $means,
                    advice: $advice,
                },
            )+)+]
        }
    };
}
pub(super) use metrics;
