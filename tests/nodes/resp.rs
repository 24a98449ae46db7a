//! The Redis protocol against a live server: raw bytes over TCP, and exactly the bytes that come back.
//!
//! `SAPWOOD_FUZZ_CASES_LIVE` says how many hostile connections to make (default 10,000), `SAPWOOD_FUZZ_SEED` the first
//! one's seed.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sapwood::config::Secret;
use sapwood::internal::env::{BoxFuture, BoxStream, Env, Listener, SystemEnv};
use sapwood::internal::model::timestamp;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::raw_client::{PATIENCE, TestServer};

/// Conversations in both dialects: one client each, from an empty store.
const CONVERSATIONS: &[&[(&str, &str)]] = &[
    &[
        ("PING", "+PONG\r\n"),
        ("ping hello", "$5\r\nhello\r\n"),
        ("PING a b", "-ERR wrong number of arguments for 'ping' command\r\n"),
        ("ECHO", "-ERR wrong number of arguments for 'echo' command\r\n"),
        ("foo a b", "-ERR unknown command 'foo', with args beginning with: 'a' 'b' \r\n"),
        ("SELECT 0", "+OK\r\n"),
        ("SELECT 16", "-ERR DB index is out of range\r\n"),
        ("SELECT -1", "-ERR DB index is out of range\r\n"),
        ("SELECT x", "-ERR value is not an integer or out of range\r\n"),
        (
            "SELECT 4294967296",
            "-ERR value is out of range, value must between -2147483648 and 2147483647\r\n",
        ),
        ("RESET", "+RESET\r\n"),
        ("AUTH default x", "+OK\r\n"),
        ("AUTH other x", "-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
        ("AUTH a b c", "-ERR syntax error\r\n"),
    ],
    &[
        ("GET k", "$-1\r\n"),
        ("SET k v", "+OK\r\n"),
        ("get k", "$1\r\nv\r\n"),
        ("SET k w NX", "$-1\r\n"),
        ("SET k w XX GET", "$1\r\nv\r\n"),
        ("SET new w NX GET", "$-1\r\n"),
        ("SET k w NX XX", "-ERR syntax error\r\n"),
        ("SET k v EX 0", "-ERR invalid expire time in 'set' command\r\n"),
        ("SET k v EX x", "-ERR value is not an integer or out of range\r\n"),
        ("SET k v PX 9223372036854775807", "-ERR invalid expire time in 'set' command\r\n"),
        ("GET k", "$1\r\nw\r\n"),
        ("SETNX k x", ":0\r\n"),
        ("SETNX l x", ":1\r\n"),
        ("GETSET l y", "$1\r\nx\r\n"),
        ("GETDEL l", "$1\r\ny\r\n"),
        ("GETDEL l", "$-1\r\n"),
        ("STRLEN k", ":1\r\n"),
        ("STRLEN l", ":0\r\n"),
        ("MSET a 1 b 2 a 3", "+OK\r\n"),
        ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command\r\n"),
        ("MGET a l b", "*3\r\n$1\r\n3\r\n$-1\r\n$1\r\n2\r\n"),
        ("EXISTS a a l", ":2\r\n"),
        ("TOUCH a l", ":1\r\n"),
        ("TYPE a", "+string\r\n"),
        ("TYPE l", "+none\r\n"),
        ("DEL a l a", ":1\r\n"),
        ("UNLINK b", ":1\r\n"),
        ("DBSIZE", ":2\r\n"),
    ],
    &[
        ("SELECT 15", "+OK\r\n"),
        ("SET k v", "+OK\r\n"),
        ("DBSIZE", ":1\r\n"),
        ("SELECT 0", "+OK\r\n"),
        ("GET k", "$-1\r\n"),
        ("DBSIZE", ":0\r\n"),
        ("RANDOMKEY", "$-1\r\n"),
        ("SET k w EX 100", "+OK\r\n"),
        ("MOVE k 15", ":0\r\n"),
        ("MOVE k 0", "-ERR source and destination objects are the same\r\n"),
        ("MOVE k x", "-ERR value is not an integer or out of range\r\n"),
        ("MOVE k 16", "-ERR DB index is out of range\r\n"),
        ("MOVE absent 3", ":0\r\n"),
        ("MOVE k 3", ":1\r\n"),
        ("GET k", "$-1\r\n"),
        ("SELECT 3", "+OK\r\n"),
        ("TTL k", ":100\r\n"),
        ("COPY k k", "-ERR source and destination objects are the same\r\n"),
        ("COPY k k DB 3", "-ERR source and destination objects are the same\r\n"),
        ("COPY k k DB 4", ":1\r\n"),
        ("COPY k k DB 4", ":0\r\n"),
        ("COPY k k DB 4 REPLACE", ":1\r\n"),
        ("COPY k j DB 99", "-ERR DB index is out of range\r\n"),
        ("COPY k j DB x", "-ERR value is not an integer or out of range\r\n"),
        ("COPY k j DB", "-ERR syntax error\r\n"),
        ("COPY k j DB 5 DB 6", ":1\r\n"),
        ("COPY absent j DB 5", ":0\r\n"),
        ("RENAME k l", "+OK\r\n"),
        ("KEYS *", "*1\r\n$1\r\nl\r\n"),
        ("SCAN 0", "*2\r\n$1\r\n0\r\n*1\r\n$1\r\nl\r\n"),
        ("RANDOMKEY", "$1\r\nl\r\n"),
        ("INCR n", ":1\r\n"),
        (
            "INFO keyspace",
            "$141\r\n# Keyspace\r\ndb3:keys=2,expires=1,avg_ttl=0\r\ndb4:keys=1,expires=1,avg_ttl=0\r\n\
             db6:keys=1,expires=1,avg_ttl=0\r\ndb15:keys=1,expires=0,avg_ttl=0\r\n\r\n",
        ),
        ("FLUSHDB", "+OK\r\n"),
        ("DBSIZE", ":0\r\n"),
        ("KEYS *", "*0\r\n"),
        ("SELECT 4", "+OK\r\n"),
        ("DBSIZE", ":1\r\n"),
        ("EXPIRE k -1", ":1\r\n"),
        ("DBSIZE", ":0\r\n"),
        ("SELECT 15", "+OK\r\n"),
        ("RESET", "+RESET\r\n"),
        ("GET k", "$-1\r\n"),
        ("SELECT 15", "+OK\r\n"),
        ("GET k", "$1\r\nv\r\n"),
        ("FLUSHALL", "+OK\r\n"),
        ("INFO keyspace", "$12\r\n# Keyspace\r\n\r\n"),
        ("CONFIG GET databases", "*2\r\n$9\r\ndatabases\r\n$2\r\n16\r\n"),
    ],
    &[
        ("SET k 0", "+OK\r\n"),
        ("MULTI", "+OK\r\n"),
        ("SELECT 4", "+QUEUED\r\n"),
        ("GET k", "+QUEUED\r\n"),
        ("SET m 1", "+QUEUED\r\n"),
        ("PING", "+QUEUED\r\n"),
        ("SELECT 99", "+QUEUED\r\n"),
        ("SELECT 5", "+QUEUED\r\n"),
        ("SET m 2", "+QUEUED\r\n"),
        ("MOVE m 6", "+QUEUED\r\n"),
        ("COPY m n DB 7", "+QUEUED\r\n"),
        ("SELECT 6", "+QUEUED\r\n"),
        ("COPY m n DB 7", "+QUEUED\r\n"),
        (
            "EXEC",
            "*11\r\n+OK\r\n$-1\r\n+OK\r\n+PONG\r\n-ERR DB index is out of range\r\n+OK\r\n+OK\r\n:1\r\n:0\r\n+OK\r\n:1\r\n",
        ),
        ("GET m", "$1\r\n2\r\n"),
        ("SELECT 7", "+OK\r\n"),
        ("GET n", "$1\r\n2\r\n"),
        ("SELECT 4", "+OK\r\n"),
        ("GET m", "$1\r\n1\r\n"),
        ("WATCH w", "+OK\r\n"),
        ("SELECT 0", "+OK\r\n"),
        ("SET w 2", "+OK\r\n"),
        ("MULTI", "+OK\r\n"),
        ("PING", "+QUEUED\r\n"),
        ("EXEC", "*1\r\n+PONG\r\n"),
        ("WATCH w", "+OK\r\n"),
        ("SELECT 9", "+OK\r\n"),
        ("MULTI", "+OK\r\n"),
        ("SELECT 10", "+QUEUED\r\n"),
        ("EXEC", "*1\r\n+OK\r\n"),
        ("SELECT 0", "+OK\r\n"),
        ("WATCH w", "+OK\r\n"),
        ("SET w 3", "+OK\r\n"),
        ("SELECT 9", "+OK\r\n"),
        ("MULTI", "+OK\r\n"),
        ("SELECT 10", "+QUEUED\r\n"),
        ("EXEC", "*-1\r\n"),
        ("SET x 1", "+OK\r\n"),
        ("MULTI", "+OK\r\n"),
        ("SELECT 7", "+QUEUED\r\n"),
        ("DISCARD", "+OK\r\n"),
        ("GET x", "$1\r\n1\r\n"),
    ],
    &[
        ("EXEC", "-ERR EXEC without MULTI\r\n"),
        ("DISCARD", "-ERR DISCARD without MULTI\r\n"),
        ("MULTI", "+OK\r\n"),
        ("MULTI", "-ERR MULTI calls can not be nested\r\n"),
        ("WATCH k", "-ERR WATCH inside MULTI is not allowed\r\n"),
        ("SET k 1", "+QUEUED\r\n"),
        ("PUBLISH c m", "+QUEUED\r\n"),
        ("INCR k", "+QUEUED\r\n"),
        ("PING", "+QUEUED\r\n"),
        ("GETEX k EX 0", "+QUEUED\r\n"),
        ("WAIT 5 0", "+QUEUED\r\n"),
        ("MGET k l", "+QUEUED\r\n"),
        (
            "EXEC",
            "*7\r\n+OK\r\n:0\r\n:2\r\n+PONG\r\n-ERR invalid expire time in 'getex' command\r\n:0\r\n\
             *2\r\n$1\r\n2\r\n$-1\r\n",
        ),
        ("MULTI", "+OK\r\n"),
        ("EXEC", "*0\r\n"),
        ("MULTI", "+OK\r\n"),
        ("SET k 9", "+QUEUED\r\n"),
        (
            "DBSIZE",
            "-UNSUPPORTED DBSIZE inside a transaction: it concerns all keys, or what the connection receives. Send it \
             before MULTI or after EXEC\r\n",
        ),
        ("SET k 8", "+QUEUED\r\n"),
        ("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n"),
        ("GET k", "$1\r\n2\r\n"),
        ("MULTI", "+OK\r\n"),
        ("WATCH", "-ERR wrong number of arguments for 'watch' command\r\n"),
        ("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n"),
        ("MULTI", "+OK\r\n"),
        ("SET k 9", "+QUEUED\r\n"),
        ("DISCARD", "+OK\r\n"),
        ("MULTI", "+OK\r\n"),
        ("SET k 9", "+QUEUED\r\n"),
        ("RESET", "+RESET\r\n"),
        ("EXEC", "-ERR EXEC without MULTI\r\n"),
        ("WATCH k absent", "+OK\r\n"),
        ("MULTI", "+OK\r\n"),
        ("RENAME k l", "+QUEUED\r\n"),
        ("EXEC", "*1\r\n+OK\r\n"),
        ("WATCH k absent", "+OK\r\n"),
        ("SET absent here", "+OK\r\n"),
        ("MULTI", "+OK\r\n"),
        ("SET k 9", "+QUEUED\r\n"),
        ("EXEC", "*-1\r\n"),
        ("MULTI", "+OK\r\n"),
        ("EXISTS k l", "+QUEUED\r\n"),
        ("EXEC", "*1\r\n:1\r\n"),
    ],
    &[
        ("APPEND k hello", ":5\r\n"),
        ("EXPIRE k 100", ":1\r\n"),
        ("APPEND k -world", ":11\r\n"),
        ("SETRANGE k 5 =", ":11\r\n"),
        ("SETRANGE k -1 x", "-ERR offset is out of range\r\n"),
        ("SETRANGE k 4294967296 x", "-ERR value is larger than 16777216 bytes (--max-value)\r\n"),
        ("SETRANGE none 5 \"\"", ":0\r\n"),
        ("EXISTS none", ":0\r\n"),
        ("TTL k", ":100\r\n"),
        ("GETRANGE k -5 -1", "$5\r\nworld\r\n"),
        ("SUBSTR k 0 4", "$5\r\nhello\r\n"),
        ("GETRANGE k 5 1", "$0\r\n\r\n"),
        ("SET l =ohell", "+OK\r\n"),
        ("LCS k l", "$4\r\nhell\r\n"),
        ("LCS k l LEN", ":4\r\n"),
        (
            "LCS k l IDX MINMATCHLEN 2",
            "*4\r\n$7\r\nmatches\r\n*1\r\n*2\r\n*2\r\n:0\r\n:1\r\n*2\r\n:2\r\n:3\r\n$3\r\nlen\r\n:4\r\n",
        ),
        ("SETBIT bits 7 1", ":0\r\n"),
        ("SETBIT bits 7 2", "-ERR bit is not an integer or out of range\r\n"),
        ("SETBIT bits -1 1", "-ERR bit offset is not an integer or out of range\r\n"),
        ("GETBIT bits 7", ":1\r\n"),
        ("GETBIT bits 70000", ":0\r\n"),
        ("BITCOUNT bits", ":1\r\n"),
        ("BITCOUNT bits 0 6 BIT", ":0\r\n"),
        ("BITCOUNT bits 0", "-ERR syntax error\r\n"),
        ("BITPOS bits 1", ":7\r\n"),
        ("BITPOS bits 0 0 -1 BYTE", ":0\r\n"),
        ("BITPOS bits 0 -1 -40 BYTE", ":0\r\n"),
        ("BITCOUNT bits -1 -40", ":0\r\n"),
        ("BITOP NOT other bits", ":1\r\n"),
        ("BITOP OR all bits other none", ":1\r\n"),
        ("BITPOS all 0", ":8\r\n"),
        ("BITPOS all 0 0 0", ":-1\r\n"),
        ("BITOP AND all none", ":0\r\n"),
        ("EXISTS all", ":0\r\n"),
        ("BITFIELD f SET u8 0 255 INCRBY i5 #1 7 OVERFLOW FAIL INCRBY u2 0 1", "*3\r\n:0\r\n:3\r\n$-1\r\n"),
        ("BITFIELD_RO f GET u8 0", "*1\r\n:248\r\n"),
        ("BITFIELD_RO f SET u8 0 1", "-ERR BITFIELD_RO only supports the GET subcommand\r\n"),
        (
            "BITFIELD f GET u64 0",
            "-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.\r\n",
        ),
    ],
    &[
        ("SET a 1 EX 100", "+OK\r\n"),
        ("RENAME none b", "-ERR no such key\r\n"),
        ("RENAME a a", "+OK\r\n"),
        ("RENAME a b", "+OK\r\n"),
        ("TTL b", ":100\r\n"),
        ("SET a 2", "+OK\r\n"),
        ("RENAMENX a b", ":0\r\n"),
        ("RENAMENX a a", ":0\r\n"),
        ("COPY a b", ":0\r\n"),
        ("COPY a b REPLACE", ":1\r\n"),
        ("COPY a c DB 0", ":1\r\n"),
        ("COPY a a", "-ERR source and destination objects are the same\r\n"),
        ("COPY a b REPLACE foo", "-ERR syntax error\r\n"),
        ("COPY none d", ":0\r\n"),
        ("MGET a b c", "*3\r\n$1\r\n2\r\n$1\r\n2\r\n$1\r\n2\r\n"),
        ("TTL b", ":-1\r\n"),
        ("MSETNX d 1 a 1", ":0\r\n"),
        ("EXISTS d", ":0\r\n"),
        ("MSETNX d 1 e", "-ERR wrong number of arguments for 'msetnx' command\r\n"),
        ("MSETNX d 1 e 2 d 3", ":1\r\n"),
        ("MGET d e", "*2\r\n$1\r\n3\r\n$1\r\n2\r\n"),
    ],
    // As of Redis 8.4.
    &[
        ("SET k v IFEQ w", "$-1\r\n"),
        ("SET k v IFNE w", "+OK\r\n"),
        ("SET k w IFNE v", "$-1\r\n"),
        ("SET k w IFEQ V", "$-1\r\n"),
        ("SET k w IFEQ v EX 100 GET", "$1\r\nv\r\n"),
        ("SET k x IFEQ v GET", "$1\r\nw\r\n"),
        ("SET k x IFEQ v IFEQ w KEEPTTL", "+OK\r\n"),
        ("TTL k", ":100\r\n"),
        ("SET k x IFEQ x NX", "-ERR syntax error\r\n"),
        ("SET k x XX IFNE x", "-ERR syntax error\r\n"),
        ("SET k x IFEQ x IFNE y", "-ERR syntax error\r\n"),
        ("SET k x IFEQ", "-ERR syntax error\r\n"),
        ("SET text Hello", "+OK\r\n"),
        ("DIGEST none", "$-1\r\n"),
        ("SET none v IFDEQ 2d06800538d394c2", "$-1\r\n"),
        ("SET empty v IFDNE 2d06800538d394c2", "+OK\r\n"),
        ("SET empty v IFDEQ 2d06800538d394c", "-ERR must be exactly 16 hexadecimal characters\r\n"),
        ("SETRANGE empty 0 vv", ":2\r\n"),
        ("GETSET empty \"\"", "$2\r\nvv\r\n"),
        ("DIGEST empty", "$16\r\n2d06800538d394c2\r\n"),
        ("SET empty v IFDNE 2d06800538d394c2", "$-1\r\n"),
        ("SET empty v IFDEQ 2D06800538D394C2", "+OK\r\n"),
        ("DELEX empty IFDEQ 2d06800538d394c2", ":0\r\n"),
        ("DELEX empty IFDNE 2d06800538d394c2", ":1\r\n"),
        ("INCRBY n 12", ":12\r\n"),
        ("SET n 13 IFEQ 12", "+OK\r\n"),
        ("DELEX n IFEQ 12", ":0\r\n"),
        ("DELEX n IFNE 13", ":0\r\n"),
        ("DELEX n IFNE 12", ":1\r\n"),
        ("DELEX n IFNE 12", ":0\r\n"),
        ("DELEX k", ":1\r\n"),
        ("DELEX k IFEQ", "-ERR wrong number of arguments for 'delex' command\r\n"),
        ("DELEX k IF v", "-ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE\r\n"),
    ],
    &[
        ("MSETEX 2 a 1 b 2 EX 100", ":1\r\n"),
        ("TTL b", ":100\r\n"),
        ("MSETEX 2 b 3 c 4 NX", ":0\r\n"),
        ("MSETEX 2 b 3 c 4 XX", ":0\r\n"),
        ("EXISTS c", ":0\r\n"),
        ("MSETEX 2 a 5 b 6 KEEPTTL XX", ":1\r\n"),
        ("MGET a b", "*2\r\n$1\r\n5\r\n$1\r\n6\r\n"),
        ("TTL a", ":100\r\n"),
        ("MSETEX 3 a 1 a 2 c 3", ":1\r\n"),
        ("MGET a c", "*2\r\n$1\r\n2\r\n$1\r\n3\r\n"),
        ("TTL a", ":-1\r\n"),
        ("MSETEX 1 d 1 EXAT 1 NX", ":1\r\n"),
        ("EXISTS d", ":0\r\n"),
        ("MSETEX 1 ex ex PXAT 4294967296000", ":1\r\n"),
        ("PEXPIRETIME ex", ":4294967296000\r\n"),
        ("MSETEX 0 a 1", "-ERR invalid numkeys value\r\n"),
        ("MSETEX x a 1", "-ERR invalid numkeys value\r\n"),
        ("MSETEX 9999999999 a 1", "-ERR invalid numkeys value\r\n"),
        ("MSETEX 2 a 1 b", "-ERR wrong number of key-value pairs\r\n"),
        ("MSETEX 1 a", "-ERR wrong number of arguments for 'msetex' command\r\n"),
        ("MSETEX 1 a 1 b 2", "-ERR syntax error\r\n"),
        ("MSETEX 1 a 1 GET", "-ERR syntax error\r\n"),
        ("MSETEX 1 a 1 IFEQ 2", "-ERR syntax error\r\n"),
        ("MSETEX 1 a 1 EX 1 PX 1", "-ERR syntax error\r\n"),
        ("MSETEX 1 a 1 EX 0", "-ERR invalid expire time in 'msetex' command\r\n"),
        ("COMMAND GETKEYS MSETEX 2 a 1 b 2 EX 1", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        ("MULTI", "+OK\r\n"),
        ("MSETEX 2 x 1 y 2", "+QUEUED\r\n"),
        ("GET y", "+QUEUED\r\n"),
        ("EXEC", "*2\r\n:1\r\n$1\r\n2\r\n"),
    ],
    &[
        ("TTL k", ":-2\r\n"),
        ("SET k v", "+OK\r\n"),
        ("TTL k", ":-1\r\n"),
        ("PERSIST k", ":0\r\n"),
        ("EXPIRE k 100 GT", ":0\r\n"),
        ("EXPIRE k 100 LT", ":1\r\n"),
        ("TTL k", ":100\r\n"),
        ("EXPIRE k 50 NX", ":0\r\n"),
        ("EXPIRE k 50 GT", ":0\r\n"),
        ("EXPIRE k 10 NX XX", "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n"),
        ("EXPIRE k 10 foo", "-ERR Unsupported option foo\r\n"),
        ("EXPIRE k 9223372036854775807", "-ERR invalid expire time in 'expire' command\r\n"),
        ("SET k v KEEPTTL", "+OK\r\n"),
        ("TTL k", ":100\r\n"),
        ("GETEX k PERSIST", "$1\r\nv\r\n"),
        ("TTL k", ":-1\r\n"),
        ("PEXPIREAT k 4000000000123", ":1\r\n"),
        ("PEXPIRETIME k", ":4000000000123\r\n"),
        ("EXPIRETIME k", ":4000000000\r\n"),
        // Beyond the scale of the clock, which ends in 2106.
        ("SET far v EXAT 4294967295", "+OK\r\n"),
        ("PEXPIREAT far 4294967296000", ":1\r\n"),
        ("PEXPIRETIME far", ":4294967296000\r\n"),
        ("PEXPIREAT far 4294967296001 GT", ":1\r\n"),
        ("EXPIREAT far 253402300799 GT", ":1\r\n"),
        ("EXPIREAT far 253402300798 GT", ":0\r\n"),
        ("EXPIRETIME far", ":253402300799\r\n"),
        ("SET far w EX 3153600000", "+OK\r\n"),
        ("TTL far", ":3153600000\r\n"),
        ("COPY far copy", ":1\r\n"),
        ("TTL copy", ":3153600000\r\n"),
        ("INCR far:count", ":1\r\n"),
        ("EXPIREAT far:count 253402300799", ":1\r\n"),
        ("INCR far:count", ":2\r\n"),
        ("EXPIRETIME far:count", ":253402300799\r\n"),
        ("PERSIST far:count", ":1\r\n"),
        ("TTL far:count", ":-1\r\n"),
        ("GETEX far PXAT 9223372036854775807", "$1\r\nw\r\n"),
        ("PEXPIRETIME far", ":9223372036854775807\r\n"),
        ("EXPIREAT far 9223372036854776", "-ERR invalid expire time in 'expireat' command\r\n"),
        ("PEXPIRE far 9223372036854775807", "-ERR invalid expire time in 'pexpire' command\r\n"),
        ("SET far w PXAT 9223372036854775808", "-ERR value is not an integer or out of range\r\n"),
        ("GET far", "$1\r\nw\r\n"),
        ("GETEX k EX 0", "-ERR invalid expire time in 'getex' command\r\n"),
        ("GETEX none EX 0", "$-1\r\n"),
        ("GETEX k PERSIST EX 1", "-ERR syntax error\r\n"),
        ("SETEX k 0 v", "-ERR invalid expire time in 'setex' command\r\n"),
        ("PSETEX k 100000 w", "+OK\r\n"),
        ("SET k v EXAT 1", "+OK\r\n"),
        ("EXISTS k", ":0\r\n"),
        ("SETEX k 10 v", "+OK\r\n"),
        ("EXPIRE k -1", ":1\r\n"),
        ("GET k", "$-1\r\n"),
    ],
    &[
        ("SCAN 0", "*2\r\n$1\r\n0\r\n*0\r\n"),
        ("RANDOMKEY", "$-1\r\n"),
        ("SET key:1 v", "+OK\r\n"),
        ("RANDOMKEY", "$5\r\nkey:1\r\n"),
        ("KEYS key:?", "*1\r\n$5\r\nkey:1\r\n"),
        ("KEYS other*", "*0\r\n"),
        ("SCAN 0 COUNT 100", "*2\r\n$1\r\n0\r\n*1\r\n$5\r\nkey:1\r\n"),
        ("SCAN 0 MATCH x* COUNT 100 TYPE string", "*2\r\n$1\r\n0\r\n*0\r\n"),
        ("SCAN 0 TYPE list", "*2\r\n$1\r\n0\r\n*0\r\n"),
        ("SCAN 99999999", "*2\r\n$1\r\n0\r\n*0\r\n"),
        ("SCAN x", "-ERR invalid cursor\r\n"),
        ("SCAN 0 COUNT 0", "-ERR syntax error\r\n"),
        ("FLUSHALL foo", "-ERR syntax error\r\n"),
        ("FLUSHALL ASYNC", "+OK\r\n"),
        ("DBSIZE", ":0\r\n"),
        ("SAPWOOD DIGEST", "*2\r\n$16\r\n0000000000000000\r\n:0\r\n"),
    ],
    &[
        ("CLIENT ID", ":1\r\n"),
        ("CLIENT GETNAME", "$-1\r\n"),
        ("CLIENT SETNAME me", "+OK\r\n"),
        ("CLIENT GETNAME", "$2\r\nme\r\n"),
        (
            "CLIENT SETNAME \"a b\"",
            "-ERR Client names cannot contain spaces, newlines or special characters.\r\n",
        ),
        ("CLIENT SETINFO lib-name x", "+OK\r\n"),
        ("CLIENT NO-EVICT on", "+OK\r\n"),
        ("CLIENT foo", "-ERR unknown subcommand 'foo'. Try CLIENT HELP.\r\n"),
        ("CLIENT", "-ERR wrong number of arguments for 'client' command\r\n"),
        ("CLIENT GETNAME x", "-ERR wrong number of arguments for 'client|getname' command\r\n"),
        ("CLIENT KILL 1.1.1.1:1", "-ERR No such client\r\n"),
        ("CLIENT KILL ID 99", ":0\r\n"),
        ("CLIENT KILL TYPE x", "-ERR Unknown client type 'x'\r\n"),
        ("CLIENT REPLY OFF\r\nPING\r\nGET\r\nCLIENT REPLY ON", "+OK\r\n"),
        ("CLIENT REPLY SKIP\r\nPING\r\nPING x", "$1\r\nx\r\n"),
    ],
    &[
        ("COMMAND GETKEYS mset a 1 b 2", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        ("COMMAND GETKEYS ping x", "-ERR The command has no key arguments\r\n"),
        ("COMMAND GETKEYS foo x", "-ERR Invalid command specified\r\n"),
        ("COMMAND LIST FILTERBY PATTERN ge*x", "*1\r\n$5\r\ngetex\r\n"),
        ("COMMAND DOCS nothing", "*0\r\n"),
        (
            "COMMAND INFO get nothing",
            "*2\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n\
             *3\r\n+@read\r\n+@string\r\n+@fast\r\n*0\r\n*1\r\n*6\r\n$5\r\nflags\r\n*2\r\n+RO\r\n+access\r\n\
             $12\r\nbegin_search\r\n*4\r\n$4\r\ntype\r\n$5\r\nindex\r\n$4\r\nspec\r\n*2\r\n$5\r\nindex\r\n:1\r\n\
             $9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n*6\r\n$7\r\nlastkey\r\n:0\r\n\
             $7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n*0\r\n$-1\r\n",
        ),
        (
            "COMMAND LIST FILTERBY PATTERN config|*",
            "*4\r\n$10\r\nconfig|get\r\n$11\r\nconfig|help\r\n$16\r\nconfig|resetstat\r\n$10\r\nconfig|set\r\n",
        ),
        ("COMMAND GETKEYSANDFLAGS getdel k", "*1\r\n*2\r\n$1\r\nk\r\n*3\r\n+RW\r\n+access\r\n+delete\r\n"),
        ("CONFIG GET MAXMEMORY", "*2\r\n$9\r\nMAXMEMORY\r\n$1\r\n0\r\n"),
        (
            "CONFIG GET maxmemory maxmemory*y",
            "*4\r\n$9\r\nmaxmemory\r\n$1\r\n0\r\n$16\r\nmaxmemory-policy\r\n$10\r\nnoeviction\r\n",
        ),
        ("CONFIG GET save APPENDONLY", "*4\r\n$10\r\nAPPENDONLY\r\n$2\r\nno\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        ("CONFIG RESETSTAT", "+OK\r\n"),
        ("SAPWOOD META k", "$-1\r\n"),
    ],
    &[
        ("HELLO 4", "-NOPROTO unsupported protocol version\r\n"),
        ("HELLO x", "-ERR Protocol version is not an integer or out of range\r\n"),
        ("HELLO 3 foo", "-ERR Syntax error in HELLO option 'foo'\r\n"),
        (
            "HELLO 3 SETNAME me",
            concat!(
                "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.4.0",
                "\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n",
                "$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
            ),
        ),
        ("CLIENT GETNAME", "$2\r\nme\r\n"),
        ("GET k", "_\r\n"),
        ("MGET k", "*1\r\n_\r\n"),
        ("CONFIG GET save", "%1\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        ("SAPWOOD META k", "_\r\n"),
        (
            "COMMAND DOCS get",
            "%1\r\n$3\r\nget\r\n%3\r\n$7\r\nsummary\r\n$26\r\nReturns the value of a key\r\n\
             $5\r\nsince\r\n$5\r\n1.0.0\r\n$5\r\ngroup\r\n$6\r\nstring\r\n",
        ),
        (
            "SAPWOOD PEERS",
            "*1\r\n%20\r\n$4\r\nname\r\n$1\r\nb\r\n$5\r\nstate\r\n$7\r\nhealing\r\n$7\r\naddress\r\n\
             $14\r\n127.0.0.1:7172\r\n$9\r\ndirection\r\n$3\r\nout\r\n$6\r\nreason\r\n$0\r\n\r\n$11\r\n\
             incarnation\r\n$0\r\n\r\n$6\r\nlag_ms\r\n:0\r\n$12\r\nqueued_bytes\r\n:1\r\n$8\r\n\
             since_ms\r\n:5\r\n$14\r\nreceived_bytes\r\n:2\r\n$10\r\nsent_bytes\r\n:3\r\n$16\r\n\
             ranges_differing\r\n:4\r\n$11\r\nverified_ms\r\n:-1\r\n$13\r\nheal_cells_in\r\n:5\r\n$14\r\n\
             heal_cells_out\r\n:6\r\n$13\r\nheal_bytes_in\r\n:50\r\n$14\r\nheal_bytes_out\r\n:60\r\n\
             $15\r\nheal_cells_left\r\n:7\r\n$7\r\nheal_ms\r\n:8\r\n$12\r\nheal_left_ms\r\n:9\r\n",
        ),
        (
            "SAPWOOD HEALING",
            "%9\r\n$7\r\nmembers\r\n:2\r\n$13\r\n\
             stable_age_ms\r\n:12345\r\n$10\r\ntombstones\r\n:3\r\n$9\r\nwaits_for\r\n*2\r\n$1\r\nb\r\n\
             $1\r\nc\r\n$11\r\nretractions\r\n:4\r\n$4\r\nlate\r\n:5\r\n$4\r\nlost\r\n:2\r\n$18\r\n\
             dropped_tombstones\r\n:6\r\n$12\r\nscrub_errors\r\n:0\r\n",
        ),
        (
            "SAPWOOD VERIFIED",
            "*2\r\n%7\r\n$4\r\npeer\r\n$1\r\nb\r\n$5\r\nstate\r\n$6\r\nfailed\r\n$6\r\nreason\r\n$17\r\n\
             the link was lost\r\n$5\r\ncells\r\n:1000\r\n$16\r\nranges_differing\r\n:2\r\n$12\r\n\
             cells_healed\r\n:4\r\n$7\r\ntook_ms\r\n:4\r\n%7\r\n$4\r\npeer\r\n$1\r\nc\r\n$5\r\nstate\r\n\
             $7\r\nwaiting\r\n$6\r\nreason\r\n$0\r\n\r\n$5\r\ncells\r\n:1000\r\n$16\r\n\
             ranges_differing\r\n:0\r\n$12\r\ncells_healed\r\n:0\r\n$7\r\ntook_ms\r\n:4\r\n",
        ),
        ("RESET", "+RESET\r\n"),
        (
            "SAPWOOD HEALING",
            "*18\r\n$7\r\nmembers\r\n:2\r\n$13\r\n\
             stable_age_ms\r\n:12345\r\n$10\r\ntombstones\r\n:3\r\n$9\r\nwaits_for\r\n*2\r\n$1\r\nb\r\n\
             $1\r\nc\r\n$11\r\nretractions\r\n:4\r\n$4\r\nlate\r\n:5\r\n$4\r\nlost\r\n:2\r\n$18\r\n\
             dropped_tombstones\r\n:6\r\n$12\r\nscrub_errors\r\n:0\r\n",
        ),
        ("GET k", "$-1\r\n"),
    ],
];

/// Looking around: as Redis 7.0.15 replies, except where the documentation says otherwise.
const LOOKING: &[(&str, &str)] = &[
    ("ROLE", "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"),
    ("ACL WHOAMI", "$7\r\ndefault\r\n"),
    ("ACL USERS", "*1\r\n$7\r\ndefault\r\n"),
    ("ACL LIST", "*1\r\n$34\r\nuser default on nopass ~* &* +@all\r\n"),
    ("ACL GETUSER other", "$-1\r\n"),
    (
        "ACL CAT transaction",
        "*5\r\n$7\r\ndiscard\r\n$4\r\nexec\r\n$5\r\nmulti\r\n$7\r\nunwatch\r\n$5\r\nwatch\r\n",
    ),
    ("ACL CAT foo", "-ERR Unknown category 'foo'\r\n"),
    ("ACL LOG", "*0\r\n"),
    (
        "ACL SETUSER a",
        "-UNSUPPORTED ACL SETUSER: users are read from the file of --users-file, and each node has its own. Change that file: it is read again within some seconds, on SIGHUP and by ACL LOAD\r\n",
    ),
    ("MODULE LIST", "*0\r\n"),
    ("OBJECT ENCODING k", "$-1\r\n"),
    ("OBJECT FREQ k", "$-1\r\n"),
    ("SET k abc", "+OK\r\n"),
    ("OBJECT ENCODING k", "$6\r\nembstr\r\n"),
    ("OBJECT IDLETIME k", ":0\r\n"),
    ("OBJECT REFCOUNT k", ":1\r\n"),
    (
        "OBJECT FREQ k",
        "-ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
         between policies at runtime LRU and LFU data will take some time to adjust.\r\n",
    ),
    ("INCR n", ":1\r\n"),
    ("OBJECT ENCODING n", "$3\r\nint\r\n"),
    ("SET long aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "+OK\r\n"),
    ("OBJECT ENCODING long", "$3\r\nraw\r\n"),
    ("MEMORY USAGE nokey", "$-1\r\n"),
    ("MEMORY USAGE k SAMPLES -1", "-ERR syntax error\r\n"),
    ("MEMORY DOCTOR", "$21\r\nNo problem was found.\r\n"),
    ("MEMORY PURGE", "+OK\r\n"),
    ("LATENCY LATEST", "*0\r\n"),
    ("LATENCY HISTORY x", "*0\r\n"),
    ("LATENCY RESET", ":0\r\n"),
    ("LATENCY GRAPH x", "-ERR No samples available for event 'x'\r\n"),
    ("SLOWLOG LEN", ":0\r\n"),
    ("SLOWLOG GET -2", "-ERR count should be greater than or equal to -1\r\n"),
    ("SLOWLOG GET -1", "*0\r\n"),
    (
        "CONFIG SET slowlog-max-len 2 slowlog-log-slower-than x",
        "-ERR CONFIG SET failed (possibly related to argument 'slowlog-log-slower-than') - argument couldn't be parsed into \
         an integer\r\n",
    ),
    ("CONFIG GET slowlog-max-len", "*2\r\n$15\r\nslowlog-max-len\r\n$3\r\n128\r\n"),
    (
        "CONFIG SET slowlog-log-slower-than -2",
        "-ERR CONFIG SET failed (possibly related to argument 'slowlog-log-slower-than') - argument must be between -1 and \
         9223372036854775807 inclusive\r\n",
    ),
    ("CONFIG SET foo 1", "-ERR Unknown option or number of arguments for CONFIG SET - 'foo'\r\n"),
    (
        "CONFIG SET maxmemory 1",
        "-UNSUPPORTED CONFIG SET maxmemory: this setting is fixed while a node runs. Restart the node with another one\r\n",
    ),
    (
        "CONFIG SET requirepass secret",
        "-UNSUPPORTED CONFIG SET requirepass: this setting is fixed while a node runs. Restart the node with another \
         --client-password-file\r\n",
    ),
    ("DUMP nokey", "$-1\r\n"),
];

/// Refusals: clients raise errors by their first word, and some return `false` for `ERR`.
const REFUSED: &[(&str, &str)] = &[
    // As a standalone Redis 7.0.15 says.
    ("READONLY", "-ERR This instance has cluster support disabled\r\n"),
    ("READWRITE", "-ERR This instance has cluster support disabled\r\n"),
    ("ASKING", "-ERR This instance has cluster support disabled\r\n"),
    ("READONLY x", "-ERR wrong number of arguments for 'readonly' command\r\n"),
    ("CLUSTER", "-ERR wrong number of arguments for 'cluster' command\r\n"),
    ("CLUSTER INFO", "-ERR This instance has cluster support disabled\r\n"),
    ("cluster slots", "-ERR This instance has cluster support disabled\r\n"),
    ("CLUSTER KEYSLOT", "-ERR wrong number of arguments for 'cluster|keyslot' command\r\n"),
    ("CLUSTER FOO", "-ERR unknown subcommand 'FOO'. Try CLUSTER HELP.\r\n"),
    ("FOO BAR", "-ERR unknown command 'FOO', with args beginning with: 'BAR' \r\n"),
    // What Redis would do and this store does not.
    (
        "SWAPDB 0 1",
        "-UNSUPPORTED SWAPDB: all keys of two databases cannot change together on every node. SELECT the other database in the client\r\n",
    ),
    (
        "hset h f v",
        "-UNSUPPORTED HSET: values are plain strings. Keep one key for each field or member, or the whole as one value, \
         as JSON\r\n",
    ),
    // New in 7.4, the version that `HELLO` says.
    (
        "HEXPIRE h 10 FIELDS 1 f",
        "-UNSUPPORTED HEXPIRE: values are plain strings. Keep one key for each field or member, or the whole as one value, \
         as JSON\r\n",
    ),
    (
        "CLIENT PAUSE 100",
        "-UNSUPPORTED CLIENT PAUSE: other clients are not held up here. CLIENT KILL ends a connection\r\n",
    ),
    (
        "CONFIG REWRITE",
        "-UNSUPPORTED CONFIG REWRITE: settings are fixed while a node runs. Change the file of settings and restart the \
         node\r\n",
    ),
    (
        "CLIENT TRACKING on REDIRECT 9",
        "-UNSUPPORTED CLIENT TRACKING REDIRECT: invalidations come on the connection that tracks. Use RESP3: HELLO 3\r\n",
    ),
    (
        "CLIENT TRACKING on BCAST NOLOOP",
        "-UNSUPPORTED CLIENT TRACKING BCAST NOLOOP: a change does not tell which connection made it. Leave out BCAST, or \
         expect invalidations of the client's own writes too\r\n",
    ),
    (
        "SHUTDOWN ABORT",
        "-UNSUPPORTED SHUTDOWN ABORT: a shutdown that has begun is completed. Start the node again: it fetches the keys \
         from its peers\r\n",
    ),
    ("CLIENT KILL MAXAGE 0", "-ERR maxage should be greater than 0\r\n"),
    ("CLIENT KILL MAXAGE -1", "-ERR maxage should be greater than 0\r\n"),
    ("CLIENT KILL MAXAGE old", "-ERR value is not an integer or out of range\r\n"),
    ("CLIENT KILL MAXAGE 100 SKIPME NO", ":0\r\n"),
    ("PING", "+PONG\r\n"),
];

/// Counters, reply for reply as Redis 7.0.15 gives them.
const COUNTING: &[(&str, &str)] = &[
    // Counting, and what is no integer.
    ("INCR n", ":1\r\n"),
    ("INCRBY n 10", ":11\r\n"),
    ("DECR n", ":10\r\n"),
    ("DECRBY n 30", ":-20\r\n"),
    ("DECRBY n -5", ":-15\r\n"),
    ("INCRBY n 0", ":-15\r\n"),
    ("GET n", "$3\r\n-15\r\n"),
    ("INCR", "-ERR wrong number of arguments for 'incr' command\r\n"),
    ("INCR n 1", "-ERR wrong number of arguments for 'incr' command\r\n"),
    ("DECR", "-ERR wrong number of arguments for 'decr' command\r\n"),
    ("DECR n 1", "-ERR wrong number of arguments for 'decr' command\r\n"),
    ("INCRBY n", "-ERR wrong number of arguments for 'incrby' command\r\n"),
    ("INCRBY n 1 2", "-ERR wrong number of arguments for 'incrby' command\r\n"),
    ("DECRBY n", "-ERR wrong number of arguments for 'decrby' command\r\n"),
    ("INCRBY n x", "-ERR value is not an integer or out of range\r\n"),
    ("INCRBY n 1.0", "-ERR value is not an integer or out of range\r\n"),
    ("INCRBY n 01", "-ERR value is not an integer or out of range\r\n"),
    ("INCRBY n +1", "-ERR value is not an integer or out of range\r\n"),
    ("INCRBY n \"\"", "-ERR value is not an integer or out of range\r\n"),
    ("INCRBY n \" 1\"", "-ERR value is not an integer or out of range\r\n"),
    ("INCRBY n 9223372036854775808", "-ERR value is not an integer or out of range\r\n"),
    ("DECRBY n -9223372036854775809", "-ERR value is not an integer or out of range\r\n"),
    ("GET n", "$3\r\n-15\r\n"),
    ("SET text abc", "+OK\r\n"),
    ("INCR text", "-ERR value is not an integer or out of range\r\n"),
    ("DECR text", "-ERR value is not an integer or out of range\r\n"),
    ("INCRBY text 2", "-ERR value is not an integer or out of range\r\n"),
    ("DECRBY text 2", "-ERR value is not an integer or out of range\r\n"),
    ("GET text", "$3\r\nabc\r\n"),
    ("SET text 1.5", "+OK\r\n"),
    ("INCR text", "-ERR value is not an integer or out of range\r\n"),
    ("SET text 007", "+OK\r\n"),
    ("INCR text", "-ERR value is not an integer or out of range\r\n"),
    ("SET text -0", "+OK\r\n"),
    ("INCR text", "-ERR value is not an integer or out of range\r\n"),
    ("SET text \"\"", "+OK\r\n"),
    ("INCR text", "-ERR value is not an integer or out of range\r\n"),
    ("SET text \"1 \"", "+OK\r\n"),
    ("INCR text", "-ERR value is not an integer or out of range\r\n"),
    ("SET text 9223372036854775808", "+OK\r\n"),
    ("INCR text", "-ERR value is not an integer or out of range\r\n"),
    ("GET text", "$19\r\n9223372036854775808\r\n"),
    ("SET text -12", "+OK\r\n"),
    ("INCR text", ":-11\r\n"),
    // The ends of 64 bits, by what is set and by what is counted.
    ("INCRBY top 9223372036854775807", ":9223372036854775807\r\n"),
    ("INCRBY top 9223372036854775807", "-ERR increment or decrement would overflow\r\n"),
    ("INCR top", "-ERR increment or decrement would overflow\r\n"),
    ("GET top", "$19\r\n9223372036854775807\r\n"),
    ("DECR top", ":9223372036854775806\r\n"),
    ("INCR top", ":9223372036854775807\r\n"),
    ("DECRBY low -9223372036854775808", "-ERR decrement would overflow\r\n"),
    ("EXISTS low", ":0\r\n"),
    ("INCRBY low -9223372036854775808", ":-9223372036854775808\r\n"),
    ("DECR low", "-ERR increment or decrement would overflow\r\n"),
    ("INCRBY low -1", "-ERR increment or decrement would overflow\r\n"),
    ("INCR low", ":-9223372036854775807\r\n"),
    ("INCRBY top -9223372036854775808", ":-1\r\n"),
    ("SET top 9223372036854775807", "+OK\r\n"),
    ("INCR top", "-ERR increment or decrement would overflow\r\n"),
    ("SET low -9223372036854775808", "+OK\r\n"),
    ("DECR low", "-ERR increment or decrement would overflow\r\n"),
    ("INCRBY low 9223372036854775807", ":-1\r\n"),
    // A counter is a string in every other way.
    ("DEL n", ":1\r\n"),
    ("INCRBY n 1234", ":1234\r\n"),
    ("TYPE n", "+string\r\n"),
    ("STRLEN n", ":4\r\n"),
    ("EXISTS n", ":1\r\n"),
    ("MGET n none", "*2\r\n$4\r\n1234\r\n$-1\r\n"),
    ("TTL n", ":-1\r\n"),
    ("PERSIST n", ":0\r\n"),
    ("EXPIRE n 100", ":1\r\n"),
    ("INCR n", ":1235\r\n"),
    ("TTL n", ":100\r\n"),
    ("GETEX n EX 50", "$4\r\n1235\r\n"),
    ("TTL n", ":50\r\n"),
    ("GETEX n PERSIST", "$4\r\n1235\r\n"),
    ("TTL n", ":-1\r\n"),
    ("SETNX n 1", ":0\r\n"),
    ("SET n 5 GET", "$4\r\n1235\r\n"),
    ("INCR n", ":6\r\n"),
    ("SET n 7 XX GET", "$1\r\n6\r\n"),
    ("SET n 8 NX GET", "$1\r\n7\r\n"),
    ("GETSET n 9", "$1\r\n7\r\n"),
    ("INCR n", ":10\r\n"),
    ("EXPIRE n 100", ":1\r\n"),
    ("SET n 20 KEEPTTL", "+OK\r\n"),
    ("TTL n", ":100\r\n"),
    ("DECR n", ":19\r\n"),
    ("TTL n", ":100\r\n"),
    ("SET n 30", "+OK\r\n"),
    ("TTL n", ":-1\r\n"),
    ("INCR n", ":31\r\n"),
    ("GETDEL n", "$2\r\n31\r\n"),
    ("GET n", "$-1\r\n"),
    ("TTL n", ":-2\r\n"),
    ("TYPE n", "+none\r\n"),
    ("INCR n", ":1\r\n"),
    ("EXPIRE n -1", ":1\r\n"),
    ("EXISTS n", ":0\r\n"),
    ("DECR n", ":-1\r\n"),
    ("PEXPIREAT n 1", ":1\r\n"),
    ("INCR n", ":1\r\n"),
    ("UNLINK n", ":1\r\n"),
    ("INCRBY n 3", ":3\r\n"),
    ("SET n word", "+OK\r\n"),
    ("INCR n", "-ERR value is not an integer or out of range\r\n"),
    ("DEL n", ":1\r\n"),
    ("INCR n", ":1\r\n"),
];

#[tokio::test]
async fn every_reply_is_what_redis_clients_expect() {
    for conversation in CONVERSATIONS {
        let server = TestServer::start().await;
        let mut client = server.client().await;
        for (request, reply) in *conversation {
            println!("{request}");
            client.ask(request, reply).await;
        }
    }
}

#[tokio::test]
async fn what_is_not_supported_is_an_error_that_clients_raise_and_that_names_the_way_out() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for (request, reply) in REFUSED {
        println!("{request}");
        client.ask(request, reply).await;
    }
}

#[tokio::test]
async fn tools_that_look_around_get_the_replies_of_a_redis() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for (request, reply) in LOOKING {
        println!("{request}");
        client.ask(request, reply).await;
    }
    let usage = client.reply("MEMORY USAGE k").await;
    let bytes: u64 = usage[1..].trim_end().parse().expect("a number of bytes");
    assert!((4..200).contains(&bytes), "{usage}");
}

#[tokio::test]
async fn slow_commands_are_logged_without_passwords_and_long_ones_with_all_their_steps() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.ask("CLIENT SETNAME me", "+OK\r\n").await;
    client.ask("GET k", "$-1\r\n").await;
    client.ask("SLOWLOG LEN", ":0\r\n").await;
    client.ask("CONFIG SET slowlog-log-slower-than 0", "+OK\r\n").await;
    client.ask("SLOWLOG RESET", "+OK\r\n").await;
    client.ask("AUTH default secret", "+OK\r\n").await;
    client.ask("GET k", "$-1\r\n").await;
    client.reply("KEYS *").await;
    client.send("MULTI\r\nSET a 1\r\nEXEC\r\n").await;
    client.expect("+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n").await;
    let log = client.reply("SLOWLOG GET -1").await;
    let in_order =
        ["$4\r\nEXEC", "$5\r\nMULTI", "$4\r\nKEYS", "$3\r\nGET", "$10\r\n(redacted)", "$7\r\nSLOWLOG"];
    let places: Vec<_> = in_order.iter().map(|part| log.find(part).expect(part)).collect();
    assert!(places.is_sorted() && !log.contains("secret") && log.contains("$2\r\nme\r\n"), "{log}");
    client.ask("CONFIG SET slowlog-max-len 1", "+OK\r\n").await;
    client.ask("SLOWLOG LEN", ":1\r\n").await;
    client.ask("CONFIG SET slowlog-log-slower-than -1", "+OK\r\n").await;
    client.ask("SLOWLOG RESET", "+OK\r\n").await;
    client.ask("GET k", "$-1\r\n").await;
    client.ask("SLOWLOG LEN", ":0\r\n").await;
}

#[tokio::test]
async fn commands_are_counted_one_by_one_with_the_fields_that_exporters_read() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.ask("GET a", "$-1\r\n").await;
    client.ask("CONFIG GET save", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n").await;
    client.ask("SET text abc", "+OK\r\n").await;
    client.ask("INCR text", "-ERR value is not an integer or out of range\r\n").await;
    client.ask("INCR", "-ERR wrong number of arguments for 'incr' command\r\n").await;
    client.reply("SWAPDB 0 1").await;
    // Refused when it was queued.
    client.send("MULTI\r\nINCR\r\nEXEC\r\n").await;
    client.expect("+OK\r\n-ERR wrong number of arguments for 'incr' command\r\n").await;
    client.expect("-EXECABORT Transaction discarded because of previous errors.\r\n").await;
    let stats = client.reply("INFO commandstats").await;
    let of = |name: &str| {
        let start = format!("cmdstat_{name}:");
        stats.lines().find_map(|line| line.strip_prefix(&start)).expect(name).to_owned()
    };
    assert!(of("incr").ends_with(",rejected_calls=2,failed_calls=1"), "{stats}");
    assert_eq!(of("config|get"), "calls=1,usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=0");
    let (get, fields) = (of("get"), ["calls=1,usec=", ",usec_per_call=", ",rejected_calls=0,failed_calls=0"]);
    assert!(get.starts_with(fields[0]) && fields[1..].iter().all(|field| get.contains(field)), "{get}");
    let errors = client.reply("INFO errorstats").await;
    assert!(
        errors.contains(
            "errorstat_ERR:count=3\r\nerrorstat_EXECABORT:count=1\r\nerrorstat_UNSUPPORTED:count=1\r\n"
        ),
        "{errors}"
    );
    assert!(client.reply("INFO latencystats").await.contains("latency_percentiles_usec_get:p50="));
    assert!(
        client
            .reply("LATENCY HISTOGRAM get")
            .await
            .starts_with("*2\r\n$3\r\nget\r\n*4\r\n$5\r\ncalls\r\n:1\r\n")
    );
    assert!(client.reply("INFO memory").await.contains("used_memory_peak:"));
    assert!(client.reply("INFO stats").await.contains("expired_keys:0\r\n"));
    client.ask("CONFIG RESETSTAT", "+OK\r\n").await;
    assert!(!client.reply("INFO commandstats").await.contains("cmdstat_get:"));
}

/// What redis-server 7.0.15 dumps: an integer, a short text, and a value that it packs.
const DUMPS: &[(&[u8], &[u8])] = &[
    (b"12", b"\x00\xC0\x0C\x0A\x00\x3C\x2A\xF8\x51\x5C\x04\xBC\xD5"),
    (b"abc", b"\x00\x03\x61\x62\x63\x0A\x00\xD9\xAC\x30\x3D\x41\x72\xA2\xE2"),
    (
        &[b'a'; 64],
        b"\x00\xC3\x09\x40\x40\x01\x61\x61\xE0\x33\x00\x01\x61\x61\x0A\x00\xC3\x65\x96\x12\xCE\x1C\xC4\x6C",
    ),
];

#[tokio::test]
async fn values_are_dumped_and_restored_as_redis_does() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.send("SET k abc\r\nDUMP k\r\n").await;
    client.expect(b"+OK\r\n$15\r\n\x00\x03\x61\x62\x63\x06\x00\x4F\x41\x58\xBD\xB4\x27\x9E\x71\r\n").await;
    let restore = |key: &str, rest: &str, payload: &[u8]| {
        let words = rest.split_whitespace().count();
        let mut bytes = format!(
            "*{}\r\n$7\r\nRESTORE\r\n${}\r\n{key}\r\n$1\r\n0\r\n${}\r\n",
            4 + words,
            key.len(),
            payload.len()
        )
        .into_bytes();
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(b"\r\n");
        rest.split_whitespace()
            .for_each(|word| bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes()));
        bytes
    };
    for (value, payload) in DUMPS {
        client.send(restore("r", "REPLACE", payload)).await;
        client.expect("+OK\r\n").await;
        client.send("GET r\r\n").await;
        client.expect([format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()).await;
        let mut damaged = payload.to_vec();
        damaged[1] ^= 1;
        client.send(restore("bad", "", &damaged)).await;
        client.expect("-ERR DUMP payload version or checksum are wrong\r\n").await;
    }
    client.send(restore("r", "", DUMPS[0].1)).await;
    client.expect("-BUSYKEY Target key name already exists.\r\n").await;
    client.send(restore("s", "FREQ 256", DUMPS[0].1)).await;
    client.expect("-ERR Invalid FREQ value, must be >= 0 and <= 255\r\n").await;
    client.ask("RESTORE s -1 x", "-ERR Invalid TTL value, must be >= 0\r\n").await;
    client.ask("RESTORE s 0 foo", "-ERR DUMP payload version or checksum are wrong\r\n").await;
    let forever = restore("far", "ABSTTL", DUMPS[0].1);
    let ttl = forever.windows(7).position(|bytes| bytes == b"$1\r\n0\r\n").unwrap();
    client.send([&forever[..ttl], b"$15\r\n253402300799000\r\n", &forever[ttl + 7..]].concat()).await;
    client.expect("+OK\r\n").await;
    client.ask("PEXPIRETIME far", ":253402300799000\r\n").await;
    client.ask("EXISTS s bad", ":0\r\n").await;
}

#[tokio::test]
async fn counters_reply_as_redis_does() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for (request, reply) in COUNTING {
        println!("{request}");
        client.ask(request, reply).await;
    }
}

#[tokio::test]
async fn a_pipeline_cut_into_single_bytes_gives_the_same_replies() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let pipeline =
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\r\n\r\nGET k\r\n*2\r\n$3\r\nGET\r\n$1\r\nx\r\nPING\r\n";
    for byte in pipeline {
        client.send([*byte]).await;
    }
    client.expect("+OK\r\n$2\r\n\r\n\r\n$-1\r\n+PONG\r\n").await;
}

