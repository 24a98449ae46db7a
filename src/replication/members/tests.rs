use crate::model::Time;

use super::*;
use crate::ablation::must_fail_without;

fn id(n: u128) -> Incarnation {
    timestamp::incarnation(n).unwrap()
}

fn at(seconds: u64) -> Time {
    Time((1_000_000 + seconds) << 32)
}

fn member(name: &str, incarnation: u128) -> Membership {
    let config = MembershipConfig {
        name: name.into(),
        incarnation: id(incarnation),
        forget_after: Some(Duration::from_secs(3600)),
    };
    Membership::new(config, Arc::new(Origins::new(id(incarnation))), at(0))
}

fn link(a: &mut Membership, b: &mut Membership, now: Time) {
    let (pa, pb) = (a.place(), b.place());
    let (na, nb) = (a.name.clone(), b.name.clone());
    a.on_link(&nb, pb.incarnation, pb.generation, now);
    b.on_link(&na, pa.incarnation, pa.generation, now);
    heartbeat(a, b, now);
}

fn heartbeat(a: &mut Membership, b: &mut Membership, now: Time) {
    for _ in 0..2 {
        let (sa, ga) = (a.summary(timestamp::ZERO, now), a.gossip(now));
        let (sb, gb) = (b.summary(timestamp::ZERO, now), b.gossip(now));
        a.on_heartbeat(b.incarnation, &sb, gb, now);
        b.on_heartbeat(a.incarnation, &sa, ga, now);
    }
}

fn sync(a: &mut Membership, b: &mut Membership, now: Time) {
    let (sa, sb) = (a.full_summary(timestamp::ZERO, now), b.full_summary(timestamp::ZERO, now));
    a.on_summary(b.incarnation, &sb);
    b.on_summary(a.incarnation, &sa);
    let (ca, cb) = (a.coverage(&sa.hashes, &sb.hashes), b.coverage(&sb.hashes, &sa.hashes));
    a.on_sync(&sb, &cb, &BTreeSet::new());
    b.on_sync(&sa, &ca, &BTreeSet::new());
}

/// A write of another incarnation is received.
fn receive(by: &Membership, of: u128, time: Time) {
    by.origins.see(by.origins.intern(id(of)).unwrap(), time);
}

#[test]
fn the_stable_time_rises_in_step_and_is_never_ahead_of_what_the_other_holds() {
    let (mut a, mut b) = (member("a", 1), member("b", 2));
    link(&mut a, &mut b, at(1));
    let mut synced = at(0);
    for second in 2..40 {
        heartbeat(&mut a, &mut b, at(second));
        if second % 5 == 0 {
            sync(&mut a, &mut b, at(second));
            synced = at(second);
        }
        for member in [&mut a, &mut b] {
            let stable = member.advance(at(second)).unwrap_or_default();
            assert!(stable <= synced);
            assert!(second < 8 || stable >= at(second - 6), "{stable:?}");
        }
    }
}

#[test]
fn one_that_never_had_a_peer_keeps_its_tombstones() {
    let mut a = member("a", 1);
    assert!((0..1000).all(|second| a.advance(at(second)).is_none()));
}

/// Only some members may have what was received of an ended incarnation: the stable time waits until all have
/// it.
#[test]
fn one_that_has_ended_is_closed_once_every_member_has_everyones_state_of_after_that() {
    let (mut a, mut b, mut c) = (member("a", 1), member("b", 2), member("c", 3));
    link(&mut a, &mut b, at(1));
    link(&mut a, &mut c, at(1));
    link(&mut b, &mut c, at(1));
    heartbeat(&mut a, &mut b, at(2));
    heartbeat(&mut a, &mut c, at(2));
    heartbeat(&mut a, &mut b, at(2));
    for member in [&mut a, &mut b] {
        member.advance(at(2));
        assert_eq!(member.agreed.map(|agreed| agreed.since), Some(at(2)));
    }
    sync(&mut a, &mut b, at(3));
    receive(&a, 3, at(5));
    for member in [&mut a, &mut b] {
        member.on_unlink(id(3));
    }
    a.on_goodbye(id(3), at(6));
    heartbeat(&mut a, &mut b, at(7));
    a.advance(at(7));
    heartbeat(&mut a, &mut b, at(8));
    assert_eq!(
        (a.advance(at(8)), b.advance(at(8))),
        (None, None),
        "a sync has yet to spread what a has received"
    );
    assert!(b.origins.coverage_of(id(3)).is_open(), "b knows what a has received");
    sync(&mut a, &mut b, at(9));
    heartbeat(&mut a, &mut b, at(10));
    assert!(a.advance(at(10)).is_some() && b.advance(at(10)).is_some());
    for member in [&a, &b] {
        let coverage = member.origins.coverage_of(id(3));
        assert_eq!((coverage.covered(), coverage.synced < at(5)), (at(5), true));
    }
    receive(&b, 3, at(6));
    assert_eq!(b.advance(at(11)), None, "a write that turns up later opens it again");
}

