//! `sapwood demo --script heal`: load, join, relay, isolate, diverge, mend, equal.
//!
//! Each step waits at most [`PATIENCE`] for its result, and fails if that does not come. At the end, every value
//! written during the partition is read from every node.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use sapwood::status::Way;
use sapwood::{Digest, Node};
use tokio::time::{Instant, sleep};

use super::ending::{Ending, Outcome};
use super::narrator::{Bar, Narrator};
use super::nodes::{DemoNodes, LOADED};
use crate::cli::output::{grouped, rough_size};

/// Time limit of each wait: a dead link is closed after some seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is checked while its time is measured.
const LOOK: Duration = Duration::from_millis(2);

/// Each side writes one in this many keys during the partition.
const APART: u64 = 100;

/// The three nodes of the story.
struct Three {
    a: Arc<Node>,
    b: Arc<Node>,
    c: Arc<Node>,
}

impl Three {
    fn all(&self) -> [&Node; 3] {
        [&self.a, &self.b, &self.c]
    }
}

/// Runs the story with this many keys, on nodes that `demo` starts.
pub(super) async fn heal(demo: &DemoNodes, keys: u64, narrator: &mut Narrator) -> anyhow::Result<Ending> {
    let (a, b) = (demo.admit().await?, demo.admit().await?);
    load(&a, &b, keys, narrator).await?;
    let c = join(demo, &a, narrator).await?;
    let three = Three { a, b, c };
    relay(&three, narrator).await?;
    isolate(&three, narrator).await?;
    let outcomes = diverge(&three, keys, narrator)?;
    mend(&three, narrator).await?;
    let digest = digest(&three.a);
    let nodes = three.all();
    let equal = is_equal(&nodes);
    let text = format!("a, b and c hold {} keys each, digest {digest}", grouped(count(&three.a)));
    narrator.report("equal", &text, None)?;
    Ok(Ending::ask(&nodes, outcomes, equal, digest))
}

async fn load(a: &Node, b: &Node, keys: u64, narrator: &mut Narrator) -> anyhow::Result<()> {
    let (started, bar) = (Instant::now(), narrator.bar("load", keys));
    for key in 0..keys {
        let node = if key % 2 == 0 { a } else { b };
        node.set(loaded(key), LOADED)?;
        if key % 1000 == 0 {
            bar.at(key);
            tokio::task::yield_now().await;
        }
    }
    let written = started.elapsed();
    until("a and b hold the same", || is_equal(&[a, b])).await?;
    let text = format!(
        "{} keys of {} bytes written on a and b in {}; both hold all {} later",
        grouped(keys),
        LOADED.len(),
        shown(written),
        shown(started.elapsed() - written),
    );
    drop(bar);
    narrator.report("load", &text, Some(started.elapsed()))
}

async fn join(demo: &DemoNodes, a: &Node, narrator: &mut Narrator) -> anyhow::Result<Arc<Node>> {
    let all = count(a);
    let (started, bar) = (Instant::now(), narrator.bar("join", all));
    let c = demo.admit().await?;
    let has_all = || {
        bar.at(count(&c));
        is_equal(&[a, &c])
    };
    until("c holds the same as a", has_all).await?;
    let took = started.elapsed();
    let received = c.peers().iter().map(|peer| peer.received_bytes).sum();
    drop(bar);
    let text = format!(
        "c started empty and took {} keys, {}, in {}",
        grouped(all),
        rough_size(received),
        shown(took)
    );
    narrator.report("join", &text, Some(took))?;
    Ok(c)
}

async fn relay(Three { a, b, c }: &Three, narrator: &mut Narrator) -> anyhow::Result<()> {
    a.cut(b.name(), Way::Both)?;
    until("a and b notice that they are apart", || !is_linked(a, b) && !is_linked(b, a)).await?;
    until("c is linked to both", || is_linked(c, a) && is_linked(c, b)).await?;
    let started = Instant::now();
    a.set("story:relayed", "from a")?;
    until("what is written on a comes to b", || b.get("story:relayed").is_some()).await?;
    let took = started.elapsed();
    a.mend(b.name(), Way::Both)?;
    until("a and b are linked again", || is_linked(a, b) && is_linked(b, a)).await?;
    let text =
        format!("with the link between a and b cut, b had a write of a by way of c after {}", shown(took));
    narrator.report("relay", &text, Some(took))
}

async fn isolate(Three { a, b, c }: &Three, narrator: &mut Narrator) -> anyhow::Result<()> {
    for (node, key) in
        [(a, "story:deleted"), (a, "story:set-again"), (a, "story:both-a"), (a, "story:both-c")]
    {
        node.set(key, "before")?;
    }
    a.set("story:count", "10")?;
    until("all hold what is fought over", || is_equal(&[a, b, c])).await?;
    c.cut("*", Way::Both)?;
    let apart = || [a, b].iter().all(|other| !is_linked(other, c) && !is_linked(c, other));
    until("c is alone", apart).await?;
    narrator.report("isolate", "c is cut off from a and b; clients of all three go on writing", None)
}

