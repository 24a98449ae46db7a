//! Scripts against a live server: what frameworks send, the replies of Redis, and hostile scripts.
//!
//! The scripts of frameworks are written here from what they do, in the way those are written.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use crate::raw_client::{Client, PATIENCE, TestServer};
use crate::support::node_process::request;

/// The reply to a request, up to a marker after it.
async fn ask(client: &mut Client, args: &[&str]) -> String {
    let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
    let request = String::from_utf8_lossy(&request(&args)).into_owned();
    client.reply(request.trim_end_matches('\n').trim_end_matches('\r')).await
}

/// The reply to `EVAL`.
async fn eval(client: &mut Client, script: &str, keys: &[&str], argv: &[&str]) -> String {
    let count = keys.len().to_string();
    let mut args = vec!["EVAL", script, &count];
    args.extend_from_slice(keys);
    args.extend_from_slice(argv);
    ask(client, &args).await
}

/// Without the end that names the script and the line.
fn cause(reply: &str) -> &str {
    reply.split(" script: ").next().unwrap_or(reply)
}

#[tokio::test]
async fn values_of_lua_become_the_replies_that_redis_sends() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for (script, reply) in [
        (
            "return {1,2,{3,'a',nil,5},3.99,true,false,'z'}",
            "*7\r\n:1\r\n:2\r\n*2\r\n:3\r\n$1\r\na\r\n:3\r\n:1\r\n$-1\r\n$1\r\nz\r\n",
        ),
        ("return nil", "$-1\r\n"),
        ("return -3.9", ":-3\r\n"),
        ("return 2^53", ":9007199254740992\r\n"),
        ("return 1e30", ":-9223372036854775808\r\n"),
        ("return 0/0", ":-9223372036854775808\r\n"),
        ("return {ok='fine'}", "+fine\r\n"),
        ("return {err='My Err'}", "-My Err\r\n"),
        ("return {ok=5}", "*0\r\n"),
        ("return redis.status_reply('fine')", "+fine\r\n"),
        ("return redis.status_reply(1)", "-ERR wrong number or type of arguments\r\n"),
        ("return redis.error_reply('-My Err')", "-My Err\r\n"),
        ("return redis.error_reply('MYERR foo')", "-MYERR foo\r\n"),
        ("return redis.error_reply('oneword')", "-ERR oneword\r\n"),
        ("return redis.error_reply('-oneword')", "-ERR oneword\r\n"),
        ("return redis.error_reply('')", "-ERR \r\n"),
        ("return {double=3.25}", "$4\r\n3.25\r\n"),
        ("return {map={a=1}}", "*2\r\n$1\r\na\r\n:1\r\n"),
        ("return {set={a=true}}", "*1\r\n$1\r\na\r\n"),
        ("return function() end", "$-1\r\n"),
        ("return redis.call('ping')", "+PONG\r\n"),
        ("return redis.call('ping').ok", "$4\r\nPONG\r\n"),
        (
            "return redis.call('echo', 3.5)..' '..redis.call('echo', 1e20)..' '..redis.call('echo',10)",
            "$12\r\n3.5 1e+20 10\r\n",
        ),
        ("return redis.sha1hex('')", "$40\r\nda39a3ee5e6b4b0d3255bfef95601890afd80709\r\n"),
        ("return redis.log(redis.LOG_NOTICE,'x')", "$-1\r\n"),
        ("return redis.replicate_commands()", ":1\r\n"),
        ("#!lua flags=no-writes\nreturn 1", ":1\r\n"),
        ("return type(os.clock())", "$6\r\nnumber\r\n"),
        ("return {unpack({1,2,3}, 2)}", "*2\r\n:2\r\n:3\r\n"),
        ("return {string.find('a.b', '.', 1, true)}", "*2\r\n:2\r\n:2\r\n"),
        ("return {('hello world'):find('wor')}", "*2\r\n:7\r\n:9\r\n"),
        ("return {('hello world'):find('(w)(o)')}", "*4\r\n:7\r\n:8\r\n$1\r\nw\r\n$1\r\no\r\n"),
        (
            "return {string.find('abc', 'c', -1), string.find('abc', '', 4), string.find('abc', 'x')}",
            "*2\r\n:3\r\n:4\r\n",
        ),
        ("local t = {3,1,2} table.sort(t) return t", "*3\r\n:1\r\n:2\r\n:3\r\n"),
        (
            "local t = {3,1,2} table.sort(t, function(a,b) return a > b end) return t",
            "*3\r\n:3\r\n:2\r\n:1\r\n",
        ),
        // cjson and bit, as redis-server 7.0.15 replies.
        ("return cjson.encode({-2^63, 2^53})", "$41\r\n[-9.2233720368548e+18,9.007199254741e+15]\r\n"),
        (
            "return redis.call('echo', 2^53)..' '..redis.call('echo', -2^63)",
            "$40\r\n9007199254740992 -9.2233720368547758e+18\r\n",
        ),
        (
            "return cjson.encode({1,2,{a='x/y'},0.1,1e20,true,cjson.null})",
            "$38\r\n[1,2,{\"a\":\"x\\/y\"},0.1,1e+20,true,null]\r\n",
        ),
        (
            "return cjson.encode({})..cjson.encode({[1]=1,[3]=2})..cjson.encode('\\127\\1\"')",
            "$28\r\n{}[1,null,2]\"\\u007f\\u0001\\\"\"\r\n",
        ),
        (
            "local t=cjson.decode('{\"a\":[1,null,\"\\\\u00e9\\\\ud83d\\\\ude00\"]}') return {t.a[1], t.a[2]==cjson.null, t.a[3]}",
            "*3\r\n:1\r\n:1\r\n$6\r\né😀\r\n",
        ),
        (
            "return bit.tohex(255,4)..' '..bit.bnot(0)..' '..bit.lshift(1,31)..' '..bit.bswap(1)..' '..bit.rol(1,33)..' '..bit.tobit(4294967296+5)",
            "$32\r\n00ff -1 -2147483648 16777216 2 5\r\n",
        ),
        (
            "return bit.tohex(255,-3)..bit.tohex(1)..' '..bit.tobit(2.5)..' '..bit.tobit(3.5)..' '..bit.arshift(-8,1)..' '..bit.ror(1,1)..' '..bit.tobit(-1.5)",
            "$33\r\n0FF00000001 2 4 -4 -2147483648 -2\r\n",
        ),
    ] {
        assert_eq!(eval(&mut client, script, &[], &[]).await, reply, "{script}");
    }
    ask(&mut client, &["HELLO", "3"]).await;
    for (script, reply) in [
        ("return true", ":1\r\n"),
        ("return false", "_\r\n"),
        (
            "redis.setresp(3) return {true, false, {double=0.5}, {map={a=1}}}",
            "*4\r\n#t\r\n#f\r\n,0.5\r\n%1\r\n$1\r\na\r\n:1\r\n",
        ),
        ("redis.setresp(3) return redis.call('get', KEYS[1]) == nil", "#t\r\n"),
        ("return redis.call('get', KEYS[1]) == false", ":1\r\n"),
    ] {
        assert_eq!(eval(&mut client, script, &["absent"], &[]).await, reply, "{script}");
    }
}

