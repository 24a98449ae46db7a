//! Users and their rights: a node with a file of users, asked by clients over TCP.

use std::path::Path;
use std::time::Duration;

use sapwood::Node;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::raw_client::Client;
use crate::support::DEADLINE;

/// A hash by argon2id of the least cost, of `slow-canary-1`.
const SLOW: &str =
    "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$D9h7HNM9kP2GHrrZDwva9GAvrMZoLL1OUrLhw+VBUe0";
/// The SHA-256 of `fast-canary-2`.
const FAST: &str = "#72b4b77a45ed0f7cc314b530a3094f6fb0cfa5ce00e550e067c5722510b85d25";

const WRONG: &str = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
const NO_AUTH: &str = "-NOAUTH Authentication required.\r\n";
const NO_KEY: &str = "-NOPERM No permissions to access a key\r\n";
const NO_CHANNEL: &str = "-NOPERM No permissions to access a channel\r\n";

/// A node with a file of users.
struct Guarded {
    node: Node,
    folder: TempDir,
}

impl Guarded {
    async fn start(users: &str) -> Guarded {
        Guarded::start_with(users, |_| ()).await
    }

    async fn start_with(users: &str, change: impl FnOnce(&mut sapwood::config::Config)) -> Guarded {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.acl");
        write(&path, users);
        let node = Node::builder()
            .name("a")
            .client("127.0.0.1:0".parse().unwrap())
            .http("127.0.0.1:0".parse().unwrap())
            .users_file(path)
            .configure(change);
        Guarded { node: node.start().await.unwrap(), folder }
    }

    /// Replaces the file of users and reads it.
    fn reload(&self, users: &str) -> Result<usize, sapwood::UsersError> {
        write(&self.folder.path().join("users.acl"), users);
        self.node.reload_users()
    }

    async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.node.client_addr().unwrap()).await.unwrap())
    }

    /// A connection that is logged in with the fast password.
    async fn client(&self, user: &str) -> Client {
        let mut client = self.connect().await;
        client.ask(&format!("AUTH {user} fast-canary-2"), "+OK\r\n").await;
        client
    }
}

fn write(path: &Path, users: &str) {
    // As editors do: so that no one reads a part of it.
    let new = path.with_extension("new");
    std::fs::write(&new, users).unwrap();
    std::fs::rename(new, path).unwrap();
}

fn no_command(user: &str, command: &str) -> String {
    format!("-NOPERM User {user} has no permissions to run the '{command}' command\r\n")
}

