use uhlc::NTP64;

use super::*;

fn id(n: u128) -> Incarnation {
    stamp::incarnation(n).unwrap()
}

fn at(seconds: u64) -> Time {
    NTP64((1_000_000 + seconds) << 32)
}

fn member(name: &str, incarnation: u128, join: &[&str]) -> Membership {
    let config = MembershipConfig {
        name: name.into(),
        incarnation: id(incarnation),
        lineage: incarnation * 100,
        join: join.iter().map(|address| (*address).to_owned()).collect(),
        max_clock_skew: Duration::from_millis(500),
        forget_after: Some(Duration::from_secs(3600)),
    };
    Membership::new(config, at(0))
}

/// Whether `to` refuses `peer` as a stranger, with these floors.
fn stranger(to: &mut Membership, floor: Time, peer: &Membership, their_floor: Time) -> bool {
    let Place { lineage, founded, floor: theirs, .. } = peer.place(their_floor);
    to.is_stranger(floor, lineage, founded, theirs)
}

fn link(a: &mut Membership, b: &mut Membership, now: Time) {
    let (pa, pb) = (a.place(stamp::ZERO), b.place(stamp::ZERO));
    assert!(!a.is_stranger(stamp::ZERO, pb.lineage, pb.founded, pb.floor));
    assert!(!b.is_stranger(stamp::ZERO, pa.lineage, pa.founded, pa.floor));
    let (na, nb) = (a.name.clone(), b.name.clone());
    a.on_link(&nb, pb.incarnation, pb.generation, now);
    b.on_link(&na, pa.incarnation, pa.generation, now);
    beat(a, b, now);
}

fn beat(a: &mut Membership, b: &mut Membership, now: Time) {
    for _ in 0..2 {
        let (sa, ga) = (a.sight(stamp::ZERO, now), a.gossip(now));
        let (sb, gb) = (b.sight(stamp::ZERO, now), b.gossip(now));
        a.on_beat(b.incarnation, &sb, gb, now);
        b.on_beat(a.incarnation, &sa, ga, now);
    }
}

fn round(a: &mut Membership, b: &mut Membership, now: Time) {
    let (sa, sb) = (a.sight(stamp::ZERO, now), b.sight(stamp::ZERO, now));
    a.on_sight(b.incarnation, &sb);
    b.on_sight(a.incarnation, &sa);
    a.on_round(b.incarnation, &sb, now);
    b.on_round(a.incarnation, &sa, now);
}

#[test]
fn a_joiner_is_founded_by_its_first_round_and_both_floors_rise_in_step() {
    let (mut a, mut b) = (member("a", 1, &[]), member("b", 2, &["a"]));
    assert!(a.is_founded() && !b.is_founded());
    link(&mut a, &mut b, at(1));
    round(&mut a, &mut b, at(1));
    assert!(b.is_founded());
    assert_eq!(b.lineage, a.lineage);
    let mut floors = [stamp::ZERO; 2];
    for second in 2..40 {
        beat(&mut a, &mut b, at(second));
        if second % 5 == 0 {
            round(&mut a, &mut b, at(second));
        }
        for (floor, member) in floors.iter_mut().zip([&mut a, &mut b]) {
            *floor = (*floor).max(member.advance(at(second)).unwrap_or_default());
            // Neither is ever above what the other is known to hold.
            assert!(stamp::later(*floor, LEAST_MARGIN) <= at(second));
        }
    }
    assert!(floors.iter().all(|floor| *floor >= at(15)), "{floors:?}");
}

#[test]
fn a_member_that_holds_nothing_new_stops_the_floor_and_is_named() {
    let (mut a, mut b) = (member("a", 1, &[]), member("b", 2, &["a"]));
    link(&mut a, &mut b, at(1));
    round(&mut a, &mut b, at(1));
    for second in 2..100 {
        beat(&mut a, &mut b, at(second));
        assert!(a.advance(at(second)).unwrap_or_default() <= at(1), "pushes and beats raise no floor");
    }
    assert_eq!(a.waits_for(at(100)), ["b"]);
}

#[test]
fn one_that_is_silent_is_named_and_not_those_that_wait_for_it_too() {
    let (mut a, mut b, mut c) = (member("a", 1, &[]), member("b", 2, &["a"]), member("c", 3, &["a"]));
    link(&mut a, &mut c, at(1));
    link(&mut a, &mut b, at(1));
    for second in 2..100 {
        beat(&mut a, &mut b, at(second));
        round(&mut a, &mut b, at(second));
    }
    assert_eq!(a.waits_for(at(100)), ["c"]);
    assert_eq!(b.waits_for(at(100)), ["c"]);
}

#[test]
fn a_lone_founder_keeps_its_floor_at_zero() {
    let mut a = member("a", 1, &[]);
    assert!((0..1000).all(|second| a.advance(at(second)).is_none()));
}

