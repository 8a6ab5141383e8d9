//! Metric families of the `prometheus` crate, built from values; the only file that knows its types.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

/// Families in the order in which they are written.
#[derive(Default)]
pub(super) struct Families(Vec<MetricFamily>);

/// Label names and values of one metric, in the order of the text.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

fn pairs(labels: Labels<'_>) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    labels.iter().map(pair).collect()
}

/// One family being filled.
pub(super) struct Family(MetricFamily);

impl Family {
    fn new(kind: MetricType, name: &str, help: &str) -> Self {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        Self(family)
    }

    pub(super) fn counter(name: &str, help: &str) -> Self {
        Self::new(MetricType::COUNTER, name, help)
    }

    pub(super) fn gauge(name: &str, help: &str) -> Self {
        Self::new(MetricType::GAUGE, name, help)
    }

    pub(super) fn histogram(name: &str, help: &str) -> Self {
        Self::new(MetricType::HISTOGRAM, name, help)
    }

    /// Adds a counter or a gauge, as the family is.
    pub(super) fn add(&mut self, labels: Labels<'_>, value: f64) {
        let mut metric = Metric::from_label(pairs(labels));
        if self.0.get_field_type() == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.0.mut_metric().push(metric);
    }

    /// Adds a histogram; `buckets` are counts between bounds, not cumulative.
    pub(super) fn add_histogram(&mut self, labels: Labels<'_>, bounds: &[f64], buckets: &[u64], count: u64, sum: f64) {
        let mut sum_so_far = 0;
        let buckets = bounds.iter().zip(buckets).map(|(bound, count)| {
            sum_so_far += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(sum_so_far);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(count);
        histogram.set_sample_sum(sum);
        let mut metric = Metric::from_label(pairs(labels));
        metric.set_histogram(histogram);
        self.0.mut_metric().push(metric);
    }
}

impl Families {
    /// Takes a family; one without a metric is left out, as Prometheus' clients do.
    pub(super) fn push(&mut self, family: Family) {
        if !family.0.get_metric().is_empty() {
            self.0.push(family.0);
        }
    }

    /// A family of one value without labels.
    pub(super) fn single(&mut self, mut family: Family, value: f64) {
        family.add(&[], value);
        self.push(family);
    }

    /// The text exposition format, version 0.0.4.
    pub(super) fn text(mut self) -> Vec<u8> {
        self.0.sort_by(|a, b| a.name().cmp(b.name()));
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.0, &mut text) {
            tracing::error!(%error, "metrics could not be encoded");
        }
        text
    }
}
