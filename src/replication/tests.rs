//! Peers that misbehave: hand-written bytes on the wire, against a running replication.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::codec::{self, MAX_FRAME, Packed};
use super::members::Summary;
use super::message::{
    Answer, Cells, Hello, MAGIC, Message, PeerAddress, Refusal, VERSIONS, WireCell, WireCopy, WireCopyState,
    WireCount, WireRemovedRegister, WireRetraction,
};
use super::replica::{Handshake, Verdict};
use super::*;
use crate::cluster::{Administration, Copies, Healing, PeerState, Statistics, Status, Way};
use crate::env::SystemEnv;
use crate::model::{HashSeed, RangeCount, Time, timestamp};
use crate::store::{Batch, Lengths, StoreConfig, Write};

const PATIENCE: Duration = Duration::from_secs(20);

struct TestNode {
    store: Arc<Store>,
    replication: Replication,
    address: SocketAddr,
}

async fn node(name: &str, id: u128, join: &[String]) -> TestNode {
    let incarnation = timestamp::incarnation(id).unwrap();
    let store = Arc::new(Store::new(StoreConfig {
        seed: HashSeed::of_cluster("oak"),
        ranges: RangeCount::power_of_two(4),
        incarnation,
        max_memory: None,
        eviction: crate::store::EvictionPolicy::NoEviction,
        lengths: Lengths::UNLIMITED,
        feed_limit: 1 << 20,
    }));
    let listener = SystemEnv.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let own = Identity {
        cluster: "oak".into(),
        name: name.into(),
        advertise: address.to_string(),
        max_clock_skew: Duration::from_millis(500),
    };
    let setup = Setup {
        store: Arc::clone(&store),
        stats: Arc::new(Stats::new([])),
        env: Arc::new(SystemEnv),
        own,
        incarnation,
        tls: None,
        healing: HealingConfig {
            max_clock_skew: Duration::from_millis(500),
            forget_after: None,
            tombstone_limit: 1_000_000,
        },
        join: join.to_vec(),
        client_port: None,
        known_address: false,
        queue_limit: 1 << 20,
        lost_file: None,
        handshakes: MAX_HANDSHAKES,
        enable_faults: true,
        ready_alone_after: Duration::from_secs(30),
        node_stops: CancellationToken::new(),
    };
    let replication = Replication::start(setup, Some(listener)).unwrap();
    TestNode { store, replication, address }
}

/// A peer that sends only what the test makes it send.
struct Puppet(TcpStream);

impl Puppet {
    /// Connects and sends a hello under the name `puppet`, with a hybrid clock that is `ahead`.
    async fn greet(to: &TestNode, ahead: Duration) -> Puppet {
        Puppet::greet_at(to, SystemEnv.wall_clock(), ahead).await
    }

    /// Does the same with a hello that was written at `now`.
    async fn greet_at(to: &TestNode, now: Time, ahead: Duration) -> Puppet {
        let mut puppet = Puppet(TcpStream::connect(to.address).await.unwrap());
        let hello = Hello {
            magic: MAGIC,
            versions: VERSIONS,
            cluster: "oak",
            name: "puppet",
            incarnation: 77,
            wall: now.0,
            hlc: timestamp::later(now, ahead).0,
            advertise: "127.0.0.1:1",
            max_frame: MAX_FRAME as u64,
            generation: 1,
            extension: b"from a later version",
        };
        puppet.send(&codec::frame(&hello)).await;
        puppet
    }

    /// Connects and links.
    async fn link(to: &TestNode) -> Puppet {
        let mut puppet = Puppet::greet(to, Duration::ZERO).await;
        codec::decode::<Hello<'_>>(&puppet.receive().await.unwrap()).unwrap();
        puppet.welcome(SystemEnv.wall_clock()).await;
        puppet
    }

    /// Accepts the link with a welcome of its clock `wall`, and waits until the other side accepts it too.
    async fn welcome(&mut self, wall: Time) {
        self.send(&codec::frame(&Message::Welcome { wall: wall.0 })).await;
        let answer = self.receive().await.unwrap();
        let answer = codec::decode::<Message<'_>>(&answer).unwrap();
        assert!(matches!(answer, Message::Welcome { .. }), "{answer:?}");
    }

    async fn send(&mut self, bytes: &[u8]) {
        // The other side may have closed already; the tests check whether it did.
        let _ = self.0.write_all(bytes).await;
    }

