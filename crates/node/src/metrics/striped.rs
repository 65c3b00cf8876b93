//! Metrics that every request counts: each thread counts in a stripe of its own, and a scrape adds
//! the stripes up.
//!
//! Answers for: the sum of all stripes is what one metric would show. Two threads that count in the
//! same memory would hold each other up longer than a decision takes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Metric, MetricFamily, MetricType};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};

/// Stripes of each metric. Threads beyond that share one.
const STRIPES: usize = 8;

/// One metric in [`STRIPES`] stripes.
#[derive(Clone)]
pub struct Striped<M>(Arc<[M]>);

impl<M> fmt::Debug for Striped<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Striped").finish_non_exhaustive()
    }
}

impl<M> Striped<M> {
    /// Makes each stripe.
    pub(super) fn try_new<E>(make: impl Fn() -> Result<M, E>) -> Result<Self, E> {
        Ok(Self((0..STRIPES).map(|_| make()).collect::<Result<_, E>>()?))
    }

    /// The stripe of this thread.
    fn own(&self) -> &M {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES;
        }
        &self.0[OWN.with(|own| *own)]
    }

    fn each<T>(&self, of: impl Fn(&M) -> T) -> Striped<T> {
        Striped(self.0.iter().map(of).collect())
    }
}

impl Striped<IntCounterVec> {
    pub fn with_label_values(&self, values: &[&str]) -> Striped<IntCounter> {
        self.each(|stripe| stripe.with_label_values(values))
    }

    /// Counts in a series that is not kept.
    pub fn inc(&self, values: &[&str]) {
        self.own().with_label_values(values).inc();
    }
}

impl Striped<HistogramVec> {
    pub fn with_label_values(&self, values: &[&str]) -> Striped<Histogram> {
        self.each(|stripe| stripe.with_label_values(values))
    }

    /// Observes in a series that is not kept.
    pub fn observe(&self, values: &[&str], value: f64) {
        self.own().with_label_values(values).observe(value);
    }
}

impl Striped<IntCounter> {
    pub fn inc(&self) {
        self.own().inc();
    }

    /// The sum of all stripes.
    pub fn get(&self) -> u64 {
        self.0.iter().map(IntCounter::get).sum()
    }
}

impl Striped<Histogram> {
    pub fn observe(&self, value: f64) {
        self.own().observe(value);
    }
}

impl<M: Collector> Collector for Striped<M> {
    fn desc(&self) -> Vec<&Desc> {
        self.0.first().map(Collector::desc).unwrap_or_default()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut stripes = self.0.iter().flat_map(Collector::collect);
        let Some(mut all) = stripes.next() else { return Vec::new() };
        let kind = all.get_field_type();
        let mut series = BTreeMap::new();
        let metrics = std::iter::once(std::mem::take(all.mut_metric()));
        let metrics = metrics.chain(stripes.map(|mut stripe| std::mem::take(stripe.mut_metric())));
        for metric in metrics.flatten() {
            let labels = metric.get_label().iter();
            let labels: Vec<String> = labels.map(|label| label.value().to_owned()).collect();
            match series.entry(labels) {
                Entry::Vacant(slot) => drop(slot.insert(metric)),
                Entry::Occupied(mut slot) => add(kind, slot.get_mut(), &metric),
            }
        }
        all.set_metric(series.into_values().collect());
        vec![all]
    }
}

/// Adds what one stripe has counted. No other kind is kept in stripes.
fn add(kind: MetricType, sum: &mut Metric, stripe: &Metric) {
    if kind == MetricType::COUNTER {
        let mut counter = sum.get_counter().clone();
        counter.set_value(counter.get_value() + stripe.get_counter().get_value());
        sum.set_counter(counter);
        return;
    }
    let (mut all, more) = (sum.get_histogram().clone(), stripe.get_histogram());
    all.set_sample_count(all.get_sample_count() + more.get_sample_count());
    all.set_sample_sum(all.get_sample_sum() + more.get_sample_sum());
    let buckets = all.get_bucket().iter().zip(more.get_bucket()).map(|(all, more)| {
        let mut bucket = all.clone();
        bucket.set_cumulative_count(all.cumulative_count() + more.cumulative_count());
        bucket
    });
    let buckets = buckets.collect();
    all.set_bucket(buckets);
    sum.set_histogram(all);
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder as _, HistogramOpts, Opts, Registry, TextEncoder};

    use super::*;

    fn text(registry: &Registry) -> String {
        let mut text = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    /// What threads count shows as if one metric had counted it.
    #[test]
    fn stripes_add_up() {
        let labels = ["kind"];
        let counter = || IntCounterVec::new(Opts::new("c", "counts"), &labels);
        let histogram = || {
            let options = HistogramOpts::new("h", "seconds").buckets(vec![0.5, 1.0]);
            HistogramVec::new(options, &labels)
        };
        let (striped, plain) = (Registry::new(), Registry::new());
        let (c, h) = (Striped::try_new(counter).unwrap(), Striped::try_new(histogram).unwrap());
        striped.register(Box::new(c.clone())).unwrap();
        striped.register(Box::new(h.clone())).unwrap();
        let (one_c, one_h) = (counter().unwrap(), histogram().unwrap());
        plain.register(Box::new(one_c.clone())).unwrap();
        plain.register(Box::new(one_h.clone())).unwrap();
        for kind in ["a", "b"] {
            std::thread::scope(|scope| {
                for value in [0.25, 0.75, 2.0] {
                    let (c, h) = (&c, &h);
                    scope.spawn(move || {
                        c.with_label_values(&[kind]).inc();
                        h.with_label_values(&[kind]).observe(value);
                    });
                    one_c.with_label_values(&[kind]).inc();
                    one_h.with_label_values(&[kind]).observe(value);
                }
            });
        }
        assert_eq!(c.with_label_values(&["a"]).get(), 3);
        assert_eq!(text(&striped), text(&plain));
    }
}
