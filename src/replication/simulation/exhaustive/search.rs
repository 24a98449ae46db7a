//! Searches all histories of a scenario breadth first: visits each state once, and finds a shortest history
//! that fails.

use std::collections::HashSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tracing_mutex::parkinglot::Mutex;

use super::action::{Action, Scenario};
use super::cluster::Cluster;
use crate::ablation::{Ablation, ablate};

/// The number of sets that the fingerprints are spread over, so that threads seldom wait for each other.
const SHARDS: usize = 64;

/// The number of states that a thread takes at one time.
const CHUNK: usize = 32;

/// The result of a search.
#[derive(Debug)]
pub(super) struct Report {
    name: &'static str,
    /// The number of different states that a step led to.
    pub(super) states: u64,
    /// The number of histories that were run, from their beginning.
    pub(super) executions: u64,
    /// The number of times that all faults were ended to check the end.
    pub(super) ends: u64,
    pub(super) undone: u64,
    /// The number of new states after each number of steps.
    pub(super) levels: Vec<usize>,
    pub(super) took: Duration,
    /// Whether the time was too short for all histories of the scenario's length.
    pub(super) is_cut_short: bool,
    /// Whether no step from any state leads to a new one: the histories are then all of any length.
    pub(super) is_complete: bool,
    pub(super) failure: Option<Failure>,
}

/// A shortest history that fails.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) what: String,
    pub(super) history: Vec<Action>,
    /// Each step, with what every node held after it.
    trace: Vec<String>,
}

/// A state, given by its predecessor and the step that led to it.
#[derive(Clone, Copy)]
struct Reached {
    parent: u32,
    action: Action,
}

struct Search<'s> {
    scenario: &'s Scenario,
    rule: Option<Ablation>,
    merge: bool,
    seen: Vec<Mutex<HashSet<u64>>>,
    executions: AtomicU64,
    ends: AtomicU64,
    undone: AtomicU64,
    stop: AtomicBool,
    /// `None` for never.
    deadline: Option<Instant>,
}

/// How a scenario is explored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// The rule of the core that is left out.
    pub(super) rule: Option<Ablation>,
    pub(super) threads: usize,
    /// The time after which no new state is expanded.
    pub(super) time: Duration,
    /// Whether histories that lead to equal states continue as one.
    pub(super) merge: bool,
}

/// Explores a scenario.
pub(super) fn explore(scenario: &Scenario, options: Options) -> Report {
    let began = Instant::now();
    let Options { rule, threads, time, merge } = options;
    let search = Search {
        scenario,
        rule,
        merge,
        seen: (0..SHARDS).map(|_| Mutex::default()).collect(),
        executions: AtomicU64::new(0),
        ends: AtomicU64::new(0),
        undone: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        deadline: began.checked_add(time),
    };
    let root = Reached { parent: 0, action: Action::Pass };
    let (mut reached, mut levels) = (vec![root], vec![1]);
    let mut failure = None;
    let mut first = 0;
    for _ in 0..scenario.depth {
        let frontier = first..reached.len();
        if frontier.is_empty() {
            break;
        }
        let (found, failed) = search.level(&reached, frontier.clone(), threads);
        failure = failed;
        first = frontier.end;
        levels.push(found.len());
        reached.extend(found);
        if search.stop.load(Ordering::Relaxed) {
            break;
        }
    }
    let is_complete = failure.is_none() && levels.last() == Some(&0);
    let is_cut_short = failure.is_none() && search.stop.load(Ordering::Relaxed);
    let failure = failure.map(|(history, what)| {
        // On a thread of its own, because a rule is left out per thread.
        let trace = std::thread::scope(|scope| {
            let traced = scope.spawn(|| {
                ablate(rule);
                trace(scenario, &history)
            });
            traced.join().unwrap_or_default()
        });
        Failure { what, history, trace }
    });
    Report {
        name: scenario.name,
        states: search.seen.iter().map(|shard| shard.lock().len() as u64).sum(),
        executions: search.executions.into_inner(),
        ends: search.ends.into_inner(),
        undone: search.undone.into_inner(),
        levels,
        took: began.elapsed(),
        is_cut_short,
        is_complete,
        failure,
    }
}

