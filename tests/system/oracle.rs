//! The same random commands to a node and to redis-server: replies must be the same, and errors of the same kind.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::support::node_process::*;

/// The commands. A word in braces stands for a random one of its kind: see [`word`].
///
/// Left out is what differs by design: orders that are not defined (`SCAN`), times that pass (`TTL`), `BITCOUNT` and
/// `BITPOS` with wrong arguments, which Redis 7.0 does not look at if the key is absent, and `BITFIELD … OVERFLOW FAIL`: if
/// all of it fails, Redis creates or extends the key but does not tell those that watch it.
const COMMANDS: &[&str] = &[
    "SET {key} {value}",
    "SET {key} {value} NX",
    "SET {key} {value} XX GET",
    "SET {key} {value} GET",
    "SET {key} {value} KEEPTTL",
    "SET {key} {value} EXAT {time}",
    "SET {key} {value} PXAT {milliseconds}",
    "SET {key} {value} EX {far}",
    "SET {key} {value} NX XX",
    "SETNX {key} {value}",
    "SETEX {key} 100000 {value}",
    "GET {key}",
    "GET",
    "GETSET {key} {value}",
    "GETDEL {key}",
    "GETEX {key} PERSIST",
    "GETEX {key} EXAT {time}",
    "STRLEN {key}",
    "MGET {key} {key} {key}",
    "MSET {key} {value} {key} {value}",
    "MSET {key} {value} {key}",
    "MSETNX {key} {value} {key} {value}",
    "INCR {key}",
    "DECR {key}",
    "INCRBY {key} {number}",
    "DECRBY {key} {number}",
    "DEL {key} {key}",
    "EXISTS {key} {key}",
    "TYPE {key}",
    "RENAME {key} {key}",
    "RENAMENX {key} {key}",
    "COPY {key} {key}",
    "COPY {key} {key} REPLACE",
    "EXPIREAT {key} {time}",
    "EXPIRE {key} {far}",
    "PEXPIRE {key} {far}",
    "EXPIREAT {key} {time} {condition}",
    "PEXPIREAT {key} {milliseconds}",
    "PERSIST {key}",
    "EXPIRETIME {key}",
    "APPEND {key} {value}",
    "GETRANGE {key} {index} {index}",
    "SETRANGE {key} {index} {value}",
    "GETBIT {key} {offset}",
    "SETBIT {key} {offset} {bit}",
    "BITCOUNT {key}",
    "BITCOUNT {key} {index} {index} {unit}",
    "BITPOS {key} {bit}",
    "BITPOS {key} {bit} {index}",
    "BITPOS {key} {bit} {index} {index} {unit}",
    "BITOP {operation} {key} {key} {key}",
    "BITOP NOT {key} {key}",
    "BITFIELD {key} GET {type} {offset} INCRBY {type} {offset} {number}",
    "BITFIELD {key} OVERFLOW {overflow} SET {type} {offset} {small} INCRBY {type} {offset} {number}",
    "BITFIELD_RO {key} GET {type} {offset}",
    "LCS {key} {key}",
    "LCS {key} {key} IDX MINMATCHLEN {index} WITHMATCHLEN",
    "SELECT {database}",
    "MOVE {key} {database}",
    "COPY {key} {key} DB {database}",
    "COPY {key} {key} DB {database} REPLACE",
    "EVAL {script} 2 {key} {key} {value} {number}",
    "EVAL {script} 2 {key} {key} {value} {number}",
    "EVAL {script} 2 {key} {key} {value} {small}",
    "EVAL_RO {script} 2 {key} {key} {value} {small}",
    "EVAL {script} 3 {key}",
    "MULTI",
    "MULTI",
    "MULTI",
    "EXEC",
    "EXEC",
    "EXEC",
    "DISCARD",
    "WATCH {key}",
    "WATCH {key} {key}",
    "UNWATCH",
    "PING",
    "ECHO {value}",
    "NOSUCH {key}",
    "RESET",
];

const SOME_NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "7",
    "127",
    "128",
    "-129",
    "255",
    "256",
    "9223372036854775807",
    "-9223372036854775808",
    "x",
    "",
];

