//! What watchers cost a node that delivers changes to them, and when they have the last one.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

use crate::drain::{FINAL, Watchers};
use crate::options::Options;
use crate::support::ask::{self, pause};
use crate::support::cores::{self, Cores};
use crate::support::figures::{aligned, median, millis, number};
use crate::support::load::{Command, KEY, Load, VALUE, write_key};
use crate::support::node::{self, PATIENCE};

const KEYS: u32 = 1_000;
const LOAD: Load = Load { command: Command::Set, pipeline: 16, connections: 8, keys: KEYS };
/// How long it may take until every watcher has received everything.
const LAST: Duration = Duration::from_secs(900);
/// What was asked of the rate with watchers, as a part of that without.
const ASKED: f64 = 0.7;

/// Who watches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
enum Who {
    Nobody,
    /// Nobody any more: changes are kept for a minute.
    Left,
    Watchers(u32),
}

#[derive(Debug, Serialize)]
pub(crate) struct Sample {
    turn: u32,
    who: Who,
    sets_per_second: f64,
    node_micros_per_set: f64,
    sent_bytes: u64,
    last_millis: Option<f64>,
    resident_bytes: u64,
}

/// # Errors
/// If a watcher does not end with the final value of every key.
pub(crate) fn run(options: &Options) -> Result<Vec<Sample>> {
    let cores = Cores::detect()?;
    let scratch = tempfile::tempdir()?;
    raise_files()?;
    let everyone = [Who::Nobody, Who::Left, Who::Watchers(options.watchers())];
    let mut samples = Vec::new();
    for turn in 0..options.turns() {
        for who in everyone {
            samples.push(measure(options, &cores, scratch.path(), who, turn)?);
        }
    }
    println!(
        "\nSETs a second of a node, asked: with watchers {ASKED} of without\n{}",
        table(&samples, &everyone)
    );
    if options.crowd() > 0 {
        let crowd = measure(options, &cores, scratch.path(), Who::Watchers(options.crowd()), 0)?;
        println!(
            "{} watchers: {} SETs a second; the last value of every key reached the last one after {} ms; {} MiB resident",
            number(f64::from(options.crowd()), 0),
            number(crowd.sets_per_second, 0),
            number(crowd.last_millis.unwrap_or_default(), 0),
            crowd.resident_bytes >> 20,
        );
        samples.push(crowd);
    }
    Ok(samples)
}

/// A watcher is a file here and one in the node, which inherits the limit.
fn raise_files() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

fn measure(options: &Options, cores: &Cores, scratch: &Path, who: Who, turn: u32) -> Result<Sample> {
    let (node, server) = node::start(scratch, cores.server(), &["--max-clients", "30000"])?;
    cores::on(cores.load(), || {
        LOAD.each(server)?;
        let watchers = match who {
            Who::Nobody => None,
            Who::Left => {
                watch(server, 1)?.end()?;
                None
            }
            Who::Watchers(watchers) => Some(watch(server, watchers)?),
        };
        let seed = u64::from(turn) << 32;
        LOAD.run(server, options.duration() / 10, seed + 1)?;
        let before = node.cpu()?;
        let done = LOAD.run(server, options.duration(), seed)?;
        let cpu = node.cpu()?.since(before).used;
        let resident_bytes = node.resident()?;
        let (mut last_millis, mut sent_bytes) = (None, 0);
        if let Some(watchers) = watchers {
            sent_bytes = watchers.progress.bytes.load(Relaxed);
            write_final(server)?;
            let began = Instant::now();
            let Who::Watchers(number) = who else { unreachable!() };
            wait(&watchers, &watchers.progress.done, number)?;
            last_millis = Some(millis(began.elapsed()));
            watchers.end()?;
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of requests is far below 2^52")]
        let sets = done.requests as f64;
        anyhow::Ok(Sample {
            turn,
            who,
            sets_per_second: sets / done.elapsed.as_secs_f64(),
            node_micros_per_set: cpu.as_secs_f64() * 1e6 / sets,
            sent_bytes,
            last_millis,
            resident_bytes: resident_bytes.max(node.resident()?),
        })
    })?
    .with_context(|| format!("{who:?}; the node printed:\n{}", node.last_words()))
}

/// Watchers that have received everything.
fn watch(server: SocketAddr, number: u32) -> Result<Watchers> {
    let watchers = Watchers::start(server, number, KEYS);
    wait(&watchers, &watchers.progress.live, number)?;
    Ok(watchers)
}

fn wait(watchers: &Watchers, reached: &AtomicUsize, number: u32) -> Result<()> {
    let began = Instant::now();
    while reached.load(Relaxed) < number as usize {
        ensure!(!watchers.have_ended(), "a watcher received what it must not, or was cut off");
        ensure!(began.elapsed() < LAST, "{} of {number} after {LAST:?}", reached.load(Relaxed));
        pause();
    }
    Ok(())
}

fn write_final(server: SocketAddr) -> Result<()> {
    let mut control = ask::control(server, PATIENCE)?;
    let mut value = [b'.'; VALUE];
    value[..FINAL.len()].copy_from_slice(FINAL);
    let mut pipe = redis::pipe();
    for number in 0..KEYS {
        let mut key = [0; KEY];
        write_key(&mut key, number);
        pipe.cmd("SET").arg(&key).arg(&value).ignore();
    }
    Ok(pipe.query(&mut control)?)
}

fn table(samples: &[Sample], everyone: &[Who]) -> String {
    let heading =
        ["watchers", "", "SET/s", "min–max", "of without", "min–max", "node us/SET", "of without", "last ms"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let sorted = |who: Who, figure: &dyn Fn(&Sample) -> Option<f64>| {
        let mut all: Vec<f64> =
            samples.iter().filter(|sample| sample.who == who).filter_map(figure).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let alone = |turn| samples.iter().find(|sample| sample.turn == turn && sample.who == Who::Nobody);
    let range = |all: &[f64], decimals| match (all.first(), all.last()) {
        (Some(&first), Some(&last)) => format!("{}–{}", number(first, decimals), number(last, decimals)),
        _ => "-".into(),
    };
    for &who in everyone {
        let rates = sorted(who, &|sample| Some(sample.sets_per_second));
        let ratios =
            sorted(who, &|sample| Some(sample.sets_per_second / alone(sample.turn)?.sets_per_second));
        let cpu = sorted(who, &|sample| Some(sample.node_micros_per_set));
        let costs =
            sorted(who, &|sample| Some(alone(sample.turn)?.node_micros_per_set / sample.node_micros_per_set));
        let last = sorted(who, &|sample| sample.last_millis);
        rows.push(vec![
            match who {
                Who::Nobody => "none".into(),
                Who::Left => "none, log kept".into(),
                Who::Watchers(watchers) => number(f64::from(watchers), 0),
            },
            String::new(),
            number(median(&rates), 0),
            range(&rates, 0),
            number(median(&ratios), 2),
            range(&ratios, 2),
            number(median(&cpu), 2),
            number(median(&costs), 2),
            if last.is_empty() { "-".into() } else { number(median(&last), 0) },
        ]);
    }
    aligned(&rows)
}