#[tokio::test]
async fn an_error_that_a_script_returns_counts_as_one() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    // A command that it has called before does not fail.
    let script = "redis.call('time') return redis.error_reply('MY_OWN is')";
    assert_eq!(eval(&mut client, script, &[], &[]).await, "-MY_OWN is\r\n");
    assert_eq!(eval(&mut client, "return {err='MY_OWN too'}", &[], &[]).await, "-MY_OWN too\r\n");
    assert!(client.reply("INFO errorstats").await.contains("errorstat_MY_OWN:count=2\r\n"));
    let stats = client.reply("INFO commandstats").await;
    let line = stats.lines().find(|line| line.starts_with("cmdstat_eval:calls=2,"));
    assert!(line.is_some_and(|line| line.ends_with(",failed_calls=2")), "{stats}");
    assert!(client.reply("INFO memory").await.contains("number_of_cached_scripts:2\r\n"));
}

#[tokio::test]
async fn a_monitor_sees_the_commands_of_a_script_and_that_they_come_from_one() {
    let server = TestServer::start().await;
    let (mut monitor, mut client) = (server.client().await, server.client().await);
    monitor.ask("MONITOR", "+OK\r\n").await;
    assert_eq!(eval(&mut client, "return redis.call('set', KEYS[1], 'v')", &["k"], &[]).await, "+OK\r\n");
    client.ask("PING", "+PONG\r\n").await;
    let seen = monitor.until("\"PING\"\r\n").await;
    let lines: Vec<_> = seen.lines().collect();
    assert!(lines[0].contains("[0 127.0.0.1:") && lines[0].contains("\"EVAL\""), "{seen}");
    assert!(lines[1].ends_with("[0 lua] \"set\" \"k\" \"v\""), "{seen}");
}