/// a waits for c, b waits for a. Were b's own list enough, {b} with a would be a cluster, and c, which only a waits
/// for, a stranger to it.
#[test]
fn an_unfounded_daemon_waits_for_the_addresses_of_others_too() {
    let (mut a, mut b, mut c) = (member("a", 1, &["c"]), member("b", 2, &["a"]), member("c", 3, &["a"]));
    link(&mut a, &mut b, at(1));
    round(&mut a, &mut b, at(1));
    let reached = |address: &str| match address {
        "a" => Some(vec![id(1)]),
        _ => None,
    };
    assert!(!b.found_if_complete(reached), "c was not reached");
    link(&mut b, &mut c, at(2));
    round(&mut b, &mut c, at(2));
    let reached = |address: &str| match address {
        "a" => Some(vec![id(1)]),
        "c" => Some(vec![id(3)]),
        _ => None,
    };
    assert!(b.found_if_complete(reached));
    assert_eq!(b.lineage, 100, "the smallest lineage of those that met");
}

#[test]
fn of_two_foundings_the_one_without_a_floor_gives_way_and_neither_where_both_have_one() {
    let (mut a, mut b) = (member("a", 1, &[]), member("b", 2, &[]));
    link(&mut a, &mut b, at(1));
    assert!(a.is_founded() && !b.is_founded(), "the larger lineage gives way");
    assert!(!b.found_if_complete(|_| Some(Vec::new())), "it does not found its own again");
    round(&mut a, &mut b, at(1));
    assert!(b.is_founded());
    let (mut c, mut d) = (member("c", 3, &[]), member("d", 4, &["c"]));
    link(&mut c, &mut d, at(1));
    round(&mut c, &mut d, at(1));
    assert!(stranger(&mut a, at(5), &c, at(6)) && stranger(&mut c, at(6), &a, at(5)));
    let mut restarted = member("e", 5, &[]);
    assert!(!stranger(&mut restarted, stamp::ZERO, &a, at(5)), "a founder that was restarted comes home");
    assert!(!restarted.is_founded());
    assert!(!stranger(&mut c, stamp::ZERO, &a, at(5)), "one that has purged nothing gives way");
    assert!(!c.is_founded());
}

#[test]
fn a_restart_takes_the_place_of_the_incarnation_before() {
    let (mut a, mut b) = (member("a", 1, &[]), member("b", 20, &["a"]));
    link(&mut a, &mut b, at(1));
    let mut restarted = member("b", 3, &["a"]);
    assert!(a.has_live_namesake("b", id(3)));
    a.on_unlink(id(20));
    assert!(!a.has_live_namesake("b", id(3)));
    link(&mut a, &mut restarted, at(2));
    assert_eq!(a.roster.get("b").unwrap().incarnation, id(3));
    assert_eq!((a.roster.get("b").unwrap().generation, restarted.generation), (2, 2));
    assert_eq!(a.member_count(), 2);
}

/// The namesake was killed and started again in another part of the network, which had forgotten its count.
#[test]
fn a_daemon_outlives_a_dead_namesake_with_a_higher_count_and_yields_to_a_living_one() {
    let (mut a, mut b) = (member("a", 1, &[]), member("b", 2, &["a"]));
    link(&mut a, &mut b, at(1));
    let namesake = Member {
        incarnation: id(9),
        generation: 7,
        standing: Standing::Present,
        since: stamp::ZERO,
        heard: at(0),
    };
    a.roster.merge("b", namesake);
    beat(&mut a, &mut b, at(12));
    assert_eq!(b.generation, 8);
    assert_eq!(b.verdict(at(100)), None);
    beat(&mut a, &mut b, at(13));
    assert_eq!(a.roster.get("b").unwrap().incarnation, id(2));

    a.roster.merge("b", Member { generation: 12, ..namesake });
    a.linked.entry(id(9)).or_default();
    beat(&mut a, &mut b, at(14));
    assert_eq!(b.verdict(at(15)), None, "it may have crashed a moment ago");
    assert_eq!(b.verdict(at(40)), Some(Verdict::Superseded));
}

#[test]
fn only_members_that_nobody_hears_lapse_and_a_round_brings_them_back() {
    let (mut a, mut b, mut c) = (member("a", 1, &[]), member("b", 2, &["a"]), member("c", 3, &["a"]));
    for other in [&mut b, &mut c] {
        link(&mut a, other, at(1));
        round(&mut a, other, at(1));
    }
    a.on_unlink(id(3));
    link(&mut b, &mut c, at(1));
    for second in 2..200 {
        beat(&mut b, &mut c, at(second));
        beat(&mut a, &mut b, at(second));
        assert!(a.lapse_overdue(true, at(second)).is_empty(), "b hears c");
    }
    b.on_unlink(id(3));
    for second in 200..259 {
        beat(&mut a, &mut b, at(second));
        assert!(a.lapse_overdue(true, at(second)).is_empty());
    }
    assert!(a.lapse_overdue(false, at(300)).is_empty(), "there is room, and it has an hour");
    assert_eq!(a.lapse_overdue(true, at(300)), ["c"]);
    assert_eq!(a.member_count(), 2);
    link(&mut a, &mut c, at(400));
    assert_eq!(a.member_count(), 2, "a link alone proves nothing");
    round(&mut a, &mut c, at(401));
    beat(&mut a, &mut c, at(402));
    assert_eq!((a.member_count(), c.member_count()), (3, 3));
}