impl Search<'_> {
    /// Takes every possible step from every state of the frontier. Returns the new states, and a history that
    /// failed.
    fn level(
        &self,
        reached: &[Reached],
        frontier: std::ops::Range<usize>,
        threads: usize,
    ) -> (Vec<Reached>, Option<(Vec<Action>, String)>) {
        let next = AtomicUsize::new(frontier.start);
        let work = || {
            ablate(self.rule);
            let mut found = Vec::new();
            while !self.stop.load(Ordering::Relaxed) {
                let from = next.fetch_add(CHUNK, Ordering::Relaxed);
                if from >= frontier.end {
                    break;
                }
                for state in from..frontier.end.min(from + CHUNK) {
                    if let Err(failed) = self.expand(reached, state, &mut found) {
                        self.stop.store(true, Ordering::Relaxed);
                        return (found, Some(failed));
                    }
                }
                if self.deadline.is_some_and(|deadline| Instant::now() > deadline) {
                    self.stop.store(true, Ordering::Relaxed);
                }
            }
            (found, None)
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let outcomes =
                workers.into_iter().map(|worker| worker.join().expect("panics of a history are caught"));
            outcomes.fold((Vec::new(), None), |(mut all, failure), (found, failed)| {
                all.extend(found);
                (all, failure.or(failed))
            })
        })
    }

    /// Runs the history of a state once for each step that may follow.
    fn expand(
        &self,
        reached: &[Reached],
        state: usize,
        found: &mut Vec<Reached>,
    ) -> Result<(), (Vec<Action>, String)> {
        let mut history = history_of(reached, state);
        let mut cluster = Some(run(self.scenario, &history));
        let actions = cluster.as_ref().map(Cluster::actions).unwrap_or_default();
        for action in actions {
            let before = cluster.take();
            history.push(action);
            self.executions.fetch_add(1, Ordering::Relaxed);
            let step = catch_unwind(AssertUnwindSafe(|| {
                let mut cluster = before.unwrap_or_else(|| run(self.scenario, &history[..history.len() - 1]));
                let done = cluster.apply(action) && cluster.checker.violation.is_none();
                let is_new = done && self.is_new(cluster.fingerprint());
                if is_new {
                    cluster.quiesce();
                    self.ends.fetch_add(1, Ordering::Relaxed);
                    self.undone.fetch_add(cluster.checker.undone, Ordering::Relaxed);
                }
                (is_new || done && !self.merge, cluster.checker.violation)
            }));
            match step {
                Ok((_, Some(what))) => return Err((history, what)),
                Ok((true, None)) => {
                    let parent = u32::try_from(state).expect("fewer states fit memory");
                    found.push(Reached { parent, action });
                }
                Ok((false, None)) => {}
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().cloned();
                    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
                    return Err((history, format!("a panic: {}", text.unwrap_or_default())));
                }
            }
            history.pop();
        }
        Ok(())
    }

    fn is_new(&self, fingerprint: u64) -> bool {
        let shard = usize::try_from(fingerprint % SHARDS as u64).unwrap_or(0);
        self.seen[shard].lock().insert(fingerprint)
    }
}

/// Returns the steps that led to a state.
fn history_of(reached: &[Reached], mut state: usize) -> Vec<Action> {
    let mut history = Vec::new();
    while state != 0 {
        history.push(reached[state].action);
        state = reached[state].parent as usize;
    }
    history.reverse();
    history
}

fn run<'s>(scenario: &'s Scenario, history: &[Action]) -> Cluster<'s> {
    let mut cluster = Cluster::new(scenario);
    for &action in history {
        cluster.apply(action);
    }
    cluster
}

/// Describes a history step by step, with what every node held.
fn trace(scenario: &Scenario, history: &[Action]) -> Vec<String> {
    let mut cluster = Cluster::new(scenario);
    let mut lines = vec![format!("{:>3}  {:<44} {}", 0, "", cluster.picture())];
    for (step, &action) in history.iter().enumerate() {
        let done = catch_unwind(AssertUnwindSafe(|| cluster.apply(action))).is_ok();
        let picture = if done { cluster.picture() } else { "panics".into() };
        lines.push(format!("{:>3}  {:<44} {picture}", step + 1, action.to_string()));
    }
    if cluster.checker.violation.is_none() && catch_unwind(AssertUnwindSafe(|| cluster.quiesce())).is_ok() {
        lines.push(format!("{:>3}  {:<44} {}", "", "all faults end, all sync and purge", cluster.picture()));
    }
    lines
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { name, states, executions, ends, undone, .. } = self;
        let seconds = self.took.as_secs_f64().max(1e-9);
        let rate = |n: u64| n as f64 / seconds;
        writeln!(
            f,
            "{name}: {states} states to depth {}{}, {executions} histories and {ends} ends in {seconds:.1} s ({:.0} \
             histories/s, {:.0} states/s), {undone} deletes undone",
            self.levels.len() - 1,
            match (self.is_cut_short, self.is_complete) {
                (true, _) => " (out of time)",
                (_, true) => " (complete: no step leads to another state)",
                _ => "",
            },
            rate(*executions),
            rate(*states),
        )?;
        write!(f, "  new states by depth: {:?}", self.levels)?;
        self.failure.iter().try_for_each(|failure| write!(f, "\n{failure}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  a shortest history that fails has {} steps:", self.history.len())?;
        self.trace.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        write!(f, "  => {}", self.what)
    }
}
