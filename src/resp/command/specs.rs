//! What `COMMAND` says of a command beyond its row in the table: how it uses its keys, and tips for proxies. As in Redis.

use super::context::is;
use super::entry::Command;
use crate::acl::KeyUse;
use crate::resp::{Args, Reply};

/// How a command uses each of its keys, for Redis's `COMMAND`.
fn uses(name: &str) -> &'static [&'static [&'static str]] {
    const READS: &[&str] = &["RO", "access"];
    const OVERWRITES: &[&str] = &["OW", "update"];
    const INSERTS: &[&str] = &["OW", "insert"];
    const TAKES: &[&str] = &["RW", "access", "delete"];
    match name {
        "get" | "mget" | "digest" | "eval_ro" | "evalsha_ro" | "expiretime" | "pexpiretime" | "pttl"
        | "ttl" | "dump" | "sapwood|counter" | "bitcount" | "bitfield_ro" | "bitpos" | "getbit"
        | "getrange" | "substr" | "lcs" => &[READS],
        "decr" | "decrby" | "eval" | "evalsha" | "getex" | "getset" | "incr" | "incrby" => {
            &[&["RW", "access", "update"]]
        }
        "setbit" | "move" => &[&["RW", "access", "update"]],
        "set" | "bitfield" => &[&["RW", "access", "update", "variable_flags"]],
        "append" => &[&["RW", "insert"]],
        "setrange" => &[&["RW", "update"]],
        "bitop" => &[OVERWRITES, READS],
        "getdel" => &[TAKES],
        "delex" => &[&["RW", "delete", "variable_flags"]],
        "mset" | "msetex" | "psetex" | "setex" | "restore" => &[OVERWRITES],
        "msetnx" | "setnx" => &[INSERTS],
        "del" | "unlink" => &[&["RM", "delete"]],
        "expire" | "expireat" | "persist" | "pexpire" | "pexpireat" => &[&["RW", "update"]],
        "copy" => &[READS, OVERWRITES],
        "rename" => &[TAKES, OVERWRITES],
        "renamenx" => &[TAKES, INSERTS],
        _ => &[&["RO"]],
    }
}

/// How a request uses its first key and each other one, for the check of rights. `SET`, `BITFIELD` and `DELEX` use it
/// as their arguments say.
pub(super) fn key_uses(command: &Command, args: Args<'_>) -> [KeyUse; 2] {
    let has = |words: &[&str]| args.iter().skip(2).any(|arg| words.iter().any(|word| is(arg, word)));
    let key_use = |nth_key| {
        let flags = use_of(command, nth_key);
        let has_flag = |flag: &str| flags.contains(&flag);
        KeyUse { reads: has_flag("access"), writes: ["insert", "update", "delete"].into_iter().any(has_flag) }
    };
    let [first, next] = [key_use(0), key_use(1)];
    let first = match command.name {
        "set" => KeyUse { reads: args.iter().skip(3).any(|arg| is(arg, "get")), ..first },
        "bitfield" => KeyUse { writes: has(&["set", "incrby"]), ..first },
        "delex" => KeyUse { reads: args.len() > 2, ..first },
        _ => first,
    };
    [first, next]
}

/// Hints for proxies and clients of many nodes.
fn tips(name: &str) -> &'static [&'static str] {
    match name {
        "ping" | "flushall" | "flushdb" => &["request_policy:all_shards", "response_policy:all_succeeded"],
        "command" | "command|docs" | "command|info" | "command|list" | "module|list" => {
            &["nondeterministic_output_order"]
        }
        "dbsize" => &["request_policy:all_shards", "response_policy:agg_sum"],
        "info" | "memory|stats" => {
            &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"]
        }
        "time" | "pttl" | "ttl" | "client|info" | "client|list" | "dump" | "lastsave" | "object|encoding"
        | "object|freq" | "object|idletime" | "object|refcount" => &["nondeterministic_output"],
        "mget" => &["request_policy:multi_shard"],
        "mset" | "msetex" => &["request_policy:multi_shard", "response_policy:all_succeeded"],
        "msetnx" => &["request_policy:multi_shard", "response_policy:agg_min"],
        "del" | "exists" | "touch" | "unlink" => &["request_policy:multi_shard", "response_policy:agg_sum"],
        "keys" => &["request_policy:all_shards", "nondeterministic_output_order"],
        "randomkey" => &["request_policy:all_shards", "nondeterministic_output"],
        "scan" => &["nondeterministic_output", "request_policy:special"],
        "wait" => &["request_policy:all_shards", "response_policy:agg_min"],
        "config|set" | "slowlog|reset" | "latency|reset" => {
            &["request_policy:all_nodes", "response_policy:all_succeeded"]
        }
        "slowlog|get" => &["request_policy:all_nodes", "nondeterministic_output"],
        "slowlog|len" => &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"],
        "latency|latest" | "latency|histogram" => {
            &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"]
        }
        _ => &[],
    }
}