#[tokio::test]
async fn each_command_needs_its_right_and_each_key_the_use_that_is_made_of_it() {
    let users = format!("user u on {FAST} ~app:* %R~ro:* %W~wo:* +@all -@dangerous");
    let node = Guarded::start(&users).await;
    let mut client = node.client("u").await;
    let ok = "+OK\r\n";
    for (request, reply) in [
        ("SET app:1 1", ok),
        ("GET app:1", "$1\r\n1\r\n"),
        ("get APP:1", NO_KEY),
        ("GET ro:1", "$-1\r\n"),
        ("SET ro:1 1", NO_KEY),
        ("SET wo:1 1", ok),
        ("SET wo:1 1 GET", NO_KEY),
        ("GET wo:1", NO_KEY),
        ("APPEND wo:1 2", ":2\r\n"),
        ("SETRANGE wo:1 0 3", ":2\r\n"),
        ("STRLEN wo:1", ":2\r\n"),
        ("STRLEN other", NO_KEY),
        ("GETSET wo:1 1", NO_KEY),
        ("INCR wo:1", NO_KEY),
        ("DEL wo:1", ":1\r\n"),
        ("DEL ro:1", NO_KEY),
        ("DEL app:2 x", NO_KEY),
        ("EXPIRE ro:1 9", NO_KEY),
        ("TTL ro:1", ":-2\r\n"),
        ("MGET app:1 ro:1", "*2\r\n$1\r\n1\r\n$-1\r\n"),
        ("MGET app:1 wo:1", NO_KEY),
        ("MSET app:1 1 x 1", NO_KEY),
        ("MSETNX wo:1 1 wo:2 1", ":1\r\n"),
        ("MSETEX 2 wo:1 1 x 1 EX 9", NO_KEY),
        ("MSETEX 2 wo:1 1 wo:2 1 EX 9", ":1\r\n"),
        ("COPY ro:1 wo:1", ":0\r\n"),
        ("COPY wo:1 ro:1", NO_KEY),
        ("RENAME app:1 app:1", ok),
        ("RENAME ro:1 wo:1", NO_KEY),
        ("MOVE wo:1 1", NO_KEY),
        ("BITOP AND wo:1 ro:1 app:1", ":1\r\n"),
        ("BITOP AND wo:1 wo:1", NO_KEY),
        ("BITFIELD ro:1 GET u8 0", "*1\r\n:0\r\n"),
        ("BITFIELD ro:1 GET u8 0 INCRBY u8 0 1", NO_KEY),
        ("BITCOUNT wo:1", NO_KEY),
        ("LCS ro:1 app:x", "$0\r\n\r\n"),
        ("LCS ro:1 wo:1", NO_KEY),
        ("GETEX ro:1", NO_KEY),
        ("DELEX wo:1 IFEQ x", NO_KEY),
        ("DELEX wo:1", ":1\r\n"),
        ("DIGEST wo:1", NO_KEY),
        ("DUMP wo:1", NO_KEY),
        ("OBJECT ENCODING x", NO_KEY),
        ("MEMORY USAGE x", NO_KEY),
        ("SAPWOOD META x", NO_KEY),
        ("SAPWOOD COUNTER wo:1", NO_KEY),
        ("WATCH x", NO_KEY),
        ("TOUCH x", NO_KEY),
        ("EXISTS app:1 x", NO_KEY),
        ("SAPWOOD WATCH app: x", NO_KEY),
        ("SAPWOOD WATCH ap", NO_KEY),
        ("SAPWOOD WATCH wo:", NO_KEY),
        ("PUBLISH c 1", NO_CHANNEL),
        ("SUBSCRIBE c", NO_CHANNEL),
        ("PSUBSCRIBE *", NO_CHANNEL),
        ("PING", "+PONG\r\n"),
        ("NOSUCH", "-ERR unknown command 'NOSUCH', with args beginning with: \r\n"),
        ("GET", "-ERR wrong number of arguments for 'get' command\r\n"),
        (
            "HSET k f v",
            "-UNSUPPORTED HSET: values are plain strings. Keep one key for each field or member, or the whole as one value, as JSON\r\n",
        ),
    ] {
        println!("{request}");
        client.ask(request, reply).await;
    }
    for (request, command) in [
        ("FLUSHALL", "flushall"),
        ("FLUSHDB", "flushdb"),
        ("SHUTDOWN NOSAVE", "shutdown"),
        ("MONITOR", "monitor"),
        ("CONFIG SET maxmemory 1", "config|set"),
        ("CONFIG GET *", "config|get"),
        ("CLIENT KILL ID 1", "client|kill"),
        ("CLIENT LIST", "client|list"),
        ("SAPWOOD CUT *", "sapwood|cut"),
        ("SAPWOOD MEND *", "sapwood|mend"),
        ("SAPWOOD FORGET b", "sapwood|forget"),
        ("SAPWOOD REJOIN DISCARD", "sapwood|rejoin"),
        ("SAPWOOD VERIFY", "sapwood|verify"),
        ("SAPWOOD EVENTS", "sapwood|events"),
        ("KEYS *", "keys"),
        ("INFO", "info"),
        ("ACL LIST", "acl|list"),
        ("ACL LOAD", "acl|load"),
        ("SLOWLOG GET", "slowlog|get"),
        ("RESTORE app:9 0 x", "restore"),
    ] {
        client.ask(request, &no_command("u", command)).await;
    }
    // As in Redis: who may run them sees the names of all keys.
    let mut root = Guarded::client(&node, "u").await;
    root.ask("SET app:1 1", ok).await;
    assert!(client.reply("SCAN 0").await.contains("app:1"));
    assert!(client.reply("RANDOMKEY").await.starts_with('$'));
}

