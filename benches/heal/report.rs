//! The figures beside what was asked, for people and for machines.

use serde::Serialize;
use serde_json::json;

use crate::options::Measure;
use crate::support::figures::{aligned, median, number};

/// By how much the median of something timed may miss what was asked: on a machine that does other things as well,
/// repetitions differ by so much. What is counted, bytes and keys, has no such allowance.
const NOISE: f64 = 1.25;

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Asked {
    /// Nothing: it explains the others.
    Nothing,
    /// A count of at most so much.
    Count(f64),
    /// A time of at most so much, give or take noise.
    Time(f64),
}

impl Asked {
    fn limit(self) -> Option<f64> {
        match self {
            Asked::Nothing => None,
            Asked::Count(limit) | Asked::Time(limit) => Some(limit),
        }
    }

    fn verdict(self, median: f64, max: f64) -> &'static str {
        match self {
            Asked::Nothing => "",
            Asked::Count(limit) if median <= limit && max > limit => "not always",
            Asked::Count(limit) | Asked::Time(limit) if median <= limit => "ok",
            Asked::Time(limit) if median <= limit * NOISE => "noise?",
            Asked::Count(_) | Asked::Time(_) => "MISSED",
        }
    }
}

/// One figure, measured some times.
#[derive(Clone, Debug, Serialize)]
struct Figure {
    measure: Measure,
    name: String,
    unit: &'static str,
    asked: Asked,
    values: Vec<f64>,
}

impl Figure {
    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    fn verdict(&self) -> &'static str {
        let sorted = self.sorted();
        self.asked.verdict(median(&sorted), sorted.last().copied().unwrap_or_default())
    }
}

/// Gathers figures.
#[derive(Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
}

impl Report {
    pub(crate) fn add(&mut self, measure: Measure, name: &str, unit: &'static str, asked: Asked, value: f64) {
        let known = self
            .figures
            .iter_mut()
            .find(|figure| (figure.measure, figure.unit) == (measure, unit) && figure.name == name);
        match known {
            Some(figure) => figure.values.push(value),
            None => {
                let (name, values) = (name.to_owned(), vec![value]);
                self.figures.push(Figure { measure, name, unit, asked, values });
            }
        }
    }

    /// The figures of one measure.
    pub(crate) fn table(&self, measure: Measure) -> String {
        let heading = ["figure", "unit", "median", "min", "max", "runs", "asked", "verdict"];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        for figure in self.figures.iter().filter(|figure| figure.measure == measure) {
            let sorted = figure.sorted();
            let ends = [median(&sorted), sorted[0], sorted[sorted.len() - 1]];
            let mut row = vec![figure.name.clone(), figure.unit.to_owned()];
            row.extend(ends.map(amount));
            row.push(sorted.len().to_string());
            row.push(figure.asked.limit().map_or(String::new(), |limit| format!("<= {}", amount(limit))));
            row.push(figure.verdict().to_owned());
            rows.push(row);
        }
        aligned(&rows)
    }

    /// What was asked and missed by more than noise.
    pub(crate) fn missed(&self) -> Vec<String> {
        let missed = self.figures.iter().filter(|figure| figure.verdict() == "MISSED");
        missed.map(|figure| format!("{:?}: {}", figure.measure, figure.name)).collect()
    }

    pub(crate) fn json(&self, about: &serde_json::Value) -> serde_json::Value {
        let figures: Vec<_> = self
            .figures
            .iter()
            .map(|figure| {
                let sorted = figure.sorted();
                json!({
                    "figure": figure,
                    "median": median(&sorted),
                    "min": sorted[0],
                    "max": sorted[sorted.len() - 1],
                    "verdict": figure.verdict(),
                })
            })
            .collect();
        json!({ "about": about, "figures": figures })
    }
}

/// With three significant digits.
fn amount(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    number(value, decimals)
}
