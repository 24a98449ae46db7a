//! The figures, for people and for machines.

use serde::Serialize;
use serde_json::json;

use crate::support::figures::{aligned, median, number};
use crate::support::load::Command;

/// One measurement of one client.
#[derive(Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) client: &'static str,
    pub(crate) command: Command,
    pub(crate) requests_per_second: f64,
    pub(crate) cpu_micros_per_request: Option<f64>,
}

/// All measurements of one client with one command.
#[derive(Debug, Serialize)]
struct Summary {
    client: &'static str,
    command: Command,
    requests_per_second: f64,
    min: f64,
    max: f64,
    /// To the better of the crates redis and fred.
    ratio: f64,
    cpu_micros_per_request: Option<f64>,
}

fn summarise(samples: &[Sample]) -> Vec<Summary> {
    let mut cases: Vec<(Command, &'static str)> = Vec::new();
    for sample in samples {
        if !cases.contains(&(sample.command, sample.client)) {
            cases.push((sample.command, sample.client));
        }
    }
    let sorted = |command, client, figure: fn(&Sample) -> Option<f64>| {
        let of = samples.iter().filter(|sample| sample.command == command && sample.client == client);
        let mut values: Vec<f64> = of.filter_map(figure).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let rate = |sample: &Sample| Some(sample.requests_per_second);
    cases
        .iter()
        .map(|&(command, client)| {
            let values = sorted(command, client, rate);
            let others = ["redis", "fred"].map(|other| median(&sorted(command, other, rate)));
            let cpu = sorted(command, client, |sample| sample.cpu_micros_per_request);
            Summary {
                client,
                command,
                requests_per_second: median(&values),
                min: values.first().copied().unwrap_or(f64::NAN),
                max: values.last().copied().unwrap_or(f64::NAN),
                ratio: median(&values) / others[0].max(others[1]),
                cpu_micros_per_request: (!cpu.is_empty()).then(|| median(&cpu)),
            }
        })
        .collect()
}

/// The medians, with their spread.
pub(crate) fn table(samples: &[Sample]) -> String {
    let heading = ["command", "client", "req/s", "min–max", "ratio", "client CPU us/req"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for summary in summarise(samples) {
        rows.push(vec![
            format!("{:?}", summary.command).to_uppercase(),
            summary.client.to_owned(),
            number(summary.requests_per_second, 0),
            format!("{}–{}", number(summary.min, 0), number(summary.max, 0)),
            format!("{:.2}", summary.ratio),
            summary.cpu_micros_per_request.map_or("-".into(), |cpu| number(cpu, 2)),
        ]);
    }
    format!("Requests per second; ratio to the better of redis and fred\n{}", aligned(&rows))
}

/// Everything, for machines.
pub(crate) fn json(about: &serde_json::Value, samples: &[Sample]) -> serde_json::Value {
    json!({ "about": about, "summary": summarise(samples), "samples": samples })
}