#[tokio::test]
async fn a_transaction_is_checked_when_it_is_queued_and_again_after_a_reload() {
    let all = format!("user u on {FAST} ~* +@all\n");
    let node = Guarded::start(&format!("user u on {FAST} ~a:* +@all\n")).await;
    let mut client = node.client("u").await;
    client.ask("MULTI", "+OK\r\n").await;
    client.ask("SET a:1 1", "+QUEUED\r\n").await;
    client.ask("SET b 1", NO_KEY).await;
    client.ask("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n").await;
    client.ask("EXISTS a:1", ":0\r\n").await;
    node.reload(&all).unwrap();
    client.ask("MULTI", "+OK\r\n").await;
    client.ask("SET a:1 1", "+QUEUED\r\n").await;
    client.ask("SET b 1", "+QUEUED\r\n").await;
    node.reload(&format!("user u on {FAST} ~a:* +@all -publish\n")).unwrap();
    client.ask("EXEC", &format!("*2\r\n+OK\r\n{NO_KEY}")).await;
    client.ask("MULTI\r\nAUTH u fast-canary-2", "+OK\r\n-UNSUPPORTED AUTH inside a transaction").await;
}

#[tokio::test]
async fn requests_of_many_keys_are_checked_to_the_last_one() {
    let node = Guarded::start(&format!("user u on {FAST} ~a:* +@all &a:*")).await;
    let mut client = node.client("u").await;
    let many =
        |last: &str| (0..5_000).map(|n| format!(" a:{n}")).chain([format!(" {last}")]).collect::<String>();
    client.ask("SET a:7 1", "+OK\r\n").await;
    client.ask(&format!("EXISTS{}", many("a:7")), ":2\r\n").await;
    client.ask(&format!("EXISTS{}", many("b")), NO_KEY).await;
    client.ask(&format!("SUBSCRIBE{}", many("b")), NO_CHANNEL).await;
    client.ask("MULTI", "+OK\r\n").await;
    client.ask(&format!("EXISTS{}", many("a:7")), "+QUEUED\r\n").await;
    client.ask("EXEC", "*1\r\n:2\r\n").await;
    client.ask("MULTI", "+OK\r\n").await;
    client.ask(&format!("EXISTS{}", many("b")), NO_KEY).await;
    client.ask("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n").await;
    let mut powerless = node.connect().await;
    powerless.ask(&format!("EXISTS{}", " k".repeat(3)), NO_AUTH).await;
}

#[cfg(feature = "scripts")]
#[tokio::test]
async fn a_script_may_do_what_its_client_may_do() {
    let users = format!("user u on {FAST} ~a:* +@all -incr &c");
    let node = Guarded::start_with(&users, |config| config.enable_scripts = true).await;
    let mut client = node.client("u").await;
    client.ask("EVAL \"return redis.call('set', KEYS[1], 1)\" 1 a:1", "+OK\r\n").await;
    client.ask("EVAL \"return 1\" 1 b", NO_KEY).await;
    let denied = client.reply("EVAL \"return redis.call('incr', KEYS[1])\" 1 a:1").await;
    assert!(
        denied.starts_with(
            "-NOPERM ACL failure in script: User u has no permissions to run the 'incr' command"
        ),
        "{denied}"
    );
    let denied = client.reply("EVAL \"return redis.call('publish', 'd', 1)\" 0").await;
    assert!(
        denied.starts_with("-NOPERM ACL failure in script: No permissions to access a channel"),
        "{denied}"
    );
    client.ask("EVAL \"return redis.call('publish', 'c', 1)\" 0", ":0\r\n").await;
    client.ask("MULTI", "+OK\r\n").await;
    client.ask("EVAL \"return redis.pcall('incr', KEYS[1])\" 1 a:1", "+QUEUED\r\n").await;
    assert!(client.reply("EXEC").await.contains("NOPERM ACL failure"));
}