    /// Returns the message of the next frame; `None` when the other side has closed.
    async fn receive(&mut self) -> Option<Vec<u8>> {
        let mut frame = vec![0; codec::HEADER];
        timeout(PATIENCE, self.0.read_exact(&mut frame)).await.expect("received in time").ok()?;
        let length = u32::from_be_bytes(*frame.first_chunk().unwrap()) as usize;
        frame.resize(codec::HEADER + length, 0);
        self.0.read_exact(&mut frame[codec::HEADER..]).await.ok()?;
        Some(codec::open(&frame).expect("undamaged").to_vec())
    }

    /// Returns the length of the next frame's message.
    async fn peek_length(&mut self) -> usize {
        let mut length = [0; 4];
        while timeout(PATIENCE, self.0.peek(&mut length)).await.expect("received in time").unwrap()
            < length.len()
        {
            sleep(Duration::from_millis(1)).await;
        }
        u32::from_be_bytes(length) as usize
    }

    /// Waits until the other side has closed.
    async fn until_closed(mut self) {
        while self.receive().await.is_some() {}
    }

    /// Sends only heartbeats, one a second, until the other side has closed.
    async fn send_heartbeats(mut self) {
        loop {
            let now = SystemEnv.wall_clock().0;
            self.send(&heartbeat(now, now, &[])).await;
            let mut ignored = [0; 64 << 10];
            let ended = async { while self.0.read(&mut ignored).await.is_ok_and(|read| read > 0) {} };
            if timeout(Duration::from_secs(1), ended).await.is_ok() {
                return;
            }
        }
    }
}

/// A cell that holds `v`, written by the first origin.
fn wire_cell(key: &[u8], time: u64) -> WireCell<'_> {
    WireCell {
        key,
        time,
        origin: 0,
        value: Some(b"v"),
        deadline: None,
        deadline_timestamp: None,
        counter: None,
    }
}

fn put(key: &[u8], time: u64) -> Vec<u8> {
    let mut cells = Vec::new();
    codec::append(&wire_cell(key, time), &mut cells);
    let cells = Cells { origins: &77u128.to_le_bytes(), cells: Packed(&cells) };
    codec::frame(&Message::Put { through: 0, cells }).to_vec()
}

const SUMMARY: message::Summary<'_> =
    message::Summary { stable: 0, members: 5, vector: Packed(&[]), away: Packed(&[]), hashes: &[] };

fn start(sync: u32) -> Vec<u8> {
    codec::frame(&Message::Start { sync, deep: false, probe: false, summary: SUMMARY }).to_vec()
}

fn heartbeat(wall: u64, hlc: u64, peers: &[u8]) -> Vec<u8> {
    let none = Packed(&[]);
    let heartbeat = message::Heartbeat {
        wall,
        hlc,
        summary: SUMMARY,
        keys: 0,
        peers: Packed(peers),
        members: none,
        reports: none,
        figures: none,
    };
    codec::frame(&Message::Heartbeat(heartbeat)).to_vec()
}

fn seen() -> Vec<u8> {
    let copy = WireCopy {
        state: WireCopyState::Live,
        value: Some(b"9"),
        value_bytes: 1,
        timestamp: Some((5, [7; 16])),
        deadline: Some(6),
        counter: Some(WireCount { total: -9, base: Some(1), slots: Packed(&[]) }),
    };
    codec::frame(&Message::KeyReply { query: 7, copy }).to_vec()
}

fn retract() -> Vec<u8> {
    let mut items = Vec::new();
    let register = WireRemovedRegister { timestamp: (1 << 32, 0), deadline: (2 << 32, 0), given_up: true };
    let slots = Packed(&[0, 1, 2, 1]);
    let retraction = WireRetraction { key: b"k", register: Some(register), expiry: Some((3, 0)), slots };
    codec::append(&retraction, &mut items);
    codec::frame(&Message::Retract { sync: 1, origins: &77u128.to_le_bytes(), items: Packed(&items) })
        .to_vec()
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"));
}

fn linked(node: &TestNode, name: &str) -> bool {
    node.replication.peers().iter().any(|peer| peer.name == name && peer.state.is_linked())
}

