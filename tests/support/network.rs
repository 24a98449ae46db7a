//! A network of its own for each node of a test: namespaces, joined by a bridge, whose packets can be dropped.
//!
//! ```text
//!   test --- hub (bridge) --+-- a    198.18.x.1
//!            198.18.x.254   +-- b    198.18.x.2
//!                           +-- c    198.18.x.3
//! ```
//!
//! The addresses are of those set aside for such tests. Everything is in the namespaces but the test's own end of its cable, so it is gone with them.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::node_process::{NodeProcess, Surroundings};

/// The most networks of one process.
const MOST: u32 = 4;

pub struct Network {
    prefix: String,
    subnet: u32,
    hosts: usize,
}

fn run(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}: install it, see .ci/run", words[0]));
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Network {
    /// A network of so many hosts.
    ///
    /// # Panics
    /// If `ip` or `nft` is missing, or may not be used.
    pub fn new(hosts: usize) -> Network {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let unique = (std::process::id() % 10_000_000) * MOST + number;
        let network = Network { prefix: format!("sw{unique}"), subnet: unique % 512, hosts };
        let hub = network.namespace("hub");
        let in_hub = |words: &[&str]| run(&[&["ip", "-n", &hub], words].concat());
        run(&["ip", "netns", "add", &hub]);
        in_hub(&["link", "add", "bridge", "type", "bridge"]);
        in_hub(&["link", "set", "bridge", "up"]);
        run(&["ip", "link", "add", &network.prefix, "type", "veth", "peer", "name", "test", "netns", &hub]);
        in_hub(&["link", "set", "test", "master", "bridge", "up"]);
        run(&["ip", "address", "add", &format!("{}/24", network.address(253)), "dev", &network.prefix]);
        run(&["ip", "link", "set", &network.prefix, "up"]);
        for host in 0..hosts {
            let (name, cable) = (network.namespace(&host.to_string()), format!("host{host}"));
            let inside = |words: &[&str]| run(&[&["ip", "-n", &name], words].concat());
            run(&["ip", "netns", "add", &name]);
            inside(&["link", "set", "lo", "up"]);
            in_hub(&["link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &name]);
            in_hub(&["link", "set", &cable, "master", "bridge", "up"]);
            inside(&["address", "add", &format!("{}/24", network.address(host)), "dev", "eth0"]);
            inside(&["link", "set", "eth0", "up"]);
            network.nft(host, &["add", "table", "ip", "faults"]);
            network.nft(host, &["add chain ip faults input { type filter hook input priority 0; }"]);
        }
        network
    }

    /// What the names of all its parts begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn namespace(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.prefix)
    }

    fn address(&self, host: usize) -> String {
        format!("198.{}.{}.{}", 18 + self.subnet / 256, self.subnet % 256, host + 1)
    }

    fn nft(&self, host: usize, words: &[&str]) {
        let name = self.namespace(&host.to_string());
        run(&[&["ip", "netns", "exec", &name, "nft"], words].concat());
    }

    /// Starts a node on a host; it may not be listening yet.
    pub fn spawn(&self, name: &str, host: usize, join: &[&NodeProcess]) -> NodeProcess {
        let command = ["ip", "netns", "exec", &self.namespace(&host.to_string())].map(str::to_owned).into();
        let at = |port: u16| SocketAddr::new(self.address(host).parse().unwrap(), port);
        let join: Vec<_> = join.iter().map(|node| node.peer).collect();
        let surroundings = Surroundings { command, env: Vec::new() };
        NodeProcess::spawn_in(surroundings, name, (at(7171), at(7172)), &join, &["--insecure"])
    }

    /// Drops what `from` sends to `to`: all of it, or so many packets of a hundred.
    pub fn drop(&self, from: usize, to: usize, percent: u32) {
        let some = if percent < 100 { format!("numgen random mod 100 < {percent}") } else { String::new() };
        let rule = format!("add rule ip faults input ip saddr {} {some} drop", self.address(from));
        self.nft(to, &[&rule]);
    }

    /// Drops what passes between two hosts.
    pub fn part(&self, one: usize, other: usize) {
        self.drop(one, other, 100);
        self.drop(other, one, 100);
    }

    /// Drops nothing any more.
    pub fn heal(&self) {
        (0..self.hosts).for_each(|host| self.nft(host, &["flush", "chain", "ip", "faults", "input"]));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let hosts = (0..self.hosts).map(|host| host.to_string());
        for suffix in hosts.chain(["hub".into()]) {
            let words = ["netns", "delete", &self.namespace(&suffix)];
            let _ = Command::new("ip").args(words).stderr(Stdio::null()).status();
        }
        // Its other end went with the hub, unless that was never made; nothing is left to report to.
        let _ = Command::new("ip").args(["link", "delete", &self.prefix]).stderr(Stdio::null()).status();
    }
}