#[tokio::test]
async fn who_does_not_log_in_is_default() {
    let node = Guarded::start(&format!("user u on {FAST} ~* +@all")).await;
    let mut client = node.connect().await;
    for request in ["PING", "GET k", "MULTI", "ACL WHOAMI", "CLIENT INFO", "INFO"] {
        client.ask(request, NO_AUTH).await;
    }
    client.ask("AUTH u fast-canary-2", "+OK\r\n").await;
    assert!(client.reply("CLIENT INFO").await.contains(" user=u "));
    client.ask("RESET", "+RESET\r\n").await;
    client.ask("PING", NO_AUTH).await;
    let hello = client.reply("HELLO 3 AUTH u fast-canary-2 SETNAME me").await;
    assert!(hello.starts_with("%7\r\n"), "{hello}");
    client.ask("CLIENT GETNAME", "$2\r\nme\r\n").await;

    let node = Guarded::start("user default on nopass ~open:* +get +acl|whoami").await;
    let mut client = node.connect().await;
    client.ask("ACL WHOAMI", "$7\r\ndefault\r\n").await;
    client.ask("GET open:1", "$-1\r\n").await;
    client.ask("GET k", NO_KEY).await;
    client.ask("SET open:1 1", &no_command("default", "set")).await;
    client.ask("AUTH x", "-ERR AUTH <password> called without any password configured for the default user. Are you sure your \
        configuration is correct?\r\n").await;
}

#[tokio::test]
async fn a_wrong_user_and_a_wrong_password_get_the_same_reply() {
    let users =
        format!("user slow on {SLOW} +@all ~*\nuser fast on {FAST} +@all\nuser off off {FAST} {SLOW}\n");
    let node = Guarded::start(&users).await;
    let mut client = node.connect().await;
    for name in ["slow", "fast", "off", "nobody", "default"] {
        for password in ["wrong", "\"\"", "fast-canary-2x"] {
            client.ask(&format!("AUTH {name} {password}"), WRONG).await;
        }
    }
    client.ask("AUTH off slow-canary-1", WRONG).await;
    client.ask("HELLO 3 AUTH slow wrong", WRONG).await;
    for _ in 0..3 {
        client.ask("AUTH slow slow-canary-1", "+OK\r\n").await;
        // What is sent behind it waits for it.
        client.send("RESET\r\nGET k\r\nAUTH slow slow-canary-1\r\nGET k\r\n").await;
        client.expect(format!("+RESET\r\n{NO_AUTH}+OK\r\n$-1\r\n")).await;
    }
}

#[tokio::test]
async fn few_hashes_are_computed_at_a_time_and_others_are_served_meanwhile() {
    let hash = sapwood::internal::acl::hash_password(b"pass", [1; 16]).unwrap();
    let node = Guarded::start(&format!("user slow on {hash} +@all\nuser u on {FAST} ~* +@all\n")).await;
    let mut client = node.client("u").await;
    let mut waiting = Vec::new();
    for n in 0..70 {
        let mut other = node.connect().await;
        other.send(format!("AUTH slow wrong-{n}\r\n")).await;
        waiting.push(other);
    }
    let mut refused = 0;
    for other in &mut waiting {
        // Six at least are refused at once; those that wait have no reply yet.
        let mut first = [0; 4];
        if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_millis(50), other.0.peek(&mut first)).await {
            refused += usize::from(&first == b"-ERR");
        }
        if refused > 0 {
            break;
        }
    }
    client.ask("PING", "+PONG\r\n").await;
    assert!(refused > 0);
    // Those that left are not checked any more.
    drop(waiting);
    client.ask("PING", "+PONG\r\n").await;
    let mut again = node.connect().await;
    loop {
        let reply = again.reply("AUTH slow pass").await;
        if reply == "+OK\r\n" {
            break;
        }
        assert!(reply.starts_with("-ERR too many logins"), "{reply}");
    }
    node.node.shutdown().await;
}

#[tokio::test]
async fn a_reload_applies_to_connections_at_once() {
    let users = |rest: &str| format!("user root on {FAST} ~* &* +@all\n{rest}");
    let line = |name: &str, rules: &str| format!("user {name} on {FAST} {rules}\n");
    let node = Guarded::start(&users(
        &(line("u", "~* +@all") + &line("gone", "~* +@all") + &line("off", "~* +@all")),
    ))
    .await;
    let (mut root, mut client) = (node.client("root").await, node.client("u").await);
    let (mut gone, mut off) = (node.client("gone").await, node.client("off").await);
    client.ask("GET k", "$-1\r\n").await;
    gone.ask("GET k", "$-1\r\n").await;
    write(
        &node.folder.path().join("users.acl"),
        &users(&(line("u", "~a +get") + &line("off", "off ~* +@all"))),
    );
    root.ask("ACL LOAD", "+OK\r\n").await;
    client.ask("GET k", NO_KEY).await;
    client.ask("SET a 1", &no_command("u", "set")).await;
    assert!(gone.rest().await.is_empty() && off.rest().await.is_empty());
    root.ask("ACL USERS", "*4\r\n$7\r\ndefault\r\n$3\r\noff\r\n$4\r\nroot\r\n$1\r\nu\r\n").await;
    node.connect().await.ask("AUTH gone fast-canary-2", WRONG).await;
}

