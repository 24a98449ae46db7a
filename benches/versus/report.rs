//! The figures, for people and for machines.

use serde::Serialize;
use serde_json::json;

use crate::measure::Sample;
use crate::options::Measure;
use crate::support::figures::{aligned, median, number};

/// The server every other is divided by.
pub(crate) const BASELINE: &str = "redis";

/// A figure's column: its key in a sample, its heading, its decimals.
type Column = (&'static str, &'static str, usize);

/// What a measure's table shows: the first column with its spread and ratio, the others as medians.
fn columns(measure: Measure) -> (&'static str, &'static [Column]) {
    match measure {
        Measure::Throughput => (
            "Requests per CPU-second of the server",
            &[
                ("requests_per_cpu_second", "req/CPU-s", 0),
                ("cpu_micros_per_request", "us/req", 2),
                ("peers_cpu_micros_per_request", "peers us/req", 2),
                ("requests_per_second", "req/s", 0),
                ("busy_percent", "busy %", 0),
                ("waited_percent", "waited %", 0),
                ("catch_up_millis", "catch-up ms", 0),
            ],
        ),
        Measure::Memory => (
            "Resident memory",
            &[("bytes_per_key", "B/key", 1), ("empty_mib", "empty MiB", 1), ("full_mib", "full MiB", 1)],
        ),
        Measure::Lag => (
            "Write on one server until visible on another",
            &[
                ("p99_millis", "p99 ms", 3),
                ("p50_millis", "p50 ms", 3),
                ("max_millis", "max ms", 3),
                ("get_p50_millis", "GET p50 ms", 3),
                ("get_p99_millis", "GET p99 ms", 3),
            ],
        ),
        Measure::CatchUp => (
            "A fresh server takes every key",
            &[
                ("seconds", "seconds", 2),
                ("ready_seconds", "ready s", 2),
                ("received_mb", "MB", 1),
                ("received_bytes_per_key", "B/key", 1),
                ("source_cpu_seconds", "source CPU s", 2),
                ("fresh_cpu_seconds", "fresh CPU s", 2),
            ],
        ),
    }
}

/// The runs of one server in one case, condensed.
#[derive(Debug, Serialize)]
struct Summary {
    measure: Measure,
    case: String,
    server: String,
    /// Which figure the next four are of.
    figure: &'static str,
    median: f64,
    min: f64,
    max: f64,
    /// Median over the baseline's median.
    ratio: Option<f64>,
    /// The other columns' medians, in their order.
    #[serde(skip)]
    others: Vec<f64>,
}

fn summarise(samples: &[Sample], measure: Measure) -> Vec<Summary> {
    let (_, columns) = columns(measure);
    let mut cases: Vec<(&str, &str)> = Vec::new();
    for sample in samples.iter().filter(|sample| sample.measure == measure) {
        let case = (sample.case.as_str(), sample.server.as_str());
        if !cases.contains(&case) {
            cases.push(case);
        }
    }
    // Cases in the order measured, each with all its servers below each other.
    let order: Vec<&str> = cases.iter().map(|&(case, _)| case).collect();
    cases.sort_by_key(|&(case, _)| order.iter().position(|&other| other == case));

    let sorted = |case: (&str, &str), figure: &str| {
        let mut values: Vec<f64> = samples
            .iter()
            .filter(|s| s.measure == measure && (s.case.as_str(), s.server.as_str()) == case)
            .filter_map(|s| s.figures.get(figure).copied())
            .collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let median_of = |case, figure| median(&sorted(case, figure));
    cases
        .iter()
        .map(|&(case, server)| {
            let (figure, ..) = columns[0];
            let values = sorted((case, server), figure);
            let base = median_of((case, BASELINE), figure);
            Summary {
                measure,
                case: case.into(),
                server: server.into(),
                figure,
                median: median(&values),
                min: values.first().copied().unwrap_or(f64::NAN),
                max: values.last().copied().unwrap_or(f64::NAN),
                ratio: (base > 0.0).then(|| median(&values) / base),
                others: columns[1..].iter().map(|&(figure, ..)| median_of((case, server), figure)).collect(),
            }
        })
        .collect()
}

/// The measure's table.
pub(crate) fn table(samples: &[Sample], measure: Measure) -> String {
    let (title, columns) = columns(measure);
    let (_, headline, decimals) = columns[0];
    let mut rows = vec![
        ["case", "server", headline, "min–max", "ratio"]
            .into_iter()
            .chain(columns[1..].iter().map(|&(_, heading, _)| heading))
            .map(str::to_owned)
            .collect::<Vec<_>>(),
    ];
    for summary in summarise(samples, measure) {
        let mut row = vec![
            summary.case,
            summary.server,
            number(summary.median, decimals),
            format!("{}–{}", number(summary.min, decimals), number(summary.max, decimals)),
            summary.ratio.map_or("-".into(), |ratio| format!("{ratio:.2}")),
        ];
        let others = summary.others.iter().zip(&columns[1..]);
        row.extend(others.map(|(&value, &(_, _, decimals))| number(value, decimals)));
        rows.push(row);
    }
    format!("{title}\n{}", aligned(&rows))
}

/// Everything, for machines.
pub(crate) fn json(about: &serde_json::Value, samples: &[Sample]) -> serde_json::Value {
    let measures = [Measure::Throughput, Measure::Memory, Measure::Lag, Measure::CatchUp];
    let summary: Vec<_> = measures.into_iter().flat_map(|measure| summarise(samples, measure)).collect();
    json!({ "about": about, "summary": summary, "samples": samples })
}