#[tokio::test]
async fn errors_are_in_redis_words() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.ask("SET s abc", "+OK\r\n").await;
    for (script, error) in [
        (
            "return cmsgpack.pack({1})",
            "-ERR user_script:1: cmsgpack is not supported: no library is kept for it. Use cjson, or encode in the client",
        ),
        (
            "return struct.pack('>I4', 1)",
            "-ERR user_script:1: struct is not supported: no library is kept for it. Use cjson, or encode in the client",
        ),
        ("return x.y", "-ERR user_script:1: Script attempted to access nonexistent global variable 'x'"),
        ("x=1", "-ERR user_script:1: Attempt to modify a readonly table"),
        ("return redis.call('get')", "-ERR Wrong number of args calling Redis command from script"),
        ("return redis.call()", "-ERR Please specify at least one argument for this redis lib call"),
        ("return redis.call('nosuch')", "-ERR Unknown Redis command called from script"),
        ("return redis.call({})", "-ERR Lua redis lib command arguments must be strings or integers"),
        ("return redis.call('multi')", "-ERR This Redis command is not allowed from script"),
        ("return redis.call('subscribe', 'x')", "-ERR This Redis command is not allowed from script"),
        ("return redis.call('watch', KEYS[1])", "-ERR This Redis command is not allowed from script"),
        ("return redis.call('wait', 1, 0)", "-ERR This Redis command is not allowed from script"),
        ("return redis.call('keys', '*')", "-ERR This Redis command is not allowed from script"),
        ("return redis.call('eval', 'return 1', 0)", "-ERR This Redis command is not allowed from script"),
        ("return redis.call('incr', KEYS[1])", "-ERR value is not an integer or out of range"),
        ("return redis.pcall('incr', KEYS[1])", "-ERR value is not an integer or out of range\r\n"),
        ("error('boom')", "-ERR user_script:1: boom"),
        ("error({err='boom'})", "-boom"),
        ("error()", "-ERR nil"),
        ("return redis.sha1hex()", "-ERR wrong number of arguments"),
        ("return redis.log(9, 'x')", "-ERR Invalid debug level."),
        ("redis.setresp(4)", "-ERR RESP version must be 2 or 3."),
        (
            "return cjson.encode({[1]=1,[100]=2})",
            "-ERR user_script:1: Cannot serialise table: excessively sparse array",
        ),
        (
            "return cjson.encode(function() end)",
            "-ERR user_script:1: Cannot serialise function: type not supported",
        ),
        ("return cjson.encode(0/0)", "-ERR user_script:1: Cannot serialise number: must not be NaN or Inf"),
        (
            "return cjson.decode('{bad')",
            "-ERR user_script:1: Expected object key string but found invalid token at character 2",
        ),
        (
            "return cjson.decode('[1,2')",
            "-ERR user_script:1: Expected comma or array end but found T_END at character 5",
        ),
        (
            "return bit.band()",
            "-ERR user_script:1: bad argument #1 to 'band' (number expected, got no value)",
        ),
        (
            "return redis.call('get', 'other')",
            "-ERR Script tried accessing undeclared key 'other': a script must be given all its keys in KEYS, since only those are locked",
        ),
        (
            "return redis.call('mget', KEYS[1], 'other')",
            "-ERR Script tried accessing undeclared key 'other': a script must be given all its keys in KEYS, since only those are locked",
        ),
        (
            "#!lua flags=no-writes\nreturn redis.call('del', KEYS[1])",
            "-ERR Write commands are not allowed from read-only scripts.",
        ),
    ] {
        let reply = eval(&mut client, script, &["s"], &[]).await;
        assert_eq!(cause(&reply), error, "{script}");
    }
    let reply = eval(&mut client, "local a\nlocal b\nerror('x',0)", &[], &[]).await;
    assert_eq!(reply, "-ERR x script: 29d788074ade3bb17b2402f33b1f26ee8ac07744, on @user_script:3.\r\n");
    let text = "local ok, e = pcall(redis.call, 'incr', KEYS[1]) return {tostring(ok), e}";
    let reply = eval(&mut client, text, &["s"], &[]).await;
    assert_eq!(reply, "*2\r\n$5\r\nfalse\r\n$43\r\nERR value is not an integer or out of range\r\n");
    assert!(
        eval(&mut client, "syntax error here", &[], &[])
            .await
            .starts_with("-ERR Error compiling script (new function): user_script:1: ")
    );
    client.ask("EVAL 1 a", "-ERR value is not an integer or out of range\r\n").await;
    client.ask("EVAL 1 -1", "-ERR Number of keys can't be negative\r\n").await;
    client.ask("EVAL 1 5 a", "-ERR Number of keys can't be greater than number of args\r\n").await;
    assert_eq!(
        eval(&mut client, "#!js\nreturn 1", &[], &[]).await,
        "-ERR Unexpected engine in script shebang: #!js\r\n"
    );
    assert_eq!(
        eval(&mut client, "#!lua flags=foo\nreturn 1", &[], &[]).await,
        "-ERR Unexpected flag in script shebang: foo\r\n"
    );
    let reply = ask(&mut client, &["EVAL_RO", "return redis.call('set', KEYS[1], 1)", "1", "s"]).await;
    assert_eq!(cause(&reply), "-ERR Write commands are not allowed from read-only scripts.");
}

