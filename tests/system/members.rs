//! Who counts as a member: nodes that leave, that are forgotten, and that go by a name that is taken.

use crate::support::node_process::*;

const FAULTS: &[&str] = &["--enable-faults"];

fn members(node: &NodeProcess) -> u64 {
    node.healing()["members"].as_u64().unwrap()
}

/// Waits until these have freed every tombstone. The stable time is some seconds behind while all are up.
fn until_purged(nodes: &[&NodeProcess]) {
    for node in nodes {
        wait("no tombstone is left", || node.tombstones() == 0);
    }
}

#[test]
fn a_node_that_leaves_is_gone_and_returns_under_its_name() {
    let [a, b, mut c] = three_nodes(&[]);
    load(&mut a.connect(), 0..100, b"x");
    c.set("last", "write");
    c.signal("TERM");
    assert_eq!(c.ended().code(), Some(0), "{}", c.log());
    wait("both have received its goodbye", || [&a, &b].iter().all(|node| node.state_of("c") == "gone"));
    assert_eq!((members(&a), members(&b)), (2, 2));
    assert_eq!((a.get("last").as_deref(), b.get("last").as_deref()), (Some("write"), Some("write")));
    b.set("while c was away", "x");
    a.del("last");
    c.restart();
    until_linked(&[&a, &b, &c]);
    until_equal(&[&a, &b, &c]);
    for node in [&a, &b, &c] {
        wait("three members again", || members(node) == 3);
        assert_eq!(node.peers().len(), 2, "{:?}", node.peers());
        assert_eq!(node.get("last"), None);
    }
    assert!(c.get("while c was away").is_some());
}

#[test]
fn a_member_that_is_down_can_be_forgotten_and_no_other() {
    let [a, b, mut c] = three_nodes(&[]);
    for (name, reason) in [("b", "linked"), ("a", "itself"), ("nobody", "no member")] {
        let refused = a.cli(&["forget", name]);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(reason), "{name}: {refused:?}");
    }
    c.kill();
    wait("its end is noticed", || a.state_of("c") == "down" && b.state_of("c") == "down");
    assert_eq!((members(&a), members(&b)), (3, 3));
    a.said(&["forget", "c"]);
    assert_eq!((a.state_of("c"), members(&a)), ("lapsed".into(), 2));
    wait("the other learns of it", || b.state_of("c") == "lapsed" && members(&b) == 2);
    c.restart();
    until_linked(&[&a, &b, &c]);
    for node in [&a, &b, &c] {
        wait("three members again", || members(node) == 3);
    }
}

#[test]
fn forget_of_a_member_that_has_just_gone_silent_says_when_to_try_again() {
    let a = NodeProcess::start("a", &[], FAULTS);
    let c = NodeProcess::start("c", &[&a], FAULTS);
    until_linked(&[&a, &c]);
    a.cut("c", "both");
    let mut warned = String::new();
    wait("c is forgotten", || {
        let output = a.cli(&["forget", "c"]);
        warned += &String::from_utf8_lossy(&output.stderr);
        output.status.success()
    });
    assert!(warned.contains("the link ends within") && warned.contains("try again then"), "{warned}");
}

#[test]
#[ignore = "takes a quarter of a minute: tombstones have to be freed twice"]
fn tombstones_wait_for_a_dead_member_until_it_is_forgotten_and_for_one_that_left_not_at_all() {
    let [a, mut b, mut c] = three_nodes(&[]);
    load(&mut a.connect(), 0..100, b"x");
    until_equal(&[&a, &b, &c]);
    c.kill();
    wait("its end is noticed", || a.state_of("c") == "down");
    a.del("key:0");
    wait("it is known whom they wait for", || a.healing()["waits_for"] == serde_json::json!(["c"]));
    assert_eq!(a.tombstones(), 1);
    a.said(&["forget", "c"]);
    until_purged(&[&a, &b]);
    c.restart();
    until_equal(&[&a, &b, &c]);
    assert_eq!(c.get("key:0"), None);

    b.signal("TERM");
    b.ended();
    a.del("key:1");
    until_purged(&[&a, &c]);
    b.restart();
    until_equal(&[&a, &b, &c]);
    assert_eq!((b.get("key:0"), b.get("key:1")), (None, None));
    assert_eq!(digest(&mut b.connect()).1, 98);
}

