//! Real `sapwood` processes: started on free ports, watched, and ended with the test whatever becomes of it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Output};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use redis::{Connection, FromRedisValue};
use serde_json::{Map, Value};

use super::command::binary;
pub use super::command::{plain, sapwood};

/// How long anything may take before it counts as failed. A debug build beside other tests on two cores is slow.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running node, and all that it needs to be started again. Dropping it kills the process; if the test is
/// failing, its log is printed first.
pub struct NodeProcess {
    pub name: String,
    pub client: SocketAddr,
    pub peer: SocketAddr,
    args: Vec<String>,
    surroundings: Surroundings,
    child: Child,
    dir: tempfile::TempDir,
}

/// What a node runs in beside its own arguments.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// The words of a command that becomes the node, such as `ip netns exec NAME`.
    pub command: Vec<String>,
    pub env: Vec<(String, String)>,
}

/// An address on loopback that nothing listens on.
///
/// Ports below the range that outgoing connections are given: a node that is started again at its old address must
/// not find a test's own connection there. No two tests of a process are given the same one.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 400) * 50;
    loop {
        let port = first + u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port % 32_000).unwrap()));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Waits until a condition holds, looking again every few milliseconds.
///
/// # Panics
/// If it does not within [`PATIENCE`].
pub fn wait(what: &str, condition: impl FnMut() -> bool) {
    wait_within(PATIENCE, what, condition);
}

#[expect(clippy::disallowed_methods, reason = "between two looks at a condition that has a deadline")]
pub fn wait_within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Three linked nodes, of which `b` and `c` name only `a`.
pub fn three_nodes(flags: &[&str]) -> [NodeProcess; 3] {
    let a = NodeProcess::start("a", &[], flags);
    let b = NodeProcess::start("b", &[&a], flags);
    let c = NodeProcess::start("c", &[&a], flags);
    let nodes = [a, b, c];
    until_linked(&nodes.each_ref());
    nodes
}

/// Waits until each of these is linked to all the others.
pub fn until_linked(nodes: &[&NodeProcess]) {
    for node in nodes {
        wait(&format!("{} is linked to {} others", node.name, nodes.len() - 1), || {
            node.linked() == nodes.len() - 1
        });
    }
}

/// Waits until all of these hold the same keys and values.
pub fn until_equal(nodes: &[&NodeProcess]) {
    until_equal_within(PATIENCE, nodes);
}

pub fn until_equal_within(limit: Duration, nodes: &[&NodeProcess]) {
    let mut connections: Vec<_> = nodes.iter().map(|node| node.connect()).collect();
    wait_within(limit, "all nodes show the same digest", || {
        let digests: Vec<_> = connections.iter_mut().map(digest).collect();
        digests.windows(2).all(|pair| pair[0] == pair[1])
    });
}

/// The digest of the live keys, and how many they are.
pub fn digest(connection: &mut Connection) -> (String, u64) {
    redis::cmd("SAPWOOD").arg("DIGEST").query(connection).unwrap()
}

/// Sends one command that must be answered; again, as clients do, while the node says that it is loading.
pub fn ask<T: FromRedisValue>(connection: &mut Connection, words: &[&str]) -> T {
    let mut answer = None;
    wait(&format!("{words:?} is answered"), || match try_ask(connection, words) {
        Err(error) if error.code() == Some("LOADING") => false,
        Err(error) => panic!("{words:?}: {error}"),
        Ok(value) => {
            answer = Some(value);
            true
        }
    });
    answer.expect("it was answered")
}

pub fn try_ask<T: FromRedisValue>(connection: &mut Connection, words: &[&str]) -> redis::RedisResult<T> {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query(connection)
}

/// Writes `key:N` for each N in a range, a thousand a pipeline.
pub fn load(connection: &mut Connection, keys: std::ops::Range<u32>, value: &[u8]) {
    let all: Vec<u32> = keys.collect();
    for keys in all.chunks(1000) {
        let mut pipeline = redis::pipe();
        for key in keys {
            pipeline.cmd("SET").arg(format!("key:{key}")).arg(value).ignore();
        }
        pipeline.exec(connection).unwrap();
    }
}