#[tokio::test]
async fn keys_are_binary_and_values_may_be_empty() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client
        .send(b"*3\r\n$3\r\nSET\r\n$4\r\n\0\xFF\r\n\r\n$0\r\n\r\n*2\r\n$3\r\nGET\r\n$4\r\n\0\xFF\r\n\r\n")
        .await;
    client.expect("+OK\r\n$0\r\n\r\n").await;
    client.send(b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$1\r\nv\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n").await;
    client.expect("+OK\r\n$1\r\nv\r\n").await;
}

#[tokio::test]
async fn a_protocol_error_closes_its_connection_and_no_other() {
    let server = TestServer::start().await;
    let (mut bad, mut good) = (server.client().await, server.client().await);
    bad.send(b"PING\r\n*1\r\n:5\r\n").await;
    assert_eq!(bad.rest().await, b"+PONG\r\n-ERR Protocol error: expected '$', got ':'\r\n");
    good.ask("PING", "+PONG\r\n").await;
}

#[tokio::test]
async fn an_http_request_is_closed_without_an_answer() {
    let server = TestServer::start().await;
    for request in ["POST / HTTP/1.1\r\n", "Host: localhost\r\n"] {
        let mut client = server.client().await;
        client.send(request).await;
        assert_eq!(client.rest().await, b"");
    }
}

