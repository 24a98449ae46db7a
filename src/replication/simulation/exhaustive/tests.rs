//! Goal: no interleaving of a few writes and faults, however unlikely, breaks what the checker checks; and
//! leaving out a rule of the core does.
//!
//! | Variable | |
//! |---|---|
//! | `SAPWOOD_EXPLORE_SCENARIO` | only the scenarios with this in their names |
//! | `SAPWOOD_EXPLORE_DEPTH` | histories of this many steps |
//! | `SAPWOOD_EXPLORE_SECONDS` | at most so long for each scenario; without limit if not set |
//! | `SAPWOOD_EXPLORE_RULE` | leave out this rule, named as in `Ablation` |
//! | `SAPWOOD_EXPLORE_STRICT` | excuse nothing, whatever the documentation allows |

use std::time::Duration;

use super::action::ClientWrite::{Del, Expire, Incr, Persist, Set, SetFor};
use super::action::{Action, Grain, Limits, Scenario};
use super::search::{Options, Report, explore};
use crate::ablation::Ablation;

const DELETES: Scenario = Scenario {
    name: "deletes",
    nodes: 2,
    never_linked: &[],
    grain: Grain::Whole,
    writes: &[Set(0), Del(0)],
    writers: &[],
    before: &[],
    limits: Limits { writes: 3, cuts: 1, losses: 1, passes: 2, ..Limits::NONE },
    depth: 5,
    may_undo: false,
    may_give_up: false,
    met: true,
    ahead: &[],
    max_memory: None,
};

/// Writes while the frames of a sync are under way.
const FRAMES: Scenario = Scenario {
    name: "frames of a sync",
    grain: Grain::Syncs,
    writes: &[Set(0), Set(1), Del(0)],
    limits: Limits { writes: 2, cuts: 1, passes: 1, ..Limits::NONE },
    depth: 5,
    ..DELETES
};

/// Every heartbeat and tick is a step of its own.
const HEARTBEATS: Scenario = Scenario {
    name: "heartbeats and ticks",
    grain: Grain::Frames,
    limits: Limits { writes: 2, passes: 1, ..Limits::NONE },
    depth: 6,
    ..DELETES
};

const DEADLINES: Scenario = Scenario {
    name: "deadlines",
    writes: &[Set(0), SetFor(0), Expire(0), Persist(0)],
    limits: Limits { writes: 3, cuts: 1, passes: 2, ..Limits::NONE },
    depth: 4,
    ..DELETES
};

const COUNTERS: Scenario = Scenario {
    name: "counters",
    writes: &[Incr(0), Set(0), Del(0)],
    limits: Limits { writes: 3, cuts: 1, passes: 2, ..Limits::NONE },
    depth: 5,
    ..DELETES
};

const COUNTERS_WITH_DEADLINES: Scenario = Scenario {
    name: "counters that expire",
    writes: &[Incr(0), Expire(0), Del(0)],
    limits: Limits { writes: 3, cuts: 1, passes: 2, ..Limits::NONE },
    depth: 5,
    ..DELETES
};

const RESTARTS: Scenario = Scenario {
    name: "restarts",
    limits: Limits { writes: 3, restarts: 1, passes: 1, ..Limits::NONE },
    depth: 6,
    may_undo: true,
    ..DELETES
};

const THREE: Scenario = Scenario {
    name: "three nodes",
    nodes: 3,
    before: &[
        Action::Write { node: 0, write: Set(0) },
        Action::Sync { node: 0, peer: 1 },
        Action::Sync { node: 0, peer: 2 },
    ],
    limits: Limits { writes: 2, cuts: 2, passes: 1, ..Limits::NONE },
    depth: 3,
    ..DELETES
};

/// The outer two nodes know each other only through the middle one.
const LINE: Scenario = Scenario {
    name: "a line of three",
    nodes: 3,
    never_linked: &[(0, 2)],
    limits: Limits { writes: 2, cuts: 1, passes: 2, ..Limits::NONE },
    depth: 4,
    ..DELETES
};

