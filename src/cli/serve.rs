//! `sapwood serve`

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::bail;
use clap::CommandFactory as _;
use sapwood::Node;
use sapwood::config::Config;

use super::hangup::Hangup;
use super::output::{Paint, Stream};
use super::release::release_memory;
use super::reload::Reload;
use super::settings::ConfigArgs;
use super::stop::Stop;
use super::{Cli, Exit, logging};

/// Run a node until Ctrl-C or SIGTERM
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  One node on this machine:
    sapwood serve

  Three nodes on one machine, each in its own terminal; any one of them can be stopped:
    sapwood serve --name a --client 127.0.0.1:7171 --peer 127.0.0.1:7172 --http 127.0.0.1:7173
    sapwood serve --name b --client 127.0.0.1:7271 --peer 127.0.0.1:7272 --http 127.0.0.1:7273 --join 127.0.0.1:7172
    sapwood serve --name c --client 127.0.0.1:7371 --peer 127.0.0.1:7372 --http 127.0.0.1:7373 --join 127.0.0.1:7172

  One host of a cluster; the same line does for all three:
    sapwood serve --client 0.0.0.0:7171 --peer 0.0.0.0:7172 --join db-1:7172,db-2:7172,db-3:7172 \\
        --client-password-file /etc/sapwood/password --peer-secret-file /etc/sapwood/peer-secret

Started on a terminal, the node stops in order when the terminal is closed, as on SIGTERM. Without one, as under a supervisor,
SIGHUP reads --users-file, certificates and secrets of peers, and --log again, and logs which other settings have changed. The
node reads files of users, certificates and secrets by itself within some seconds after a change.

Sizes are written 64KiB, 16MiB or 1GiB (kb, mb, gb mean the same), times 500ms, 5s, 2m or 7d.
Exit codes: 0 stopped in order, 1 failed, 2 wrong usage, 4 stopped with writes that no other node holds.

`sapwood check-config` shows what these flags, the environment and a file come to.")]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let loaded = args.config.clone().load_checked(&Cli::command())?;
    let config = loaded.config.clone();
    let filter = logging::start(&loaded.log)?;
    let reload = Reload::new(args.config, loaded, filter);
    #[cfg(unix)]
    super::open_files::raise();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(serve(config, &reload));
    // Remaining tasks must not delay the end; after a second Ctrl-C there may be many.
    runtime.shutdown_background();
    exit
}

async fn serve(config: Config, reload: &Reload) -> anyhow::Result<Exit> {
    let (mut stop, mut hangup) = (Stop::new()?, Hangup::new()?);
    let node = Node::start(config.clone()).await?;
    greet(&config, &node)?;

    tokio::select! {
        signal = stop.asked() => tracing::info!(signal, "stopping: draining to the peers; Ctrl-C again ends at once"),
        () = hangup.terminal_closed(|| reload.run(&node)) => {
            tracing::info!(signal = "SIGHUP", "stopping: the terminal was closed: draining to the peers");
        }
        () = node.stopped() => {
            let why = if node.is_superseded() { "its name was taken" } else { "a client asked by SHUTDOWN" };
            tracing::info!(why, "stopping: draining to the peers");
        }
        never = release_memory(&node) => match never {}
    }
    // A terminal that closes sends SIGHUP more than once, from the shell and the system; further ones must not abort
    // the drain.
    let report = tokio::select! {
        report = node.shutdown() => report,
        signal = stop.asked() => bail!("{signal} while draining: ended at once, the last writes may be on no peer"),
    };
    tracing::info!("stopped");
    if node.is_superseded() {
        bail!("another node named {:?} has taken this one's place: give each its own --name", node.name());
    }
    Ok(if report.lost_writes() > 0 { Exit::Lost } else { Exit::Done })
}

/// Prints what is running, and commands to try next.
fn greet(config: &Config, node: &Node) -> io::Result<()> {
    let paint = Paint::on(Stream::Stdout);
    let listens = "no flag turns a listener of the node off";
    let (client, peer) = (node.client_addr().expect(listens), node.peer_addr().expect(listens));
    let peers = if config.join.is_empty() {
        format!("none (start another node with --join {})", dialled(peer))
    } else {
        config.join.join(", ")
    };
    let try_at = dialled(client);
    // With a password the command is shown without one: it must not be printed, and `redis-cli` asks for it.
    let next = match (&config.client_password, &config.users_file) {
        (None, None) => format!("sapwood set hello world --node {try_at}"),
        (None, Some(_)) => format!("redis-cli -h {} -p {} --user NAME --askpass", try_at.ip(), try_at.port()),
        (Some(_), _) => format!("redis-cli -h {} -p {} --askpass", try_at.ip(), try_at.port()),
    };

    let page = match node.http_addr() {
        Some(http) => format!("http://{}/", dialled(http)),
        None => "none (--http ADDR serves one)".into(),
    };

    let mut out = io::stdout().lock();
    writeln!(out, "{} {}", paint.bold("sapwood"), env!("CARGO_PKG_VERSION"))?;
    let rows = [
        ("node", format!("{} of cluster {}", node.name(), config.cluster)),
        ("clients", client.to_string()),
        ("peers", peer.to_string()),
        ("page", page),
        ("joining", peers),
        ("try", next),
    ];
    for (label, text) in rows {
        writeln!(out, "  {} {text}", paint.bold(&format!("{label:<8}")))?;
    }
    out.flush()
}

/// The address at which this host can dial a listener.
fn dialled(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}