#[tokio::test]
async fn what_a_script_publishes_is_sent_once_it_has_ended_and_only_if_it_is_applied() {
    let server = TestServer::start().await;
    let (mut client, mut listener) = (server.client().await, server.client().await);
    listener.ask("SUBSCRIBE c", "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n").await;
    let message = |text: &str| format!("*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n${}\r\n{text}\r\n", text.len());
    let publish = "redis.call('set', KEYS[1], ARGV[1]) return redis.call('publish', 'c', ARGV[1])";
    assert_eq!(eval(&mut client, publish, &["k"], &["one"]).await, ":1\r\n");
    listener.expect(message("one")).await;
    // A script that fails has done what it did before.
    let fails = "redis.call('publish', 'c', 'two') return redis.call('incr', KEYS[1])";
    assert!(eval(&mut client, fails, &["k"], &[]).await.starts_with("-ERR value is not an integer"));
    listener.expect(message("two")).await;
    // One that is ended has not.
    let ended = "redis.call('publish', 'c', 'never') while true do end";
    assert!(eval(&mut client, ended, &["k"], &[]).await.starts_with("-ABORTED "));
    client.send("MULTI\r\n").await;
    client.send(request(&[b"EVAL", publish.as_bytes(), b"1", b"k", b"three"])).await;
    client.send(request(&[b"EVAL", b"return redis.call('publish', 'c', 'four')", b"0"])).await;
    client.send("EXEC\r\n").await;
    client.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n:1\r\n").await;
    listener.expect([message("three"), message("four")].concat()).await;
    let only_reads = ask(&mut client, &["EVAL_RO", "return redis.call('publish', 'c', 'm')", "0"]).await;
    assert_eq!(cause(&only_reads), "-ERR Write commands are not allowed from read-only scripts.");
    let large = "while true do redis.call('publish', 'c', string.rep('x', 2^20)) end";
    assert!(eval(&mut client, large, &[], &[]).await.starts_with("-ABORTED "));
    client.ask("PUBLISH c last", ":1\r\n").await;
    listener.expect(message("last")).await;
}

/// On two threads: one runs the script.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_is_killed_has_done_nothing() {
    let server = TestServer::with(|settings| settings.script_time_limit = PATIENCE).await;
    let (mut client, mut other) = (server.client().await, server.client().await);
    const ENDLESS: &[u8] = b"while true do redis.call('set', KEYS[1], 'x') end";
    for _ in 0..5 {
        client.send(request(&[b"EVAL", ENDLESS, b"1", b"k"])).await;
        while other.reply("SCRIPT KILL").await != "+OK\r\n" {}
        client
            .ask(
                "GET k",
                "-ABORTED the script was ended, and nothing of it is applied: SCRIPT KILL\r\n$-1\r\n",
            )
            .await;
    }
    other.ask("SCRIPT KILL", "-NOTBUSY No scripts in execution right now.\r\n").await;
    other.ask("SET k y", "+OK\r\n").await;
}

#[tokio::test]
async fn scripts_are_kept_by_their_digest() {
    const ONE: &str = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.ask(&format!("EVALSHA {ONE} 0"), "-NOSCRIPT No matching script. Please use EVAL.\r\n").await;
    client.ask("EVALSHA aaaa 0", "-NOSCRIPT No matching script. Please use EVAL.\r\n").await;
    client.ask("SCRIPT KILL", "-NOTBUSY No scripts in execution right now.\r\n").await;
    assert_eq!(ask(&mut client, &["SCRIPT", "LOAD", "return 1"]).await, format!("$40\r\n{ONE}\r\n"));
    client.ask(&format!("SCRIPT EXISTS {ONE} aa"), "*2\r\n:1\r\n:0\r\n").await;
    client.ask(&format!("EVALSHA {} 0", ONE.to_uppercase()), ":1\r\n").await;
    client.ask(&format!("EVALSHA_RO {ONE} 0"), ":1\r\n").await;
    client.ask(&format!("SCRIPT SHOW {ONE}"), "$8\r\nreturn 1\r\n").await;
    client.ask("SCRIPT FLUSH FOO", "-ERR SCRIPT FLUSH only support SYNC|ASYNC option\r\n").await;
    client.ask("SCRIPT FLUSH ASYNC", "+OK\r\n").await;
    client.ask(&format!("SCRIPT EXISTS {ONE}"), "*1\r\n:0\r\n").await;
    client.ask("SCRIPT DEBUG YES", "-ERR unknown subcommand 'DEBUG'. Try SCRIPT HELP.\r\n").await;
    let keys = ask(&mut client, &["COMMAND", "GETKEYS", "EVAL", "return 1", "2", "a", "b", "c"]).await;
    assert_eq!(keys, "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
}

#[tokio::test]
async fn without_the_flag_the_error_says_how_to_turn_scripts_on() {
    let server = TestServer::with(|settings| settings.enable_scripts = false).await;
    let mut client = server.client().await;
    let off = |name: &str| {
        format!("-UNSUPPORTED {name}: scripts are off: start the node with --enable-scripts\r\n")
    };
    client.ask("EVAL 1 0", &off("EVAL")).await;
    client.ask("SCRIPT LOAD 1", &off("SCRIPT LOAD")).await;
    client.ask("MULTI", "+OK\r\n").await;
    client.ask("EVALSHA 1 0", &off("EVALSHA")).await;
    client.ask("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n").await;
}

#[tokio::test]
async fn a_script_is_a_part_of_a_transaction() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.ask("MULTI", "+OK\r\n").await;
    client.ask("SET a 5", "+QUEUED\r\n").await;
    let script = "return redis.call('incrby', KEYS[1], redis.call('get', KEYS[2]))";
    client.send(request(&[b"EVAL", script.as_bytes(), b"2", b"b", b"a"])).await;
    client.expect("+QUEUED\r\n").await;
    client.ask("GET b", "+QUEUED\r\n").await;
    client.send(request(&[b"EVAL", b"return 7", b"0"])).await;
    client.expect("+QUEUED\r\n").await;
    client.ask("EXEC", "*4\r\n+OK\r\n:5\r\n$1\r\n5\r\n:7\r\n").await;
}

