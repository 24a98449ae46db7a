//! How clusters are founded, and how those that were founded apart come together. Each was found by the simulation.

use std::time::Duration;

use uhlc::NTP64;

use crate::model::stamp::{ZERO, incarnation};
use crate::model::{Incarnation, Time};
use crate::replication::members::{Gossip, Membership, MembershipConfig, Sight};

const NOW: Time = NTP64(1 << 40);

fn id(number: u128) -> Incarnation {
    incarnation(number).unwrap()
}

fn daemon(number: u128, join: &[&str]) -> Membership {
    let config = MembershipConfig {
        name: format!("n{number}"),
        incarnation: id(number),
        lineage: number,
        join: join.iter().map(|&address| address.to_owned()).collect(),
        max_clock_skew: Duration::from_millis(500),
        forget_after: None,
    };
    Membership::new(config, NOW)
}

fn sight(lineage: u128, founded: bool, join: &[&str]) -> Sight {
    let join = join.iter().map(|&address| address.to_owned()).collect();
    Sight { lineage, founded, join, ..Sight::default() }
}

/// As if every address were that of the daemon with this number.
fn reached(address: &str) -> Option<Vec<Incarnation>> {
    Some(vec![id(address.parse().ok()?)])
}

#[test]
fn a_daemon_waits_for_those_that_an_unlinked_peer_waited_for() {
    let mut one = daemon(1, &["2"]);
    one.on_link("n2", id(2), 1, NOW);
    one.on_beat(id(2), &sight(2, false, &["1", "3"]), Gossip::default(), NOW);
    one.on_round(id(2), &sight(2, false, &[]), NOW);
    one.on_unlink(id(2));
    assert!(!one.found_if_complete(reached), "3 was not met");
    one.on_link("n3", id(3), 1, NOW);
    one.on_round(id(3), &sight(3, false, &[]), NOW);
    assert!(!one.found_if_complete(reached), "3 has not said yet whom it waits for");
    one.on_beat(id(3), &sight(3, false, &["2"]), Gossip::default(), NOW);
    assert!(one.found_if_complete(reached));
}

#[test]
fn nobody_founds_a_cluster_beside_a_founded_peer() {
    let mut one = daemon(1, &["2"]);
    one.on_link("n2", id(2), 1, NOW);
    one.on_beat(id(2), &sight(2, false, &["1"]), Gossip::default(), NOW);
    one.on_round(id(2), &sight(2, false, &[]), NOW);
    one.on_beat(id(2), &sight(2, true, &[]), Gossip::default(), NOW);
    assert!(!one.found_if_complete(reached), "the next round will found it");
    one.on_round(id(2), &sight(2, true, &[]), NOW);
    assert_eq!((one.is_founded(), one.lineage), (true, 2));
}

#[test]
fn of_two_clusters_without_a_floor_the_larger_lineage_gives_way_whatever_its_company() {
    let (mut one, mut two) = (daemon(1, &[]), daemon(2, &[]));
    one.on_round(id(3), &sight(1, true, &[]), NOW);
    two.on_round(id(4), &sight(2, true, &[]), NOW);
    assert!(!one.is_stranger(ZERO, 2, true, ZERO) && one.is_founded());
    assert!(!two.is_stranger(ZERO, 1, true, ZERO) && !two.is_founded());
    assert!(!two.found_if_complete(reached), "it waits for the other");
}

#[test]
fn a_cluster_with_a_floor_stays_and_two_of_them_are_strangers() {
    let (mut one, mut two) = (daemon(1, &[]), daemon(2, &[]));
    assert!(!two.is_stranger(NOW, 1, true, ZERO) && two.is_founded());
    assert!(!one.is_stranger(ZERO, 2, true, NOW) && !one.is_founded());
    assert!(daemon(3, &[]).is_stranger(NOW, 2, true, NOW));
}

/// In a line 3 - 1 - 2, 1 gave way to the smaller lineage of 2, joined 3 again, gave way again, and so for ever:
/// found by the simulation.
#[test]
fn a_daemon_between_two_foundings_joins_the_one_it_gave_way_to() {
    let mut one = daemon(9, &[]);
    one.on_link("n2", id(2), 1, NOW);
    one.on_link("n3", id(3), 1, NOW);
    one.on_sight(id(2), &sight(2, true, &[]));
    assert!(!one.is_stranger(ZERO, 2, true, ZERO) && !one.is_founded());
    one.on_round(id(3), &sight(7, true, &[]), NOW);
    assert!(!one.is_founded(), "the other is there");
    one.on_round(id(2), &sight(2, true, &[]), NOW);
    assert_eq!((one.is_founded(), one.lineage), (true, 2));

    let mut one = daemon(9, &[]);
    assert!(!one.is_stranger(ZERO, 2, true, ZERO) && !one.is_founded());
    one.on_round(id(3), &sight(7, true, &[]), NOW);
    assert!(one.is_founded(), "the one it gave way to is gone");
}
