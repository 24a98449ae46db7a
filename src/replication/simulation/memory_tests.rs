//! Goal: nodes that were full while they were apart become equal, purge their tombstones and accept writes
//! again, once clients have deleted enough that the rest fits; for all sizes of values and orders of arrival.
//!
//! Each node has keys of its own, and fills up while it is cut off from all others. Then the cuts end, and
//! clients delete.

use rand::Rng as _;
use rand::seq::SliceRandom as _;

use super::topology::Shape;
use super::*;
use crate::store::Write;

/// How long equal nodes may take to purge what all of them have deleted.
const PURGE_LIMIT: Duration = Duration::from_secs(60);

/// How long nodes may take to become equal once what all of them hold together fits.
const EQUAL_LIMIT: Duration = Duration::from_secs(10);

/// The bytes of a key of these tests and its place in the map.
const KEY_MEMORY: u64 = 60;

/// The parameters of one test.
#[derive(Debug)]
struct Case {
    nodes: usize,
    shape: Shape,
    max_memory: u64,
    /// The largest value in bytes.
    largest: usize,
    /// The part of `max_memory` that the keys take that are not deleted; at most 1.
    kept: f64,
}

impl Case {
    fn draw(rng: &mut StdRng) -> Case {
        Case {
            nodes: rng.random_range(2..=4),
            shape: if rng.random_bool(0.7) { Shape::Mesh } else { Shape::Line },
            max_memory: rng.random_range(3_000..12_000),
            largest: [0, 1, 20, 100, 600][rng.random_range(0..5)],
            kept: if rng.random_bool(0.4) { 0.0 } else { rng.random_range(0.0..1.0) },
        }
    }
}

fn cut_all(world: &mut World) {
    for (from, to) in pairs(world.plan.nodes) {
        world.cut(from, to);
    }
}

fn mend_all(world: &mut World) {
    for (from, to) in pairs(world.plan.nodes) {
        world.mend(from, to);
    }
}

fn pairs(nodes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..nodes).flat_map(move |from| (0..nodes).filter(move |&to| to != from).map(move |to| (from, to)))
}

fn store(world: &World, node: usize) -> &crate::store::Store {
    &world.nodes[node].process.as_ref().expect("no node of these tests ends").replica.local.store
}

fn holds(world: &World, node: usize, key: usize) -> bool {
    let cell = store(world, node).cell(world.checker.key(key));
    cell.is_some_and(|cell| cell.value().is_some())
}

fn all_equal(world: &World) -> bool {
    let first = store(world, 0).totals();
    (1..world.plan.nodes).all(|node| {
        let totals = store(world, node).totals();
        (totals.live, totals.live_cells) == (first.live, first.live_cells)
    })
}

/// Lets time pass until a condition holds. Returns how long, or `None` if it does not hold within the limit.
fn run_until(world: &mut World, limit: Duration, condition: impl Fn(&World) -> bool) -> Option<Duration> {
    let began = world.now;
    while !condition(world) {
        if world.now > began + limit || world.checker.violation.is_some() {
            return None;
        }
        world.run_until(world.now + SECOND);
    }
    Some(world.now - began)
}

fn run_case(case: &Case, rng: &mut StdRng) -> Result<(), String> {
    let nodes = case.nodes;
    let mut plan = Plan::plain(nodes, case.shape, rng);
    // Enough to fill every node, and one more for each to try at the end.
    let least = KEY_MEMORY + case.largest as u64 / 2;
    let each = usize::try_from(case.max_memory / least).expect("it is small") * 2 + 20;
    plan.keys = nodes * each + nodes;
    plan.max_memory = Some(case.max_memory);
    let mut world = World::quiet(plan);
    world.run_until(10 * SECOND);

    cut_all(&mut world);
    world.run_until(world.now + 10 * SECOND);
    for node in 0..nodes {
        for key in node * each..(node + 1) * each {
            let value = vec![0; rng.random_range(0..=case.largest)];
            world.write(node, key, Write::Set { value: &value, deadline: None });
        }
        if store(&world, node).memory() < case.max_memory / 2 {
            return Err(format!("n{node} is not full"));
        }
    }
    mend_all(&mut world);
    let pause = Duration::from_secs(rng.random_range(0..20));
    world.run_until(world.now + pause);

    // Clients delete key by key until the rest fits, each at a node that holds it.
    let mut keys: Vec<_> = (0..nodes * each).collect();
    keys.shuffle(rng);
    let budget = case.kept * case.max_memory as f64;
    let mut kept = 0.0;
    for key in keys {
        let mut held = (0..nodes).filter(|&node| holds(&world, node, key)).collect::<Vec<_>>();
        let Some(&one) = held.first() else { continue };
        let size = store(&world, one)
            .cell(world.checker.key(key))
            .expect("it is held")
            .value()
            .map_or(0, <[u8]>::len);
        let size = (size as u64 + KEY_MEMORY) as f64;
        if kept + size <= budget {
            kept += size;
            continue;
        }
        held.shuffle(rng);
        world.write(held[0], key, Write::Delete);
        if rng.random_bool(0.1) {
            let pause = world.millis(0..300);
            world.run_until(world.now + pause);
        }
    }
    run_until(&mut world, EQUAL_LIMIT, all_equal).ok_or("not equal although all of it fits")?;
    run_until(&mut world, PURGE_LIMIT, |world| world.unconverged().is_none())
        .ok_or_else(|| format!("{:?}, {:?}", world.unconverged(), world.checker.violation))?;

    if case.kept < 0.9 {
        for node in 0..nodes {
            let key = nodes * each + node;
            world.write(node, key, Write::Set { value: b"", deadline: None });
            if !holds(&world, node, key) {
                return Err(format!("n{node} takes no write, with {} bytes", store(&world, node).memory()));
            }
        }
    }
    run_until(&mut world, EQUAL_LIMIT, all_equal).ok_or("not equal in the end")?;
    match &world.checker.violation {
        Some(violation) => Err(format!("{violation:?}")),
        None => Ok(()),
    }
}