#[tokio::test]
async fn a_failed_script_keeps_what_it_wrote_and_one_that_is_ended_does_not() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.ask("SET b 1", "+OK\r\n").await;
    eval(
        &mut client,
        "redis.call('set', KEYS[1], 1) redis.call('del', KEYS[2]) error('x')",
        &["a", "b"],
        &[],
    )
    .await;
    client.ask("MGET a b", "*2\r\n$1\r\n1\r\n$-1\r\n").await;
    let script = "redis.call('set', KEYS[1], 2) redis.call('incr', KEYS[2]) redis.call('expire', KEYS[1], 100) \
                  if redis.call('get', KEYS[1]) ~= '2' or redis.call('exists', KEYS[2]) ~= 1 then return end \
                  redis.call('rename', KEYS[2], KEYS[3]) while true do end";
    let reply = eval(&mut client, script, &["a", "b", "c"], &[]).await;
    assert!(
        reply.starts_with(
            "-ABORTED the script was ended, and nothing of it is applied: it ran for more than 100 ms"
        ),
        "{reply}"
    );
    client.ask("MGET a b c", "*3\r\n$1\r\n1\r\n$-1\r\n$-1\r\n").await;
    client.ask("TTL a", ":-1\r\n").await;
}

#[tokio::test]
async fn locks_of_frameworks_work() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    // redis-py's Lock.
    const RELEASE: &str = "local token = redis.call('get', KEYS[1])\nif not token or token ~= ARGV[1] then\n return 0\nend\n\
        redis.call('del', KEYS[1])\nreturn 1\n";
    const EXTEND: &str = "local token = redis.call('get', KEYS[1])\nif not token or token ~= ARGV[1] then\n return 0\nend\n\
        local expiration = redis.call('pttl', KEYS[1])\nif not expiration then\n expiration = 0\nend\n\
        if expiration < 0 then\n return 0\nend\nlocal newttl = ARGV[2]\nif ARGV[3] == \"0\" then\n\
        newttl = ARGV[2] + expiration\nend\nredis.call('pexpire', KEYS[1], newttl)\nreturn 1\n";
    const REACQUIRE: &str = "local token = redis.call('get', KEYS[1])\nif not token or token ~= ARGV[1] then\n return 0\nend\n\
        redis.call('pexpire', KEYS[1], ARGV[2])\nreturn 1\n";
    client.ask("SET lock me NX PX 10000", "+OK\r\n").await;
    assert_eq!(eval(&mut client, EXTEND, &["lock"], &["me", "50000", "0"]).await, ":1\r\n");
    let left = eval(&mut client, "return redis.call('pttl', KEYS[1]) > 55000", &["lock"], &[]).await;
    assert_eq!(left, ":1\r\n");
    assert_eq!(eval(&mut client, EXTEND, &["lock"], &["you", "50000", "1"]).await, ":0\r\n");
    assert_eq!(eval(&mut client, REACQUIRE, &["lock"], &["me", "20000"]).await, ":1\r\n");
    assert_eq!(eval(&mut client, RELEASE, &["lock"], &["you"]).await, ":0\r\n");
    assert_eq!(eval(&mut client, RELEASE, &["lock"], &["me"]).await, ":1\r\n");
    assert_eq!(eval(&mut client, RELEASE, &["lock"], &["me"]).await, ":0\r\n");
    // Redlock, Laravel, Rails: compare and delete, compare and expire, in one expression.
    let delete = "if redis.call(\"get\",KEYS[1]) == ARGV[1] then\n return redis.call(\"del\",KEYS[1])\nelse\n return 0\nend";
    let expire = "if redis.call(\"get\",KEYS[1]) == ARGV[1] then return redis.call(\"pexpire\",KEYS[1],ARGV[2]) else return 0 end";
    let acquire = "if redis.call('exists', KEYS[1]) == 1 then return nil end return redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2])";
    assert_eq!(eval(&mut client, acquire, &["red"], &["t", "9000"]).await, "+OK\r\n");
    assert_eq!(eval(&mut client, acquire, &["red"], &["u", "9000"]).await, "$-1\r\n");
    assert_eq!(eval(&mut client, expire, &["red"], &["t", "9999"]).await, ":1\r\n");
    assert_eq!(eval(&mut client, delete, &["red"], &["u"]).await, ":0\r\n");
    assert_eq!(eval(&mut client, delete, &["red"], &["t"]).await, ":1\r\n");
    // Redlock's many resources in one script.
    let many = "local set = {}\nfor i, key in ipairs(KEYS) do\n if redis.call('exists', key) == 1 then return 0 end\nend\n\
        for i, key in ipairs(KEYS) do\n redis.call('set', key, ARGV[1], 'PX', ARGV[2])\n table.insert(set, key)\nend\nreturn #set";
    assert_eq!(eval(&mut client, many, &["r1", "r2"], &["t", "9000"]).await, ":2\r\n");
    assert_eq!(eval(&mut client, many, &["r2", "r3"], &["t", "9000"]).await, ":0\r\n");
    client.ask("EXISTS r3", ":0\r\n").await;
    // Nextcloud and ASP.NET: compare and swap, compare and delete with a null.
    let swap = "if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('set', KEYS[1], ARGV[2]) return 1 else return 0 end";
    client.ask("SET cas old", "+OK\r\n").await;
    assert_eq!(eval(&mut client, swap, &["cas"], &["old", "new"]).await, ":1\r\n");
    assert_eq!(eval(&mut client, swap, &["cas"], &["old", "new"]).await, ":0\r\n");
}