/// Scripts of two keys, a text and a number: what frameworks send, and how values are converted.
const SCRIPTS: &[&str] = &[
    "return redis.call('get', KEYS[1])",
    "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end",
    "local n = redis.call('incrby', KEYS[1], ARGV[2])
     if n < 100 then redis.call('set', KEYS[2], n, 'KEEPTTL') end
     return {n, redis.call('exists', KEYS[1], KEYS[2])}",
    "local v = redis.pcall('incr', KEYS[1]) if type(v) == 'table' then return {'failed', v} end return v",
    "redis.call('set', KEYS[1], ARGV[1]) redis.call('append', KEYS[2], ARGV[1]) return redis.call('incr', KEYS[1])",
    "return {redis.call('mget', KEYS[1], KEYS[2]), redis.call('strlen', KEYS[1]), 3.7, true, false, 'after'}",
    "return redis.call('set', KEYS[1], ARGV[1], 'XX', 'GET')",
    "redis.call('setrange', KEYS[2], 3, ARGV[1]) return #redis.call('getrange', KEYS[2], 0, -1)",
    "return redis.call('type', KEYS[1])",
    "return redis.call('rename', KEYS[1], KEYS[2])",
    "return redis.call('expireat', KEYS[1], 4000000000) + redis.call('expiretime', KEYS[2])",
    "return redis.call('nosuch', KEYS[1])",
    "return redis.pcall('set', KEYS[1])",
    "return tostring((tonumber(ARGV[2]) or 4) % 1000 / 8)",
    "return cjson.encode({n = tonumber(ARGV[2]), list = {1, 2.5, '\\195\\164'}})",
    "return bit.bxor(tonumber(ARGV[2]) or 7, 255)",
    "return ARGV[2] + 1",
    "local t = {} for word in string.gmatch(ARGV[1], '%w+') do t[#t + 1] = word end return t",
    "return {redis.sha1hex(ARGV[1]), #ARGV[1], ARGV[1] < 'm', ARGV[3]}",
    "error({err = 'MINE it is'})",
    "return {err = 'MINE it is'}",
    "return redis.status_reply('FINE')",
    "return redis.error_reply('MINE it is')",
];

/// Whether the node is a build that executes scripts.
const SCRIPTS_RUN: bool = cfg!(feature = "scripts");

/// The connections to each of the two, which take turns.
const CONNECTIONS: usize = 3;

/// A random word of a kind.
fn word(kind: &str, random: &mut StdRng) -> Vec<u8> {
    let words: &[&str] = match kind {
        "key" => &["a", "b", "c", "d"],
        "value" if random.random_bool(0.3) => {
            return (0..random.random_range(0..20)).map(|_| random.random()).collect();
        }
        "value" => &["1", "12", "", "text", "ohmytext", "mynewtext", "\0\0\0", "-5"],
        "number" => SOME_NUMBERS,
        "small" => &["0", "1", "-1", "7", "127", "128", "-129", "x"],
        "time" => &[
            "1",
            "4000000000",
            "4000000001",
            "4294967296",
            "253402300799",
            "9223372036854775",
            "9223372036854776",
        ],
        "milliseconds" => &[
            "-5",
            "1",
            "4000000000123",
            "4294967295999",
            "4294967296000",
            "253402300799000",
            "9223372036854775000",
        ],
        // From now on: none is a deadline, which the two would set at different times.
        "far" => &["-1", "9223372036854775806", "9223372036854775807", "-9223372036854775808"],
        "condition" => &["NX", "XX", "GT", "LT"],
        "index" => &["0", "1", "2", "3", "5", "9", "16", "40", "-1", "-2", "-3", "-9", "-40"],
        "offset" => &["0", "1", "5", "7", "8", "15", "16", "23", "40", "100", "-1", "x"],
        "bit" => &["0", "1"],
        "unit" => &["BIT", "BYTE"],
        "operation" => &["AND", "OR", "XOR", "NOT", "NAND"],
        "type" => &["u1", "i1", "u4", "i5", "u8", "i8", "u16", "i33", "u63", "i64", "u64", "i65", "i0", "f8"],
        "database" => &["0", "0", "1", "2", "16", "-1", "x"],
        "script" => SCRIPTS,
        "overflow" => &["WRAP", "SAT", "NEVER"],
        _ => unreachable!("no words of kind {kind}"),
    };
    words.choose(random).unwrap().as_bytes().to_vec()
}

fn command(random: &mut StdRng) -> Vec<Vec<u8>> {
    let template = loop {
        let template = COMMANDS.choose(random).unwrap();
        if SCRIPTS_RUN || !template.starts_with("EVAL") {
            break template;
        }
    };
    template
        .split(' ')
        .map(|part| match part.strip_prefix('{').and_then(|kind| kind.strip_suffix('}')) {
            Some(kind) => word(kind, random),
            None => part.as_bytes().to_vec(),
        })
        .collect()
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    fn to(address: SocketAddr) -> Connection {
        Connection(BufReader::new(TcpStream::connect(address).unwrap()))
    }

    fn send(&mut self, request: &[u8]) {
        self.0.get_mut().write_all(request).unwrap();
    }

    /// Appends the bytes of one reply; of an error only the first word.
    fn read(&mut self, reply: &mut Vec<u8>) {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).unwrap();
        assert!(line.ends_with(b"\r\n"), "closed after {}", reply.escape_ascii());
        let number = || str::from_utf8(&line[1..line.len() - 2]).unwrap().parse::<i64>().unwrap();
        match line[0] {
            b'-' => reply.extend(line.split(|byte| *byte == b' ').next().unwrap()),
            b'$' => {
                let length = usize::try_from(number()).map_or(0, |length| length + 2);
                reply.extend(&line);
                let start = reply.len();
                reply.resize(start + length, 0);
                self.0.read_exact(&mut reply[start..]).unwrap();
            }
            b'*' => {
                reply.extend(&line);
                (0..number()).for_each(|_| self.read(reply));
            }
            _ => reply.extend(&line),
        }
    }
}