#[test]
fn nodes_that_were_full_apart_are_equal_purged_and_writable_once_clients_have_deleted_enough() {
    for seed in 0..40 {
        let mut rng = StdRng::seed_from_u64(seed);
        let case = Case::draw(&mut rng);
        if let Err(error) = run_case(&case, &mut rng) {
            panic!("seed {seed}, {case:?}: {error}");
        }
    }
}

/// Fills a node with new keys, numbered from `first`, until it refuses. Returns the number after the last.
fn fill(world: &mut World, node: usize, first: usize) -> usize {
    for key in first.. {
        world.write(node, key, Write::Set { value: b"v", deadline: None });
        if !holds(world, node, key) {
            return key;
        }
    }
    unreachable!("every node of these tests has a limit")
}

/// Fills a node and deletes everything, repeatedly. Returns the longest time until it could be filled by half
/// again.
fn longest_refusal(world: &mut World, node: usize) -> Duration {
    /// Without freeing tombstones, a node can be filled twice.
    const TIMES: u32 = 6;
    let (mut next, mut longest) = (0, Duration::ZERO);
    for _ in 0..TIMES {
        let (began, first) = (world.now, next);
        while store(world, node).memory() < world.plan.max_memory.unwrap_or(0) / 2 {
            next = fill(world, node, next);
            assert!(world.now < began + 200 * SECOND, "no room within {:?}", world.now - began);
            world.run_until(world.now + SECOND);
        }
        longest = longest.max(world.now - began);
        (first..next).for_each(|key| _ = world.write(node, key, Write::Delete));
        world.run_until(world.now + SECOND);
        assert_eq!(world.checker.violation.as_ref().map(|violation| &violation.what), None);
    }
    longest
}

fn plan_of_two(change: impl FnOnce(&mut Plan)) -> Plan {
    let mut plan = Plan::plain(2, Shape::Mesh, &mut StdRng::seed_from_u64(1));
    (plan.keys, plan.max_memory) = (2000, Some(6000));
    change(&mut plan);
    plan
}

#[test]
fn a_node_that_is_alone_has_room_at_once_for_what_it_has_deleted() {
    let mut world = World::quiet(plan_of_two(|plan| plan.starts_at[1] = Duration::from_secs(10_000)));
    world.run_until(10 * SECOND);
    let longest = longest_refusal(&mut world, 0);
    assert!(longest <= 3 * SECOND, "{longest:?}");
}

#[test]
fn tombstones_that_fill_their_reserve_do_not_wait_for_a_member_that_is_away() {
    let mut world = World::quiet(plan_of_two(|_| ()));
    world.run_until(10 * SECOND);
    cut_all(&mut world);
    world.run_until(world.now + 10 * SECOND);
    let longest = longest_refusal(&mut world, 0);
    assert!(longest <= 120 * SECOND, "{longest:?}");
    mend_all(&mut world);
    run_until(&mut world, PURGE_LIMIT, |world| world.unconverged().is_none()).expect("equal and purged");
}

#[test]
fn tombstones_within_their_reserve_wait_for_a_member_that_is_away() {
    let mut world = World::quiet(plan_of_two(|_| ()));
    world.run_until(10 * SECOND);
    cut_all(&mut world);
    let filled = fill(&mut world, 0, 0);
    (0..filled).for_each(|key| _ = world.write(0, key, Write::Delete));
    world.run_until(world.now + 200 * SECOND);
    assert!(!world.checker.has_lapsed, "a member lapsed");
    assert_eq!(store(&world, 0).totals().dead_cells, filled as u64);
}