const THREE_RESTARTS: Scenario = Scenario {
    name: "three nodes, restarts",
    nodes: 3,
    limits: Limits { writes: 2, cuts: 1, restarts: 1, passes: 1, ..Limits::NONE },
    depth: 4,
    may_undo: true,
    ..DELETES
};

/// The syncs of one node with two others at one time.
const THREE_FRAMES: Scenario = Scenario {
    name: "frames of syncs of three",
    nodes: 3,
    grain: Grain::Syncs,
    limits: Limits { writes: 2, cuts: 1, ..Limits::NONE },
    depth: 4,
    ..DELETES
};

/// What the documentation still guarantees if members are declared away.
const AWAY: Scenario = Scenario {
    name: "away",
    before: &[Action::Write { node: 0, write: Set(0) }, Action::Sync { node: 0, peer: 1 }],
    limits: Limits { writes: 2, cuts: 1, lapses: 2, passes: 2, ..Limits::NONE },
    depth: 5,
    may_undo: true,
    ..DELETES
};

/// A node that is away holds a key that both had.
const STALE: Scenario = Scenario {
    name: "away with a key",
    before: &[
        Action::Write { node: 0, write: Set(0) },
        Action::Sync { node: 0, peer: 1 },
        Action::Cut { a: 0, b: 1 },
    ],
    limits: Limits { writes: 2, lapses: 2, passes: 2, ..Limits::NONE },
    depth: 6,
    ..AWAY
};

/// The same, but the other node has received the key by a push alone.
const PUSHED: Scenario = Scenario {
    name: "away with a key that was pushed",
    before: &[
        Action::Write { node: 0, write: Set(0) },
        Action::Deliver { from: 0, to: 1 },
        Action::Cut { a: 0, b: 1 },
    ],
    depth: 6,
    ..STALE
};

/// The third node holds a key while it is away.
const THREE_AWAY: Scenario = Scenario {
    name: "three nodes, away",
    nodes: 3,
    before: &[
        Action::Write { node: 0, write: Set(0) },
        Action::Sync { node: 0, peer: 1 },
        Action::Sync { node: 0, peer: 2 },
        Action::Cut { a: 0, b: 2 },
        Action::Cut { a: 1, b: 2 },
    ],
    limits: Limits { writes: 2, lapses: 2, passes: 2, ..Limits::NONE },
    depth: 4,
    ..AWAY
};

const FIRST_CONTACT: Scenario = Scenario {
    name: "first contact",
    limits: Limits { writes: 3, cuts: 1, passes: 2, ..Limits::NONE },
    depth: 6,
    may_undo: true,
    met: false,
    ..DELETES
};

/// Longer than any history of a scenario whose few faults and writes let the search reach all states.
const TO_THE_END: usize = 100;

/// All histories, of any length.
const ALL_OF_TWO: Scenario = Scenario {
    name: "all of two nodes",
    limits: Limits { writes: 2, passes: 1, ..Limits::NONE },
    depth: TO_THE_END,
    ..DELETES
};

const ALL_OF_A_RESTART: Scenario = Scenario {
    name: "all of a restart",
    limits: Limits { writes: 1, restarts: 1, passes: 1, ..Limits::NONE },
    depth: TO_THE_END,
    ..RESTARTS
};

const ALL_OF_AN_ABSENCE: Scenario = Scenario {
    name: "all of an absence",
    limits: Limits { writes: 1, lapses: 1, passes: 2, ..Limits::NONE },
    depth: TO_THE_END,
    ..STALE
};

const ALL_OF_TWO_COUNTING: Scenario = Scenario {
    name: "all of two nodes that count",
    writes: &[Incr(0), Del(0)],
    limits: Limits { writes: 2, passes: 1, ..Limits::NONE },
    depth: TO_THE_END,
    ..DELETES
};

const ALL_OF_THREE: Scenario = Scenario {
    name: "all of three nodes",
    nodes: 3,
    never_linked: &[(0, 2)],
    writers: &[0],
    limits: Limits { writes: 1, ..Limits::NONE },
    depth: TO_THE_END,
    ..THREE_LINE_WITH_A_KEY
};

