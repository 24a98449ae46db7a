//! The measurements.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use sapwood::Node;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use crate::bare::BareMap;
use crate::options::Options;
use crate::support::figures::{aligned, median, number};
use crate::support::machine;

/// What was asked of `node.get`, as a multiple of a bare lookup.
const ASKED: f64 = 1.3;

/// By how much a machine that does other things as well may miss it.
const NOISE: f64 = 1.25;

const VALUE: [u8; 100] = [7; 100];

/// Reads that are timed one by one at rest, and at least while a node joins.
const TIMED: usize = 1_000_000;

/// The longest that a join may take.
const JOIN_LIMIT: Duration = Duration::from_secs(120);

type Key = [u8; 16];

/// Measures everything; returns whether what was asked is kept.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let mut keys: Vec<Key> = (0..options.keys()).map(key).collect();
    println!("{}, load average {}", machine::machine(), machine::load_average());
    println!("{} keys of 16 B, values of {} B", number(f64::from(options.keys()), 0), VALUE.len());

    let runtime = runtime()?;
    let node = runtime.block_on(Node::builder().name("reader").peer("127.0.0.1:0".parse()?).start())?;
    let bare = BareMap::new();
    for key in &keys {
        node.set(key, VALUE)?;
        bare.insert(key, &VALUE);
    }
    let mut random = StdRng::seed_from_u64(1);
    let lookups = lookups(options.repeat(), &node, &bare, &mut keys, &mut random);
    let rest = Latency::of(&mut timed(&node, &keys, |done| done < TIMED.min(4 * keys.len())));
    let mut joins = Vec::new();
    for n in 0..options.repeat().min(3) {
        joins.push(join(&node, &keys, n)?);
    }
    runtime.block_on(node.shutdown());

    let kept = report(options, &lookups, &rest, &joins)?;
    Ok(kept || options.is_quick())
}

fn key(n: u32) -> Key {
    let mut key = *b"key:000000000000";
    key[4..].copy_from_slice(format!("{n:012}").as_bytes());
    key
}

/// One thread a node: as much as a program would spare for it.
fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(1).enable_all().build()
}

/// Nanoseconds a lookup of two passes in a row.
struct Pair {
    bare: f64,
    get: f64,
}

fn lookups(repeat: u32, node: &Node, bare: &BareMap, keys: &mut [Key], random: &mut StdRng) -> Vec<Pair> {
    let pass = |keys: &[Key], look_up: &dyn Fn(&[Key]) -> u64| {
        let started = Instant::now();
        black_box(look_up(keys));
        started.elapsed().as_secs_f64() * 1e9 / keys.len() as f64
    };
    let bare_pass = |keys: &[Key]| keys.iter().map(|key| u64::from(bare.look_up(key).unwrap_or(0))).sum();
    let get_pass = |keys: &[Key]| {
        let last = |key| node.get(key).and_then(|value| value.last().copied());
        keys.iter().map(|key| u64::from(last(key).unwrap_or(0))).sum()
    };
    let mut pairs = Vec::new();
    for n in 0..=repeat {
        keys.shuffle(random);
        // In turns, so that neither always comes first.
        let (bare, get) = if n % 2 == 0 {
            let bare = pass(keys, &bare_pass);
            (bare, pass(keys, &get_pass))
        } else {
            let get = pass(keys, &get_pass);
            (pass(keys, &bare_pass), get)
        };
        // The first pair warms up.
        if n > 0 {
            pairs.push(Pair { bare, get });
        }
    }
    pairs
}

/// Times reads one by one while `go_on` says so of their number.
fn timed(node: &Node, keys: &[Key], mut go_on: impl FnMut(usize) -> bool) -> Vec<Duration> {
    let mut times = Vec::with_capacity(8 * TIMED);
    let mut keys = keys.iter().cycle();
    while go_on(times.len()) {
        let Some(key) = keys.next() else { break };
        let started = Instant::now();
        black_box(node.get(key).map(|value| value.last().copied()));
        times.push(started.elapsed());
    }
    times
}

