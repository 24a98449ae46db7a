//! What recording a change costs the thread that makes it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use sapwood::{Node, WatchEvent};
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

use crate::options::Options;
use crate::support::cores::{self, Cores};
use crate::support::figures::{aligned, median, number};
use crate::support::load::{KEY, Random, VALUE, write_key};
use crate::support::process;

/// `set`s timed at a time, so that the clock is read seldom.
const AT_ONCE: u32 = 1024;

/// Nanoseconds of CPU time a `set`, of one turn.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Sample {
    keys: u32,
    alone: f64,
    kept: f64,
}

/// A node that nobody ever watched, and one that was watched a moment ago, in turns.
pub(crate) fn run(options: &Options) -> Result<Vec<Sample>> {
    let sizes: &[u32] = if options.is_quick() { &[1_000] } else { &[1_000, 1_000_000] };
    let cores = Cores::detect()?;
    let mut samples = Vec::new();
    cores::on(cores.server(), || {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        for &keys in sizes {
            let [alone, kept] = ["alone", "kept"].map(|name| Node::builder().name(name).start());
            let (alone, kept) = (runtime.block_on(alone)?, runtime.block_on(kept)?);
            for node in [&alone, &kept] {
                for n in 0..keys {
                    set(node, n)?;
                }
            }
            for turn in 0..=options.turns() {
                watch_for_a_moment(&runtime, &kept)?;
                let alone = time(&alone, keys, options.duration() / 2, turn)?;
                let kept = time(&kept, keys, options.duration() / 2, turn)?;
                // The first one warms up.
                if turn > 0 {
                    samples.push(Sample { keys, alone, kept });
                }
            }
            runtime.block_on(async { tokio::join!(alone.shutdown(), kept.shutdown()) });
        }
        anyhow::Ok(())
    })??;
    println!("\nNanoseconds of CPU time a set in one thread\n{}", table(sizes, &samples));
    Ok(samples)
}

/// From here on changes are kept for a minute.
fn watch_for_a_moment(runtime: &Runtime, node: &Node) -> Result<()> {
    let mut watch = node.watch(["key:"])?;
    runtime.block_on(async {
        while let Some(event) = watch.next().await {
            if let WatchEvent::Live { .. } = event {
                return Ok(());
            }
        }
        anyhow::bail!("the node has stopped")
    })
}

fn time(node: &Node, keys: u32, duration: Duration, seed: u32) -> Result<f64> {
    let mut random = Random::new(u64::from(seed));
    let (began, mut sets) = (cpu()?, 0);
    loop {
        for _ in 0..AT_ONCE {
            set(node, random.below(keys))?;
        }
        sets += AT_ONCE;
        let took = cpu()?.saturating_sub(began);
        if took >= duration {
            return Ok(took.as_secs_f64() * 1e9 / f64::from(sets));
        }
    }
}

fn set(node: &Node, number: u32) -> Result<()> {
    let mut key = [0; KEY];
    key[..4].copy_from_slice(b"key:");
    write_key(&mut key, number);
    node.set(key, [b'v'; VALUE]).context("a write was refused")
}

/// What this thread has used.
fn cpu() -> Result<Duration> {
    // To be up to date: while a thread runs its account is only settled when it is looked at from elsewhere.
    std::thread::yield_now();
    process::cpu_of_thread()
}

fn table(sizes: &[u32], samples: &[Sample]) -> String {
    let mut rows =
        vec![["keys", "", "alone", "log kept", "recording", "min–max"].map(str::to_owned).to_vec()];
    for &keys in sizes {
        let sorted = |figure: fn(&Sample) -> f64| {
            let mut all: Vec<f64> = samples.iter().filter(|s| s.keys == keys).map(figure).collect();
            all.sort_by(f64::total_cmp);
            all
        };
        let recording = sorted(|sample| sample.kept - sample.alone);
        rows.push(vec![
            number(f64::from(keys), 0),
            String::new(),
            number(median(&sorted(|sample| sample.alone)), 0),
            number(median(&sorted(|sample| sample.kept)), 0),
            number(median(&recording), 0),
            format!("{}–{}", number(recording[0], 0), number(recording[recording.len() - 1], 0)),
        ]);
    }
    aligned(&rows)
}