const THREE_LINE_WITH_A_KEY: Scenario = Scenario {
    before: &[
        Action::Write { node: 0, write: Set(0) },
        Action::Sync { node: 0, peer: 1 },
        Action::Sync { node: 1, peer: 2 },
    ],
    ..DELETES
};

const ALL_OF_FOUR: Scenario = Scenario {
    name: "all of four nodes",
    nodes: 4,
    never_linked: &[(0, 2), (0, 3), (1, 3)],
    writes: &[Set(0)],
    writers: &[0],
    limits: Limits { writes: 1, ..Limits::NONE },
    depth: TO_THE_END,
    ..DELETES
};

/// A counter with two deadlines after each other.
const SUCCESSORS: Scenario = Scenario {
    name: "deadlines that follow each other",
    writes: &[Incr(0), Expire(0)],
    before: &[Action::Write { node: 0, write: Incr(0) }, Action::Sync { node: 0, peer: 1 }],
    limits: Limits { writes: 3, passes: 1, ..Limits::NONE },
    depth: 5,
    ..DELETES
};

/// Two nodes have a stable time; a third, with a key of its own, meets them.
const NEWCOMER: Scenario = Scenario {
    name: "a newcomer",
    nodes: 3,
    met: false,
    before: &[
        Action::Link { a: 0, b: 1 },
        Action::Sync { node: 0, peer: 1 },
        Action::Write { node: 2, write: Set(0) },
        Action::Pass,
        Action::Upkeep,
        Action::Sync { node: 0, peer: 1 },
        Action::Upkeep,
        Action::Upkeep,
    ],
    limits: Limits { writes: 2, passes: 1, ..Limits::NONE },
    depth: 5,
    may_undo: true,
    ..DELETES
};

/// A node that is away has pushed a key to one of the others, which deletes it.
const SEEN_BY_ONE: Scenario = Scenario {
    name: "away, and seen by one",
    nodes: 3,
    writes: &[Del(0)],
    writers: &[1],
    before: &[
        Action::Write { node: 2, write: Set(0) },
        Action::Deliver { from: 2, to: 1 },
        Action::Cut { a: 0, b: 2 },
        Action::Cut { a: 1, b: 2 },
        Action::Write { node: 1, write: Del(0) },
        Action::Pass,
        Action::Lapse { node: 0 },
        Action::Lapse { node: 1 },
        Action::Deliver { from: 1, to: 0 },
        Action::Upkeep,
        Action::Pass,
    ],
    limits: Limits { restarts: 1, passes: 1, ..Limits::NONE },
    depth: 6,
    may_undo: true,
    ..DELETES
};

/// A node has restarted. Of two keys that its earlier process had pushed, one member had received the second alone. The
/// other had received both, and has given them to the restarted node before it is declared away.
const HANDED_ON: Scenario = Scenario {
    name: "handed on by one that is away",
    nodes: 3,
    writes: &[Set(0), Set(1)],
    before: &[
        Action::Write { node: 1, write: Set(0) },
        Action::Deliver { from: 1, to: 2 },
        Action::Lose { from: 1, to: 0 },
        Action::Write { node: 1, write: Set(1) },
        Action::Deliver { from: 1, to: 2 },
        Action::Deliver { from: 1, to: 0 },
        Action::Deliver { from: 1, to: 0 },
        Action::Cut { a: 0, b: 1 },
        Action::Cut { a: 1, b: 2 },
        Action::Restart { node: 1 },
        Action::Upkeep,
        Action::Link { a: 0, b: 1 },
        Action::Sync { node: 0, peer: 1 },
        Action::Upkeep,
        Action::Pass,
        Action::Upkeep,
        Action::Upkeep,
        Action::Cut { a: 0, b: 2 },
        Action::Pass,
        Action::Sync { node: 0, peer: 1 },
        Action::Link { a: 1, b: 2 },
        Action::Sync { node: 1, peer: 2 },
        Action::Cut { a: 1, b: 2 },
        Action::Pass,
    ],
    limits: Limits { lapses: 2, passes: 1, ..Limits::NONE },
    depth: 5,
    may_undo: true,
    ..DELETES
};

/// The second node's clock is ahead, by less than `--max-clock-skew`.
const SKEWED: Scenario = Scenario { name: "clocks that differ", ahead: &[0, 400], ..DELETES };