/// A history: a member that the others had not received yet had declared o away long ago, with members that had
/// all ended since. Its declaration counted as earlier than the others' own states, so they closed o before
/// they had that member's state.
#[test]
fn what_only_others_have_declared_away_is_closed_by_ones_own_clock() {
    let (mut a, mut b) = (member("a", 1), member("b", 2));
    link(&mut a, &mut b, at(1));
    for second in 17..20 {
        heartbeat(&mut a, &mut b, at(second));
        sync(&mut a, &mut b, at(second));
    }
    a.roster.note_former(id(9), "o");
    let away = vec![Away { incarnation: id(9), since: at(5), seen: at(4) }];
    a.on_summary(b.incarnation, &Summary { away, ..Summary::default() });
    assert_eq!(a.advance(at(20)), None);
    assert_eq!(a.origins.coverage_of(id(9)).closed, timestamp::ZERO);
    for second in 21..24 {
        heartbeat(&mut a, &mut b, at(second));
        sync(&mut a, &mut b, at(second));
        b.advance(at(second));
        a.advance(at(second));
    }
    assert_eq!(a.origins.coverage_of(id(9)).closed, at(4));
}

/// A history: while o was away and the stable time stood still, o came back and wrote. Members closed it up to
/// its new writes by a time before them, and members that lacked these writes then refused its cells.
#[test]
fn a_write_of_one_that_is_away_declares_it_away_anew() {
    let (mut a, mut b) = (member("a", 1), member("b", 2));
    link(&mut a, &mut b, at(1));
    a.roster.note_former(id(9), "o");
    receive(&a, 9, at(4));
    a.advance(at(5));
    for second in 6..8 {
        sync(&mut a, &mut b, at(second));
        heartbeat(&mut a, &mut b, at(second));
    }
    receive(&a, 9, at(6));
    a.advance(at(8));
    assert!(a.origins.coverage_of(id(9)).closed < at(6), "b may have shown its state before it got this");
    for second in 9..12 {
        sync(&mut a, &mut b, at(second));
        heartbeat(&mut a, &mut b, at(second));
        b.advance(at(second));
        a.advance(at(second));
    }
    assert_eq!(a.origins.coverage_of(id(9)).closed, at(6));
}

/// A history: `c` alone had received a write of o, by a push, when o ended. It gave the write to `b`, after `a` and
/// `b` had synced, and left. Without `c`, nobody's acknowledged time was before the end of o: `a` closed o and lacked
/// the write, and `b` gave it up.
#[test]
fn what_one_that_leaves_has_handed_to_another_reaches_all_before_it_is_closed() {
    let (mut a, mut b, mut c) = (member("a", 1), member("b", 2), member("c", 3));
    link(&mut a, &mut b, at(1));
    link(&mut b, &mut c, at(1));
    for second in 2..5 {
        heartbeat(&mut a, &mut b, at(second));
        heartbeat(&mut b, &mut c, at(second));
    }
    for member in [&mut a, &mut b, &mut c] {
        member.roster.note_former(id(9), "o");
        receive(member, 9, at(4));
        member.advance(at(5));
        assert_eq!(member.agreed.map(|agreed| agreed.since), Some(at(5)));
    }
    sync(&mut a, &mut b, at(6));
    // This brings the write to `b`.
    sync(&mut b, &mut c, at(7));
    b.on_unlink(id(3));
    b.on_goodbye(id(3), at(8));
    for second in 9..12 {
        heartbeat(&mut a, &mut b, at(second));
        assert_eq!((a.advance(at(second)), b.advance(at(second))), (None, None));
        assert!(a.origins.coverage_of(id(9)).is_open(), "a sync has yet to bring what c has given to b");
    }
    sync(&mut a, &mut b, at(12));
    heartbeat(&mut a, &mut b, at(13));
    assert!(a.advance(at(13)).is_some() && b.advance(at(13)).is_some());
    assert_eq!(a.origins.coverage_of(id(9)).closed, at(4));
}