#[tokio::test]
async fn what_is_over_a_limit_is_an_error_and_the_connection_lives() {
    let server = TestServer::with(|settings| settings.limits.max_bulk = 2 << 20).await;
    let mut client = server.client().await;
    let long_key = "-ERR key is larger than 1024 bytes (--max-key)\r\n";
    let long_value = "-ERR value is larger than 1048576 bytes (--max-value)\r\n";
    let set = |bytes: usize| format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${bytes}\r\n{}\r\n", "x".repeat(bytes));
    client.send(set((2 << 20) + 1)).await;
    client.expect("-ERR value is larger than 2097152 bytes (--max-value)\r\n").await;
    client.send(set((1 << 20) + 1)).await;
    client.expect(long_value).await;
    let key = "k".repeat(1025);
    for write in [format!("SET {key} v"), format!("SETEX {key} 9 v"), format!("INCR {key}")] {
        client.ask(&write, long_key).await;
    }
    client.ask("SET k v", "+OK\r\n").await;
    let (big, size) = ("x".repeat((1 << 20) + 1), (1 << 20) + 1);
    // The condition does not hold, and the limit is checked first.
    client.send(format!("*3\r\n$5\r\nSETNX\r\n$1\r\nk\r\n${size}\r\n{big}\r\n")).await;
    client.expect(long_value).await;
    client.ask(&format!("MSET new v {key} v"), long_key).await;
    client.ask("EXISTS new", ":0\r\n").await;
    client.ask(&format!("DEL {key}"), ":0\r\n").await;
    client.ask("PING", "+PONG\r\n").await;
}

