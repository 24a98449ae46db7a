//! What clients choose by the version that a node states: each such command is supported, or refused by an error that they
//! raise.

use crate::raw_client::TestServer;

/// The beginning of an error that every client raises: not `ERR`, which some return as `false`, and none of those after
/// which a client redirects, authenticates, tries again or falls back to something else.
const REFUSED: &str = "-UNSUPPORTED ";

/// What StackExchange.Redis sends to a server of version 7.4 and would not send, or would send otherwise, to an older one:
/// the version that its `RedisFeatures` compare with, the request, and the beginning of the reply.
const STACK_EXCHANGE: &[(&str, &str, &str)] = &[
    ("2.1.3 ExpireOverwrite", "SET k v PX 100000", "+OK"),
    ("2.1.3 ExpireOverwrite", "PEXPIRE k 200000", ":1"),
    ("2.1.8 StringSetRange", "SETRANGE k 0 w", ":1"),
    ("2.6 BitwiseOperations", "BITCOUNT k", ":"),
    ("2.6 BitwiseOperations", "BITOP NOT b k", ":1"),
    ("2.6 IncrementFloat", "INCRBYFLOAT f 1.5", REFUSED),
    ("2.6 MillisecondExpiry", "PTTL k", ":"),
    ("2.6 Time", "TIME", "*2"),
    ("2.6.5 ExecAbort", "MULTI\r\nHSET h f v\r\nEXEC", "+OK\r\n-UNSUPPORTED HSET"),
    ("2.6.9 ClientName", "CLIENT SETNAME app", "+OK"),
    ("2.6.12 SetConditional", "SET lock me PX 100000 NX", "+OK"),
    ("2.6.12 SetConditional", "SET lock other PX 100000 NX", "_"),
    ("2.8 InfoSections", "INFO replication", "="),
    ("2.8 InfoSections", "INFO server", "="),
    ("2.8 Scan", "SCAN 0 COUNT 250", "*2"),
    ("2.8.12 Scripting", "EVAL \"return 1\" 0", REFUSED),
    ("2.8.18 HyperLogLogCountReplicaSafe", "PFCOUNT p", REFUSED),
    ("3.2 Geo", "GEOADD g 1 1 m", REFUSED),
    ("3.2 HashStringLength", "HSTRLEN h f", REFUSED),
    ("3.2 SetPopMultiple", "SPOP s 2", REFUSED),
    ("3.2.1 KeyTouch", "TOUCH k lock", ":2"),
    ("4.0 Memory", "MEMORY DOCTOR", "="),
    ("4.0 Module", "MODULE LIST", "*0"),
    ("4.0 SwapDB", "SWAPDB 0 1", REFUSED),
    ("4.0 Unlink", "UNLINK b", ":1"),
    ("5.0 ReplicaCommands", "CONFIG GET replica-read-only", "%0"),
    ("5.0 ReplicaCommands", "REPLICAOF NO ONE", REFUSED),
    ("5.0 SortedSetPop", "ZPOPMIN z 1", REFUSED),
    ("5.0 Streams", "XADD s * f v", REFUSED),
    ("6.0 SetKeepTtl", "SET k v KEEPTTL", "+OK"),
    ("6.2 GetDelete", "GETDEL k", "$1"),
    ("6.2 SetAndGet", "SET k v GET", "_"),
    ("6.2 SortedSetRangeStore", "ZRANGESTORE d z 0 -1", REFUSED),
    ("7.0 ReadOnlySort", "SORT_RO k", REFUSED),
    ("7.0 SetNotExistsAndGet", "SET k w NX GET", "$1"),
];

#[tokio::test]
async fn each_command_that_stackexchange_redis_chooses_by_the_version_is_executed_or_raises() {
    let server = TestServer::with(|settings| settings.enable_scripts = false).await;
    let mut client = server.client().await;
    // Its handshake. What it asks for to configure itself may be an error, but not one after which it closes.
    let hello = client.reply("HELLO 3 SETNAME app").await;
    assert!(hello.contains("$7\r\nversion\r\n$5\r\n7.4.0\r\n"), "{hello}");
    for (request, reply) in [
        ("CLIENT SETINFO lib-name SE.Redis", "+OK"),
        ("CLIENT SETINFO lib-ver 2.8.41", "+OK"),
        ("CLIENT ID", ":"),
        ("CONFIG GET timeout", "%1"),
        ("CONFIG GET databases", "%1"),
        ("SENTINEL MASTERS", REFUSED),
        ("CLUSTER NODES", "-ERR This instance has cluster support disabled"),
        ("ECHO id", "$2"),
    ] {
        let got = client.reply(request).await;
        assert!(got.starts_with(reply), "{request}: {got}");
    }
    let info = client.reply("INFO server").await;
    assert!(
        info.contains("\r\nredis_version:7.4.0\r\n") && info.contains("\r\nredis_mode:standalone\r\n"),
        "{info}"
    );
    let info = client.reply("INFO replication").await;
    assert!(info.contains("\r\nrole:master\r\n"), "{info}");
    for (feature, request, reply) in STACK_EXCHANGE {
        let got = client.reply(request).await;
        assert!(got.starts_with(reply), "{feature}: {request}: {got}");
    }
    // 3.0, PingOnSubscriber: in RESP2 on the connection with its subscriptions.
    let mut listener = server.client().await;
    listener.send("SUBSCRIBE __Booksleeve_MasterChanged\r\n").await;
    listener.expect("*3\r\n$9\r\nsubscribe\r\n$26\r\n__Booksleeve_MasterChanged\r\n:1\r\n").await;
    listener.ask("PING", "*2\r\n$4\r\npong\r\n$0\r\n\r\n").await;
}

/// Lettuce keeps the version and decides nothing by it. It falls back to RESP2 only if `HELLO` is unknown or `NOPROTO`, and
/// ignores what becomes of `SETINFO` and `MAINT_NOTIFICATIONS`.
#[tokio::test]
async fn lettuce_connects_in_resp3_and_goes_on_without_what_is_not_there() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let hello = client.reply("HELLO 3 SETNAME app").await;
    for field in
        ["$5\r\nproto\r\n:3\r\n", "$4\r\nmode\r\n$10\r\nstandalone\r\n", "$4\r\nrole\r\n$6\r\nmaster\r\n"]
    {
        assert!(hello.starts_with("%7\r\n") && hello.contains(field), "{hello}");
    }
    client.ask("CLIENT SETINFO lib-name Lettuce", "+OK\r\n").await;
    let maintenance = client.reply("CLIENT MAINT_NOTIFICATIONS on moving-endpoint-type internal-ip").await;
    assert!(maintenance.starts_with("-ERR unknown subcommand 'MAINT_NOTIFICATIONS'"), "{maintenance}");
    client.ask("SELECT 1", "+OK\r\n").await;
    client.ask("GET k", "_\r\n").await;
}
