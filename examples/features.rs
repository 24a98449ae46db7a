//! Feature flags and sessions in the memory of the program that asks for them.
//!
//! What it shows: three instances of a web application, each with a node of its own inside. A request looks at flags and
//! sessions with `node.get`, which is a lookup in memory: no round trip, no cache to invalidate. An operator flips a flag
//! on one instance, and all serve accordingly. A session that was opened on one instance is known to the others, is
//! prolonged by whoever serves it, and ends everywhere at the same moment although nobody says so: its deadline travels
//! with it.
//!
//! ```text
//!      operator: SET flag/dark-mode on
//!          |
//!   +------v-----+       +------------+       +------------+
//!   | app-1 node |<=====>| app-2 node |<=====>| app-3 node |     every node holds all flags and sessions
//!   +------^-----+       +-----^------+       +-----^------+
//!     login|             request|            request|
//! ```
//!
//! How to run it (it ends by itself):
//!
//! ```sh
//! cargo run --example features
//! cargo run --example features -- --self-test     # says nothing but what does not hold
//! ```
//!
//! What to try: `--redis` serves Redis clients on app-1 and waits for Ctrl-C at the end, so that you can be the operator:
//! `redis-cli -p 7171 set flag/dark-mode off`, and press Enter in the example to send another request.

mod shared;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use sapwood::Node;
use shared::{any_port, until};
use tokio::io::{AsyncBufReadExt as _, BufReader};

#[derive(Parser)]
#[command(about = "Feature flags and sessions in the memory of the program that asks for them")]
struct Args {
    /// Say nothing but what does not hold
    #[arg(long)]
    self_test: bool,

    /// Serve Redis clients on 127.0.0.1:7171, and send another request whenever Enter is pressed
    #[arg(long, conflicts_with = "self_test")]
    redis: bool,
}

/// How long a session lasts without a request. Half an hour in earnest.
const SESSION: Duration = Duration::from_secs(4);

/// One instance of the application.
struct App {
    node: Node,
}

/// What a request leads to.
#[derive(Debug, PartialEq, Eq)]
enum Page {
    /// Whoever is asking has to log in first.
    Login,
    Home {
        user: String,
        dark: bool,
    },
}

impl App {
    /// Opens a session.
    fn log_in(&self, session: &str, user: &str) -> Result<()> {
        Ok(self.node.set_with(format!("session/{session}"), user, SESSION)?)
    }

    /// Serves a page: two lookups in memory, and a write that nobody waits for.
    fn serve(&self, session: &str) -> Result<Page> {
        let key = format!("session/{session}");
        let Some(user) = self.node.get(&key) else { return Ok(Page::Login) };
        self.node.expire(&key, SESSION)?;
        Ok(Page::Home { user: user.as_str()?.to_owned(), dark: self.is_on("dark-mode") })
    }

    fn is_on(&self, flag: &str) -> bool {
        self.node.get(format!("flag/{flag}")).is_some_and(|value| value == "on")
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let say = |line: &str| {
        if !args.self_test {
            println!("{line}");
        }
    };

    let mut first = Node::builder().name("app-1").cluster("features").peer(any_port());
    if args.redis {
        first = first.client(([127, 0, 0, 1], 7171).into());
    }
    let mut apps = vec![App { node: first.start().await? }];
    for name in ["app-2", "app-3"] {
        let join = apps[0].node.peer_addr();
        let node = Node::builder().name(name).cluster("features").peer(any_port()).join(join).start().await?;
        node.joined().await?;
        apps.push(App { node });
    }
    say("Three instances of an application run, each with a node inside that holds all flags and sessions.");

    apps[0].node.set("flag/dark-mode", "off")?;
    apps[0].log_in("s1", "alice")?;
    say("\napp-1: alice logs in. Her session is known to every instance:");
    for app in &apps {
        until("the session is everywhere", || app.node.get("session/s1").is_some()).await?;
        let page = app.serve("s1")?;
        ensure!(page == Page::Home { user: "alice".into(), dark: false }, "{page:?}");
        say(&format!("  {} serves {page:?}", app.node.name()));
    }

    say("\nAn operator turns dark mode on, on app-2:");
    let flipped = Instant::now();
    apps[1].node.set("flag/dark-mode", "on")?;
    for app in &apps {
        until("the flag is on everywhere", || app.is_on("dark-mode")).await?;
    }
    say(&format!("  on everywhere after {:.1?}", flipped.elapsed()));
    let page = apps[2].serve("s1")?;
    ensure!(page == Page::Home { user: "alice".into(), dark: true }, "{page:?}");
    say(&format!("  app-3 serves {page:?}"));

    const READS: u32 = 200_000;
    let started = Instant::now();
    let lit = (0..READS).filter(|_| apps[2].is_on("dark-mode")).count();
    ensure!(lit == READS as usize, "a flag that nobody touched was off in {} reads", READS as usize - lit);
    say(&format!("\napp-3 looks at the flag {READS} times: {:.0?} a look.", started.elapsed() / READS));

    say(&format!(
        "\nAlice is away for {SESSION:?}. No node sends anything, and yet the session is over everywhere:"
    ));
    for app in &apps {
        until("the session is over", || app.node.get("session/s1").is_none()).await?;
        ensure!(app.serve("s1")? == Page::Login, "{} still serves", app.node.name());
        say(&format!("  {} asks her to log in", app.node.name()));
    }

    if args.redis {
        let client = apps[0].node.client_addr().context("app-1 serves Redis clients")?;
        say(&format!("\nYour turn: redis-cli -p {} set flag/dark-mode off", client.port()));
        say("Press Enter for another request to app-3, Ctrl-D to end.");
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while lines.next_line().await?.is_some() {
            apps[0].log_in("s2", "you")?;
            until("the session is there", || apps[2].node.get("session/s2").is_some()).await?;
            say(&format!("  app-3 serves {:?}", apps[2].serve("s2")?));
        }
    }
    for app in &apps {
        app.node.shutdown().await;
    }
    say("\nAll of it held.");
    Ok(())
}