#[tokio::test]
async fn counters_and_rate_limits_of_frameworks_work() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    // Laravel's add.
    let add = "return redis.call('exists',KEYS[1])<1 and redis.call('setex',KEYS[1],ARGV[2],ARGV[1])";
    assert_eq!(eval(&mut client, add, &["l"], &["v", "60"]).await, "+OK\r\n");
    assert_eq!(eval(&mut client, add, &["l"], &["v", "60"]).await, "$-1\r\n");
    // limits' fixed window, django-redis's incr, a plain counter with a deadline.
    let fixed = "local current\nlocal amount = tonumber(ARGV[2])\ncurrent = redis.call(\"incrby\", KEYS[1], amount)\n\
        if tonumber(current) == amount then\n    redis.call(\"expire\", KEYS[1], ARGV[1])\nend\nreturn current";
    for expected in [":2\r\n", ":4\r\n"] {
        assert_eq!(eval(&mut client, fixed, &["window"], &["60", "2"]).await, expected);
    }
    assert_eq!(eval(&mut client, "return redis.call('ttl', KEYS[1]) > 50", &["window"], &[]).await, ":1\r\n");
    let exists = "if redis.call('exists', KEYS[1]) == 1 then\n return redis.call('incrby', KEYS[1], ARGV[1])\nelse\n return nil\nend";
    assert_eq!(eval(&mut client, exists, &["window"], &["3"]).await, ":7\r\n");
    assert_eq!(eval(&mut client, exists, &["none"], &["3"]).await, "$-1\r\n");
    // limits' sliding window of counters.
    let sliding = "local limit = tonumber(ARGV[1])\nlocal expiry = tonumber(ARGV[2]) * 1000\nlocal amount = tonumber(ARGV[3])\n\
        if amount > limit then return false end\nlocal current_ttl = tonumber(redis.call('PTTL', KEYS[2]))\n\
        if current_ttl > 0 and current_ttl < expiry then\n redis.call('RENAME', KEYS[2], KEYS[1])\n\
        redis.call('SET', KEYS[2], 0, 'PX', current_ttl + expiry)\nend\n\
        local previous_count = tonumber(redis.call('GET', KEYS[1])) or 0\nlocal previous_ttl = tonumber(redis.call('PTTL', KEYS[1])) or 0\n\
        local current_count = tonumber(redis.call('GET', KEYS[2])) or 0\ncurrent_ttl = tonumber(redis.call('PTTL', KEYS[2])) or 0\n\
        if previous_ttl <= 0 then previous_count = 0 end\nlocal weighted = math.floor(previous_count * previous_ttl / expiry) + current_count\n\
        if (weighted + amount) > limit then return false end\n\
        if not redis.call('GET', KEYS[2]) then redis.call('SET', KEYS[2], amount, 'PX', expiry * 2) else redis.call('INCRBY', KEYS[2], amount) end\n\
        return true";
    for expected in [":1\r\n", ":1\r\n", "$-1\r\n"] {
        assert_eq!(eval(&mut client, sliding, &["prev", "cur"], &["2", "60", "1"]).await, expected);
    }
    // A token bucket as JSON.
    let bucket = "local state = redis.call('get', KEYS[1])\nlocal now = tonumber(ARGV[2])\n\
        local b = state and cjson.decode(state) or {tokens = tonumber(ARGV[1]), at = now}\n\
        b.tokens = math.min(tonumber(ARGV[1]), b.tokens + (now - b.at) * 0.5)\nb.at = now\n\
        local ok = b.tokens >= 1\nif ok then b.tokens = b.tokens - 1 end\n\
        redis.call('set', KEYS[1], cjson.encode(b), 'EX', 60)\nreturn {ok and 1 or 0, tostring(b.tokens)}";
    for (now, expected) in [
        ("0", "*2\r\n:1\r\n$1\r\n0\r\n"),
        ("1", "*2\r\n:0\r\n$3\r\n0.5\r\n"),
        ("2", "*2\r\n:1\r\n$1\r\n0\r\n"),
    ] {
        assert_eq!(eval(&mut client, bucket, &["bucket"], &["1", now]).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_count_and_transfer_by_scripts_and_lose_nothing() {
    let server = TestServer::start().await;
    let transfer = "local a = tonumber(redis.call('get', KEYS[1]) or 0) local b = tonumber(redis.call('get', KEYS[2]) or 0) \
        redis.call('set', KEYS[1], a - 1) redis.call('set', KEYS[2], b + 1) return a + b";
    let mut tasks = Vec::new();
    for n in 0..4 {
        let mut client = server.client().await;
        tasks.push(tokio::spawn(async move {
            for _ in 0..100 {
                let keys = if n % 2 == 0 { ["x", "y"] } else { ["y", "x"] };
                assert_eq!(eval(&mut client, transfer, &keys, &[]).await, ":0\r\n");
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

/// Each is ended by a limit or by an error; afterwards the node serves as before.
#[tokio::test]
async fn hostile_scripts_end_within_their_limits() {
    let server = TestServer::with(|settings| settings.script_time_limit = Duration::from_millis(50)).await;
    let mut client = server.client().await;
    const TOO_DEEP: &str = "-ERR reached lua stack limit\r\n";
    let deep = |open: &str, count: usize| format!("return {}1", open.repeat(count));
    let scripts = [
        "while true do end".to_owned(),
        "while true do pcall(function() while true do end end) end".into(),
        "local function f() pcall(f) pcall(f) end f()".into(),
        "return xpcall(function() while true do end end, function() while true do end end)".into(),
        "coroutine.wrap(function() while true do end end)()".into(),
        "local t = {} while true do t[#t + 1] = string.rep('x', 1e6) end".into(),
        "local t = {} while true do t[#t + 1] = {} end".into(),
        "local function f() return 1 + f() end return f()".into(),
        "local t = setmetatable({}, {__index = function(t, k) return t[k] end}) return t.x".into(),
        "return string.rep('x', 2e9)".into(),
        "return string.rep('x', 1e9)".into(),
        "return #string.rep('', 2e9)".into(),
        "return string.find(string.rep('a', 30000), '.-.-.-.-b')".into(),
        "return string.find(string.rep('a', 30), string.rep('a?', 30) .. string.rep('a', 30))".into(),
        "return string.gsub(string.rep('a', 5000), string.rep('a*', 20) .. 'b', '')".into(),
        "return string.find(string.rep('(', 300000), '%b()')".into(),
        "local s = string.rep('a', 5e6) return s:find(string.rep('a', 4e6) .. 'b', 1, true)".into(),
        "local s = string.rep('a', 5e6) return s:find(string.rep('a', 4e6) .. 'b')".into(),
        "local a, t = string.rep('a', 3e6), {} for i = 1, 1e5 do t[i] = a .. (i % 2) end table.sort(t)".into(),
        "local a, t = string.rep('a', 3e6), {} local b, c = a .. 1, a .. 2 for i = 1, 1e5 do t[i] = i % 2 == 0 and b or c end table.sort(t)".into(),
        "local t = {} for i = 1, 40 do t = {t, t} end return t".into(),
        "local t = {} for i = 1, 40 do t = {t, t} end return cjson.encode(t)".into(),
        "local t = {} t[1] = t return t".into(),
        "local t = {} t[1] = t return cjson.encode(t)".into(),
        "return cjson.decode(string.rep('[', 1e6))".into(),
        "return unpack({}, 1, 1e8)".into(),
        "local s = string.rep('x', 5e6) local t = {'mget'} for i = 2, 200 do t[i] = s end return redis.call(unpack(t))".into(),
        "for i = 1, 1e9 do redis.call('set', KEYS[1], string.rep('x', 1e6)) end".into(),
        "return loadstring('\\27Lua')".into(),
        "return load('return 1')".into(),
        "return getfenv()".into(),
        "return debug.getinfo(1)".into(),
        "return io.open('/etc/passwd')".into(),
        "return os.execute('true')".into(),
        "return table.move({}, 1, 2e9, 2, {})".into(),
        "return newproxy()".into(),
        "return require('x')".into(),
        "return collectgarbage('count')".into(),
        "print('x')".into(),
        "getmetatable('').__index = nil".into(),
        "getmetatable(_G).__index = nil".into(),
        "rawset(_G, 'x', 1)".into(),
        "redis.call = nil".into(),
        "string.len = nil".into(),
        "setmetatable(_G, nil)".into(),
        "error(setmetatable({}, {__tostring = function() while true do end end}))".into(),
        "return '' .. setmetatable({}, {__concat = function() while true do end end})".into(),
        deep("(", 100_000),
        deep("not ", 60_000),
        deep("{", 100_000),
        deep("function() ", 20_000),
        "x".repeat(1 << 20),
    ];
    for script in scripts {
        let started = std::time::Instant::now();
        let reply = eval(&mut client, &script, &["k"], &[]).await;
        let shown = &script[..script.len().min(100)];
        assert!(
            reply.starts_with('-')
                || reply.starts_with(":0")
                || reply == "$-1\r\n"
                || reply.ends_with(TOO_DEEP),
            "{shown}: {reply}"
        );
        let took = started.elapsed();
        println!("{took:>10.1?} {shown} {}", &reply[..reply.len().min(150)].trim_end());
        assert!(took < Duration::from_secs(2), "{shown} took {took:?}");
        client.ask("GET k", "$-1\r\n").await;
    }
    assert_eq!(
        eval(&mut client, "return ('x'):len() + redis.call('incr', KEYS[1])", &["k"], &[]).await,
        ":2\r\n"
    );
}

#[tokio::test]
async fn a_script_leaves_nothing_to_the_next() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for script in [
        "pcall(function() redis.call = function() return 'forged' end end)",
        "pcall(rawset, redis, 'call', function() return 'forged' end)",
        "pcall(function() getmetatable('').__index = {len = function() return 'forged' end} end)",
        "pcall(setmetatable, _G, {}) pcall(rawset, _G, 'forged', 1)",
        "pcall(function() tostring = nil string.rep = nil end)",
        "KEYS[1] = 'forged' ARGV.x = 1",
    ] {
        eval(&mut client, script, &[], &[]).await;
        let look =
            "return {redis.call('ping'), ('x'):len(), type(tostring), tostring(rawget(_G, 'forged')), #KEYS}";
        let reply = eval(&mut client, look, &[], &[]).await;
        assert_eq!(reply, "*5\r\n+PONG\r\n:1\r\n$8\r\nfunction\r\n$3\r\nnil\r\n:0\r\n", "{script}");
    }
}

/// Goal: no source brings the node down. Random bytes, and scripts put together of words of the language.
#[tokio::test]
async fn random_sources_never_panic() {
    const WORDS: &[&str] = &[
        "local",
        "function",
        "end",
        "return",
        "x",
        "=",
        "(",
        ")",
        "{",
        "}",
        "[[",
        "]]",
        "'",
        "..",
        "-1",
        "1e309",
        "if",
        "then",
        "for",
        "do",
        "while",
        "redis.call",
        "KEYS[1]",
        "'get'",
        ",",
        "\n",
        "--",
        "pcall",
        "cjson.encode",
        "cjson.decode",
        "string.rep",
        "bit.band",
        "#",
        ":",
        ".",
        "not",
        "nil",
        "\0",
        "`",
        "\\",
        "error",
        "_G",
    ];
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let server = TestServer::with(|settings| settings.script_time_limit = Duration::from_millis(5)).await;
    let mut client = server.client().await;
    for round in 0..200 {
        let mut batch = Vec::new();
        for n in 0..100 {
            let mut source = vec![0; rng.random_range(0..200)];
            rng.fill_bytes(&mut source);
            if (round + n) % 2 == 0 {
                let words = (0..rng.random_range(1..30)).map(|_| WORDS[rng.random_range(0..WORDS.len())]);
                source = words.collect::<Vec<_>>().join(" ").into_bytes();
            }
            batch.extend(request(&[b"EVAL", &source, b"1", b"k", b"v"]));
        }
        client.send(&batch).await;
        let mut seen = 0;
        while seen < 100 {
            client.reply("PING").await;
            seen += 100;
        }
    }
}

#[tokio::test]
async fn a_script_reaches_the_keys_of_the_selected_database_alone() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.ask("SELECT 3", "+OK\r\n").await;
    let set = "return redis.call('SET', KEYS[1], ARGV[1])";
    assert_eq!(eval(&mut client, set, &["k"], &["three"]).await, "+OK\r\n");
    for other in ["redis.call('MOVE', KEYS[1], 0)", "redis.call('COPY', KEYS[1], KEYS[2], 'DB', 0)"] {
        let reply = eval(&mut client, other, &["k", "l"], &[]).await;
        assert!(reply.starts_with("-ERR This Redis command is not allowed from script"), "{reply}");
    }
    // In a transaction it is that of its place.
    client
        .send(format!("MULTI\r\nSELECT 0\r\nEVAL \"{set}\" 1 k zero\r\nSELECT 3\r\nGET k\r\nEXEC\r\n"))
        .await;
    client
        .expect(
            "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*4\r\n+OK\r\n+OK\r\n+OK\r\n$5\r\nthree\r\n",
        )
        .await;
    client.ask("SELECT 0", "+OK\r\n").await;
    client.ask("GET k", "$4\r\nzero\r\n").await;
}