/// How the command uses the key that is its argument `place`, of its first keys; see `COMMAND GETKEYSANDFLAGS`.
pub(super) fn use_of(command: &Command, nth_key: usize) -> &'static [&'static str] {
    let uses = uses(command.name);
    uses.get(nth_key).or(uses.last()).copied().unwrap_or_default()
}

/// Writes the tips, and a specification for each of the command's keys, or one for all if their number varies.
pub(super) fn describe(reply: &mut Reply<'_>, command: &Command) {
    let tips = tips(command.name);
    reply.array(tips.len());
    tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    let uses = uses(command.name);
    if command.keys.counted_at > 0 {
        reply.array(1);
        reply.map(3);
        reply.bulk(b"flags");
        reply.set(uses[0].len());
        uses[0].iter().for_each(|flag| reply.simple(flag));
        search(reply, "begin_search", "index", &[("index", command.keys.counted_at.into())]);
        let step = command.keys.step.max(1).into();
        search(reply, "find_keys", "keynum", &[("keynumidx", 0), ("firstkey", 1), ("keystep", step)]);
        return;
    }
    if command.keys.first == 0 {
        reply.array(0);
        return;
    }
    let number = i64::try_from(uses.len()).unwrap_or(i64::MAX);
    reply.array(uses.len());
    for (n, flags) in (0_i64..).zip(uses) {
        reply.map(3);
        reply.bulk(b"flags");
        reply.set(flags.len());
        flags.iter().for_each(|flag| reply.simple(flag));
        let first = i64::from(command.keys.first) + n;
        // Relative to the first key of the specification, but from the end if negative.
        let last = match command.keys.last {
            last if n + 1 < number || last == 0 => 0,
            last if last < 0 => i64::from(last),
            last => i64::from(last) - first,
        };
        search(reply, "begin_search", "index", &[("index", first)]);
        let step = if number == 1 { command.keys.step } else { 1 };
        search(reply, "find_keys", "range", &[("lastkey", last), ("keystep", step.into()), ("limit", 0)]);
    }
}

fn search(reply: &mut Reply<'_>, what: &str, kind: &str, spec: &[(&str, i64)]) {
    reply.bulk(what.as_bytes());
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(spec.len());
    for (name, value) in spec {
        reply.bulk(name.as_bytes());
        reply.int(*value);
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::{RUNS_SCRIPT, WRITE};
    use super::super::table::WHOLE;
    use super::*;

    /// Those that return nothing of a value.
    const ONLY_LOOK: &[&str] = &[
        "exists",
        "memory|usage",
        "object|encoding",
        "object|freq",
        "object|idletime",
        "object|refcount",
        "sapwood|meta",
        "strlen",
        "touch",
        "type",
        "watch",
    ];

    /// The rights that a command needs follow from this.
    #[test]
    fn every_command_with_keys_says_how_it_uses_them() {
        for command in WHOLE.all().filter(|command| command.keys.may_be()) {
            let flags: Vec<&str> =
                uses(command.name).iter().flat_map(|flags| flags.iter()).copied().collect();
            let has = |words: &[&str]| words.iter().any(|word| flags.contains(word));
            let (reads, writes) = (has(&["access"]), has(&["insert", "update", "delete"]));
            let name = command.name;
            assert_eq!(!reads && !writes, ONLY_LOOK.contains(&name), "{name}");
            if !command.flags.has(RUNS_SCRIPT) {
                assert_eq!(writes, command.flags.has(WRITE), "{name}");
            }
        }
    }
}