/// Returns the reply to the query with this number, unless the link ends first.
async fn answer(puppet: &mut Puppet, query: u32) -> Option<crate::store::KeyCopy> {
    loop {
        let frame = puppet.receive().await?;
        match codec::decode::<Message<'_>>(&frame).unwrap() {
            Message::KeyReply { query: number, copy } if number == query => {
                return Some(key_query::read(&copy).unwrap());
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_key_query_is_answered_and_an_unexpected_reply_is_ignored() {
    let a = node("a", 1, &[]).await;
    let mut batch = Batch::default();
    a.store.begin(&mut batch, SystemEnv.wall_clock());
    a.store.write(&mut batch, b"k", |_| (Write::Set { value: b"v", deadline: None }, ())).unwrap();
    let mut puppet = Puppet::link(&a).await;
    puppet.send(&seen()).await;
    puppet.send(&codec::frame(&Message::KeyQuery { query: 5, key: b"k" })).await;
    let copy = answer(&mut puppet, 5).await.unwrap();
    assert_eq!((copy.value.as_deref(), copy.value_bytes), (Some(&b"v"[..]), 1));
    assert_eq!(copy.timestamp.unwrap().incarnation(), a.store.own_incarnation());
    puppet.send(&codec::frame(&Message::KeyQuery { query: 6, key: b"nope" })).await;
    assert_eq!(answer(&mut puppet, 6).await, Some(crate::store::KeyCopy::default()));
    assert!(linked(&a, "puppet"));
    // The puppet does not answer by itself: the query gets no reply.
    assert_eq!(a.replication.query_key(b"k").await, [("puppet".to_owned(), None)]);
    let torn = WireCount { total: 1, base: None, slots: Packed(b"torn") };
    let copy = WireCopy {
        state: WireCopyState::Live,
        value: None,
        value_bytes: 0,
        timestamp: None,
        deadline: None,
        counter: Some(torn),
    };
    puppet.send(&codec::frame(&Message::KeyReply { query: 1, copy })).await;
    puppet.until_closed().await;
}

#[tokio::test]
async fn a_mistake_on_the_wire_ends_its_own_link_and_applies_nothing() {
    let a = node("a", 1, &[]).await;
    let b = node("b", 2, &[a.address.to_string()]).await;
    until("a and b are linked", || linked(&a, "b") && linked(&b, "a")).await;

    let now = SystemEnv.wall_clock();
    let frame = |message: &[u8]| codec::seal([&[0; codec::HEADER], message].concat()).to_vec();
    let message = |frame: &[u8]| codec::open(frame).unwrap().to_vec();
    let trailing = frame(&[&message(&put(b"trailing", now.0))[..], b"x"].concat());
    let truncated = frame(&message(&put(b"truncated", now.0))[..26]);
    let damaged = {
        let mut damaged = put(b"damaged", now.0);
        *damaged.last_mut().unwrap() ^= 1;
        damaged
    };
    let unknown_origin = {
        let mut cells = Vec::new();
        let cell = WireCell {
            key: b"origin",
            time: now.0,
            origin: 9,
            value: None,
            deadline: None,
            deadline_timestamp: None,
            counter: None,
        };
        codec::append(&cell, &mut cells);
        codec::frame(&Message::Put { through: 0, cells: Cells { origins: &[], cells: Packed(&cells) } })
            .to_vec()
    };
    let half_good = {
        let mut cells = Vec::new();
        for time in [now.0, timestamp::later(now, Duration::from_secs(400)).0] {
            codec::append(&wire_cell(b"half", time), &mut cells);
        }
        let cells = Cells { origins: &77u128.to_le_bytes(), cells: Packed(&cells) };
        codec::frame(&Message::Put { through: 0, cells }).to_vec()
    };
    let mistakes = [
        ("a frame too large", codec::header(u32::MAX, 0).to_vec()),
        ("a damaged frame", damaged),
        ("a truncated message", truncated),
        ("trailing bytes", trailing),
        ("an unknown message", frame(&[200, 1, 2, 3])),
        ("an empty message", frame(&[])),
        ("an origin that is not listed", unknown_origin),
        ("a timestamp far in the future", put(b"future", timestamp::later(now, Duration::from_secs(400)).0)),
        ("a timestamp at the end of time", put(b"end", u64::MAX)),
        ("a good cell beside one from the future", half_good),
        ("a second welcome", codec::frame(&Message::Welcome { wall: now.0 }).to_vec()),
        ("two syncs at one time", [start(1), start(2)].concat()),
        ("a heartbeat from the future", {
            let wall = timestamp::later(now, Duration::from_secs(400)).0;
            heartbeat(wall, now.0, &[])
        }),
    ];
    for (what, bytes) in mistakes {
        let mut puppet = Puppet::link(&a).await;
        puppet.send(&bytes).await;
        timeout(PATIENCE, puppet.until_closed()).await.unwrap_or_else(|_| panic!("survived {what}"));
        until("the puppet is unlinked", || !linked(&a, "puppet")).await;
        assert!(linked(&a, "b"), "{what} ended another link");
    }
    for key in [&b"trailing"[..], b"truncated", b"damaged", b"origin", b"future", b"end", b"half"] {
        assert_eq!(a.store.meta(key, timestamp::ZERO), None, "{:?}", String::from_utf8_lossy(key));
    }
    let later = a.store.now(SystemEnv.wall_clock());
    assert!(timestamp::distance(later, now) < Duration::from_secs(60), "the clock was carried off");
    assert_eq!(a.replication.activity().damaged_frames, 1);
}

/// A large value on a slow link: the link is not silent while a frame arrives, not only when it is
/// complete.
#[tokio::test(start_paused = true)]
async fn a_frame_that_takes_longer_than_the_silence_limit_is_not_silence() {
    let a = node("a", 1, &[]).await;
    let mut puppet = Puppet::link(&a).await;
    until("linked", || linked(&a, "puppet")).await;
    let frame = put(b"slow", SystemEnv.wall_clock().0);
    let (first, rest) = frame.split_at(frame.len() - 14);
    puppet.send(first).await;
    for byte in rest {
        sleep(Duration::from_millis(500)).await;
        puppet.send(&[*byte]).await;
    }
    until("the frame was taken", || a.store.meta(b"slow", timestamp::ZERO).is_some()).await;
    assert!(linked(&a, "puppet"));
}

#[tokio::test]
async fn pushes_are_merged_and_acknowledged_with_their_epoch() {
    let a = node("a", 1, &[]).await;
    let mut puppet = Puppet::link(&a).await;
    let now = SystemEnv.wall_clock().0;
    puppet.send(&put(b"one", now)).await;
    puppet.send(&codec::frame(&Message::Gap)).await;
    puppet.send(&put(b"two", now)).await;
    let mut acknowledged = None;
    while acknowledged != Some((1, 1)) {
        let frame = puppet.receive().await.expect("the link lives");
        if let Message::Ack { epoch, puts } = codec::decode(&frame).unwrap() {
            acknowledged = Some((epoch, puts));
        }
    }
    assert!(
        a.store.meta(b"one", timestamp::ZERO).is_some() && a.store.meta(b"two", timestamp::ZERO).is_some()
    );
}

/// A peer that never grants credit and never acknowledges: the node's memory for it stays bounded, and one
/// `Gap` reports the overflow.
#[tokio::test]
async fn a_peer_that_takes_nothing_costs_its_queue_and_the_credit() {
    let a = node("a", 1, &[]).await;
    let mut puppet = Puppet::link(&a).await;
    until("linked", || linked(&a, "puppet")).await;
    let mut batch = Batch::default();
    for key in 0..40_000u32 {
        a.store.begin(&mut batch, SystemEnv.wall_clock());
        let write = Write::Set { value: &[7; 1000], deadline: None };
        a.store.write(&mut batch, &key.to_le_bytes(), |_| (write, ())).unwrap();
        a.store.publish(&mut batch);
        if key % 100 == 0 {
            tokio::task::yield_now().await;
            let queued = a.replication.peers()[0].queued_bytes;
            assert!(queued <= 1 << 20, "{queued} bytes wait for the peer");
        }
    }
    loop {
        let frame = puppet.receive().await.expect("the link lives");
        if codec::decode::<Message<'_>>(&frame).unwrap() == Message::Gap {
            break;
        }
    }
}

#[tokio::test]
async fn nothing_of_a_handshake_passes_a_cut() {
    let a = node("a", 1, &[]).await;
    let faults = &a.replication.shared.faults;
    let cuts =
        ["*", "puppet"].into_iter().flat_map(|name| [Way::In, Way::Out, Way::Both].map(|way| (name, way)));
    for (name, way) in cuts {
        faults.cut(name, way);
        let mut puppet = Puppet::greet(&a, Duration::from_secs(3)).await;
        assert_eq!(puppet.receive().await, None, "a answers through a cut of {name}, {way:?}");
        let lead = timestamp::distance(a.store.now(SystemEnv.wall_clock()), SystemEnv.wall_clock());
        assert!(lead < Duration::from_secs(1), "a cut of {name}, {way:?}: the clock was moved by {lead:?}");
        assert_eq!(a.replication.peers(), []);
        assert_eq!(a.replication.healing().members, 1);
        assert!(faults.mend("*", Way::Both));
    }
    Puppet::link(&a).await;
    until("linked once mended", || linked(&a, "puppet")).await;
}

/// The dialler sends the first hello: the other side learns its clock and address from that.
#[tokio::test]
async fn a_hello_that_is_not_followed_by_a_welcome_changes_nothing() {
    let a = node("a", 1, &[]).await;
    let mut puppet = Puppet::greet(&a, Duration::from_secs(3)).await;
    codec::decode::<Hello<'_>>(&puppet.receive().await.unwrap()).unwrap();
    puppet.0.shutdown().await.unwrap();
    timeout(PATIENCE, puppet.until_closed()).await.expect("the other side closes");
    let lead = timestamp::distance(a.store.now(SystemEnv.wall_clock()), SystemEnv.wall_clock());
    assert!(lead < Duration::from_secs(1), "the clock was moved by {lead:?}");
    assert_eq!(a.replication.peers(), []);
}

/// The connection waits in the backlog while the node is stopped, or has no descriptors left.
#[tokio::test]
async fn a_clock_is_judged_by_the_welcome_and_not_by_a_hello_that_waited_to_be_accepted() {
    let a = node("a", 1, &[]).await;
    let ago = |time: Duration| Time(SystemEnv.wall_clock().0 - timestamp::time_since_epoch(time).0);
    let hour = Duration::from_secs(3600);
    let mut puppet = Puppet::greet_at(&a, ago(hour), Duration::ZERO).await;
    codec::decode::<Hello<'_>>(&puppet.receive().await.unwrap()).unwrap();
    puppet.welcome(SystemEnv.wall_clock()).await;
    assert!(linked(&a, "puppet"));
    puppet.0.shutdown().await.unwrap();
    until("the puppet is unlinked", || !linked(&a, "puppet")).await;

    let mut puppet = Puppet::greet(&a, Duration::ZERO).await;
    codec::decode::<Hello<'_>>(&puppet.receive().await.unwrap()).unwrap();
    puppet.send(&codec::frame(&Message::Welcome { wall: ago(hour).0 })).await;
    let answer = puppet.receive().await.unwrap();
    let answer = codec::decode::<Message<'_>>(&answer).unwrap();
    assert!(matches!(answer, Message::Refuse { refusal: Refusal::Skewed, .. }), "{answer:?}");
    let [row] = &a.replication.peers()[..] else { panic!() };
    assert_eq!(row.state, PeerState::Skewed, "{row:?}");
}

/// The hello waited in the socket's buffer while the node was stopped.
#[tokio::test]
async fn a_heartbeat_that_is_an_hour_old_does_not_end_its_link() {
    let a = node("a", 1, &[]).await;
    let mut puppet = Puppet::link(&a).await;
    let then = SystemEnv.wall_clock().0 - timestamp::time_since_epoch(Duration::from_secs(3600)).0;
    puppet.send(&heartbeat(then, then, &[])).await;
    puppet.send(&put(b"after it", then)).await;
    until("what follows it is merged", || a.store.meta(b"after it", timestamp::ZERO).is_some()).await;
    assert!(linked(&a, "puppet"));
}

#[tokio::test]
async fn nobody_is_dialled_through_a_cut_of_all() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let a = node("a", 1, &[listener.local_addr().unwrap().to_string()]).await;
    drop(timeout(PATIENCE, listener.accept()).await.expect("dialled").unwrap());
    a.replication.cut("*", Way::In).unwrap();
    // A connection may have been opened before the cut. After it the pauses between two attempts are shorter
    // than this.
    let quiet = Duration::from_millis(1500);
    let mut accepted = 0;
    while let Ok(connection) = timeout(quiet, listener.accept()).await {
        drop(connection.unwrap());
        accepted += 1;
        assert!(accepted < 2, "dialled through the cut");
    }
    a.replication.mend("*", Way::Both).unwrap();
    timeout(PATIENCE, listener.accept()).await.expect("dialled once mended").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_merged_once_a_cut_has_returned() {
    /// Enough that a merge takes a while.
    const CELLS: u32 = 2_000;
    let a = node("a", 1, &[]).await;
    let puppet = Puppet::link(&a).await;
    let (mut from, mut to) = puppet.0.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from, &mut tokio::io::sink()).await });
    tokio::spawn(async move {
        loop {
            let time = SystemEnv.wall_clock().0;
            let mut cells = Vec::new();
            for key in 0..CELLS {
                let cell = WireCell {
                    key: &key.to_le_bytes(),
                    time: time + u64::from(key),
                    origin: 0,
                    value: Some(b"v"),
                    deadline: None,
                    deadline_timestamp: None,
                    counter: None,
                };
                codec::append(&cell, &mut cells);
            }
            let cells = Cells { origins: &77u128.to_le_bytes(), cells: Packed(&cells) };
            if to.write_all(&codec::frame(&Message::Put { through: 0, cells })).await.is_err() {
                return;
            }
        }
    });
    for sync in 0..40 {
        let before = a.store.totals().live;
        until("something is merged", || a.store.totals().live != before).await;
        let (peer, way) = (["puppet", "*"][sync % 2], [Way::In, Way::Both][sync / 2 % 2]);
        a.replication.cut(peer, way).unwrap();
        let at_the_cut = a.store.totals().live;
        for _ in 0..20 {
            sleep(Duration::from_millis(1)).await;
            assert_eq!(a.store.totals().live, at_the_cut, "merged through a cut of {peer}, {way:?}");
        }
        a.replication.mend(peer, way).unwrap();
    }
}