/// A history: a node that was cut off before its first sync had finished, and had merged pushes, counted as
/// alone. It dropped tombstones beyond the limit, and the values that they shadowed came back.
#[test]
fn a_node_that_knows_of_another_is_not_alone() {
    let (mut a, mut b) = (member("a", 1), member("b", 2));
    assert!(a.is_alone());
    link(&mut a, &mut b, at(1));
    a.on_unlink(id(2));
    assert!(!a.is_alone());
}

#[test]
fn the_rules_of_closing_are_guarded() {
    let test = one_that_has_ended_is_closed_once_every_member_has_everyones_state_of_after_that;
    for rule in [Ablation::Close, Ablation::WaitAway, Ablation::SeenExchanged] {
        must_fail_without(rule, test);
    }
}

/// A new member may hold deletes that are older than what was stable without it, and lack what was purged.
#[test]
fn nothing_is_stable_once_there_may_be_a_member_more() {
    let linked_and_stable = || {
        let (mut a, mut b) = (member("a", 1), member("b", 2));
        link(&mut a, &mut b, at(1));
        for second in 2..6 {
            heartbeat(&mut a, &mut b, at(second));
            sync(&mut a, &mut b, at(second));
            for member in [&mut a, &mut b] {
                let stable = member.advance(at(second)).unwrap_or_default();
                member.origins.raise_stable_time(stable);
            }
        }
        assert!(a.origins.stable_time() > at(1) && b.origins.stable_time() > at(1));
        (a, b)
    };
    let (mut a, mut b) = linked_and_stable();
    link(&mut b, &mut member("c", 3), at(10));
    assert_eq!(b.origins.stable_time(), timestamp::ZERO, "it has linked");
    heartbeat(&mut a, &mut b, at(11));
    assert_eq!(a.origins.stable_time(), timestamp::ZERO, "a heartbeat has named c");

    let (mut a, _) = linked_and_stable();
    receive(&a, 4, at(10));
    a.advance(at(11));
    assert_eq!(a.origins.stable_time(), timestamp::ZERO, "a write of someone unknown has arrived");
}

/// A history: `b` had purged a delete of `k`, and `a` had not yet, when `c` brought `b` an older `k` that no
/// member had seen. From `b`, `c` had incorporated what `a` had had until then, but not the delete, which `a`
/// sent to `b` again. `b` purged it at once, and `c` brought `k` back.
#[test]
fn nothing_is_stable_until_all_have_exchanged_their_states_of_after_there_was_a_member_more() {
    let (mut a, mut b, mut c) = (member("a", 1), member("b", 2), member("c", 3));
    link(&mut a, &mut b, at(1));
    sync(&mut a, &mut b, at(9));
    link(&mut b, &mut c, at(10));
    sync(&mut b, &mut c, at(11));
    for second in 12..15 {
        heartbeat(&mut b, &mut c, at(second));
        heartbeat(&mut a, &mut b, at(second));
        b.advance(at(second));
    }
    assert!(b.agreed.is_some_and(|agreed| agreed.since < at(15)));
    sync(&mut a, &mut b, at(15));
    heartbeat(&mut a, &mut b, at(15));
    assert_eq!(b.advance(at(15)), None, "c has only what a had at 9");
    sync(&mut b, &mut c, at(16));
    sync(&mut a, &mut b, at(17));
    heartbeat(&mut b, &mut c, at(18));
    heartbeat(&mut a, &mut b, at(18));
    assert_eq!(b.advance(at(18)), Some(at(15)));
}