#[test]
fn a_live_daemon_that_was_forgotten_goes_on_as_another() {
    let (mut a, mut b) = (member("a", 1, &[]), member("b", 2, &["a"]));
    link(&mut a, &mut b, at(1));
    assert_eq!(a.forget("b", at(2)), Err(ForgetError::Linked));
    assert_eq!(a.forget("a", at(2)), Err(ForgetError::Itself));
    assert_eq!(a.forget("z", at(2)), Err(ForgetError::Unknown));
    a.on_unlink(id(2));
    b.on_unlink(id(1));
    a.forget("b", at(3)).unwrap();
    link(&mut a, &mut b, at(4));
    assert_eq!(b.verdict(at(4)), Some(Verdict::Forgotten));
    b.renew(id(5), at(5));
    a.on_unlink(id(2));
    assert_eq!(b.verdict(at(5)), None);
    link(&mut a, &mut b, at(6));
    assert_eq!(a.roster.get("b").unwrap().incarnation, id(5));
    assert_eq!(b.verdict(at(6)), None);
}

#[test]
fn a_daemon_told_to_join_strangers_does_not_go_back_to_those_it_left() {
    let (mut a, mut b) = (member("a", 1, &[]), member("b", 2, &["a"]));
    link(&mut a, &mut b, at(1));
    round(&mut a, &mut b, at(1));
    b.on_unlink(id(1));
    b.discard(id(7), 900, true, at(2));
    assert!(stranger(&mut b, stamp::ZERO, &a, at(1)));
    let mut c = member("c", 3, &[]);
    assert!(!stranger(&mut b, stamp::ZERO, &c, at(1)));
    link(&mut b, &mut c, at(3));
    round(&mut b, &mut c, at(3));
    assert!(b.is_founded());
    b.discard(id(8), 901, false, at(4));
    assert!(
        !stranger(&mut b, stamp::ZERO, &c, at(1)),
        "without strangers in sight it starts over where it was"
    );
}

/// Of two connections to one peer the end of the first may be noted after the start of the second.
#[test]
fn a_peer_that_beats_is_linked_whatever_was_noted_last() {
    let (mut a, mut b) = (member("a", 1, &[]), member("b", 2, &["a"]));
    link(&mut a, &mut b, at(1));
    a.on_unlink(id(2));
    beat(&mut a, &mut b, at(2));
    assert!(a.gossip(at(2)).links.contains(&id(2)));
}

/// A daemon that was forgotten goes on in the same cluster: its tombstones are not its own to drop.
#[test]
fn a_daemon_that_was_forgotten_is_not_alone() {
    let (mut a, mut b) = (member("a", 1, &[]), member("b", 2, &["a"]));
    link(&mut a, &mut b, at(1));
    round(&mut a, &mut b, at(2));
    assert!(!a.is_alone());
    a.renew(id(3), at(3));
    assert!(!a.is_alone());
}

/// A history: the cluster reset what a daemon had counted that has ended since, let go of one that was cut off, and forgot
/// the reset. The one that was cut off comes back to a daemon that began later and never heard of who had counted.
#[test]
fn a_lapsed_peer_is_not_believed_of_those_that_had_ended_before_this_daemon_began() {
    let (mut a, mut b) = (member("a", 1, &[]), member("b", 2, &["a"]));
    link(&mut a, &mut b, at(1));
    round(&mut a, &mut b, at(1));
    let (ended, lives) = (id(9), id(10));
    a.began = at(100);
    let mut theirs = Vector::default();
    theirs.raise(ended, at(99));
    theirs.raise(lives, at(101));
    let told = Some((id(2), &theirs));
    assert!(a.is_unheard(ended, at(50), told), "b is a member");
    b.on_unlink(id(1));
    a.on_unlink(id(2));
    assert_eq!(a.lapse_overdue(true, at(300)), ["b"]);
    assert!(!a.is_unheard(ended, at(50), told));
    assert!(a.is_unheard(lives, at(50), told), "it may have met b alone");
    assert!(
        !a.is_unheard(lives, at(102), told) && !a.is_unheard(id(11), at(50), told),
        "b never heard of it"
    );
    assert!(!a.is_unheard(lives, at(50), None));
}