#[tokio::test]
async fn a_frame_that_a_cut_interrupts_goes_on_when_it_is_mended() {
    const VALUE: usize = 64 << 20;
    let a = node("a", 1, &[]).await;
    let mut puppet = Puppet::link(&a).await;
    until("linked", || linked(&a, "puppet")).await;
    let mut batch = Batch::default();
    a.store.begin(&mut batch, SystemEnv.wall_clock());
    let value = vec![7; VALUE];
    a.store.write(&mut batch, b"large", |_| (Write::Set { value: &value, deadline: None }, ())).unwrap();
    a.store.publish(&mut batch);
    // The puppet reads up to the head of the large frame, so that this frame is under way.
    while puppet.peek_length().await < VALUE {
        puppet.receive().await.unwrap();
    }
    a.replication.cut("puppet", Way::Out).unwrap();
    let mut frame = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    while let Ok(read) = timeout(Duration::from_millis(300), puppet.0.read(&mut chunk)).await {
        frame.extend_from_slice(&chunk[..read.unwrap()]);
    }
    assert!(frame.len() < VALUE, "all of the frame has passed the cut");
    a.replication.mend("puppet", Way::Out).unwrap();
    let whole = codec::HEADER + u32::from_be_bytes(*frame.first_chunk().unwrap()) as usize;
    while frame.len() < whole {
        let read = timeout(PATIENCE, puppet.0.read(&mut chunk)).await.expect("the rest comes").unwrap();
        frame.extend_from_slice(&chunk[..read]);
    }
    codec::open(&frame[..whole]).expect("it is one frame");
}