#[test]
fn the_reset_of_the_stable_time_is_guarded() {
    must_fail_without(
        Ablation::ExchangeAfterRegroup,
        nothing_is_stable_until_all_have_exchanged_their_states_of_after_there_was_a_member_more,
    );
    must_fail_without(
        Ablation::ExchangeAfterLeave,
        what_one_that_leaves_has_handed_to_another_reaches_all_before_it_is_closed,
    );
    must_fail_without(Ablation::Regroup, nothing_is_stable_once_there_may_be_a_member_more);
}

#[test]
fn one_of_which_nobody_knows_is_closed_after_a_minute() {
    let (mut a, mut b) = (member("a", 1), member("b", 2));
    link(&mut a, &mut b, at(1));
    receive(&a, 9, at(2));
    for second in 3..60 {
        heartbeat(&mut a, &mut b, at(second));
        sync(&mut a, &mut b, at(second));
        assert_eq!(a.advance(at(second)), None, "it may be a member that no peer has reported yet");
    }
    for second in 60..80 {
        heartbeat(&mut a, &mut b, at(second));
        sync(&mut a, &mut b, at(second));
        a.advance(at(second));
    }
    assert!(a.advance(at(80)).is_some());
}

#[test]
fn only_members_without_any_link_lapse_and_a_link_brings_them_back() {
    let (mut a, mut b, mut c) = (member("a", 1), member("b", 2), member("c", 3));
    for other in [&mut b, &mut c] {
        link(&mut a, other, at(1));
        sync(&mut a, other, at(1));
    }
    a.on_unlink(id(3));
    link(&mut b, &mut c, at(1));
    for second in 2..200 {
        heartbeat(&mut b, &mut c, at(second));
        heartbeat(&mut a, &mut b, at(second));
        assert!(a.lapse_overdue(true, at(second)).is_empty(), "b hears c");
    }
    b.on_unlink(id(3));
    for second in 200..259 {
        heartbeat(&mut a, &mut b, at(second));
        assert!(a.lapse_overdue(true, at(second)).is_empty());
    }
    assert!(a.lapse_overdue(false, at(300)).is_empty(), "there is room, and it has an hour");
    assert_eq!(a.lapse_overdue(true, at(300)), ["c"]);
    assert_eq!(a.member_count(), 2);
    link(&mut a, &mut c, at(400));
    assert_eq!((a.member_count(), c.member_count()), (3, 3));
}

#[test]
fn a_live_node_that_was_forgotten_is_a_member_again_after_its_next_heartbeat() {
    let (mut a, mut b) = (member("a", 1), member("b", 2));
    link(&mut a, &mut b, at(1));
    assert_eq!(a.forget("b", at(2)), Err(ForgetError::Linked));
    assert_eq!(a.forget("a", at(2)), Err(ForgetError::Itself));
    assert_eq!(a.forget("z", at(2)), Err(ForgetError::Unknown));
    a.on_unlink(id(2));
    b.on_unlink(id(1));
    a.forget("b", at(3)).unwrap();
    assert_eq!(a.member_count(), 1);
    link(&mut a, &mut b, at(4));
    assert_eq!((a.member_count(), b.member_count(), b.verdict(at(4))), (2, 2, None));
}

#[test]
fn the_coverage_of_too_many_that_have_ended_is_dropped_oldest_first() {
    let a = member("a", 1);
    for n in 0..65_600u128 {
        a.origins.raise(id(100 + n), at(u64::try_from(n).unwrap()), timestamp::ZERO);
    }
    a.limit_coverage();
    let is_kept = |n: u128| !a.origins.coverage_of(id(n)).is_none();
    assert!(!is_kept(100) && is_kept(100 + 64) && is_kept(100 + 65_599));
}

