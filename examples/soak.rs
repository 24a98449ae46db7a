//! Runs histories of simulated clusters, one seed after the other, until one fails or all have held.
//!
//! ```text
//! cargo run --release --features simulation --example soak -- --histories 20000 --seed 1
//! ```

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use sapwood::internal::simulation::{self, Outcome};

/// How often progress is printed.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Runs histories of simulated clusters and checks what must hold
#[derive(Parser)]
struct Args {
    /// How many histories
    #[arg(long, default_value_t = 20_000)]
    histories: u64,
    /// The first one's seed; the others follow it
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Go on after a failure, and list every seed that fails
    #[arg(long)]
    all: bool,
    /// Histories with more: moved nodes, other join lists, damaged frames, stops before a contact, WAIT, limits of memory
    #[arg(long)]
    harsh: bool,
    /// Harsh histories in which operators also make nodes discard everything and rejoin
    #[arg(long)]
    rejoin: bool,
    /// How many threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

#[derive(Default)]
struct Totals {
    histories: u64,
    failed: u64,
    syncs: u64,
    retractions: u64,
    lost: u64,
    lapsed: u64,
    refused: u64,
    withheld: u64,
    waits: u64,
    fulfilled: u64,
    slowest: Duration,
    slowest_equal: Duration,
}

impl Totals {
    fn add(&mut self, outcome: &Outcome) {
        self.histories += 1;
        self.syncs += outcome.syncs;
        self.retractions += outcome.retractions;
        self.lost += outcome.lost;
        self.lapsed += u64::from(outcome.lapsed);
        self.refused += outcome.refused;
        self.withheld += outcome.withheld;
        self.waits += outcome.waits;
        self.fulfilled += outcome.fulfilled;
        self.slowest = self.slowest.max(outcome.converged_after);
        self.slowest_equal = self.slowest_equal.max(outcome.equal_after);
    }

    fn print(&self, began: Instant) {
        let Totals { histories, failed, syncs, retractions, lost, lapsed, slowest, .. } = self;
        let rate = *histories as f64 / began.elapsed().as_secs_f64();
        println!(
            "{histories} histories held ({rate:.1}/s), {failed} failed: {syncs} syncs, {retractions} retractions, {lost} given up, {lapsed} with \
             lapses, converged after {slowest:?} at most"
        );
        let Totals { refused, withheld, waits, fulfilled, slowest_equal, .. } = self;
        if *waits > 0 {
            println!(
                "  {waits} WAITs, {fulfilled} of them fulfilled; memory: {refused} writes refused, {withheld} times cells of peers, \
                 equal {slowest_equal:?} after the last delete at most"
            );
        }
    }
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    if args.rejoin {
        args.seed += simulation::REJOIN_FROM;
    } else if args.harsh {
        args.seed += simulation::HARSH_FROM;
    }
    let began = Instant::now();
    println!("seeds {} to {}", args.seed, args.seed + args.histories.saturating_sub(1));
    let next = AtomicU64::new(0);
    let (sender, results) = std::sync::mpsc::channel();
    let mut totals = Totals::default();
    let mut printed = began;
    std::thread::scope(|scope| {
        for _ in 0..args.threads.max(1) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= args.histories || sender.send(simulation::run(args.seed + n)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for result in results {
            match result {
                Ok(outcome) => totals.add(&outcome),
                Err(failure) if args.all => {
                    totals.failed += 1;
                    println!("seed {}, at {:.3} s: {}", failure.seed, failure.at.as_secs_f64(), failure.what);
                }
                Err(failure) => {
                    println!("{failure}");
                    println!("rerun: soak --histories 1 --seed {}", failure.seed);
                    std::process::exit(1);
                }
            }
            if printed.elapsed() >= PROGRESS_EVERY {
                printed = Instant::now();
                totals.print(began);
            }
        }
    });
    totals.print(began);
    if totals.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