/// A redis-server that keeps nothing, and ends with the test.
struct Redis {
    process: Child,
    address: SocketAddr,
}

impl Redis {
    fn start() -> Redis {
        let address = free_address();
        let process = Command::new("redis-server")
            .args([
                "--port",
                &address.port().to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is missing: install Debian's redis-server");
        wait("redis-server listens", || TcpStream::connect(address).is_ok());
        Redis { process, address }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// `FLUSHALL` and `FLUSHDB` are in `@admin` here, and in Redis are not.
#[test]
#[ignore = "needs redis-server (Debian redis-server)"]
fn every_command_is_in_the_categories_that_redis_has_it_in() {
    let redis = Redis::start();
    let node = NodeProcess::start("categories", &[], &[]);
    let (mut theirs, mut ours) = (Connection::to(redis.address), Connection::to(node.client));
    let words = |connection: &mut Connection, asked: &[&[u8]]| -> BTreeSet<String> {
        let mut reply = Vec::new();
        connection.send(&request(asked));
        connection.read(&mut reply);
        let reply = String::from_utf8(reply).unwrap();
        reply.lines().filter(|line| !line.starts_with(['*', '$'])).map(str::to_owned).collect()
    };
    let known = words(&mut theirs, &[b"COMMAND", b"LIST"]);
    let both: BTreeSet<String> =
        words(&mut ours, &[b"COMMAND", b"LIST"]).intersection(&known).cloned().collect();
    assert!(both.len() > 100, "{both:?}");
    for category in words(&mut theirs, &[b"ACL", b"CAT"]) {
        let asked: &[&[u8]] = &[b"ACL", b"CAT", category.as_bytes()];
        let (expected, found) = (words(&mut theirs, asked), words(&mut ours, asked));
        let mut expected: BTreeSet<_> = expected.intersection(&both).collect();
        let found: BTreeSet<_> = found.intersection(&both).collect();
        let flushes = ["flushall", "flushdb"].map(str::to_owned);
        if category == "admin" {
            expected.extend(&flushes);
        }
        assert_eq!(found, expected, "@{category}");
    }
}

/// Without the cargo feature `scripts` there are no scripts among the commands. `SAPWOOD_ORACLE_COMMANDS` says how many commands (default 100,000), `SAPWOOD_ORACLE_SEED` which.
#[test]
#[ignore = "needs redis-server (Debian redis-server)"]
fn random_commands_have_the_replies_of_redis() {
    let number =
        |name: &str, default: u64| std::env::var(name).map_or(default, |number| number.parse().unwrap());
    let (commands, seed) = (number("SAPWOOD_ORACLE_COMMANDS", 100_000), number("SAPWOOD_ORACLE_SEED", 1));
    println!("{commands} commands, seed {seed}");
    let redis = Redis::start();
    let node = NodeProcess::start("oracle", &[], if SCRIPTS_RUN { &["--enable-scripts"] } else { &[] });
    let connect =
        |address| -> Vec<Connection> { (0..CONNECTIONS).map(|_| Connection::to(address)).collect() };
    let (mut theirs, mut ours) = (connect(redis.address), connect(node.client));
    let mut random = StdRng::seed_from_u64(seed);
    let mut last: Vec<String> = Vec::new();
    for n in 0..commands {
        let words = command(&mut random);
        let client = random.random_range(0..CONNECTIONS);
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let shown = words.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" ");
        last.push(format!("client {client}: {shown}"));
        let asked = request(&words);
        let (mut expected, mut reply) = (Vec::new(), Vec::new());
        theirs[client].send(&asked);
        ours[client].send(&asked);
        theirs[client].read(&mut expected);
        ours[client].read(&mut reply);
        let recent = last.len().saturating_sub(60);
        assert_eq!(
            reply.escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "instead of Redis's reply to command {n}, after\n{}",
            last[recent..].join("\n")
        );
    }
}
