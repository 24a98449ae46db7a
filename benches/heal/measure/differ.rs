//! What it costs to find that nothing differs, and to heal what does.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{Bench, bulk, bytes_of_cell, check};
use crate::cluster::Cluster;
use crate::options::Measure;
use crate::report::Asked;
use crate::support::ask::pause;
use crate::support::load::{Command, Load};
use crate::tally::pair;

/// Differing keys, on the node that was cut off and on the others, and what a pair may take to heal them.
struct Case {
    name: &'static str,
    apart: u32,
    others: u32,
    asked: Limit,
}

#[derive(Clone, Copy)]
enum Limit {
    Bytes(f64),
    TimesPayload(f64),
}

const CASES: [Case; 6] = [
    Case { name: "1 key", apart: 1, others: 0, asked: Limit::Bytes(3.0 * 1024.0) },
    Case { name: "100 keys", apart: 100, others: 0, asked: Limit::Bytes(64.0 * 1024.0) },
    Case { name: "3 300 keys", apart: 3_300, others: 0, asked: Limit::TimesPayload(1.5) },
    Case { name: "10 000 keys", apart: 10_000, others: 0, asked: Limit::TimesPayload(1.5) },
    Case { name: "100 000 keys", apart: 100_000, others: 0, asked: Limit::TimesPayload(1.5) },
    Case { name: "10 100 keys", apart: 10_000, others: 100, asked: Limit::TimesPayload(1.5) },
];

/// What the heal of all keys that differ may take from the moment that the link is back.
const HEAL_SECONDS: f64 = 0.5;

