//! A line that carries little: what takes long on it is not taken for a standstill.

use std::time::Duration;

use crate::support::{config, get, linked, set, start, until};
use sapwood::config::Config;
use sapwood::internal::Internals as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::interval;

/// Bytes that pass towards the dialler in each [`STEP`]: 80 KB a second.
const PIECE: usize = 1600;

const STEP: Duration = Duration::from_millis(20);

/// Passes connections on to `target`, what comes back slowly.
fn slow_proxy(listener: TcpListener, target: std::net::SocketAddr) {
    tokio::spawn(async move {
        while let Ok((inside, _)) = listener.accept().await {
            let Ok(outside) = TcpStream::connect(target).await else { continue };
            let ((mut from_dialler, mut to_dialler), (mut from_target, mut to_target)) =
                (inside.into_split(), outside.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut from_dialler, &mut to_target).await });
            tokio::spawn(async move {
                let mut steps = interval(STEP);
                let mut piece = [0; PIECE];
                while let Ok(read @ 1..) = from_target.read(&mut piece).await {
                    steps.tick().await;
                    if to_dialler.write_all(&piece[..read]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// The sender has handed all of the value to its socket at once, and receives nothing of the sync until it has arrived: that
/// takes longer than a sync may stand still.
#[tokio::test(start_paused = true)]
async fn a_sync_on_a_slow_line_is_not_ended_while_its_bytes_arrive() {
    const VALUE: usize = 1_900_000;
    let a = start("a", &[]).await;
    set(&a, b"large", &vec![7; VALUE]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    slow_proxy(listener, a.peer_addr().unwrap());
    // It does not listen for peers, so that every link is dialled through the proxy.
    let b = Config { peer: None, ..config("b", &[Some(proxy)]) };
    let b = sapwood::Node::start(b).await.unwrap();
    until("the value has arrived", || get(&b, b"large").is_some_and(|value| value.len() == VALUE)).await;
    until("linked", || linked(&a) == 1 && linked(&b) == 1).await;
    assert_eq!(
        (a.cluster().activity().links, b.cluster().activity().links),
        (1, 1),
        "the link was made anew"
    );
}
