//! Redis commands that are not supported, and the reasons.
//!
//! The first word of the error is `UNSUPPORTED`: some clients return `false` for an error whose first word is `ERR`,
//! as if the key were absent, and raise all others.

use super::error::{CommandError, shown_name};
use crate::resp::Args;

/// A group of unsupported commands with one reason.
struct Group {
    why: &'static str,
    /// The way out.
    instead: &'static str,
    /// A subcommand is named `parent|child`.
    names: &'static [&'static str],
}

/// The groups. A command is in one of them only if it cannot have the same meaning on every node, or does not exist yet.
const GROUPS: &[Group] = &[
    Group {
        why: "keeping data on disk arrives in a later version",
        instead: "WAIT waits until peers hold a write in memory",
        names: &["waitaof"],
    },
    Group {
        why: "all keys of two databases cannot change together on every node",
        instead: "SELECT the other database in the client",
        names: &["swapdb"],
    },
    Group {
        why: "of two concurrent changes to a part of a value one would be lost",
        instead: "GET the value, change it and SET it, between WATCH and EXEC",
        names: &["incrbyfloat", "pfadd", "pfmerge", "pfdebug", "pfselftest"],
    },
    Group {
        why: "a function would have to be on every node",
        instead: "Send the script with EVAL",
        names: &["function", "fcall", "fcall_ro"],
    },
    Group {
        why: "every node takes writes and links to its peers by itself",
        instead: "SAPWOOD PEERS shows them",
        names: &["replicaof", "slaveof", "failover", "psync", "sync", "replconf", "migrate", "sentinel"],
    },
    Group {
        why: "values are plain strings",
        instead: "Keep one key for each field or member, or the whole as one value, as JSON",
        names: &[
            "blmove",
            "blmpop",
            "blpop",
            "brpop",
            "brpoplpush",
            "lindex",
            "linsert",
            "llen",
            "lmove",
            "lmpop",
            "lpop",
            "lpos",
            "lpush",
            "lpushx",
            "lrange",
            "lrem",
            "lset",
            "ltrim",
            "rpop",
            "rpoplpush",
            "rpush",
            "rpushx",
            "hdel",
            "hexists",
            "hexpire",
            "hexpireat",
            "hexpiretime",
            "hget",
            "hgetall",
            "hincrby",
            "hincrbyfloat",
            "hkeys",
            "hlen",
            "hmget",
            "hmset",
            "hpersist",
            "hpexpire",
            "hpexpireat",
            "hpexpiretime",
            "hpttl",
            "hrandfield",
            "hscan",
            "hset",
            "hsetnx",
            "hstrlen",
            "httl",
            "hvals",
            "sadd",
            "scard",
            "sdiff",
            "sdiffstore",
            "sinter",
            "sintercard",
            "sinterstore",
            "sismember",
            "smembers",
            "smismember",
            "smove",
            "spop",
            "srandmember",
            "srem",
            "sscan",
            "sunion",
            "sunionstore",
            "bzmpop",
            "bzpopmax",
            "bzpopmin",
            "zadd",
            "zcard",
            "zcount",
            "zdiff",
            "zdiffstore",
            "zincrby",
            "zinter",
            "zintercard",
            "zinterstore",
            "zlexcount",
            "zmpop",
            "zmscore",
            "zpopmax",
            "zpopmin",
            "zrandmember",
            "zrange",
            "zrangebylex",
            "zrangebyscore",
            "zrangestore",
            "zrank",
            "zrem",
            "zremrangebylex",
            "zremrangebyrank",
            "zremrangebyscore",
            "zrevrange",
            "zrevrangebylex",
            "zrevrangebyscore",
            "zrevrank",
            "zscan",
            "zscore",
            "zunion",
            "zunionstore",
            "xack",
            "xadd",
            "xautoclaim",
            "xclaim",
            "xdel",
            "xgroup",
            "xinfo",
            "xlen",
            "xpending",
            "xrange",
            "xread",
            "xreadgroup",
            "xrevrange",
            "xsetid",
            "xtrim",
            "geoadd",
            "geodist",
            "geohash",
            "geopos",
            "georadius",
            "georadius_ro",
            "georadiusbymember",
            "georadiusbymember_ro",
            "geosearch",
            "geosearchstore",
            "sort",
            "sort_ro",
            "pfcount",
        ],
    },
    Group {
        why: "the peers hold the data, and nothing is saved to disk on command",
        instead: "WAIT waits until they do; copy keys to files with SCAN and DUMP",
        names: &["save", "bgsave", "bgrewriteaof"],
    },
    Group { why: "a key does not move between slots", instead: "Use RESTORE", names: &["restore-asking"] },
    Group {
        why: "what it shows or changes is the inside of redis-server",
        instead: "INFO and the metrics of the http port describe this node",
        names: &["debug", "lolwut"],
    },
    Group {
        why: "there are no modules",
        instead: "Values are plain strings",
        names: &["module|load", "module|loadex", "module|unload"],
    },
    Group {
        why: "there are no shards",
        instead: "SUBSCRIBE and PUBLISH reach every node",
        names: &["pubsub|shardchannels", "pubsub|shardnumsub", "spublish", "ssubscribe", "sunsubscribe"],
    },
    Group {
        why: "users are read from the file of --users-file, and each node has its own",
        instead: "Change that file: it is read again within some seconds, on SIGHUP and by ACL LOAD",
        names: &["acl|deluser", "acl|save", "acl|setuser"],
    },
    Group {
        why: "other clients are not held up here",
        instead: "CLIENT KILL ends a connection",
        names: &["client|pause", "client|unpause", "client|unblock"],
    },
    Group {
        why: "settings are fixed while a node runs",
        instead: "Change the file of settings and restart the node",
        names: &["config|rewrite"],
    },
];

/// The error for a request whose command is not in the table.
pub(super) fn explain(args: Args<'_>) -> CommandError {
    find(|name| args[0].eq_ignore_ascii_case(name.as_bytes()))
        .unwrap_or_else(|| CommandError::unknown_command(args))
}

/// The error for a subcommand that is not in the table; `parent` is its command in lower case.
pub(super) fn explain_subcommand(parent: &str, child: &[u8]) -> CommandError {
    let is_it = |name: &str| {
        let own = name.strip_prefix(parent).and_then(|rest| rest.strip_prefix('|'));
        own.is_some_and(|own| child.eq_ignore_ascii_case(own.as_bytes()))
    };
    find(is_it).unwrap_or_else(|| CommandError::unknown_subcommand(parent, child))
}

/// Whether a command or subcommand of this name, in lower case, is among them. Redis has more subcommands of commands that
/// are unsupported as a whole.
pub(super) fn is_foreign(name: &str) -> bool {
    let parent = name.split('|').next().unwrap_or_default();
    GROUPS.iter().flat_map(|group| group.names).any(|other| *other == name || *other == parent)
        || matches!(parent, "cluster" | "script")
}

fn find(is_it: impl Fn(&str) -> bool) -> Option<CommandError> {
    GROUPS.iter().find_map(|group| {
        let name = group.names.iter().find(|name| is_it(name))?;
        Some(CommandError::unsupported(&shown_name(name), group.why, group.instead))
    })
}

/// The names of all unsupported commands.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().flat_map(|group| group.names).copied()
}