impl Bench<'_> {
    pub(super) fn equal(&mut self) -> Result<()> {
        let cluster = self.three_with_all(true)?;
        cluster.until_quiet()?;
        cluster.tally.reset();
        let until = Instant::now() + self.options.watch();
        while Instant::now() < until {
            pause();
        }
        cluster.until_quiet()?;
        let counts = cluster.tally.read();
        check(&counts)?;
        let syncs: Vec<_> = counts.syncs().filter(|sync| sync.is_finished()).cloned().collect();
        ensure!(!syncs.is_empty(), "no verification within {:?}", self.options.watch());
        let in_syncs: u64 = counts.syncs().map(|sync| sync.bytes).sum();
        // The empty push and the acknowledgement on both sides that follow each sync.
        let after = (counts.healing(None) - in_syncs) as f64 / syncs.len() as f64;
        for sync in &syncs {
            ensure!(sync.cells == 0, "a verification of equal states sent {} bytes of cells", sync.cells);
            let bytes = sync.bytes as f64 + after;
            self.add(Measure::Equal, "a verification of a pair", "B", Asked::Count(1536.0), bytes);
        }
        let each = self.options.watch().as_secs_f64();
        let heartbeats = counts.heartbeats() as f64 / each;
        self.add(Measure::Equal, "heartbeats of the cluster, a second", "B", Asked::Nothing, heartbeats);
        let all = counts.healing(None) as f64 / each;
        self.add(Measure::Equal, "verifications of the cluster, a second", "B", Asked::Nothing, all);
        Ok(())
    }

    pub(super) fn differ(&mut self) -> Result<()> {
        let mut cluster = self.three_with_all(true)?;
        let cell = bytes_of_cell(&mut cluster, 10_000)?;
        self.add(Measure::Differ, "payload of a key", "B", Asked::Nothing, cell);
        for _ in 0..self.options.repeat() {
            // One that differs and differences on both sides are the simplest case and the most general one.
            let is_end = |at: usize| at == 0 || at + 1 == CASES.len();
            let cases = CASES.iter().enumerate().filter(|(at, _)| !self.options.is_quick() || is_end(*at));
            for (_, case) in cases {
                eprintln!("    {}", case.name);
                self.heal(&mut cluster, case, cell)?;
            }
        }
        Ok(())
    }

    /// Cuts c off, writes on both sides, and lets them heal.
    fn heal(&mut self, cluster: &mut Cluster, case: &Case, cell: f64) -> Result<()> {
        cluster.isolate(2)?;
        let write = |node: usize, keys: std::ops::Range<u32>| {
            let pipeline = (keys.end - keys.start).min(100);
            let load = Load { pipeline, connections: 1, ..bulk(Command::Set, self.options.keys()) };
            if pipeline == 0 { Ok(()) } else { cluster.nodes[node].apply(load, keys).map(drop) }
        };
        write(2, 0..case.apart)?;
        write(0, case.apart..case.apart + case.others)?;
        let apart = cluster.nodes[2].digest()?;
        let expected = cluster.nodes[0].digest()?;
        let other = &mut cluster.nodes[1];
        other.until("it holds what a holds", |node| Ok(node.digest()? == expected))?;
        ensure!(apart != expected, "the cut made no difference");

        cluster.tally.reset();
        let mended = Instant::now();
        let cpu_before = cpu(cluster)?;
        cluster.mend(2)?;
        let [with_a, with_b] = self.until_pairs_equal(cluster)?;
        let cpu_used = cpu(cluster)?.saturating_sub(cpu_before).as_secs_f64();
        cluster.until_quiet()?;
        let counts = cluster.tally.read();
        check(&counts)?;

        let pairs = [pair("a", "c"), pair("b", "c")];
        let payload = cell * f64::from(case.apart + case.others);
        let bytes = pairs.iter().map(|pair| counts.healing(Some(pair))).max().unwrap_or(0) as f64;
        let linked = |of: &[String; 2]| counts.linked_at(of);
        let took = pairs.iter().zip([with_a, with_b]).filter_map(|(pair, equal)| {
            // A pair that was equal before it was linked has been healed by way of the third.
            Some(equal.saturating_duration_since(linked(pair)?))
        });
        let took = took.max().context("no link came up")?;
        let first = pairs.iter().filter_map(linked).min().context("no link came up")?;
        let whole = with_a.max(with_b).saturating_duration_since(first);
        let cells: u64 = counts.syncs().map(|sync| sync.cells).sum();
        self.add_heal(case, bytes, payload, took, whole);
        let handshakes = pairs.iter().map(|pair| counts.handshakes(Some(pair))).max().unwrap_or(0);
        let (name, measure) = (case.name, Measure::Differ);
        let handshakes = handshakes as f64;
        self.add(measure, &format!("{name}: hellos of a pair"), "B", Asked::Nothing, handshakes);
        let all = counts.all() as f64;
        self.add(measure, &format!("{name}: all pairs, hellos too"), "B", Asked::Nothing, all);
        let copies = cells as f64 / payload;
        self.add(measure, &format!("{name}: cells of all pairs"), "x payload", Asked::Nothing, copies);
        self.add(measure, &format!("{name}: processor time of all nodes"), "s", Asked::Nothing, cpu_used);
        let back = first.saturating_duration_since(mended).as_secs_f64();
        self.add(measure, &format!("{name}: mend until the first link"), "s", Asked::Nothing, back);
        eprintln!("      {}", counts.by_kind());
        Ok(())
    }

    fn add_heal(&mut self, case: &Case, bytes: f64, payload: f64, took: Duration, whole: Duration) {
        let (name, measure) = (case.name, Measure::Differ);
        let asked = match case.asked {
            Limit::Bytes(limit) => Asked::Count(limit),
            Limit::TimesPayload(_) => Asked::Nothing,
        };
        self.add(measure, &format!("{name}: a pair's syncs"), "B", asked, bytes);
        let asked = match case.asked {
            Limit::TimesPayload(limit) => Asked::Count(limit),
            Limit::Bytes(_) => Asked::Nothing,
        };
        self.add(measure, &format!("{name}: a pair's syncs"), "x payload", asked, bytes / payload);
        let asked = if case.others > 0 { Asked::Time(HEAL_SECONDS) } else { Asked::Nothing };
        self.add(measure, &format!("{name}: link until equal, slower pair"), "s", asked, took.as_secs_f64());
        let whole = whole.as_secs_f64();
        self.add(measure, &format!("{name}: first link until all equal"), "s", Asked::Nothing, whole);
    }

    /// When a and c, and when b and c, were seen to hold the same.
    fn until_pairs_equal(&self, cluster: &mut Cluster) -> Result<[Instant; 2]> {
        let deadline = Instant::now() + Duration::from_secs(120);
        let mut equal = [None; 2];
        loop {
            let digests: Vec<_> =
                cluster.nodes.iter_mut().map(|node| node.digest()).collect::<Result<_>>()?;
            for (equal, digest) in equal.iter_mut().zip(&digests[..2]) {
                // Equal for good: the two may agree for a moment, before the third sends them more.
                *equal = if *digest == digests[2] { equal.or_else(|| Some(Instant::now())) } else { None };
            }
            if let [Some(one), Some(other)] = equal {
                return Ok([one, other]);
            }
            let kinds = cluster.tally.read().by_kind();
            ensure!(Instant::now() < deadline, "not healed in time: {digests:?}; {kinds}");
            pause();
        }
    }
}

/// The processor time that all nodes have used, replies to this bench included.
fn cpu(cluster: &Cluster) -> Result<Duration> {
    cluster.nodes.iter().map(|node| Ok(node.process()?.cpu()?.used)).sum()
}