const SKEWED_DEADLINES: Scenario =
    Scenario { name: "deadlines by clocks that differ", ahead: &[0, 400], ..DEADLINES };

/// Each node has room for one of the two keys.
const FULL: Scenario = Scenario {
    name: "nodes that are full",
    writes: &[Set(0), Set(1), Del(0), Del(1)],
    max_memory: Some(60),
    limits: Limits { writes: 3, cuts: 1, passes: 1, ..Limits::NONE },
    depth: 4,
    ..DELETES
};

const FULL_FRAMES: Scenario = Scenario {
    name: "frames of a sync of nodes that are full",
    grain: Grain::Syncs,
    limits: Limits { writes: 3, passes: 1, ..Limits::NONE },
    ..FULL
};

const ALL: [&Scenario; 30] = [
    &DELETES,
    &FRAMES,
    &HEARTBEATS,
    &DEADLINES,
    &COUNTERS,
    &COUNTERS_WITH_DEADLINES,
    &RESTARTS,
    &THREE,
    &LINE,
    &THREE_RESTARTS,
    &THREE_FRAMES,
    &AWAY,
    &STALE,
    &PUSHED,
    &THREE_AWAY,
    &FIRST_CONTACT,
    &SUCCESSORS,
    &NEWCOMER,
    &SEEN_BY_ONE,
    &HANDED_ON,
    &SKEWED,
    &SKEWED_DEADLINES,
    &FULL,
    &FULL_FRAMES,
    &ALL_OF_TWO,
    &ALL_OF_A_RESTART,
    &ALL_OF_AN_ABSENCE,
    &ALL_OF_TWO_COUNTING,
    &ALL_OF_THREE,
    &ALL_OF_FOUR,
];

/// The rules that `SAPWOOD_EXPLORE_RULE` can name.
const RULES: [Ablation; 18] = [
    Ablation::Admission,
    Ablation::Close,
    Ablation::WaitAway,
    Ablation::EarlyPurge,
    Ablation::Regroup,
    Ablation::SeenExchanged,
    Ablation::PurgeByTime,
    Ablation::SyncsAloneRaise,
    Ablation::Cutoff,
    Ablation::EndedBySuccessor,
    Ablation::Sums,
    Ablation::DigestTombstones,
    Ablation::ObserveReceived,
    Ablation::ExchangeInFull,
    Ablation::LapseOnlySilent,
    Ablation::ExchangeAfterRegroup,
    Ablation::ExchangeAfterLeave,
    Ablation::FailRefused,
];

/// In `cargo test`: one thread and no time limit, so that every machine explores the same histories.
const QUICK: Options = Options { rule: None, threads: 1, time: Duration::MAX, merge: true };

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(format!("SAPWOOD_EXPLORE_{name}")).ok()?;
    Some(text.parse().ok().unwrap_or_else(|| panic!("SAPWOOD_EXPLORE_{name} is {text}")))
}

fn to_depth(scenario: &Scenario, depth: usize) -> Scenario {
    Scenario { depth, ..*scenario }
}

fn must_hold(scenario: &Scenario, options: Options) -> Report {
    let report = explore(scenario, options);
    println!("{report}");
    assert!(report.failure.is_none(), "{report}");
    report
}

#[test]
fn every_interleaving_of_two_nodes_with_a_cut_and_deletes_converges() {
    must_hold(&to_depth(&DELETES, 4), QUICK);
}

#[test]
fn every_interleaving_of_writes_with_the_frames_of_a_sync_converges() {
    must_hold(&to_depth(&FRAMES, 4), QUICK);
}

#[test]
fn every_interleaving_of_two_nodes_with_deadlines_converges() {
    must_hold(&to_depth(&DEADLINES, 3), QUICK);
}

#[test]
fn every_interleaving_of_two_nodes_that_count_converges() {
    must_hold(&to_depth(&COUNTERS, 3), QUICK);
}

#[test]
fn every_interleaving_of_two_nodes_that_restart_converges() {
    must_hold(&to_depth(&RESTARTS, 4), QUICK);
}