#[tokio::test]
async fn a_write_beyond_the_memory_limit_replies_with_the_error_alone() {
    let server = TestServer::with(|settings| settings.max_memory = Some(4096)).await;
    let mut client = server.client().await;
    client.ask("SET k v", "+OK\r\n").await;
    let big = "x".repeat(8192);
    let oom = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    client.ask(&format!("GETSET k {big}"), oom).await;
    client.ask(&format!("SET k {big} GET"), oom).await;
    // Of several keys none is set.
    client.ask(&format!("MSETEX 3 k w l w m {big}"), oom).await;
    client.ask(&format!("MSETNX l w m {big}"), oom).await;
    client.ask("MGET k l m", "*3\r\n$1\r\nv\r\n$-1\r\n$-1\r\n").await;
    client.send(format!("MULTI\r\nMSETEX 3 k w l w m {big}\r\nGET k\r\nEXEC\r\n")).await;
    client.expect(format!("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n{oom}$1\r\nv\r\n")).await;
    client.ask("DEL k l", ":1\r\n").await;
}

#[tokio::test]
async fn nothing_but_a_password_is_taken_before_the_password() {
    let server =
        TestServer::with(|settings| settings.password = Some(Secret::new(*b"secret").unwrap())).await;
    let mut client = server.client().await;
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    client.ask("GET k", "-NOAUTH Authentication required.\r\n").await;
    client.ask("AUTH wrong", wrong).await;
    client.ask("AUTH other secret", wrong).await;
    client.ask("HELLO 3 AUTH default wrong", wrong).await;
    let first = "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
                 <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
                 the same time\r\n";
    client.ask("HELLO 3", first).await;
    client.ask("AUTH secret", "+OK\r\n").await;
    client.ask("GET k", "$-1\r\n").await;
    client.ask("RESET", "+RESET\r\n").await;
    client.ask("GET k", "-NOAUTH Authentication required.\r\n").await;
    client.send("HELLO 3 AUTH default secret\r\n").await;
    client.expect("%7\r\n").await;
}