/// Writes on both sides of the partition; returns what every node must show at the end.
fn diverge(Three { a, b, c }: &Three, keys: u64, narrator: &mut Narrator) -> anyhow::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    let mut expect = |key: &str, wrote: &str, value: Option<&str>, why| {
        outcomes.push(Outcome::new(key, wrote, value, why));
    };
    a.set("story:only-a", "from a")?;
    expect("story:only-a", "set on a", Some("from a"), "nobody else wrote it");
    c.set("story:only-c", "from c")?;
    expect("story:only-c", "set on c", Some("from c"), "nobody else wrote it");
    c.set("story:both-a", "from c")?;
    a.set("story:both-a", "from a")?;
    expect("story:both-a", "set on c, later on a", Some("from a"), "the larger timestamp");
    a.set("story:both-c", "from a")?;
    c.set("story:both-c", "from c")?;
    expect("story:both-c", "set on a, later on c", Some("from c"), "the larger timestamp");
    b.delete("story:deleted")?;
    expect("story:deleted", "deleted on b; c kept it", None, "a delete is a write");
    b.delete("story:set-again")?;
    c.set("story:set-again", "from c")?;
    expect("story:set-again", "deleted on b, later set on c", Some("from c"), "the larger timestamp");
    for (node, by) in [(a, 3), (b, 4), (c, 5)] {
        node.incr_by("story:count", by)?;
    }
    expect("story:count", "10; +3 on a, +4 on b, +5 on c", Some("22"), "increments add up");

    let each = (keys / APART).max(1);
    for n in 0..each {
        a.set(format!("apart:a:{n}"), "from a")?;
        c.set(format!("apart:c:{n}"), "from c")?;
        a.set(format!("apart:both:{n}"), "from a")?;
        c.set(format!("apart:both:{n}"), "from c")?;
    }
    outcomes.push(Outcome::many("apart:a:", each, "set on a", "from a", "nobody else wrote them"));
    outcomes.push(Outcome::many("apart:c:", each, "set on c", "from c", "nobody else wrote them"));
    outcomes.push(Outcome::many(
        "apart:both:",
        each,
        "set on a, later on c",
        "from c",
        "the larger timestamp",
    ));
    if is_equal(&[a, c]) {
        bail!("a and c show equal digests although they were written to apart");
    }
    let text = format!(
        "{} keys set on each side, {} of them on both; one deleted, one counted on all; digests a {} and c {}",
        grouped(2 * each + 5),
        grouped(each + 2),
        short(a),
        short(c),
    );
    narrator.report("diverge", &text, None)?;
    Ok(outcomes)
}

async fn mend(three: &Three, narrator: &mut Narrator) -> anyhow::Result<()> {
    let Three { a, b, c } = three;
    let bar = narrator.bar("mend", 1);
    c.mend("*", Way::Both)?;
    until("c is linked again", || is_linked(c, a) && is_linked(c, b)).await?;
    let started = Instant::now();
    let healed = || {
        show_healing(c, &bar);
        is_equal(&three.all())
    };
    until("all three hold the same", healed).await?;
    let took = started.elapsed();
    let moved = c.peers().iter().map(|peer| peer.received_bytes + peer.sent_bytes).sum();
    let bulk = count(a) * LOADED.len() as u64;
    drop(bar);
    let text = format!(
        "all three equal {} after c was linked again; its links carried {}, and all values are {}",
        shown(took),
        rough_size(moved),
        rough_size(bulk),
    );
    narrator.report("mend", &text, Some(took))
}

/// Shows the progress of a node's exchanges.
fn show_healing(node: &Node, bar: &Bar) {
    let (mut done, mut left, mut ranges) = (0, 0, 0);
    for peer in node.peers() {
        ranges += peer.ranges_differing;
        if let Some(heal) = peer.heal {
            done += heal.cells_in + heal.cells_out;
            left += heal.cells_left;
        }
    }
    bar.of((done + left).max(1));
    bar.at(done);
    bar.say(format!("cells, {} ranges differ", grouped(ranges)));
}

fn loaded(key: u64) -> String {
    format!("key:{key:012}")
}

fn digest(node: &Node) -> Digest {
    node.digest()
}

fn short(node: &Node) -> String {
    digest(node).to_string()[..6].to_owned()
}

fn count(node: &Node) -> u64 {
    node.key_count()
}

fn is_equal(nodes: &[&Node]) -> bool {
    let shown = |node: &Node| (digest(node), count(node));
    nodes.windows(2).all(|pair| shown(pair[0]) == shown(pair[1]))
}

fn is_linked(node: &Node, to: &Node) -> bool {
    node.peers().iter().any(|peer| peer.name == to.name() && peer.state.is_linked())
}

fn shown(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        seconds => format!("{seconds:.1} s"),
    }
}

/// Waits until a condition holds, at most [`PATIENCE`].
async fn until(what: &str, mut condition: impl FnMut() -> bool) -> anyhow::Result<()> {
    let started = Instant::now();
    while !condition() {
        if started.elapsed() > PATIENCE {
            bail!("not within {} s: {what}", PATIENCE.as_secs());
        }
        sleep(LOOK).await;
    }
    Ok(())
}
