//! Makes the metrics of the registry from the entries of the table.
//!
//! Answers for: one declaration per metric, from which the registry, the handles and the operator's
//! page are made; every series of closed labels that can be counted is 0 from the start.

use super::striped::Striped;
use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// The description of a metric, as `/metrics` shows it above the samples.
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) labels: Vec<Label>,
    /// Label values of the series that can never be counted, so they do not exist.
    pub(super) except: &'static [&'static [&'static str]],
    /// Upper bounds, for a histogram.
    pub(super) buckets: &'static [f64],
}

pub(super) struct Label {
    pub(super) name: &'static str,
    pub(super) values: Values,
}

pub(super) enum Values {
    /// Every series exists from the start, with 0.
    Closed(Vec<&'static str>),
    /// No other values; a series exists once it was set or counted.
    Later(
        #[cfg_attr(not(test), expect(dead_code, reason = "for docs/metrics.md"))] Vec<&'static str>,
    ),
    /// Few values that are not listed; a description of them.
    Open(#[cfg_attr(not(test), expect(dead_code, reason = "for docs/metrics.md"))] &'static str),
}

/// A label whose series all exist from the start.
pub(super) fn closed<const N: usize>(name: &'static str, values: [&'static str; N]) -> Label {
    Label { name, values: Values::Closed(values.into()) }
}

/// A label whose series exist once they were set or counted.
pub(super) fn later<const N: usize>(name: &'static str, values: [&'static str; N]) -> Label {
    Label { name, values: Values::Later(values.into()) }
}

/// A label whose values are described, not listed.
pub(super) fn open(name: &'static str, what: &'static str) -> Label {
    Label { name, values: Values::Open(what) }
}

impl Entry {
    pub(super) fn new(
        name: &'static str,
        help: &'static str,
        labels: Vec<Label>,
        except: &'static [&'static [&'static str]],
        buckets: &[&'static [f64]],
    ) -> Self {
        let buckets = buckets.first().copied().unwrap_or_default();
        Self { name, help, labels, except, buckets }
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
        let all = self.labels.iter().fold(vec![Vec::new()], |series, label| match &label.values {
            Values::Closed(values) => {
                let extended = series.iter().flat_map(|start| {
                    values.iter().map(move |value| [start.as_slice(), &[*value]].concat())
                });
                extended.collect()
            }
            Values::Later(_) | Values::Open(_) => Vec::new(),
        });
        all.into_iter().filter(|series| !self.except.contains(&series.as_slice())).collect()
    }
}

/// A type of metric.
pub(super) trait Handle: Collector + Clone + 'static {
    #[cfg(test)]
    const KIND: &'static str;

    fn make(entry: &Entry) -> prometheus::Result<Self>;

    /// Makes the series of these label values, if the metric has labels.
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

macro_rules! striped_handles {
    ($($metric:ty: $kind:literal, $options:ident;)+) => {$(
        impl Handle for Striped<$metric> {
            #[cfg(test)]
            const KIND: &'static str = $kind;

            fn make(entry: &Entry) -> prometheus::Result<Self> {
                Self::try_new(|| <$metric>::new(entry.$options(), &entry.label_names()))
            }

            fn touch(&self, values: &[&str]) {
                self.with_label_values(values);
            }
        }
    )+};
}

striped_handles! {
    IntCounterVec: "Counter", options;
    HistogramVec: "Histogram", histogram_options;
}

/// Makes the metric of an entry, with every series that exists from the start.
pub(super) fn register<H: Handle>(registry: &Registry, entry: &Entry) -> H {
    // Names and labels are literals of the table: the first test that makes a node finds a mistake,
    // so it never happens at run time.
    #[expect(clippy::expect_used, reason = "literals, covered by the first test of any node")]
    let handle = H::make(entry).expect("a metric has a valid name");
    #[expect(clippy::expect_used, reason = "literals, covered by the first test of any node")]
    registry.register(Box::new(handle.clone())).expect("a metric is registered once");
    for values in entry.series() {
        handle.touch(&values);
    }
    handle
}

/// The table of metrics. It makes `Handles`, which has a field for each entry, and `documented` for
/// the test of `docs/metrics.md`.
macro_rules! metrics {
    ($($section:literal => {$(
        $field:ident: $handle:ty {
            name: $name:literal,
            help: $help:literal,
            $(labels: [$($label:expr),+],)?
            $(except: [$([$($never:literal),+]),+],)?
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
                    $field: register(registry, &Entry::new(
                        $name,
                        $help,
                        vec![$($($label),+)?],
                        &[$($(&[$($never),+]),+)?],
                        &[$($buckets)?],
                    )),
                )+)+}
            }
        }

        /// Every entry, with its texts for the page.
        #[cfg(test)]
        pub(super) fn documented() -> Vec<crate::metrics::page::Documented> {
            use crate::metrics::page::Documented;
            use crate::metrics::table::{Entry, Handle};
            vec![$($(
                Documented {
                    section: $section,
                    kind: <$handle as Handle>::KIND,
                    entry: Entry::new(
                        $name,
                        $help,
                        vec![$($($label),+)?],
                        &[$($(&[$($never),+]),+)?],
                        &[$($buckets)?],
                    ),
                    means: $means,
                    advice: $advice,
                },
            )+)+]
        }
    };
}
pub(super) use metrics;
