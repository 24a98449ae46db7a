//! The figures, for people and for machines.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::options::{Figure, Options};
use crate::support::figures::{aligned, median, number};
use crate::support::machine;

/// Gathers figures.
pub(crate) struct Report {
    figures: Vec<(Figure, Vec<f64>)>,
    earlier: Option<Earlier>,
}

/// An earlier run.
struct Earlier {
    /// The medians by figure.
    medians: BTreeMap<String, f64>,
    /// The tools that it was made with, which change the figures too.
    tools: Value,
}

impl Report {
    /// Starts without figures. Reads the earlier ones, so that a wrong path fails before anything is measured.
    pub(crate) fn new(options: &Options) -> Result<Report> {
        let mut earlier = None;
        if let Some(path) = &options.against {
            let read = fs::read(path).map_err(Into::into).and_then(|text| Earlier::read(&text));
            earlier = Some(read.with_context(|| format!("cannot compare with {}", path.display()))?);
        }
        Ok(Report { figures: Vec::new(), earlier })
    }

    pub(crate) fn add(&mut self, figure: Figure, value: f64) {
        match self.figures.iter_mut().find(|(known, _)| *known == figure) {
            Some((_, values)) => values.push(value),
            None => self.figures.push((figure, vec![value])),
        }
    }

    pub(crate) fn show_and_write(mut self, options: &Options, tools: &Value) -> Result<()> {
        let mut rows =
            vec![["figure", "of each", "instructions", "min", "max", "runs"].map(str::to_owned).to_vec()];
        if self.earlier.is_some() {
            rows[0].extend(["before".to_owned(), "change".to_owned()]);
        }
        let (mut all, mut risen) = (Vec::new(), Vec::new());
        for (figure, values) in &mut self.figures {
            values.sort_by(f64::total_cmp);
            let (name, middle) = (figure.name(), median(values));
            let mut row = vec![name.clone(), figure.part().to_owned()];
            row.extend([middle, values[0], values[values.len() - 1]].map(|value| number(value, 0)));
            row.push(values.len().to_string());
            if let Some(earlier) = &self.earlier {
                let before = earlier.medians.get(&name);
                let change = |before: &f64| format!("{:+.1}%", (middle / before - 1.0) * 100.0);
                row.push(before.map_or_else(String::new, |&before| number(before, 0)));
                row.push(before.map_or_else(String::new, change));
                let rise = before.map_or(0.0, |before| (middle / before - 1.0) * 100.0);
                if options.limit.is_some_and(|limit| rise > f64::from(limit)) {
                    risen.push(format!("{name} by {rise:.1}%"));
                }
            }
            rows.push(row);
            all.push(json!({ "figure": name, "median": middle, "values": values }));
        }
        print!("{}", aligned(&rows));
        let about = json!({
            "machine": machine::machine(),
            "tools": tools,
            "operations": options.operations(),
            "quick": options.common.is_quick(),
        });
        let figures = json!({ "about": about, "unit": "instructions", "figures": all });
        options.common.write("instructions", &figures)?;
        let is_comparable = self.earlier.is_some_and(|earlier| earlier.tools == *tools);
        if options.limit.is_some() && !is_comparable {
            println!("other versions of rustc or valgrind than before: the limit does not apply");
            return Ok(());
        }
        ensure!(risen.is_empty(), "more instructions than allowed: {}", risen.join(", "));
        Ok(())
    }
}

impl Earlier {
    /// Reads a file that [`Report::show_and_write`] has written.
    fn read(text: &[u8]) -> Result<Earlier> {
        let all: Value = serde_json::from_slice(text)?;
        let figures = all["figures"].as_array().context("no figures in it")?;
        let pair = |figure: &Value| Some((figure["figure"].as_str()?.to_owned(), figure["median"].as_f64()?));
        let medians = figures.iter().map(|figure| pair(figure).context("a figure has no name or median"));
        Ok(Earlier { medians: medians.collect::<Result<_>>()?, tools: all["about"]["tools"].clone() })
    }
}
