//! Redis commands that are not supported, and the reasons.

use super::error::CommandError;
use crate::resp::Args;

/// A group of unsupported commands with one reason.
struct Group {
    why: &'static str,
    names: &'static [&'static str],
}

const LATER: &str = "is not available yet";
const NEVER: &str = "is not supported";

/// Commands planned for a later version.
const AWAITED: &[Group] =
    &[Group { why: "keeping data on disk arrives in a later version", names: &["waitaof"] }];

/// Commands that cannot keep their meaning in an eventually consistent store of registers.
const MEANINGLESS: &[Group] = &[
    Group { why: "two keys cannot change together on every node", names: &["move", "swapdb"] },
    Group {
        why: "of two concurrent changes to a part of a value one would be lost",
        names: &["incrbyfloat", "pfadd", "pfmerge", "pfdebug", "pfselftest"],
    },
    Group {
        why: "a function would have to be on every node: send the script with EVAL",
        names: &["function", "fcall", "fcall_ro"],
    },
    Group {
        why: "every node takes writes and links to its peers by itself (SAPWOOD PEERS shows them)",
        names: &[
            "replicaof",
            "slaveof",
            "cluster",
            "asking",
            "readonly",
            "readwrite",
            "failover",
            "psync",
            "sync",
            "replconf",
            "role",
            "migrate",
            "sentinel",
        ],
    },
    Group {
        why: "values are plain strings",
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
            "hget",
            "hgetall",
            "hincrby",
            "hincrbyfloat",
            "hkeys",
            "hlen",
            "hmget",
            "hmset",
            "hrandfield",
            "hscan",
            "hset",
            "hsetnx",
            "hstrlen",
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
        names: &["save", "bgsave", "bgrewriteaof", "lastsave"],
    },
    Group {
        why: "a value does not leave with the timestamps that merging needs",
        names: &["dump", "restore", "restore-asking"],
    },
    Group {
        why: "what it shows or changes is the inside of redis-server",
        names: &["debug", "object", "memory", "module", "latency", "slowlog", "lolwut"],
    },
    Group {
        why: "there are no shards: SUBSCRIBE and PUBLISH reach every node",
        names: &["ssubscribe", "sunsubscribe", "spublish"],
    },
    Group { why: "there is one user, default, with one password", names: &["acl"] },
];

/// The error for a request whose command is not in the table.
pub(super) fn explain(args: Args<'_>) -> CommandError {
    for (groups, verdict) in [(AWAITED, LATER), (MEANINGLESS, NEVER)] {
        for group in groups {
            let known = |name: &&&str| args[0].eq_ignore_ascii_case(name.as_bytes());
            if let Some(name) = group.names.iter().find(known) {
                let name = name.to_ascii_uppercase();
                return CommandError::said(format!("ERR {name} {verdict}: {}", group.why));
            }
        }
    }
    CommandError::unknown_command(args)
}

/// The names of all unsupported commands.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    AWAITED.iter().chain(MEANINGLESS).flat_map(|group| group.names).copied()
}