/// A request as Redis clients send it.
pub fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

impl NodeProcess {
    /// Starts a node and waits until it answers.
    pub fn start(name: &str, join: &[&NodeProcess], flags: &[&str]) -> NodeProcess {
        let node = NodeProcess::spawn(name, join, flags);
        node.until_up();
        node
    }

    /// Starts a node, which may not be listening yet.
    pub fn spawn(name: &str, join: &[&NodeProcess], flags: &[&str]) -> NodeProcess {
        let join: Vec<_> = join.iter().map(|node| node.peer).collect();
        let addresses = (free_address(), free_address());
        NodeProcess::spawn_in(Surroundings::default(), name, addresses, &join, flags)
    }

    /// Starts a node at a client and a peer address, and waits until it answers.
    pub fn start_at(
        name: &str,
        addresses: (SocketAddr, SocketAddr),
        join: &[SocketAddr],
        flags: &[&str],
    ) -> NodeProcess {
        let node = NodeProcess::spawn_in(Surroundings::default(), name, addresses, join, flags);
        node.until_up();
        node
    }

    /// Starts a node in surroundings of its own; it may not be listening yet.
    pub fn spawn_in(
        surroundings: Surroundings,
        name: &str,
        (client, peer): (SocketAddr, SocketAddr),
        join: &[SocketAddr],
        flags: &[&str],
    ) -> NodeProcess {
        let mut args: Vec<String> = ["serve", "--name", name].map(String::from).into();
        args.extend([format!("--client={client}"), format!("--peer={peer}"), "--http=127.0.0.1:0".into()]);
        if !join.is_empty() {
            let join: Vec<_> = join.iter().map(ToString::to_string).collect();
            args.push(format!("--join={}", join.join(",")));
        }
        args.extend(flags.iter().map(ToString::to_string));
        let dir = tempfile::tempdir().unwrap();
        let child = launch(&args, &surroundings, dir.path());
        NodeProcess { name: name.into(), client, peer, args, surroundings, child, dir }
    }

    /// Starts it again as it was, at the same addresses, once the earlier process has ended.
    pub fn restart(&mut self) {
        wait("the earlier process has ended", || self.child.try_wait().unwrap().is_some());
        self.child = launch(&self.args, &self.surroundings, self.dir.path());
        self.until_up();
    }

    /// Names more peers for the next start.
    pub fn join_when_restarted(&mut self, other: &NodeProcess) {
        self.args.push(format!("--join={}", other.peer));
    }