#[tokio::test]
async fn a_client_beyond_the_limit_gets_an_error() {
    let server = TestServer::with(|settings| settings.max_clients = 1).await;
    let mut first = server.client().await;
    first.ask("PING", "+PONG\r\n").await;
    assert_eq!(server.client().await.rest().await, b"-ERR max number of clients reached\r\n");
    first.ask("QUIT", "+OK\r\n").await;
    assert_eq!(first.rest().await, b"");
}

#[tokio::test]
async fn a_killed_client_is_closed_and_one_that_kills_itself_gets_a_reply() {
    let server = TestServer::start().await;
    let (mut first, mut second) = (server.client().await, server.client().await);
    first.ask("CLIENT ID", ":1\r\n").await;
    second.ask("CLIENT ID", ":2\r\n").await;
    let list = first.reply("CLIENT LIST").await;
    assert!(list.contains("id=1 addr=127.0.0.1:") && list.contains(" cmd=client|list "), "{list}");
    assert!(list.contains("\nid=2 "), "{list}");
    first.ask("CLIENT KILL ID 2", ":1\r\n").await;
    assert_eq!(second.rest().await, b"");
    first.ask("CLIENT KILL ID 1", ":0\r\n").await;
    first.ask("CLIENT KILL ID 1 SKIPME no", ":1\r\n").await;
    assert_eq!(first.rest().await, b"");
}

