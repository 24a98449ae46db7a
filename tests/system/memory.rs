//! What a daemon does when `--max-memory` is reached.

use crate::support::daemon::*;

const VALUE: &[u8] = &[b'v'; 1000];

/// Writes until the daemon says no; returns how many it took.
fn fill(connection: &mut redis::Connection) -> u32 {
    let value = std::str::from_utf8(VALUE).unwrap();
    for key in 0.. {
        match try_ask::<()>(connection, &["SET", &format!("key:{key}"), value]) {
            Ok(()) => assert!(key < 100_000, "the limit does nothing"),
            Err(error) => {
                assert_eq!(error.code(), Some("OOM"), "{error}");
                return key;
            }
        }
    }
    unreachable!()
}

#[test]
fn a_client_that_reaches_the_limit_is_told_so_and_may_still_delete() {
    let a = Daemon::start("a", &[], &["--max-memory", "8MiB", "--max-value", "64KiB"]);
    let mut connection = a.connect();
    let taken = fill(&mut connection);
    assert!((4000..9000).contains(&taken), "{taken} keys of 1 kB in 8 MiB");
    for key in 0..taken {
        assert_eq!(ask::<usize>(&mut connection, &["STRLEN", &format!("key:{key}")]), VALUE.len());
    }
    for key in 0..100 {
        assert_eq!(ask::<u32>(&mut connection, &["DEL", &format!("key:{key}")]), 1);
    }
    ask::<()>(&mut connection, &["SET", "room", "again"]);
}

#[test]
fn replicated_data_is_taken_up_to_the_ceiling_and_the_rest_once_there_is_room() {
    let roomy = Daemon::start("roomy", &[], &[]);
    let tight = Daemon::start("tight", &[&roomy], &["--max-memory", "4MiB", "--max-value", "64KiB"]);
    until_linked(&[&roomy, &tight]);
    let mut on_roomy = roomy.connect();
    load(&mut on_roomy, 0..12_000, VALUE);
    wait("tight says that it is full", || tight.info("state") == "full");
    let used = tight.info("used_memory").parse::<u64>().unwrap();
    assert!(used > 3 << 20, "data is taken up to the ceiling, not {used}");
    assert!(used < 10 << 20, "a ceiling holds, not {used}");
    assert!(tight.log().contains("out of memory"), "the log says so");
    // A full daemon still reads, deletes, and refuses what would grow it.
    let mut on_tight = tight.connect();
    assert_eq!(ask::<String>(&mut on_tight, &["PING"]), "PONG");
    let refused = try_ask::<()>(&mut on_tight, &["SET", "one", "more"]).unwrap_err();
    assert_eq!(refused.code(), Some("OOM"), "{refused}");

    for keys in (500..12_000u32).collect::<Vec<_>>().chunks(500) {
        let mut delete = redis::cmd("DEL");
        for key in keys {
            delete.arg(format!("key:{key}"));
        }
        delete.exec(&mut on_roomy).unwrap();
    }
    until_equal(&[&roomy, &tight]);
    wait("tight is ready again", || tight.info("state") == "ready");
    assert_eq!(digest(&mut on_tight).1, 500);
    ask::<()>(&mut on_tight, &["SET", "room", "again"]);
    wait("replicated", || ask::<Option<String>>(&mut on_roomy, &["GET", "room"]).is_some());
}
