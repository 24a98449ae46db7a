use super::*;

fn with(change: impl FnOnce(&mut Config)) -> Result<(), String> {
    let mut config = Config::default();
    change(&mut config);
    config.validate().map_err(|error| error.to_string())
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn password() -> Option<Secret> {
    Secret::new(*b"pass").ok()
}

#[test]
fn the_default_is_valid_and_so_are_ports_of_the_systems_choice() {
    assert_eq!(with(|_| {}), Ok(()));
    assert_eq!(
        with(|c| {
            c.client = Some(address("127.0.0.1:0"));
            c.peer = Some(address("127.0.0.1:0"));
        }),
        Ok(())
    );
}

#[test]
fn clients_from_elsewhere_need_a_password_or_insecure() {
    assert_eq!(
        with(|c| c.client = Some(address("0.0.0.0:7171"))).unwrap_err(),
        "refusing to listen on 0.0.0.0:7171 without a password: give --client-password-file FILE or --users-file \
         FILE, or --insecure if the network is trusted"
    );
    assert!(with(|c| c.client = Some(address("[::]:7171"))).is_err());
    assert_eq!(with(|c| (c.client, c.client_password) = (Some(address("0.0.0.0:7171")), password())), Ok(()));
    assert_eq!(with(|c| (c.client, c.insecure) = (Some(address("0.0.0.0:7171")), true)), Ok(()));
    for loopback in ["127.0.0.2:7171", "[::1]:7171", "[::ffff:127.0.0.1]:7171"] {
        assert_eq!(with(|c| c.client = Some(address(loopback))), Ok(()));
    }
}

#[test]
fn peers_from_elsewhere_need_insecure_whatever_the_password() {
    let refusal =
        with(|c| (c.peer, c.client_password) = (Some(address("10.0.0.1:7172")), password())).unwrap_err();
    assert!(refusal.starts_with("refusing to listen for peers on 10.0.0.1:7172"), "{refusal}");
    assert!(refusal.contains("--insecure"), "{refusal}");
    assert_eq!(with(|c| (c.peer, c.insecure) = (Some(address("10.0.0.1:7172")), true)), Ok(()));
}

#[test]
fn a_node_that_listens_nowhere_needs_a_name_and_no_password() {
    let refusal = with(|c| (c.client, c.peer) = (None, None)).unwrap_err();
    assert!(refusal.contains("--name"), "{refusal}");
    assert_eq!(with(|c| (c.client, c.peer, c.name) = (None, None, Some("a".into()))), Ok(()));
}

#[test]
fn one_address_cannot_serve_both() {
    assert_eq!(
        with(|c| c.peer = c.client).unwrap_err(),
        "--client and --peer both ask for 127.0.0.1:7171: give them different ports"
    );
}

#[test]
fn addresses_to_dial_are_host_and_port() {
    for good in ["a:1", "10.0.0.2:7172", "[fd00::2]:7172", "db-2.example:7172", "db_2.:65535"] {
        assert_eq!(with(|c| c.join = vec![good.into()]), Ok(()), "{good}");
    }
    for bad in
        ["", "a", "a:", ":1", "a:0", "a:65536", "fd00::2:7172", "[a]:1", "[fd00::2]", "tcp://a:1", "a b:1"]
    {
        let refusal = with(|c| c.join = vec!["good:1".into(), bad.into()]).unwrap_err();
        assert!(refusal.starts_with(&format!("--join {bad:?} is not HOST:PORT")), "{refusal}");
    }
    assert!(with(|c| c.advertise = Some("here".into())).unwrap_err().starts_with("--advertise \"here\""));
}

#[test]
fn an_address_that_nobody_can_dial_is_not_advertised() {
    for address in ["0.0.0.0:7172", "[::]:7172"] {
        assert!(with(|c| c.advertise = Some(address.into())).unwrap_err().contains("cannot be dialled"));
    }
}

#[test]
fn names_are_one_plain_word() {
    for bad in ["", "a b", "a,b", "*", "a\n", &"x".repeat(MAX_NAME + 1)] {
        assert!(with(|c| c.name = Some(bad.into())).unwrap_err().starts_with("--name"), "{bad:?}");
        assert!(with(|c| c.cluster = bad.into()).unwrap_err().starts_with("--cluster"), "{bad:?}");
    }
    assert_eq!(with(|c| c.name = Some("x".repeat(MAX_NAME))), Ok(()));
    assert_eq!(with(|c| c.name = Some("Zürich-1:7171".into())), Ok(()));
}

#[test]
fn an_unnamed_node_is_called_by_host_and_port() {
    let name = Config::default().name_at(4242);
    assert!(name.ends_with(":4242") && name.len() > ":4242".len(), "{name}");
    let named = Config { name: Some("a".into()), ..Config::default() };
    assert_eq!(named.name_at(4242), "a");
}

#[test]
fn every_limit_that_carries_an_entry_has_room_for_the_largest() {
    assert_eq!(
        with(|c| c.max_value = 128 << 20).unwrap_err(),
        "--max-command 64MiB is less than one entry of --max-key plus --max-value (131136KiB): raise \
         --max-command, or lower --max-value"
    );
    assert!(with(|c| c.peer_queue = 1 << 20).unwrap_err().starts_with("--peer-queue 1MiB is less"));
    assert!(with(|c| c.max_memory = Some(1 << 20)).unwrap_err().starts_with("--max-memory 1MiB is less"));
    assert!(with(|c| (c.max_key, c.max_value) = (usize::MAX, usize::MAX)).is_err());
    assert_eq!(with(|c| c.max_memory = Some(1 << 30)), Ok(()));
    let evicting = |max_memory| {
        with(|c| {
            c.max_memory_policy = EvictionPolicy::AllKeysLru;
            c.max_memory = max_memory;
        })
    };
    assert_eq!(evicting(Some(1 << 30)), Ok(()));
    assert!(evicting(None).unwrap_err().starts_with("--max-memory-policy allkeys-lru needs a --max-memory"));
}

#[test]
fn a_limit_of_nothing_is_refused() {
    assert_eq!(with(|c| c.max_key = 0).unwrap_err(), "--max-key must be more than 0");
    assert_eq!(with(|c| c.max_value = 0).unwrap_err(), "--max-value must be more than 0");
    assert_eq!(with(|c| c.max_clients = 0).unwrap_err(), "--max-clients must be more than 0");
    assert_eq!(
        with(|c| c.max_clock_skew = Duration::ZERO).unwrap_err(),
        "--max-clock-skew must be more than 0"
    );
    assert_eq!(with(|c| c.drain_timeout = Duration::ZERO), Ok(()));
}

#[test]
fn tombstones_take_a_tenth_of_the_memory_and_a_million_always_fit() {
    let limit = |max_memory, tombstone_limit| {
        Config { max_memory, tombstone_limit, ..Config::default() }.effective_tombstone_limit()
    };
    assert_eq!(limit(None, None), 1_000_000);
    assert_eq!(limit(Some(1_000_000_000), None), 1_000_000);
    assert_eq!(limit(Some(1_000_001_000), None), 1_000_001);
    assert_eq!(limit(Some(u64::MAX), None), u64::MAX / 1000);
    assert_eq!(limit(Some(1 << 40), Some(5)), 5);
    assert_eq!(with(|c| c.tombstone_limit = Some(0)).unwrap_err(), "--tombstone-limit must be more than 0");
    assert_eq!(with(|c| c.tombstone_limit = Some(1)), Ok(()));
}

#[test]
fn a_member_is_not_forgotten_while_it_restarts() {
    assert_eq!(
        with(|c| c.forget_after = Some(Duration::from_millis(59_999))).unwrap_err(),
        "--forget-after 59999ms is too short: give 1m or more, or never"
    );
    assert_eq!(with(|c| c.forget_after = Some(Duration::from_secs(60))), Ok(()));
    assert_eq!(with(|c| c.forget_after = None), Ok(()));
}

#[test]
fn what_was_lost_is_kept_in_a_file() {
    for bad in ["", "/", ".."] {
        let refusal = with(|c| c.lost_file = Some(bad.into())).unwrap_err();
        assert!(refusal.starts_with(&format!("--lost-file {bad:?} names no file")), "{refusal}");
    }
    assert_eq!(with(|c| c.lost_file = Some("lost.jsonl".into())), Ok(()));
}