#[tokio::test]
async fn a_monitor_sees_the_commands_of_others_but_no_passwords() {
    let server = TestServer::start().await;
    let (mut monitor, mut client) = (server.client().await, server.client().await);
    monitor.ask("MONITOR", "+OK\r\n").await;
    client.ask("AUTH default secret\r\nSET k \"v\\n\"", "+OK\r\n+OK\r\n").await;
    let seen = monitor.until("\"v\\n\"\r\n").await;
    assert!(seen.contains(r#""AUTH" "(redacted)" "(redacted)""#) && !seen.contains("secret"), "{seen}");
    monitor.ask("RESET\r\nPING", "+RESET\r\n+PONG\r\n").await;
}

#[tokio::test]
async fn a_monitor_sees_a_transaction_in_the_order_of_its_execution() {
    let server = TestServer::start().await;
    let (mut monitor, mut client) = (server.client().await, server.client().await);
    monitor.ask("MONITOR", "+OK\r\n").await;
    // `PING` has no keys, and is executed once the locks are released.
    for (requests, replies, order) in [
        ("SET k v\r\n", "+QUEUED\r\n*1\r\n+OK\r\n", &["MULTI", "SET", "EXEC"][..]),
        (
            "PING\r\nGET k\r\n",
            "+QUEUED\r\n+QUEUED\r\n*2\r\n+PONG\r\n$1\r\nv\r\n",
            &["MULTI", "GET", "PING", "EXEC"],
        ),
    ] {
        client.send(&format!("MULTI\r\n{requests}EXEC\r\n")).await;
        client.expect(&format!("+OK\r\n{replies}")).await;
        let seen = monitor.until("\"EXEC\"\r\n").await;
        let commands: Vec<_> = seen.lines().map(|line| line.split('"').nth(1).unwrap()).collect();
        assert_eq!(commands, order, "{seen}");
    }
}

#[tokio::test]
async fn connections_are_described_with_the_fields_of_redis() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.ask("CLIENT SETINFO lib-name lib", "+OK\r\n").await;
    let line = client.reply("CLIENT INFO").await;
    let fields: Vec<&str> =
        line.lines().nth(1).unwrap().split(' ').map(|field| field.split_once('=').unwrap().0).collect();
    let expected = "id addr laddr fd name age idle flags db sub psub ssub multi qbuf qbuf-free argv-mem multi-mem rbs rbp obl \
                    oll omem tot-mem events cmd user redir resp lib-name lib-ver";
    assert_eq!(fields.join(" "), expected);
    client.send("MULTI\r\nSET k 12345\r\nCLIENT LIST\r\nDISCARD\r\n").await;
    client.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n+OK\r\n").await;
    assert!(
        client.reply("CLIENT LIST").await.contains(" multi=-1 ") && line.contains(" multi-mem=0 "),
        "{line}"
    );
}

#[tokio::test]
async fn every_key_is_found_by_keys_and_scan_and_none_after_a_flush() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for chunk in 0..20 {
        let pairs: String = (0..1000).map(|i| format!(" key:{} v", chunk * 1000 + i)).collect();
        client.ask(&format!("MSET{pairs}"), "+OK\r\n").await;
    }
    client.ask("DBSIZE", ":20000\r\n").await;
    assert!(client.reply("KEYS *").await.starts_with("*20000\r\n"));
    let (mut cursor, mut found) = ("0".to_owned(), 0);
    loop {
        let reply = client.reply(&format!("SCAN {cursor} COUNT 7000 MATCH key:*")).await;
        let mut lines = reply.split("\r\n").skip(2);
        cursor = lines.next().unwrap().to_owned();
        found += lines.next().unwrap()[1..].parse::<usize>().unwrap();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(found, 20_000);
    client.ask("FLUSHALL", "+OK\r\n").await;
    client.ask("KEYS *", "*0\r\n").await;
}

#[tokio::test]
async fn a_flush_needs_to_be_enabled() {
    let server = TestServer::with(|settings| settings.enable_flush = false).await;
    let reply = server.client().await.reply("FLUSHALL").await;
    assert!(reply.starts_with("-UNSUPPORTED FLUSHALL: ") && reply.contains("--enable-flush"), "{reply}");
}

#[tokio::test]
async fn meta_shows_the_timestamp_of_a_deleted_key() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.ask("SET k v\r\nDEL k", "+OK\r\n:1\r\n").await;
    let reply = client.reply("SAPWOOD META k").await;
    assert!(reply.starts_with("*18\r\n$9\r\ntimestamp\r\n$19\r\n"), "{reply}");
    assert!(reply.contains("live\r\n:0\r\n") && reply.contains("deadline_ms\r\n:-1\r\n"), "{reply}");
}