/// Reads while an empty node takes everything.
fn join(node: &Node, keys: &[Key], n: u32) -> Result<Join> {
    let joined = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let joining = scope.spawn(|| {
            // Whatever comes of it, the reader ends.
            let outcome = runtime().map_err(Into::into).and_then(|own| take_everything(&own, node, keys, n));
            joined.store(true, Ordering::Relaxed);
            outcome
        });
        let mut times = timed(node, keys, |_| !joined.load(Ordering::Relaxed));
        let took = joining.join().map_err(|_| anyhow::anyhow!("the joining node has panicked"))??;
        Ok(Join { took, reads: Latency::of(&mut times) })
    })
}

fn take_everything(runtime: &Runtime, from: &Node, keys: &[Key], n: u32) -> Result<Duration> {
    let address = from.peer_addr().context("the reader listens for peers")?;
    runtime.block_on(async {
        let started = Instant::now();
        let node = Node::builder().name(format!("joining-{n}")).join([address]).start().await?;
        tokio::time::timeout(JOIN_LIMIT, node.joined()).await.context("the join took too long")??;
        let took = started.elapsed();
        ensure!(node.key_count() == keys.len() as u64, "keys are missing after the join");
        node.shutdown().await;
        Ok(took)
    })
}

struct Join {
    took: Duration,
    reads: Latency,
}

/// Percentiles of reads that were timed one by one, in nanoseconds.
struct Latency {
    reads: usize,
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

impl Latency {
    fn of(times: &mut [Duration]) -> Latency {
        times.sort_unstable();
        let at = |thousandths: usize| {
            let at = (times.len() * thousandths).div_ceil(1000).saturating_sub(1);
            times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e9)
        };
        Latency { reads: times.len(), p50: at(500), p99: at(990), p999: at(999), max: at(1000) }
    }
}

type Percentile = fn(&Latency) -> f64;

/// Shows and writes the figures; returns whether what was asked is kept.
fn report(options: &Options, lookups: &[Pair], rest: &Latency, joins: &[Join]) -> Result<bool> {
    let mut rows =
        vec![["figure", "unit", "median", "min", "max", "runs", "asked"].map(str::to_owned).to_vec()];
    let mut figures = Vec::new();
    let mut add = |name: &str, unit: &str, asked: Option<f64>, mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        let middle = median(&values);
        let (min, max) = (values[0], values[values.len() - 1]);
        let amount = |value: f64| number(value, if value < 10.0 { 2 } else { 0 });
        let mut row = vec![name.to_owned(), unit.to_owned(), amount(middle), amount(min), amount(max)];
        row.push(values.len().to_string());
        row.push(asked.map_or(String::new(), |asked| format!("<= {asked}")));
        rows.push(row);
        figures.push(
            json!({ "figure": name, "unit": unit, "asked": asked, "median": middle, "values": values }),
        );
        middle
    };
    add("bare lookup", "ns", None, lookups.iter().map(|pair| pair.bare).collect());
    add("node.get", "ns", None, lookups.iter().map(|pair| pair.get).collect());
    let ratio = add(
        "node.get / bare lookup",
        "",
        Some(ASKED),
        lookups.iter().map(|pair| pair.get / pair.bare).collect(),
    );
    add(
        "join of an empty node",
        "ms",
        None,
        joins.iter().map(|join| join.took.as_secs_f64() * 1e3).collect(),
    );
    let percentiles: [(&str, Percentile); 4] = [
        ("p50", |latency| latency.p50),
        ("p99", |latency| latency.p99),
        ("p99.9", |latency| latency.p999),
        ("max", |latency| latency.max),
    ];
    for (name, percentile) in percentiles {
        add(&format!("get timed alone, {name}, at rest"), "ns", None, vec![percentile(rest)]);
        let during = joins.iter().map(|join| percentile(&join.reads)).collect();
        add(&format!("get timed alone, {name}, during a join"), "ns", None, during);
    }
    print!("{}", aligned(&rows));
    let timed: Vec<usize> = joins.iter().map(|join| join.reads.reads).collect();
    println!("timed: {} reads at rest, {timed:?} during joins", rest.reads);
    let about = json!({
        "machine": machine::machine(),
        "load_average": machine::load_average(),
        "keys": options.keys(),
        "quick": options.is_quick(),
    });
    options.common.write("embed", &json!({ "about": about, "figures": figures }))?;
    let kept = ratio <= ASKED * NOISE;
    if !kept && !options.is_quick() {
        println!("MISSED: node.get is to cost at most {ASKED} times a bare lookup");
    }
    Ok(kept)
}