    /// Waits until it answers.
    pub fn until_up(&self) {
        wait(&format!("{} answers", self.name), || {
            let status =
                std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
            assert!(!status.contains(") Z "), "{} ended at once: {}", self.name, self.log());
            TcpStream::connect(self.client).is_ok_and(|mut stream| {
                let mut pong = [0; 1];
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut pong).is_ok()
            })
        });
    }

    pub fn url(&self) -> String {
        format!("redis://{}/", self.client)
    }

    /// A connection that gives up rather than hang.
    pub fn connect(&self) -> Connection {
        let connection = redis::Client::open(self.url()).unwrap().get_connection_with_timeout(PATIENCE);
        let connection = connection.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        connection.set_write_timeout(Some(PATIENCE)).unwrap();
        connection
    }

    /// A bare connection.
    pub fn stream(&self) -> TcpStream {
        let stream = TcpStream::connect(self.client).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Runs `sapwood` against this node.
    pub fn cli(&self, args: &[&str]) -> Output {
        sapwood(args).arg("--node").arg(self.client.to_string()).output().unwrap()
    }

    /// What a `sapwood` command prints that succeeds.
    pub fn said(&self, args: &[&str]) -> String {
        let output = self.cli(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// What a `sapwood … --json` command prints that succeeds.
    pub fn json(&self, args: &[&str]) -> Value {
        let said = self.said(&[args, &["--json"]].concat());
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{args:?}: {error}: {said}"))
    }

    /// `SAPWOOD PEERS`, by name of field.
    pub fn peers(&self) -> Vec<Map<String, Value>> {
        peers(&mut self.connect())
    }

    /// The peers in a state.
    pub fn peers_in(&self, state: &str) -> Vec<Map<String, Value>> {
        self.peers().into_iter().filter(|peer| peer["state"] == state).collect()
    }

    /// The state of the peer of this name, or nothing while it is not known.
    pub fn state_of(&self, peer: &str) -> String {
        let rows = self.peers();
        let row = rows.iter().find(|row| row["name"] == peer);
        row.map_or(String::new(), |row| row["state"].as_str().unwrap().to_owned())
    }

    /// What `sapwood status --json` says of healing.
    pub fn healing(&self) -> Value {
        self.json(&["status"])["healing"].clone()
    }

    pub fn tombstones(&self) -> u64 {
        self.healing()["tombstones"].as_u64().unwrap()
    }

    pub fn set(&self, key: &str, value: &str) {
        ask::<()>(&mut self.connect(), &["SET", key, value]);
    }

    pub fn get(&self, key: &str) -> Option<String> {
        ask(&mut self.connect(), &["GET", key])
    }

    /// Deletes a key that must be there.
    pub fn del(&self, key: &str) {
        assert_eq!(ask::<u32>(&mut self.connect(), &["DEL", key]), 1, "{} has no {key}", self.name);
    }

    /// Cuts the link to a peer, or all of them for `*`.
    pub fn cut(&self, peer: &str, way: &str) {
        self.said(&["cut", peer, "--direction", way]);
    }

    pub fn mend(&self, peer: &str) {
        self.said(&["mend", peer]);
    }

    pub fn linked(&self) -> usize {
        self.peers_in("linked").len()
    }

    /// A field of `INFO`.
    pub fn info(&self, field: &str) -> String {
        let info: String = ask(&mut self.connect(), &["INFO"]);
        let line = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {field} in {info}")).to_owned()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let script = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success(), "{script}");
    }

    /// Waits for the process to end.
    pub fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait(&format!("{} ends", self.name), || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// All that the node has logged, over all its starts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.dir.path().join("log")).unwrap()).into_owned()
    }

    /// Where it serves its page.
    pub fn page(&self) -> SocketAddr {
        let greeting = self.greeting();
        let (_, rest) = greeting.split_once("http://").unwrap();
        rest.split_once('/').unwrap().0.parse().unwrap()
    }

    /// What it wrote on stdout.
    pub fn greeting(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("out")).unwrap()
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let ended = self.child.try_wait();
            let log = self.log();
            let last: String =
                log.split_inclusive('\n').rev().take(60).collect::<Vec<_>>().into_iter().rev().collect();
            eprintln!(
                "---- {} {:?} (ended: {ended:?}), its last log lines:\n{last}----",
                self.name, self.args
            );
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(args: &[String], surroundings: &Surroundings, dir: &std::path::Path) -> Child {
    let append = |name| File::options().create(true).append(true).open(dir.join(name)).unwrap();
    let mut command = match &surroundings.command[..] {
        [] => sapwood(args),
        [program, words @ ..] => {
            let mut command = plain(Command::new(program));
            command.args(words).arg(binary()).args(args);
            command
        }
    };
    let env = surroundings.env.iter().map(|(name, value)| (name, value));
    command.envs(env).stdout(append("out")).stderr(append("log")).spawn().unwrap()
}

/// `SAPWOOD PEERS` over a connection at hand.
pub fn peers(connection: &mut Connection) -> Vec<Map<String, Value>> {
    let rows: Vec<Vec<redis::Value>> = redis::cmd("SAPWOOD").arg("PEERS").query(connection).unwrap();
    let value = |value: &redis::Value| match value {
        redis::Value::Int(number) => Value::from(*number),
        redis::Value::BulkString(text) => Value::from(String::from_utf8_lossy(text)),
        other => panic!("a peer's field is {other:?}"),
    };
    let text = |field: &redis::Value| value(field).as_str().unwrap().to_owned();
    rows.iter().map(|row| row.chunks(2).map(|pair| (text(&pair[0]), value(&pair[1]))).collect()).collect()
}