#[tokio::test]
async fn what_was_given_up_is_shown_byte_for_byte() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.send("SAPWOOD LOST\r\n").await;
    let origin = timestamp::incarnation(7).unwrap().to_string();
    let (timestamp, len) = ((10u64 << 32).to_string(), origin.len());
    let rest = |deadline: i64| {
        format!(
            "$9\r\ntimestamp\r\n${}\r\n{timestamp}\r\n$12\r\ntimestamp_ms\r\n:10000\r\n$6\r\norigin\r\n${len}\r\n{origin}\r\n\
             $11\r\ndeadline_ms\r\n:{deadline}\r\n$4\r\npeer\r\n$1\r\nb\r\n",
            timestamp.len()
        )
    };
    let mut expected =
        b"*2\r\n*18\r\n$8\r\ndatabase\r\n:0\r\n$3\r\nkey\r\n$2\r\nk\xff\r\n$5\r\nvalue\r\n$1\r\nv\r\n$11\r\nvalue_bytes\r\n:1\r\n"
            .to_vec();
    expected.extend(rest(-1).bytes());
    expected
        .extend(b"*18\r\n$8\r\ndatabase\r\n:0\r\n$3\r\nkey\r\n$1\r\nl\r\n$5\r\nvalue\r\n$-1\r\n$11\r\nvalue_bytes\r\n:9000000\r\n");
    expected.extend(rest(20_000).bytes());
    client.expect(expected).await;
}

#[tokio::test]
async fn an_operator_command_is_executed_or_refused_with_a_reason() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let unknown = "-ERR no member is named \"x\": see SAPWOOD PEERS\r\n";
    let explained =
        "-ERR this discards every key that this node holds: say SAPWOOD REJOIN DISCARD to do it\r\n";
    for (request, reply) in [
        ("SAPWOOD FORGET b", "+OK\r\n"),
        ("SAPWOOD FORGET x", unknown),
        ("SAPWOOD FORGET", "-ERR wrong number of arguments for 'sapwood|forget' command\r\n"),
        ("SAPWOOD REJOIN", explained),
        ("SAPWOOD REJOIN please", explained),
        ("SAPWOOD REJOIN DISCARD everything", explained),
        ("SAPWOOD REJOIN discard", "+OK\r\n"),
        ("SAPWOOD CUT b", "+OK\r\n"),
        ("SAPWOOD CUT * in", "+OK\r\n"),
        ("SAPWOOD CUT b OUT", "+OK\r\n"),
        ("SAPWOOD CUT x", unknown),
        ("SAPWOOD CUT b up", "-ERR syntax error\r\n"),
        ("SAPWOOD CUT b in out", "-ERR syntax error\r\n"),
        ("SAPWOOD MEND * BOTH", "+OK\r\n"),
        ("SAPWOOD MEND b Out", "+OK\r\n"),
        ("SAPWOOD MEND", "-ERR wrong number of arguments for 'sapwood|mend' command\r\n"),
        ("SAPWOOD VERIFY", "+OK\r\n"),
    ] {
        client.ask(request, reply).await;
    }
    let calls = server.calls.lock().unwrap().join(", ");
    assert_eq!(calls, "forget b, rejoin, cut b both, cut * in, cut b out, mend * both, mend b out, verify");
}

#[tokio::test]
async fn info_has_what_monitoring_reads() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.ask("SET k v\r\nGET k\r\nGET none", "+OK\r\n$1\r\nv\r\n$-1\r\n").await;
    let info = client.reply("INFO everything").await;
    for line in [
        "# Server",
        "redis_version:7",
        "connected_clients:1",
        "used_memory:",
        "used_memory_tombstones:0",
        "maxmemory:0",
        "maxmemory_tombstones:0",
        "keyspace_hits:1",
        "keyspace_misses:1",
        "role:master",
        "connected_slaves:0",
        "master_repl_offset:0",
        "cmdstat_get:calls=2",
        "db0:keys=1,expires=0,avg_ttl=0",
        "# Sapwood",
        "name:a",
        "state:ready",
        "linked_peers:1",
        "lag_ms_max:0",
        "tombstones:0",
        "ranges_differing:4",
        "members:2",
        "stable_age_seconds:12",
        "waits_for:b,c",
        "retractions_total:4",
        "late_total:5",
        "lost:2",
    ] {
        assert!(info.contains(&format!("\n{line}")), "{line} in {info}");
    }
    assert!(client.reply("INFO keyspace").await.contains("# Keyspace\r\ndb0:"));
}

/// A listener that is out of files a few times.
struct Exhausted(Box<dyn Listener>, u32);

impl Listener for Exhausted {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        if self.1 == 0 {
            return self.0.accept();
        }
        self.1 -= 1;
        Box::pin(async { Err(io::Error::other("too many open files")) })
    }
}

#[tokio::test]
async fn a_server_that_cannot_accept_goes_on_trying() {
    let listener = SystemEnv.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let server = TestServer::at(Box::new(Exhausted(listener, 2)), |_| ()).await;
    server.client().await.ask("PING", "+PONG\r\n").await;
}