#[test]
fn a_live_node_that_was_forgotten_rejoins_with_its_data_and_without_what_was_deleted() {
    let [a, b, c] = three_nodes(FAULTS);
    load(&mut a.connect(), 0..2000, b"x");
    until_equal(&[&a, &b, &c]);
    c.cut("*", "both");
    wait("its absence is noticed", || a.state_of("c") == "down" && b.state_of("c") == "down");
    let incarnation = c.info("incarnation");
    c.set("of c alone", "kept");
    c.set("key:1998", "later, far away");
    assert_eq!(ask::<i64>(&mut c.connect(), &["INCRBY", "counter", "5"]), 5);
    for key in 0..1500 {
        a.del(&format!("key:{key}"));
    }
    b.set("key:1999", "later");
    assert_eq!(ask::<i64>(&mut b.connect(), &["INCRBY", "counter", "3"]), 3);
    b.said(&["forget", "c"]);
    wait("both know", || a.state_of("c") == "lapsed" && b.state_of("c") == "lapsed");
    assert_eq!((members(&a), members(&b)), (2, 2));
    until_purged(&[&a, &b]);
    assert!(c.get("key:0").is_some());

    c.mend("*");
    until_linked(&[&a, &b, &c]);
    until_equal(&[&a, &b, &c]);
    assert_eq!(c.info("incarnation"), incarnation, "it goes on as it was");
    for node in [&a, &b, &c] {
        assert_eq!(node.get("key:0"), None, "{} has it back", node.name);
        assert_eq!(node.get("key:1998").as_deref(), Some("later, far away"));
        assert_eq!(node.get("key:1999").as_deref(), Some("later"));
        assert_eq!(node.get("of c alone").as_deref(), Some("kept"));
        assert_eq!(node.get("counter").as_deref(), Some("8"));
        assert_eq!(digest(&mut node.connect()).1, 502);
        wait("three members again", || members(node) == 3);
        assert_eq!(node.peers().len(), 2, "{:?}", node.peers());
        assert_eq!(node.json(&["lost"]), serde_json::json!([]));
    }
    // It is a member like any other from here on.
    c.del("key:1501");
    until_purged(&[&a, &b, &c]);
    until_equal(&[&a, &b, &c]);
}

#[test]
fn a_node_that_is_forgotten_where_its_link_is_cut_stays_a_member_while_another_is_linked_to_it() {
    let [a, b, c] = three_nodes(FAULTS);
    a.set("k", "x");
    until_equal(&[&a, &b, &c]);
    a.cut("c", "both");
    wait("a has lost its link to c", || a.cli(&["forget", "c"]).status.success());
    wait("b reports to a that c lives", || members(&a) == 3);
    assert_eq!((members(&b), members(&c)), (3, 3));
    b.del("k");
    until_purged(&[&a, &b, &c]);
    a.mend("c");
    until_linked(&[&a, &b, &c]);
    until_equal(&[&a, &b, &c]);
    assert_eq!((a.get("k"), c.get("k")), (None, None));
}

#[test]
fn a_node_that_discards_its_keys_takes_those_of_the_others_and_goes_on_as_a_new_incarnation() {
    let [a, b, c] = three_nodes(FAULTS);
    load(&mut c.connect(), 0..100, b"c");
    assert_eq!(ask::<i64>(&mut c.connect(), &["INCRBY", "counter", "5"]), 5);
    until_equal(&[&a, &b, &c]);
    c.cut("*", "both");
    wait("its absence is noticed", || a.linked() == 1 && b.linked() == 1);
    c.set("of c alone", "unwanted");
    c.set("key:1", "unwanted");
    assert_eq!(ask::<i64>(&mut c.connect(), &["INCRBY", "counter", "1000"]), 1005);
    a.del("key:0");
    let careful = c.cli(&["rejoin"]);
    assert_eq!(careful.status.code(), Some(2), "{careful:?}");
    let incarnation = c.info("incarnation");
    c.said(&["rejoin", "--discard", "--yes"]);
    assert_ne!(c.info("incarnation"), incarnation);
    assert_eq!(digest(&mut c.connect()).1, 0);
    c.mend("*");
    until_linked(&[&a, &b, &c]);
    until_equal(&[&a, &b, &c]);
    assert_eq!(ask::<i64>(&mut c.connect(), &["INCRBY", "counter", "2"]), 7);
    c.set("key:2", "again");
    c.del("key:3");
    until_equal(&[&a, &b, &c]);
    for node in [&a, &b, &c] {
        wait("three members", || members(node) == 3);
        assert_eq!((node.get("of c alone"), node.get("key:0"), node.get("key:3")), (None, None, None));
        assert_eq!(node.get("key:1").as_deref(), Some("c"));
        assert_eq!(node.get("key:2").as_deref(), Some("again"));
        assert_eq!(node.get("counter").as_deref(), Some("7"));
        assert_eq!(digest(&mut node.connect()).1, 99);
    }
    until_purged(&[&a, &b, &c]);
}

/// A pair of namesakes that different members took in while these could not reach each other.
#[test]
fn a_node_whose_name_was_taken_meanwhile_stops_with_a_clear_error() {
    let a = NodeProcess::start("a", &[], FAULTS);
    let mut first = NodeProcess::start("twin", &[&a], FAULTS);
    let c = NodeProcess::start("c", &[&a], FAULTS);
    until_linked(&[&a, &first, &c]);
    for node in [&a, &first] {
        node.cut("c", "both");
    }
    wait("c is on its own", || c.linked() == 0);
    let second = NodeProcess::start("twin", &[&c], FAULTS);
    until_linked(&[&c, &second]);
    a.set("k", "x");
    a.mend("c");
    first.mend("c");
    assert_eq!(first.ended().code(), Some(1), "{}", first.log());
    assert!(first.log().contains("another node with the same --name"), "{}", first.log());
    assert!(first.log().contains("give each its own --name"), "{}", first.log());
    until_linked(&[&a, &c, &second]);
    until_equal(&[&a, &c, &second]);
    assert_eq!(second.get("k").as_deref(), Some("x"));
}
