//! A network that damages bytes: nothing damaged is merged, and the nodes converge.
//!
//! TCP's own checksum has 16 bits, and what damages bytes inside a host, a switch or a proxy is often past it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{config, get, linked, set, until, until_equal};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sapwood::Node;
use sapwood::config::Config;
use sapwood::internal::Internals as _;
use sapwood::internal::env::{Env as _, SystemEnv};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// One bit in about so many bytes is flipped: each link carries something, and not much.
const MEAN_DISTANCE: u64 = 40_000;

/// Passes connections on to the target and flips a bit now and then, in both directions.
struct DamagingProxy {
    addr: SocketAddr,
    damages: Arc<AtomicBool>,
}

impl DamagingProxy {
    async fn new(target: watch::Receiver<Option<SocketAddr>>, seed: u64) -> DamagingProxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let damages = Arc::new(AtomicBool::new(false));
        let flips = Arc::clone(&damages);
        tokio::spawn(async move {
            let mut seeds = StdRng::seed_from_u64(seed);
            while let Ok((inside, _)) = listener.accept().await {
                let Some(target) = *target.borrow() else { continue };
                let Ok(outside) = TcpStream::connect(target).await else { continue };
                let (inside, outside) = (inside.into_split(), outside.into_split());
                for (mut from, mut to) in [(inside.0, outside.1), (outside.0, inside.1)] {
                    let mut rng = StdRng::seed_from_u64(seeds.random());
                    let flips = Arc::clone(&flips);
                    tokio::spawn(async move {
                        let mut chunk = [0; 16 << 10];
                        let mut next = rng.random_range(0..2 * MEAN_DISTANCE);
                        while let Ok(read @ 1..) = from.read(&mut chunk).await {
                            if next < read as u64 && flips.load(Ordering::Relaxed) {
                                chunk[usize::try_from(next).unwrap()] ^= 1 << rng.random_range(0..8);
                                next = rng.random_range(0..2 * MEAN_DISTANCE);
                            }
                            next = next.saturating_sub(read as u64);
                            if to.write_all(&chunk[..read]).await.is_err() {
                                break;
                            }
                        }
                    });
                }
            }
        });
        DamagingProxy { addr, damages }
    }
}

/// What a key holds at any time: itself and a number, so often that most damaged bits hit it.
fn value(key: &str, round: u32) -> Vec<u8> {
    format!("{key}={round};").repeat(20).into_bytes()
}

fn assert_undamaged(node: &Node, keys: &[String], rounds: u32) {
    for key in keys {
        let Some(held) = get(node, key.as_bytes()) else { continue };
        assert!((0..rounds).any(|round| held == value(key, round)), "{key} holds {}", held.escape_ascii());
    }
}

#[tokio::test]
async fn a_network_that_flips_bits_costs_links_and_damages_no_value() {
    const ENOUGH: u64 = 6;
    const ROUNDS: u32 = 200;
    let seed = SystemEnv.random();
    println!("seed {seed}");
    let (set_target, target) = watch::channel(None);
    let proxy = DamagingProxy::new(target, seed).await;
    let a =
        Node::start(Config { advertise: Some(proxy.addr.to_string()), ..config("a", &[]) }).await.unwrap();
    set_target.send_replace(a.peer_addr());
    // The other one advertises an address that nobody listens on, so that every link is dialled through the proxy.
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let b = Config { advertise: Some(unused.to_string()), ..config("b", &[Some(proxy.addr)]) };
    let b = Node::start(b).await.unwrap();
    until("linked", || linked(&a) == 1 && linked(&b) == 1).await;

    let keys: Vec<String> = (0..200).map(|n| format!("key:{n}")).collect();
    let damaged = || a.cluster().activity().damaged_frames + b.cluster().activity().damaged_frames;
    proxy.damages.store(true, Ordering::Relaxed);
    let mut round = 0;
    until("links were ended by damaged frames", || {
        let node = if round % 2 == 0 { &a } else { &b };
        let written = round % ROUNDS;
        keys.iter().skip(written as usize % 7).step_by(7).for_each(|key| {
            set(node, key.as_bytes(), &value(key, written));
        });
        round += 1;
        assert_undamaged(&a, &keys, ROUNDS);
        assert_undamaged(&b, &keys, ROUNDS);
        damaged() >= ENOUGH
    })
    .await;
    proxy.damages.store(false, Ordering::Relaxed);
    until("linked again", || linked(&a) == 1 && linked(&b) == 1).await;
    until_equal(&[&a, &b]).await;
    assert_undamaged(&a, &keys, ROUNDS);
    assert_eq!(a.key_count(), 200);
}