#[tokio::test]
async fn who_listens_is_disconnected_with_the_right_to_listen() {
    let line = |name: &str, rules: &str| format!("user {name} on {FAST} {rules}\n");
    let before = line("sub", "&a &b +@all")
        + &line("same", "&a +@all")
        + &line("watch", "~a:* +@all")
        + &line("mon", "+@all");
    let node = Guarded::start(&before).await;
    let mut subscriber = node.client("sub").await;
    subscriber.ask("SUBSCRIBE a", "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n").await;
    let mut same = node.client("same").await;
    same.ask("SUBSCRIBE a", "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n").await;
    let mut watcher = node.client("watch").await;
    watcher.send("SAPWOOD WATCH a:\r\n").await;
    let start = "*3\r\n$5\r\nwatch\r\n$5\r\nreset\r\n$5\r\nstart\r\n*3\r\n$5\r\nwatch\r\n$4\r\nlive\r\n$";
    watcher.expect(start).await;
    let mut monitor = node.client("mon").await;
    monitor.ask("MONITOR", "+OK\r\n").await;
    node.reload(
        &(line("sub", "&b +@all")
            + &line("same", "&a &c +@all")
            + &line("watch", "~b:* +@all")
            + &line("mon", "+@all -monitor")),
    )
    .unwrap();
    subscriber.rest().await;
    watcher.rest().await;
    monitor.rest().await;
    same.ask("PING", "*2\r\n$4\r\npong\r\n$0\r\n\r\n").await;
}

#[tokio::test]
async fn a_file_that_cannot_be_used_changes_nothing_and_a_change_is_noticed() {
    let good = format!("user u on {FAST} ~* +@all\n");
    let node = Guarded::start(&good).await;
    let mut client = node.client("u").await;
    for (bad, says) in [
        ("user u on >secret-canary-3", "line 1: passwords in plain text"),
        ("user u on\nuser v ~a*b", "line 2: \"~a*b\" is neither"),
    ] {
        let error = node.reload(bad).unwrap_err().to_string();
        assert!(error.starts_with(says) && !error.contains("canary"), "{error}");
        let reply = client.reply("ACL LOAD").await;
        assert!(reply.starts_with(&format!("-ERR the users stay as they are: {says}")), "{reply}");
        client.ask("ACL WHOAMI", "$1\r\nu\r\n").await;
    }
    let info = client.reply("INFO sapwood").await;
    assert!(info.contains("users_file_error:line 2: "), "{info}");
    // Nobody asks for a reload: the node looks at the file.
    write(&node.folder.path().join("users.acl"), &(good.clone() + "user new"));
    let started = std::time::Instant::now();
    while !client.reply("ACL USERS").await.contains("new") {
        assert!(started.elapsed() < DEADLINE, "the change is not noticed");
    }
    let info = client.reply("INFO sapwood").await;
    assert!(info.contains("users_file_error:\r\n"), "{info}");
    std::fs::remove_file(node.folder.path().join("users.acl")).unwrap();
    assert!(node.node.reload_users().unwrap_err().to_string().starts_with("it cannot be read: "));
    client.ask("ACL WHOAMI", "$1\r\nu\r\n").await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_others_can_change_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let node = Guarded::start("user u on").await;
    let path = node.folder.path().join("users.acl");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o664)).unwrap();
    assert!(node.node.reload_users().unwrap_err().to_string().contains("chmod 600"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    node.node.reload_users().unwrap();
}

#[tokio::test]
async fn rights_without_a_password_are_refused_on_an_address_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.acl");
    write(&path, "user default on nopass ~* +@all");
    let builder = || Node::builder().name("a").client("0.0.0.0:0".parse().unwrap()).users_file(&path);
    let error = builder().start().await.err().unwrap();
    let error = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(error.contains("--users-file") && error.contains("without a password"), "{error}");
    builder().insecure().start().await.unwrap();
    write(&path, "user default on nopass -@all\nuser u on +@all");
    builder().start().await.unwrap();
}