#[tokio::test]
async fn a_stopping_server_answers_whole_what_it_has_read() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.send("PING\r\n".repeat(1000)).await;
    client.expect("+PONG\r\n").await;
    server.stop.cancel();
    let rest = client.rest().await;
    assert!(rest.len().is_multiple_of(7) && rest.chunks(7).all(|reply| reply == b"+PONG\r\n"));
    server.stopped().await;
}

#[tokio::test]
async fn shutdown_answers_nothing_and_stops_the_server() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.ask("SHUTDOWN SAVE NOSAVE", "-ERR syntax error\r\n").await;
    client.send("SHUTDOWN NOSAVE\r\n").await;
    assert_eq!(client.rest().await, b"");
    server.stopped().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_costs_a_bounded_buffer_and_does_not_hold_up_a_stop() {
    let server = TestServer::start().await;
    let mut other = server.client().await;
    let value = "x".repeat(1 << 20);
    other.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048576\r\n{value}\r\n")).await;
    other.expect("+OK\r\n").await;
    let mut deaf = server.client().await;
    // Five thousand requests for a megabyte each. The server must stop reading long before it has them all, so the
    // bytes it counts as written are far from five gigabytes.
    let _ = timeout(PATIENCE, deaf.0.write_all("GET k\r\n".repeat(5000).as_bytes())).await;
    let sent = other.reply("INFO stats").await;
    let sent = sent.split("total_net_output_bytes:").nth(1).unwrap().split('\r').next().unwrap();
    assert!(sent.parse::<u64>().unwrap() < 64 << 20, "{sent}");
    server.stop.cancel();
    assert_eq!(other.rest().await, b"");
    server.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_bytes_harm_nothing_but_their_connection() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let cases = number("SAPWOOD_FUZZ_CASES_LIVE").unwrap_or(10_000);
    let first = number("SAPWOOD_FUZZ_SEED").unwrap_or_else(|| SystemEnv.random());
    println!("SAPWOOD_FUZZ_SEED={first}");
    let server = TestServer::start().await;
    for seed in (0..cases).map(|case| first.wrapping_add(case)) {
        let bytes = hostile(&mut StdRng::seed_from_u64(seed));
        let mut client = server.client().await;
        // The server may close before it has read all.
        let _ = client.0.write_all(&bytes).await;
        let _ = client.0.shutdown().await;
        client.rest().await;
        assert!(!server.task.is_finished(), "the server ended after seed {seed}");
    }
    server.client().await.ask("PING", "+PONG\r\n").await;
}

/// Valid requests of any command and any arguments, mutated, cut and mixed with noise. None that would stop the server.
fn hostile(random: &mut StdRng) -> Vec<u8> {
    const WORDS: &[&str] = &[
        "GET",
        "SET",
        "MSET",
        "MGET",
        "DEL",
        "GETEX",
        "EXPIRE",
        "PEXPIREAT",
        "TTL",
        "SCAN",
        "KEYS",
        "RANDOMKEY",
        "HELLO",
        "AUTH",
        "CLIENT",
        "COMMAND",
        "CONFIG",
        "INFO",
        "MONITOR",
        "SAPWOOD",
        "FLUSHALL",
        "RESET",
        "LIST",
        "KILL",
        "GETKEYS",
        "DOCS",
        "META",
        "PEERS",
        "DIGEST",
        "REPLY",
        "OFF",
        "SKIP",
        "EX",
        "PX",
        "NX",
        "XX",
        "KEEPTTL",
        "MATCH",
        "COUNT",
        "TYPE",
        "0",
        "1",
        "-1",
        "3",
        "9223372036854775807",
        "-9223372036854775808",
        "*",
        "[a-",
        "",
        "k",
        "\r\n",
        "\0\u{ff}",
        "id",
        "addr",
        "skipme",
        "no",
        "string",
        "PING",
        "DUMP",
        "RESTORE",
        "OBJECT",
        "MEMORY",
        "USAGE",
        "SLOWLOG",
        "LATENCY",
        "HISTOGRAM",
        "ACL",
        "CLUSTER",
    ];
    let mut bytes = Vec::new();
    for _ in 0..random.random_range(1..6) {
        let words = random.random_range(1..6);
        bytes.extend(format!("*{words}\r\n").into_bytes());
        for _ in 0..words {
            let word = WORDS[random.random_range(0..WORDS.len())];
            bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
        }
    }
    for _ in 0..random.random_range(0..4) {
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..4) {
            0 => bytes[at] = random.random(),
            1 => bytes.truncate(at + 1),
            2 => bytes.insert(at, random.random()),
            _ => drop(bytes.remove(at)),
        }
        if bytes.is_empty() {
            bytes.push(b'*');
        }
    }
    bytes
}

const LOADING: &str =
    "-LOADING the state of the peers is being fetched, and the key may be with them: try again\r\n";

#[tokio::test]
async fn while_the_state_of_peers_is_fetched_absent_keys_are_not_said_to_be_absent() {
    for serve in [false, true] {
        let server = TestServer::with(|settings| settings.serve_while_joining = serve).await;
        let mut client = server.client().await;
        client.ask("SET here 1", "+OK\r\n").await;
        server.fetching.store(true, Ordering::Relaxed);
        client.ask("GET here", "$1\r\n1\r\n").await;
        client.ask("GET elsewhere", if serve { "$-1\r\n" } else { LOADING }).await;
        client.ask("MGET here elsewhere", if serve { "*2\r\n$1\r\n1\r\n$-1\r\n" } else { LOADING }).await;
        let many = "here ".repeat(1000);
        client.ask(&format!("EXISTS {many}"), ":1000\r\n").await;
        client.ask(&format!("EXISTS {many} elsewhere"), if serve { ":1000\r\n" } else { LOADING }).await;
        server.fetching.store(false, Ordering::Relaxed);
        client.ask("GET nowhere", "$-1\r\n").await;
    }
}

#[tokio::test]
async fn while_the_state_of_peers_is_fetched_no_write_depends_on_a_key_that_may_be_with_them() {
    for serve in [false, true] {
        let server = TestServer::with(|settings| settings.serve_while_joining = serve).await;
        let mut client = server.client().await;
        client.ask("SET here 1", "+OK\r\n").await;
        server.fetching.store(true, Ordering::Relaxed);
        for (request, absent, present) in [
            ("SETNX _ 1", ":1\r\n", ":0\r\n"),
            ("SET _ 1 NX", "+OK\r\n", "$-1\r\n"),
            ("SET _ 1 XX", "$-1\r\n", "+OK\r\n"),
            ("SET _ 1 GET", "$-1\r\n", "$1\r\n1\r\n"),
            ("SET _ 1 KEEPTTL", "+OK\r\n", "+OK\r\n"),
            ("SET _ 1 IFNE 2", "+OK\r\n", "+OK\r\n"),
            ("MSETEX 1 _ 1 XX", ":0\r\n", ":1\r\n"),
            ("DELEX _ IFEQ 2", ":0\r\n", ":0\r\n"),
            ("GETSET _ 1", "$-1\r\n", "$1\r\n1\r\n"),
            ("GETEX _ PERSIST", "$-1\r\n", "$1\r\n1\r\n"),
            ("EXPIRE _ 100", ":0\r\n", ":1\r\n"),
            ("PERSIST", ":0\r\n", ":1\r\n"),
            ("GETDEL", "$-1\r\n", "$1\r\n1\r\n"),
        ] {
            let of = |key: &str| match request.split_once('_') {
                Some((command, rest)) => format!("{command}{key}{rest}"),
                None => format!("{request} {key}"),
            };
            client.ask(&of("here"), present).await;
            client.ask(&of("elsewhere"), if serve { absent } else { LOADING }).await;
            client.reply("DEL elsewhere").await;
        }
        if !serve {
            client.send("MULTI\r\nSET here 1\r\nEXEC\r\n").await;
            client
                .expect(format!(
                    "+OK\r\n+QUEUED\r\n-EXECABORT Transaction discarded because of: {}",
                    &LOADING[1..]
                ))
                .await;
        }
        // What is written whatever the key holds is taken.
        client.ask("INCR counter", ":1\r\n").await;
        client.ask("DECRBY counter 3", ":-2\r\n").await;
        client.ask("SET elsewhere 1", "+OK\r\n").await;
        client.ask("SET elsewhere 1 EX 100", "+OK\r\n").await;
        client.ask("SETEX elsewhere 100 1", "+OK\r\n").await;
        client.ask("MSET elsewhere 1 a 1", "+OK\r\n").await;
        client.ask("MSETEX 2 elsewhere 1 a 1 EX 100", ":1\r\n").await;
        client.ask("DEL elsewhere a nowhere", ":2\r\n").await;
        client.ask("UNLINK nowhere", ":0\r\n").await;
    }
}

/// On one thread a command that does not give way is executed while nobody else is served: but for a ping or two on either
/// side of it none is answered before it.
const SOME: usize = 8;

#[tokio::test]
async fn a_read_of_very_many_keys_while_the_state_of_peers_is_fetched_lets_other_clients_be_served() {
    let server = TestServer::start().await;
    let (mut client, mut other) = (server.client().await, server.client().await);
    client.ask("SET k 1", "+OK\r\n").await;
    server.fetching.store(true, Ordering::Relaxed);
    let request = format!("EXISTS {}elsewhere", "k ".repeat(20_000));
    let pings = client.pings_before_the_reply(&mut other, &request).await;
    client.expect(LOADING).await;
    assert!(pings >= SOME, "{pings} pings were answered");
}

#[tokio::test]
async fn a_random_key_is_looked_for_among_very_many_that_have_expired_while_other_clients_are_served() {
    let server = TestServer::start().await;
    let (mut client, mut other) = (server.client().await, server.client().await);
    const KEYS: usize = 50_000;
    for keys in (0..KEYS).collect::<Vec<_>>().chunks(1000) {
        let request: String = keys.iter().map(|n| format!("PSETEX {n} 1 v\r\n")).collect();
        client.send(request).await;
        client.expect("+OK\r\n".repeat(keys.len())).await;
    }
    while client.reply(&format!("EXISTS {}", KEYS - 1)).await != ":0\r\n" {}
    let pings = client.pings_before_the_reply(&mut other, "RANDOMKEY").await;
    client.expect("$-1\r\n").await;
    assert!(pings >= SOME, "{pings} pings were answered");
}