/// A peer that sends heartbeats, and answers nothing once a sync has begun.
#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_answering_in_a_sync_holds_up_nobody_and_loses_its_link() {
    let a = node("a", 1, &[]).await;
    let mut batch = Batch::default();
    for key in 0..100u32 {
        a.store.begin(&mut batch, SystemEnv.wall_clock());
        let write = Write::Set { value: b"v", deadline: None };
        a.store.write(&mut batch, &key.to_le_bytes(), |_| (write, ())).unwrap();
        a.store.publish(&mut batch);
    }
    let mut puppet = Puppet::link(&a).await;
    puppet.send(&start(2)).await;
    let accepted = loop {
        let frame = puppet.receive().await.expect("the link lives");
        match codec::decode::<Message<'_>>(&frame).unwrap() {
            // Its own offer yields, or is answered before the puppet's.
            Message::Accept { .. } => break Instant::now(),
            Message::Start { sync, .. } => {
                let sums = vec![7; 8 * crate::model::TreeNode::groups(a.store.ranges()).count()];
                puppet.send(&codec::frame(&Message::Accept { sync, summary: SUMMARY, sums: &sums })).await;
                break Instant::now();
            }
            _ => {}
        }
    };
    let beating = tokio::spawn(puppet.send_heartbeats());
    let b = node("b", 2, &[a.address.to_string()]).await;
    until("b has the state of a", || b.store.totals().live_cells == 100).await;
    let waited = accepted.elapsed();
    assert!(waited < Duration::from_secs(8), "the sync that stands still held up another for {waited:?}");
    assert!(linked(&a, "puppet"), "it is too early to give it up");
    until("the puppet's link has ended", || !linked(&a, "puppet")).await;
    let reason = a.replication.peers().into_iter().find(|peer| peer.name == "puppet").unwrap().reason;
    assert!(reason.contains("stood still"), "{reason}");
    let ended = accepted.elapsed();
    assert!(ended < Duration::from_secs(20), "after {ended:?}");
    beating.await.unwrap();
}