#[tokio::test]
async fn the_password_file_is_that_of_default_beside_other_users() {
    let secret = sapwood::config::Secret::new(*b"given-canary-4").unwrap();
    let node = Guarded::start_with(&format!("user u on {FAST} +@all"), |config| {
        config.client_password = Some(secret);
    })
    .await;
    let mut client = node.connect().await;
    client.ask("PING", NO_AUTH).await;
    client.ask("AUTH given-canary-4", "+OK\r\n").await;
    client.ask("ACL GETUSER nobody", "$-1\r\n").await;
    let list = client.reply("ACL LIST").await;
    assert!(list.contains("user default on ~* &* +@all\r\n") && list.contains(FAST), "{list}");
    let error = node.reload("user default on nopass").unwrap_err().to_string();
    assert!(error.contains("--client-password-file"), "{error}");
}

#[tokio::test]
async fn acl_replies_as_redis_does() {
    let users = format!(
        "user root on {FAST} ~* &* +@all\nuser u on {FAST} ~a:* %R~b &news:* -@all +@read -ttl +config|get\n"
    );
    let node = Guarded::start(&users).await;
    let mut client = node.client("root").await;
    let hash = &FAST[1..];
    client.ask("ACL GETUSER u", &format!(
        "*12\r\n$5\r\nflags\r\n*1\r\n$2\r\non\r\n$9\r\npasswords\r\n*1\r\n$64\r\n{hash}\r\n$8\r\ncommands\r\n$29\r\n-@all +@read -ttl \
         +config|get\r\n$4\r\nkeys\r\n$9\r\n~a:* %R~b\r\n$8\r\nchannels\r\n$7\r\n&news:*\r\n$9\r\nselectors\r\n*0\r\n"
    )).await;
    for (request, reply) in [
        ("ACL DRYRUN u GET a:1", "+OK\r\n"),
        ("ACL DRYRUN u TTL a:1", "$53\r\nUser u has no permissions to run the 'ttl' command\r\n"),
        ("ACL DRYRUN u GET c", "$48\r\nUser u has no permissions to access the 'c' key\r\n"),
        ("ACL DRYRUN u SET a:1 1", "$50\r\nUser u has no permissions to run the 'set' command\r\n"),
        ("ACL DRYRUN root PUBLISH c 1", "+OK\r\n"),
        ("ACL DRYRUN nobody GET c", "-ERR User 'nobody' not found\r\n"),
        ("ACL DRYRUN u NOSUCH c", "-ERR Command 'NOSUCH' not found\r\n"),
        ("ACL DRYRUN u GET", "-ERR wrong number of arguments for 'get' command\r\n"),
        ("ACL GENPASS 0", "-ERR ACL GENPASS argument must be"),
    ] {
        let replied = client.reply(request).await;
        // Lengths are those of the text.
        let text = |reply: &str| {
            reply
                .split_once("\r\n")
                .filter(|_| reply.starts_with('$'))
                .map_or(reply.to_owned(), |(_, text)| text.to_owned())
        };
        assert!(text(&replied).starts_with(&text(reply)), "{request}: {replied}");
    }
    assert_eq!(client.reply("ACL GENPASS").await.len(), "$64\r\n\r\n".len() + 64);
    assert_eq!(client.reply("ACL GENPASS 5").await.len(), "$2\r\n\r\n".len() + 2);
    assert!(client.reply("ACL CAT admin").await.contains("flushall"));
    let mut other = node.client("u").await;
    other.ask("ACL WHOAMI", &no_command("u", "acl|whoami")).await;
    assert!(client.reply("CLIENT LIST").await.contains(" user=u "));
    client.ask("CLIENT KILL USER u", ":1\r\n").await;
    other.rest().await;
    client.ask("CLIENT KILL USER nobody", "-ERR No such user 'nobody'\r\n").await;
}