#[test]
fn a_member_that_holds_nothing_new_stops_the_stable_time_and_is_named() {
    let (mut a, mut b) = (member("a", 1), member("b", 2));
    link(&mut a, &mut b, at(1));
    sync(&mut a, &mut b, at(1));
    for second in 2..100 {
        heartbeat(&mut a, &mut b, at(second));
        assert!(
            a.advance(at(second)).unwrap_or_default() <= at(1),
            "pushes and heartbeats raise no stable time"
        );
    }
    assert_eq!(a.waits_for(at(100)), ["b"]);
}

#[test]
fn one_that_is_silent_is_named_and_not_those_that_wait_for_it_too() {
    let (mut a, mut b, mut c) = (member("a", 1), member("b", 2), member("c", 3));
    link(&mut a, &mut c, at(1));
    link(&mut a, &mut b, at(1));
    for second in 2..100 {
        heartbeat(&mut a, &mut b, at(second));
        sync(&mut a, &mut b, at(second));
    }
    assert_eq!(a.waits_for(at(100)), ["c"]);
    assert_eq!(b.waits_for(at(100)), ["c"]);
}

#[test]
fn a_restart_takes_the_place_of_the_incarnation_before() {
    let (mut a, mut b) = (member("a", 1), member("b", 20));
    link(&mut a, &mut b, at(1));
    let mut restarted = member("b", 3);
    assert!(a.has_live_namesake("b", id(3)));
    a.on_unlink(id(20));
    assert!(!a.has_live_namesake("b", id(3)));
    link(&mut a, &mut restarted, at(2));
    assert_eq!(a.roster.get("b").unwrap().incarnation, id(3));
    assert_eq!((a.roster.get("b").unwrap().generation, restarted.generation), (2, 2));
    assert_eq!(a.member_count(), 2);
}

/// `c` loses its power: `a` notices first, and its operator removes and restarts `c` before `b` has noticed.
#[test]
fn a_forgotten_node_that_returns_is_no_namesake_of_itself_where_another_still_lists_its_link() {
    let (mut a, mut b, mut c) = (member("a", 1), member("b", 2), member("c", 3));
    link(&mut a, &mut b, at(1));
    link(&mut b, &mut c, at(1));
    link(&mut a, &mut c, at(1));
    heartbeat(&mut a, &mut b, at(2));
    a.on_unlink(id(3));
    assert!(a.has_live_namesake("c", id(4)), "it may be linked to b in earnest");
    a.forget("c", at(7)).unwrap();
    assert!(!a.has_live_namesake("c", id(4)));
    // If it is alive, b reports that with its next heartbeat.
    heartbeat(&mut a, &mut b, at(8));
    assert!(a.has_live_namesake("c", id(4)));
}

/// The namesake was killed and restarted in another part of the network, which had lost its generation.
#[test]
fn a_node_outlives_a_dead_namesake_with_a_higher_count_and_yields_to_a_living_one() {
    let (mut a, mut b) = (member("a", 1), member("b", 2));
    link(&mut a, &mut b, at(1));
    let namesake = Member {
        incarnation: id(9),
        generation: 7,
        standing: Standing::Present,
        since: timestamp::ZERO,
        heard: at(0),
    };
    a.roster.merge("b", namesake);
    heartbeat(&mut a, &mut b, at(12));
    assert_eq!(b.generation, 8);
    assert_eq!(b.verdict(at(100)), None);
    heartbeat(&mut a, &mut b, at(13));
    assert_eq!(a.roster.get("b").unwrap().incarnation, id(2));

    a.roster.merge("b", Member { generation: 12, ..namesake });
    a.linked.entry(id(9)).or_default();
    heartbeat(&mut a, &mut b, at(14));
    assert_eq!(b.verdict(at(15)), None, "it may have crashed a moment ago");
    assert_eq!(b.verdict(at(40)), Some(Verdict::Superseded));
}

/// Of two connections to one peer, the end of the first may be recorded after the start of the second.
#[test]
fn a_peer_that_sends_heartbeats_is_linked_whatever_was_noted_last() {
    let (mut a, mut b) = (member("a", 1), member("b", 2));
    link(&mut a, &mut b, at(1));
    a.on_unlink(id(2));
    heartbeat(&mut a, &mut b, at(2));
    assert!(a.gossip(at(2)).links.contains(&id(2)));
}
