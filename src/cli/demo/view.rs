//! The terminal view of the demo: one row for each node, redrawn in place.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use sapwood::Node;
use sapwood::internal::Internals as _;
use tokio::time::{MissedTickBehavior, interval};

use super::nodes::DemoNodes;
use crate::cli::in_place::InPlace;
use crate::cli::output::{Paint, Stream, Table, grouped, rough_size};

/// How often the view is redrawn.
const FRAME: Duration = Duration::from_millis(250);

/// Redraws until the future is dropped.
pub(super) async fn run(demo: &DemoNodes) -> io::Result<Infallible> {
    let mut place = InPlace::new();
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        frames.tick().await;
        place.draw(&lines(demo, Paint::on(Stream::Stdout)))?;
    }
}

/// The lines of the view.
pub(super) fn lines(demo: &DemoNodes, paint: Paint) -> Vec<String> {
    let mut table = Table::default();
    table.row(["NODE", "STATE", "CLIENTS", "KEYS", "TOMBSTONES", "MEMORY", "DIGEST", "LINKS"]);
    for (name, node) in demo.all() {
        match node {
            Some(node) => table.row(row(&node)),
            None => table.row([name, "stopped".to_owned()]),
        }
    }
    table.painted(paint, Some(1))
}

fn row(node: &Node) -> [String; 8] {
    let links = node.peers().into_iter().map(|peer| {
        let differing = match peer.ranges_differing {
            0 => String::new(),
            ranges => format!(" ({} ranges differ)", grouped(ranges)),
        };
        format!("{} {}{differing}", peer.name, peer.state.as_str())
    });
    [
        node.name().to_owned(),
        node.state().as_str().to_owned(),
        node.client_addr().map_or_else(String::new, |address| address.to_string()),
        grouped(node.key_count()),
        grouped(node.store().totals().dead_cells),
        rough_size(node.store().memory()),
        node.digest().to_string(),
        links.collect::<Vec<_>>().join(", "),
    ]
}