/// Goal: no bytes make a decoder panic or allocate out of proportion. Method: random bytes, and messages with
/// random bytes changed, through everything that decodes what a peer sends. `SAPWOOD_FUZZ_CASES` sets how many.
#[test]
fn random_and_mutated_bytes_never_panic_nor_over_allocate() {
    let cases = std::env::var("SAPWOOD_FUZZ_CASES").map_or(20_000, |n| n.parse().expect("a number"));
    let seed = std::env::var("SAPWOOD_FUZZ_SEED")
        .map_or_else(|_| SystemEnv.random(), |n| n.parse().expect("a number"));
    println!("SAPWOOD_FUZZ_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let store = Store::new(StoreConfig {
        seed: HashSeed::of_cluster("oak"),
        ranges: RangeCount::power_of_two(4),
        incarnation: timestamp::incarnation(1).unwrap(),
        max_memory: None,
        eviction: crate::store::EvictionPolicy::NoEviction,
        lengths: Lengths::UNLIMITED,
        feed_limit: 0,
    });
    let mut peers = Vec::new();
    codec::append(&PeerAddress { name: "b", incarnation: 2, advertise: "b:7172" }, &mut peers);
    let valid: Vec<Vec<u8>> = [
        put(b"key", 1 << 32),
        heartbeat(1, 2, &peers),
        seen(),
        codec::frame(&Message::Refuse { refusal: Refusal::Skewed, text: "late" }).to_vec(),
        codec::frame(&Message::Ack { epoch: 1, puts: 1 << 40 }).to_vec(),
        start(7),
        codec::frame(&Message::Digests { sync: 1, answer: Answer::Differ, items: Packed(b"items") }).to_vec(),
        retract(),
    ]
    .map(|frame| codec::open(&frame).unwrap().to_vec())
    .into();
    let (mut decoded, mut cells_seen) = (0u32, 0u32);
    for _ in 0..cases {
        let bytes = if rng.random_bool(0.3) {
            (0..rng.random_range(0..64)).map(|_| rng.random()).collect()
        } else {
            let mut bytes = valid[rng.random_range(0..valid.len())].clone();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = rng.random();
            }
            bytes.truncate(rng.random_range(bytes.len() / 2..=bytes.len()));
            bytes
        };
        let _ = codec::decode::<Hello<'_>>(&bytes);
        let Ok(message) = codec::decode::<Message<'_>>(&bytes) else { continue };
        decoded += 1;
        match message {
            Message::Put { cells, .. } | Message::Cells { cells, .. } => {
                if let Ok(checked) = cells.check(&store, Time(0), Time(u64::MAX)) {
                    assert!(checked.cells.capacity() <= bytes.len(), "more cells than bytes");
                    cells_seen += 1;
                }
            }
            Message::Heartbeat(heartbeat) => {
                let _ = heartbeat::read(&heartbeat, Time(u64::MAX));
            }
            Message::Start { summary, .. } => drop(Summary::read(&summary)),
            Message::Retract { origins, items, .. } => drop(cells::read_retractions(&store, origins, items)),
            Message::KeyReply { copy, .. } => drop(key_query::read(&copy)),
            _ => {}
        }
    }
    assert!(decoded > 0 && cells_seen > 0, "the mutations are too wild to test anything");
}