#[test]
fn every_interleaving_of_two_nodes_with_other_clocks_converges() {
    must_hold(&to_depth(&SKEWED, 3), QUICK);
}

#[test]
fn every_interleaving_of_two_full_nodes_converges_once_clients_delete() {
    must_hold(&to_depth(&FULL, 3), QUICK);
}

/// If a fingerprint omitted something that matters, a search that treats no states as equal would find other
/// states.
#[test]
fn states_that_are_taken_for_equal_have_the_same_future() {
    for (scenario, depth) in
        [(&DELETES, 3), (&FRAMES, 3), (&DEADLINES, 2), (&COUNTERS, 2), (&RESTARTS, 3), (&LINE, 2)]
    {
        let depth = variable("DEPTH").unwrap_or(depth);
        let merged = must_hold(&to_depth(scenario, depth), QUICK);
        let apart = must_hold(&to_depth(scenario, depth), Options { merge: false, ..QUICK });
        assert_eq!(merged.states, apart.states);
        assert!(merged.executions < apart.executions);
    }
}

#[test]
#[ignore = "takes minutes in debug: .ci/run runs it in release"]
fn every_interleaving_of_every_scenario_holds() {
    let wanted: Option<String> = variable("SCENARIO");
    let rule: Option<String> = variable("RULE");
    let rule = rule.map(|name| {
        let found = RULES.into_iter().find(|rule| format!("{rule:?}") == name);
        found.unwrap_or_else(|| panic!("no rule {name}: {RULES:?}"))
    });
    let time = variable("SECONDS").map_or(Duration::MAX, Duration::from_secs);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let mut failed = Vec::new();
    for scenario in
        ALL.into_iter().filter(|one| wanted.as_ref().is_none_or(|name| one.name.contains(name.as_str())))
    {
        let mut scenario = to_depth(scenario, variable("DEPTH").unwrap_or(scenario.depth));
        if variable::<String>("STRICT").is_some() {
            (scenario.may_undo, scenario.may_give_up) = (false, false);
        }
        let report = explore(&scenario, Options { rule, threads, time, merge: true });
        println!("{report}");
        failed.extend(report.failure.map(|failure| format!("{}: {}", scenario.name, failure.what)));
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Leaves out a rule and expects to find a history that fails.
fn must_be_found(rule: Ablation, scenario: &Scenario, depth: usize) {
    let report = explore(&to_depth(scenario, depth), Options { rule: Some(rule), ..QUICK });
    println!("{report}");
    assert!(report.failure.is_some(), "{rule:?}: every history to depth {depth} holds without it");
}

macro_rules! found {
    ($($test:ident: $rule:ident in $scenario:ident to $depth:literal,)*) => {
        $(#[test]
        fn $test() {
            must_be_found(Ablation::$rule, &$scenario, $depth);
        })*
    };
}

found! {
    a_replaced_deadline_that_spares_what_it_ended_fails_a_history: EndedBySuccessor in SUCCESSORS to 3,
    what_one_member_alone_has_seen_of_one_away_fails_a_history: SeenExchanged in SEEN_BY_ONE to 3,
    what_one_that_left_has_handed_on_to_one_member_fails_a_history: ExchangeAfterLeave in HANDED_ON to 2,
    one_away_that_is_never_closed_fails_a_history: Close in SEEN_BY_ONE to 2,
    a_stable_time_that_does_not_wait_for_those_away_fails_a_history: WaitAway in PUSHED to 4,
    a_digest_without_tombstones_fails_a_history: DigestTombstones in DELETES to 2,
    a_stable_time_that_follows_the_clock_fails_a_history: PurgeByTime in PUSHED to 3,
    an_exchange_cut_short_fails_a_history: ExchangeInFull in DELETES to 3,
    a_push_taken_for_proof_fails_a_history: SyncsAloneRaise in DELETES to 4,
    a_deleted_key_that_returns_without_admission_fails_a_history: Admission in STALE to 4,
    a_clock_that_ignores_what_is_received_fails_a_history: ObserveReceived in FRAMES to 4,
    a_sync_that_counts_what_was_refused_fails_a_history: FailRefused in FULL to 3,
}
