//! `/metrics`: the nodes' counters, for Prometheus. They are read for each request; nothing is cached.

mod node;
mod peers;

use std::fmt::{Error, Write as _};
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::health;
use super::host::NodeApi;
use super::problem::Problem;
use super::state::App;
use crate::cluster::{Activity, HealingStatus, NodeState, PeerSecurity, PeerStatus};
use crate::stats::{BOUNDS, LatencyTotals};
use crate::store::Totals;

/// The content type of the response.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const BYTES: Option<&Unit> = Some(&Unit::Bytes);
const SECONDS: Option<&Unit> = Some(&Unit::Seconds);

pub(super) async fn show(State(app): State<Arc<App>>) -> Response {
    let readings = app.host.nodes().into_iter().map(Reading::of).collect();
    let mut registry = Registry::with_prefix("sapwood");
    registry.register_collector(Box::new(Readings(readings)));
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written").into_response()
        }
    }
}

/// The values read from one node.
struct Reading {
    api: NodeApi,
    state: NodeState,
    is_ready: bool,
    totals: Totals,
    healing: HealingStatus,
    activity: Activity,
    peers: Vec<PeerStatus>,
    security: PeerSecurity,
}

impl Reading {
    fn of(api: NodeApi) -> Reading {
        let cluster = &api.cluster;
        Reading {
            state: cluster.state(),
            is_ready: health::why_not(&api).is_none(),
            totals: api.store.totals(),
            healing: cluster.healing(),
            activity: cluster.activity(),
            peers: cluster.peers(),
            security: cluster.peer_security(),
            api,
        }
    }
}

struct Readings(Vec<Reading>);

impl std::fmt::Debug for Readings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readings").finish_non_exhaustive()
    }
}

impl Collector for Readings {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut sheet = Sheet { encoder, readings: &self.0 };
        node::write(&mut sheet)?;
        peers::write(&mut sheet)
    }
}

/// Labels in addition to the node's.
type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Writes the metrics, one after the other, each for all nodes.
struct Sheet<'e, 'r> {
    encoder: DescriptorEncoder<'e>,
    readings: &'r [Reading],
}

impl<'r> Sheet<'_, 'r> {
    /// A gauge of each node.
    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: impl Fn(&Reading) -> f64,
    ) -> Result<(), Error> {
        self.gauges(name, help, unit, |reading| [(Labels::new(), value(reading))])
    }

    /// Gauges of each node, with labels.
    fn gauges<R>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        rows: impl Fn(&'r Reading) -> R,
    ) -> Result<(), Error>
    where
        R: IntoIterator<Item = (Labels<'r>, f64)>,
    {
        self.families(MetricType::Gauge, name, help, unit, rows, |mut metric, value| {
            metric.encode_gauge(&value)
        })
    }

    /// A counter of each node; the suffix `_total` is added.
    fn counter(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: impl Fn(&Reading) -> u64,
    ) -> Result<(), Error> {
        self.counters(name, help, unit, |reading| [(Labels::new(), value(reading))])
    }

    /// Counters of each node, with labels.
    fn counters<R>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        rows: impl Fn(&'r Reading) -> R,
    ) -> Result<(), Error>
    where
        R: IntoIterator<Item = (Labels<'r>, u64)>,
    {
        self.families(MetricType::Counter, name, help, unit, rows, |mut metric, value| {
            metric.encode_counter::<NoLabelSet, u64, f64>(&value, None)
        })
    }

    /// Writes one metric: the rows of each node, with the node's label and their own.
    fn families<R, V>(
        &mut self,
        kind: MetricType,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        rows: impl Fn(&'r Reading) -> R,
        encode: impl Fn(MetricEncoder<'_>, V) -> Result<(), Error>,
    ) -> Result<(), Error>
    where
        R: IntoIterator<Item = (Labels<'r>, V)>,
    {
        let mut metric = self.encoder.encode_descriptor(name, help, unit, kind)?;
        for reading in self.readings {
            for (labels, value) in rows(reading) {
                encode(metric.encode_family(&with_node(reading, &labels))?, value)?;
            }
        }
        Ok(())
    }

    /// A histogram of seconds for each node.
    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        value: impl Fn(&Reading) -> LatencyTotals,
    ) -> Result<(), Error> {
        let rows = |reading| [(Labels::new(), value(reading))];
        self.families(MetricType::Histogram, name, help, SECONDS, rows, |mut metric, totals| {
            let LatencyTotals { buckets, nanos } = totals;
            let bounds = BOUNDS.iter().map(|&bound| seconds(bound)).chain([f64::MAX]);
            let rows: Vec<_> = bounds.zip(buckets).collect();
            metric.encode_histogram::<NoLabelSet>(seconds(nanos), buckets.iter().sum(), &rows, None)
        })
    }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

fn with_node(reading: &Reading, labels: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let labels = labels.iter().copied().chain([("node", reading.api.name.as_str())]);
    labels.map(|(name, value)| (name, escaped(value))).collect()
}

/// Escapes the text of a label. A peer's name may contain any character except blanks, and the library escapes
/// nothing.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            letter if letter.is_control() => {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "\\\\u{:04x}", u32::from(letter));
            }
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_peer_breaks_out_of_its_label() {
        assert_eq!(escaped("db-1:7171"), "db-1:7171");
        assert_eq!(escaped("a\"} 1\nb\\\r"), "a\\\"} 1\\nb\\\\\\\\u000d");
    }
}