#[test]
fn golden_bytes_pin_the_wire() {
    let hello = Hello {
        magic: MAGIC,
        versions: VERSIONS,
        cluster: "oak",
        name: "a",
        incarnation: 7,
        wall: 1 << 32,
        hlc: 300,
        advertise: ":7172",
        max_frame: 1 << 20,
        generation: 3,
        extension: &[],
    };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(
        hex(&codec::frame(&hello)),
        "0000002a2ff0911000fa39d7736170776f6f64000606036f616b016107fd0000000001000000fb2c01053a37313732fc000010000300"
    );
    assert_eq!(
        hex(&put(b"k", 1 << 32)),
        "000000262c221f352e212f630300104d00000000000000000000000000000012016bfd000000000100000000010176000000"
    );
    let few = [
        codec::frame(&Message::Welcome { wall: 5 }),
        codec::frame(&Message::Refuse { refusal: Refusal::WrongCluster, text: "no" }),
        heartbeat(1, 2, b"xy").into(),
        codec::frame(&Message::Ack { epoch: 1, puts: 300 }),
        codec::frame(&Message::Gap),
        start(5).into(),
        codec::frame(&Message::Accept { sync: 5, summary: SUMMARY, sums: b"s" }),
        codec::frame(&Message::Coverage { sync: 5, items: Packed(b"x") }),
        codec::frame(&Message::Digests { sync: 5, answer: Answer::Exact, items: Packed(b"x") }),
        codec::frame(&Message::Differ { sync: 5, items: Packed(b"x") }),
        codec::frame(&Message::List { sync: 5, origins: b"o", items: Packed(b"x") }),
        codec::frame(&Message::Uncovered { sync: 5, items: Packed(b"x") }),
        codec::frame(&Message::Cells {
            sync: 5,
            cells: Cells { origins: b"", cells: Packed(b"") },
            ends: Packed(b"e"),
        }),
        codec::frame(&Message::Retract { sync: 5, origins: b"o", items: Packed(b"x") }),
        codec::frame(&Message::Credit { sync: 5, bytes: 6 }),
        codec::frame(&Message::Done { sync: 5 }),
        codec::frame(&Message::Abort { sync: 5, reason: "no" }),
        codec::frame(&Message::Goodbye),
        codec::frame(&Message::Publish { channel: b"c", message: b"m" }),
        codec::frame(&Message::KeyQuery { query: 7, key: b"k" }),
        seen().into(),
    ];
    assert_eq!(
        few.iter().map(|frame| hex(codec::open(frame).unwrap())).collect::<Vec<_>>().join(" "),
        "0005 0100026e6f 020102000500000000027879000000 0401fb2c01 05 060500000005000000 070500050000000173 08050178 0905020178 0a050178 \
         0b05016f0178 0c050178 0d0500000165 0e05016f0178 0f0506 1005 1105026e6f 12 130163016d 1407016b \
         1507020101390101050707070707070707070707070707070701060111010200"
    );
    // Every kind of message is here: there is none after the last.
    let kinds = few
        .iter()
        .map(|frame| codec::open(frame).unwrap()[0])
        .chain([codec::open(&put(b"k", 1)).unwrap()[0]]);
    let kinds: std::collections::BTreeSet<_> = kinds.collect();
    let count = u8::try_from(kinds.len()).unwrap();
    assert_eq!(kinds, (0..count).collect());
    let next = [&[count], &[0; 64][..]].concat();
    assert!(matches!(codec::decode::<Message<'_>>(&next), Err(codec::CodecError::Malformed(_))));
}

#[tokio::test]
async fn a_node_whose_certificate_is_of_another_node_is_refused_on_both_sides() {
    let node = node("a", 1, &[]).await;
    let replica = &node.replication.shared.replica;
    let (wall, now) = (SystemEnv.wall_clock(), Instant::now());
    let hello = codec::frame(&Hello {
        magic: MAGIC,
        versions: VERSIONS,
        cluster: "oak",
        name: "b",
        incarnation: 77,
        wall: wall.0,
        hlc: wall.0,
        advertise: "",
        max_frame: MAX_FRAME as u64,
        generation: 1,
        extension: &[],
    });
    let dialled = Handshake::dial(replica, wall, now).0;
    for handshake in [Handshake::accept(), dialled] {
        let mut handshake = handshake.requiring(Some("c".into()));
        let remote = "127.0.0.1:1".parse().unwrap();
        let reply = handshake.receive(replica, codec::open(&hello).unwrap(), remote, wall, now).unwrap();
        let Verdict::Refused(refused) = reply.verdict else { panic!("it is accepted") };
        assert_eq!(refused.refusal, Refusal::Untrusted);
        assert!(
            refused.text.contains("the certificate is of node \"c\", and it calls itself \"b\""),
            "{}",
            refused.text
        );
        let told = codec::decode::<Message<'_>>(codec::open(reply.send.last().unwrap()).unwrap()).unwrap();
        assert!(matches!(told, Message::Refuse { refusal: Refusal::Untrusted, .. }), "{told:?}");
    }
}
