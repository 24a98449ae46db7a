//! The table of commands, and the lookup of a command by name.

use super::context::{Context, Dispatch, Handler, Outcome};
use super::entry::{
    ADMIN, ALL_KEYS, CONDITIONAL, COUNTED_KEYS, COUNTED_PAIRS, CROSSES, Command, DENY_OOM, FAST, FROM_SECOND,
    Flags, MOVABLE_KEYS, NO_AUTH, NO_KEY, NO_MULTI, NO_SCRIPT, NONE, ONE_KEY, PAIRS, PUBSUB, READ,
    RUNS_SCRIPT, SECOND_KEY, SELECTS, SUBSCRIBED, TWO_KEYS, Table, UNQUEUED, WRITE,
};
use super::{
    acl, bitfield, bits, client, cluster, config, connection, counter, dump, expiry, info, inspect,
    introspect, keyspace, lcs, no_cluster, parts, pubsub, sapwood, script, server, several, slow, string,
    tracking, transaction, wait, watch,
};
use crate::resp::Args;
use crate::resp::args::Keys;
use crate::resp::call::Call;

const READS: Flags = READ.and(FAST);
const STORES: Flags = WRITE.and(DENY_OOM);
const CHANGES: Flags = WRITE.and(FAST);
const CONDITIONALLY_STORES: Flags = STORES.and(CONDITIONAL);
const CONDITIONALLY_CHANGES: Flags = CHANGES.and(CONDITIONAL);
const OPENS: Flags = FAST.and(NO_AUTH);
const ENDS: Flags = OPENS.and(SUBSCRIBED).and(UNQUEUED);
const LISTENS: Flags = PUBSUB.and(SUBSCRIBED).and(NO_MULTI);
const LEADS: Flags = FAST.and(UNQUEUED);

const SCRIPT: Flags = RUNS_SCRIPT.and(NO_SCRIPT).and(MOVABLE_KEYS);

/// Every command that is executed: name, arity, flags, keys, group, first version, summary, function.
#[rustfmt::skip] // a row a command
pub(super) static TABLE: &[Command] = &[
    // connection
    row("auth", -2, OPENS.and(NO_MULTI), NO_KEY, "connection", "1.0.0", "Logs in as a user", connection::auth),
    row("echo", 2, FAST, NO_KEY, "connection", "1.0.0", "Returns what it is given", connection::echo),
    row("hello", -1, OPENS.and(NO_MULTI), NO_KEY, "connection", "6.0.0", "Chooses the dialect and describes the node", connection::hello),
    row("ping", -1, FAST.and(SUBSCRIBED), NO_KEY, "connection", "1.0.0", "Returns PONG, or what it is given", connection::ping),
    row("quit", -1, ENDS, NO_KEY, "connection", "1.0.0", "Closes the connection", connection::quit),
    row("reset", 1, ENDS, NO_KEY, "connection", "6.2.0", "Makes the connection as good as new", connection::reset),
    row("select", 2, FAST.and(SELECTS), NO_KEY, "connection", "1.0.0", "Chooses the database", connection::select),
    with(row("client", -2, NONE, NO_KEY, "connection", "2.4.0", "Commands about connections", introspect::unreachable), CLIENT),
    // server
    with(row("command", -1, NONE, NO_KEY, "server", "2.8.13", "Describes the commands", |cx, args| introspect::command(cx, args, &WHOLE)), COMMAND),
    with(row("config", -2, NONE, NO_KEY, "server", "2.0.0", "Commands about settings", introspect::unreachable), CONFIG),
    with(row("acl", -2, NONE, NO_KEY, "server", "6.0.0", "Commands about users and their rights", introspect::unreachable), ACL),
    row("lastsave", 1, FAST, NO_KEY, "server", "1.0.0", "Returns when the node started: nothing is saved", inspect::lastsave),
    with(row("latency", -2, NONE, NO_KEY, "server", "2.8.13", "Commands about how long commands take", introspect::unreachable), LATENCY),
    with(row("memory", -2, NONE, NO_KEY, "server", "4.0.0", "Commands about memory", introspect::unreachable), MEMORY),
    with(row("module", -2, NONE, NO_KEY, "server", "4.0.0", "Commands about modules, of which there are none", introspect::unreachable), MODULE),
    row("role", 1, FAST, NO_KEY, "server", "2.8.12", "Returns that this is a master without replicas", inspect::role),
    with(row("slowlog", -2, NONE, NO_KEY, "server", "2.2.12", "Commands about slow commands", introspect::unreachable), SLOWLOG),
    row("dbsize", 1, READS.and(NO_MULTI), NO_KEY, "server", "1.0.0", "Counts the keys", keyspace::dbsize),
    row("flushall", -1, WRITE.and(NO_MULTI), NO_KEY, "server", "1.0.0", "Deletes all keys of all databases, on every node", server::flushall),
    row("flushdb", -1, WRITE.and(NO_MULTI), NO_KEY, "server", "1.0.0", "Deletes all keys of the database, on every node", server::flushdb),
    row("info", -1, NONE, NO_KEY, "server", "1.0.0", "Describes the state of the node", info::info),
    row("monitor", 1, ADMIN.and(NO_MULTI), NO_KEY, "server", "1.0.0", "Shows the commands of all connections", server::monitor),
    row("shutdown", -1, ADMIN.and(NO_MULTI), NO_KEY, "server", "1.0.0", "Stops the node", server::shutdown),
    row("time", 1, FAST, NO_KEY, "server", "2.6.0", "Returns the time", server::time),
    with(row("sapwood", -2, NONE, NO_KEY, "server", "0.1.0", "Commands about the cluster", introspect::unreachable), SAPWOOD),
    // Redis Cluster
    row("asking", 1, FAST, NO_KEY, "cluster", "3.0.0", "An error: this is no Redis Cluster", no_cluster::disabled),
    row("cluster", -2, NONE, NO_KEY, "cluster", "3.0.0", "An error: this is no Redis Cluster", no_cluster::cluster),
    row("readonly", 1, FAST, NO_KEY, "cluster", "3.0.0", "An error: this is no Redis Cluster", no_cluster::disabled),
    row("readwrite", 1, FAST, NO_KEY, "cluster", "3.0.0", "An error: this is no Redis Cluster", no_cluster::disabled),
    // pubsub
    row("psubscribe", -2, LISTENS, NO_KEY, "pubsub", "2.0.0", "Listens to the channels that match patterns", pubsub::psubscribe),
    row("publish", 3, PUBSUB.and(FAST), NO_KEY, "pubsub", "2.0.0", "Sends a message to the subscribers of a channel, on every node", pubsub::publish),
    row("punsubscribe", -1, LISTENS, NO_KEY, "pubsub", "2.0.0", "Ends listening to patterns", pubsub::punsubscribe),
    row("subscribe", -2, LISTENS, NO_KEY, "pubsub", "2.0.0", "Listens to channels", pubsub::subscribe),
    row("unsubscribe", -1, LISTENS, NO_KEY, "pubsub", "2.0.0", "Ends listening to channels", pubsub::unsubscribe),
    with(row("pubsub", -2, NONE, NO_KEY, "pubsub", "2.8.0", "Commands about who listens", introspect::unreachable), PUBSUBS),
    // bits
    row("bitcount", -2, READ, ONE_KEY, "bitmap", "2.6.0", "Counts the bits of a value that are set", bits::bitcount),
    row("bitfield", -2, CONDITIONALLY_STORES, ONE_KEY, "bitmap", "3.2.0", "Reads and changes integers within a value; writes it whole", bitfield::bitfield),
    row("bitfield_ro", -2, READS, ONE_KEY, "bitmap", "6.0.0", "Reads integers within a value", bitfield::bitfield_ro),
    row("bitop", -4, CONDITIONALLY_STORES, FROM_SECOND, "bitmap", "2.6.0", "Sets a key to the bits of others, combined", bits::bitop),
    row("bitpos", -3, READ, ONE_KEY, "bitmap", "2.8.7", "Finds the first bit of a value that is set, or that is not", bits::bitpos),
    row("getbit", 3, READS, ONE_KEY, "bitmap", "2.2.0", "Returns a bit of a value", bits::getbit),
    row("setbit", 4, CONDITIONALLY_STORES, ONE_KEY, "bitmap", "2.2.0", "Sets a bit of a value; writes it whole", bits::setbit),
    // string
    row("append", 3, CONDITIONALLY_STORES.and(FAST), ONE_KEY, "string", "2.0.0", "Extends a value; writes it whole", parts::append),
    row("decr", 2, STORES.and(FAST), ONE_KEY, "string", "1.0.0", "Subtracts one from a counter", counter::decr),
    row("decrby", 3, STORES.and(FAST), ONE_KEY, "string", "1.0.0", "Subtracts from a counter", counter::decrby),
    row("delex", -2, CONDITIONALLY_CHANGES, ONE_KEY, "string", "8.4.0", "Deletes a key if it holds a value; this node alone decides", string::delex),
    row("digest", 2, READS, ONE_KEY, "string", "8.4.0", "Returns the hash of a value", string::digest_of),
    row("get", 2, READS, ONE_KEY, "string", "1.0.0", "Returns the value of a key", string::get),
    row("getdel", 2, CONDITIONALLY_CHANGES, ONE_KEY, "string", "6.2.0", "Returns the value of a key and deletes it", string::getdel),
    row("getex", -2, CONDITIONALLY_CHANGES, ONE_KEY, "string", "6.2.0", "Returns the value of a key and sets its deadline", string::getex),
    row("getrange", 4, READ, ONE_KEY, "string", "2.4.0", "Returns a part of a value", parts::getrange),
    row("getset", 3, CONDITIONALLY_STORES.and(FAST), ONE_KEY, "string", "1.0.0", "Sets a key and returns the value before", string::getset),
    row("incr", 2, STORES.and(FAST), ONE_KEY, "string", "1.0.0", "Adds one to a counter", counter::incr),
    row("incrby", 3, STORES.and(FAST), ONE_KEY, "string", "1.0.0", "Adds to a counter", counter::incrby),
    row("lcs", -3, READ, TWO_KEYS, "string", "7.0.0", "Finds the longest common subsequence of two values", lcs::lcs),
    row("mget", -2, READS, ALL_KEYS, "string", "1.0.0", "Returns the values of many keys", string::mget),
    row("mset", -3, STORES, PAIRS, "string", "1.0.1", "Sets many keys, one after the other", string::mset),
    row("msetex", -4, STORES.and(MOVABLE_KEYS), COUNTED_PAIRS, "string", "8.4.0", "Sets many keys with a deadline: one step on this node, one for each key on others", several::msetex),
    row("msetnx", -3, CONDITIONALLY_STORES, PAIRS, "string", "1.0.1", "Sets many keys if none of them is there: one step on this node, one for each key on others", several::msetnx),
    row("psetex", 4, STORES, ONE_KEY, "string", "2.6.0", "Sets a key with a deadline in milliseconds", string::psetex),
    row("set", -3, STORES, ONE_KEY, "string", "1.0.0", "Sets a key; NX and XX are decided by this node alone, so a lock made of them holds among its clients only", string::set),
    row("setex", 4, STORES, ONE_KEY, "string", "2.0.0", "Sets a key with a deadline in seconds", string::setex),
    row("setnx", 3, CONDITIONALLY_STORES.and(FAST), ONE_KEY, "string", "1.0.0", "Sets a key that is not there; this node alone decides", string::setnx),
    row("setrange", 4, CONDITIONALLY_STORES, ONE_KEY, "string", "2.2.0", "Changes a part of a value; writes it whole", parts::setrange),
    row("strlen", 2, READS, ONE_KEY, "string", "2.2.0", "Returns the length of a value", string::strlen),
    row("substr", 4, READ, ONE_KEY, "string", "1.0.0", "Returns a part of a value; GETRANGE is its newer name", parts::getrange),
    // scripting
    dispatching(row("eval", -3, SCRIPT, COUNTED_KEYS, "scripting", "2.6.0", "Runs a script: one step on this node; others receive its writes key by key", introspect::unreachable), |cx, args, dispatch| script::eval(cx, args, dispatch, &WHOLE)),
    dispatching(row("eval_ro", -3, SCRIPT.and(READ), COUNTED_KEYS, "scripting", "7.0.0", "Runs a script that only reads", introspect::unreachable), |cx, args, dispatch| script::eval(cx, args, dispatch, &WHOLE)),
    dispatching(row("evalsha", -3, SCRIPT, COUNTED_KEYS, "scripting", "2.6.0", "Runs a script that this node has seen", introspect::unreachable), |cx, args, dispatch| script::evalsha(cx, args, dispatch, &WHOLE)),
    dispatching(row("evalsha_ro", -3, SCRIPT.and(READ), COUNTED_KEYS, "scripting", "7.0.0", "Runs a script that this node has seen and that only reads", introspect::unreachable), |cx, args, dispatch| script::evalsha(cx, args, dispatch, &WHOLE)),
    with(row("script", -2, NONE, NO_KEY, "scripting", "2.6.0", "Commands about scripts", introspect::unreachable), SCRIPTS),
    // transactions
    row("discard", 1, LEADS, NO_KEY, "transactions", "2.0.0", "Forgets the commands since MULTI", transaction::discard),
    dispatching(row("exec", 1, UNQUEUED, NO_KEY, "transactions", "1.2.0", "Executes the commands since MULTI: one step on this node; others receive it key by key, and decide key by key against concurrent writes", introspect::unreachable), transaction::exec),
    row("multi", 1, LEADS, NO_KEY, "transactions", "1.2.0", "Begins a transaction: commands wait for EXEC", transaction::multi),
    row("unwatch", 1, FAST, NO_KEY, "transactions", "2.2.0", "Forgets all watched keys", transaction::unwatch),
    row("watch", -2, LEADS, ALL_KEYS, "transactions", "2.2.0", "Has EXEC do nothing if one of these keys has changed", transaction::watch),
    // generic
    row("del", -2, WRITE, ALL_KEYS, "generic", "1.0.0", "Deletes keys", keyspace::del),
    row("exists", -2, READS, ALL_KEYS, "generic", "1.0.0", "Counts the keys that are there", keyspace::exists),
    row("expire", -3, CONDITIONALLY_CHANGES, ONE_KEY, "generic", "1.0.0", "Sets a deadline, seconds from now", expiry::expire),
    row("expireat", -3, CONDITIONALLY_CHANGES, ONE_KEY, "generic", "1.2.0", "Sets a deadline, as a Unix time in seconds", expiry::expireat),
    row("expiretime", 2, READS, ONE_KEY, "generic", "7.0.0", "Returns the deadline as a Unix time in seconds", expiry::expiretime),
    row("keys", 2, READ.and(NO_MULTI), NO_KEY, "generic", "1.0.0", "Returns all keys that match a pattern", keyspace::keys),
    row("persist", 2, CONDITIONALLY_CHANGES, ONE_KEY, "generic", "2.2.0", "Removes the deadline of a key", expiry::persist),
    row("pexpire", -3, CONDITIONALLY_CHANGES, ONE_KEY, "generic", "2.6.0", "Sets a deadline, milliseconds from now", expiry::pexpire),
    row("pexpireat", -3, CONDITIONALLY_CHANGES, ONE_KEY, "generic", "2.6.0", "Sets a deadline, as a Unix time in milliseconds", expiry::pexpireat),
    row("pexpiretime", 2, READS, ONE_KEY, "generic", "7.0.0", "Returns the deadline as a Unix time in milliseconds", expiry::pexpiretime),
    row("pttl", 2, READS, ONE_KEY, "generic", "2.6.0", "Returns the milliseconds left to a key", expiry::pttl),
    row("randomkey", 1, READ.and(NO_MULTI), NO_KEY, "generic", "1.0.0", "Returns a key", keyspace::randomkey),
    row("scan", -2, READ.and(NO_MULTI), NO_KEY, "generic", "2.8.0", "Returns the keys, a part at a time", keyspace::scan),
    row("touch", -2, READS, ALL_KEYS, "generic", "3.2.1", "Counts the keys that are there, and accesses them", keyspace::touch),
    row("ttl", 2, READS, ONE_KEY, "generic", "1.0.0", "Returns the seconds left to a key", expiry::ttl),
    row("type", 2, READS, ONE_KEY, "generic", "1.0.0", "Returns the type of a value", keyspace::kind),
    row("unlink", -2, CHANGES, ALL_KEYS, "generic", "4.0.0", "Deletes keys", keyspace::del),
    row("copy", -3, CONDITIONALLY_STORES.and(CROSSES), TWO_KEYS, "generic", "6.2.0", "Sets a key to what another holds, with its deadline", several::copy),
    row("move", 3, CONDITIONALLY_CHANGES.and(CROSSES), ONE_KEY, "generic", "1.0.0", "Moves a key to another database: one step on this node, two on others", several::move_key),
    row("rename", 3, WRITE.and(CONDITIONAL), TWO_KEYS, "generic", "1.0.0", "Gives a key another name: one step on this node, two on others", several::rename),
    row("renamenx", 3, CONDITIONALLY_CHANGES, TWO_KEYS, "generic", "1.0.0", "Gives a key a name that is free: one step on this node, two on others", several::renamenx),
    row("dump", 2, READ, ONE_KEY, "generic", "2.6.0", "Returns the value of a key in Redis's serialized form", dump::dump),
    with(row("object", -2, NONE, NO_KEY, "generic", "2.2.3", "Commands about how a value is held", introspect::unreachable), OBJECT),
    row("restore", -4, STORES.and(CONDITIONAL), ONE_KEY, "generic", "2.6.0", "Sets a key to a value in Redis's serialized form", dump::restore),
    row("wait", 3, NONE, NO_KEY, "generic", "3.0.0", "Waits until peers hold what this connection wrote", wait::wait),
];

/// The table, for the commands that describe it.
pub(super) static WHOLE: Table = Table { commands: TABLE, find };

#[rustfmt::skip]
const CLIENT: &[Command] = &[
    row("client|caching", 3, NONE, NO_KEY, "connection", "6.0.0", "Says whether to track what the next command reads", tracking::caching),
    row("client|getname", 2, NONE, NO_KEY, "connection", "2.6.9", "Returns the name of this connection", client::getname),
    row("client|getredir", 2, NONE, NO_KEY, "connection", "6.0.0", "Returns where invalidations go", tracking::getredir),
    row("client|help", 2, NONE, NO_KEY, "connection", "5.0.0", "Explains the subcommands", client::help),
    row("client|id", 2, NONE, NO_KEY, "connection", "5.0.0", "Returns the number of this connection", client::id),
    row("client|info", 2, NONE, NO_KEY, "connection", "6.2.0", "Describes this connection", |cx, args| client::info(cx, args, &WHOLE)),
    row("client|kill", -3, ADMIN, NO_KEY, "connection", "2.4.0", "Closes connections", client::kill),
    row("client|list", -2, ADMIN, NO_KEY, "connection", "2.4.0", "Describes all connections", |cx, args| client::list(cx, args, &WHOLE)),
    row("client|no-evict", 3, ADMIN, NO_KEY, "connection", "7.0.0", "Accepted: no connection is evicted", client::no_evict),
    row("client|no-touch", 3, NONE, NO_KEY, "connection", "7.2.0", "Sets whether reads of this connection keep keys from being evicted", client::no_touch),
    row("client|reply", 3, NO_MULTI, NO_KEY, "connection", "3.2.0", "Switches the replies of this connection on or off", client::reply),
    row("client|setinfo", 4, NONE, NO_KEY, "connection", "7.2.0", "Notes the client's library", client::setinfo),
    row("client|setname", 3, NONE, NO_KEY, "connection", "2.6.9", "Names this connection", client::setname),
    row("client|tracking", -3, NO_MULTI, NO_KEY, "connection", "6.0.0", "Sends this connection the names of keys that change", tracking::tracking),
    row("client|trackinginfo", 2, NONE, NO_KEY, "connection", "6.2.0", "Describes what this connection tracks", tracking::info),
];

#[rustfmt::skip]
const COMMAND: &[Command] = &[
    row("command|count", 2, NONE, NO_KEY, "server", "2.8.13", "Counts the commands", |cx, args| introspect::count(cx, args, &WHOLE)),
    row("command|docs", -2, NONE, NO_KEY, "server", "7.0.0", "Explains commands", |cx, args| introspect::docs(cx, args, &WHOLE)),
    row("command|getkeys", -4, NONE, NO_KEY, "server", "2.8.13", "Returns the keys in a request", |cx, args| introspect::getkeys(cx, args, &WHOLE)),
    row("command|getkeysandflags", -3, NONE, NO_KEY, "server", "7.0.0", "Returns the keys in a request, and how it uses them", |cx, args| introspect::getkeysandflags(cx, args, &WHOLE)),
    row("command|help", 2, NONE, NO_KEY, "server", "5.0.0", "Explains the subcommands", introspect::help),
    row("command|info", -2, NONE, NO_KEY, "server", "2.8.13", "Describes commands", |cx, args| introspect::info(cx, args, &WHOLE)),
    row("command|list", -2, NONE, NO_KEY, "server", "7.0.0", "Names the commands", |cx, args| introspect::list(cx, args, &WHOLE)),
];

#[rustfmt::skip]
const CONFIG: &[Command] = &[
    row("config|get", -3, ADMIN, NO_KEY, "server", "2.0.0", "Returns settings", config::get),
    row("config|help", 2, NONE, NO_KEY, "server", "5.0.0", "Explains the subcommands", config::help),
    row("config|resetstat", 2, ADMIN, NO_KEY, "server", "2.0.0", "Begins counting at zero", config::resetstat),
    row("config|set", -4, ADMIN, NO_KEY, "server", "2.0.0", "Sets notify-keyspace-events; other settings are fixed", config::set),
];

#[rustfmt::skip]
const ACL: &[Command] = &[
    row("acl|cat", -2, NONE, NO_KEY, "server", "6.0.0", "Returns the categories of commands, or the commands of one", acl::cat),
    row("acl|dryrun", -4, ADMIN, NO_KEY, "server", "7.0.0", "Returns whether a user may execute a command", |cx, args| acl::dryrun(cx, args, &WHOLE)),
    row("acl|genpass", -2, NONE, NO_KEY, "server", "6.0.0", "Returns a random password", acl::genpass),
    row("acl|getuser", 3, ADMIN, NO_KEY, "server", "6.0.0", "Describes a user", acl::getuser),
    row("acl|help", 2, NONE, NO_KEY, "server", "6.0.0", "Explains the subcommands", acl::help),
    row("acl|list", 2, ADMIN, NO_KEY, "server", "6.0.0", "Describes each user in one line", acl::list),
    row("acl|load", 2, ADMIN.and(NO_MULTI), NO_KEY, "server", "6.0.0", "Reads the file of users again", acl::load),
    row("acl|log", -2, ADMIN, NO_KEY, "server", "6.0.0", "Returns an empty list", acl::log),
    row("acl|users", 2, ADMIN, NO_KEY, "server", "6.0.0", "Returns the names of all users", acl::users),
    row("acl|whoami", 2, NONE, NO_KEY, "server", "6.0.0", "Returns the name of this connection's user", acl::whoami),
];

#[rustfmt::skip]
const LATENCY: &[Command] = &[
    row("latency|doctor", 2, ADMIN, NO_KEY, "server", "2.8.13", "Says where latencies are shown", slow::doctor),
    row("latency|graph", 3, ADMIN, NO_KEY, "server", "2.8.13", "An error: there are no events of latency", slow::graph),
    row("latency|help", 2, NONE, NO_KEY, "server", "2.8.13", "Explains the subcommands", slow::latency_help),
    row("latency|histogram", -2, ADMIN, NO_KEY, "server", "7.0.0", "Returns how long commands take", slow::histogram),
    row("latency|history", 3, ADMIN, NO_KEY, "server", "2.8.13", "Returns an empty list", slow::no_events),
    row("latency|latest", 2, ADMIN, NO_KEY, "server", "2.8.13", "Returns an empty list", slow::no_events),
    row("latency|reset", -2, ADMIN, NO_KEY, "server", "2.8.13", "Returns 0", slow::no_event_reset),
];

#[rustfmt::skip]
const MEMORY: &[Command] = &[
    row("memory|doctor", 2, NONE, NO_KEY, "server", "4.0.0", "Says whether memory is short", inspect::doctor),
    row("memory|help", 2, NONE, NO_KEY, "server", "4.0.0", "Explains the subcommands", inspect::memory_help),
    row("memory|malloc-stats", 2, NONE, NO_KEY, "server", "4.0.0", "Returns that there are none", inspect::malloc_stats),
    row("memory|purge", 2, NONE, NO_KEY, "server", "4.0.0", "Accepted: there is nothing to purge", inspect::purge),
    row("memory|stats", 2, NONE, NO_KEY, "server", "4.0.0", "Returns what memory is used for", inspect::stats),
    row("memory|usage", -3, READ, SECOND_KEY, "server", "4.0.0", "Returns the memory that a key takes", inspect::usage),
];

#[rustfmt::skip]
const MODULE: &[Command] = &[
    row("module|help", 2, NONE, NO_KEY, "server", "5.0.0", "Explains the subcommands", inspect::module_help),
    row("module|list", 2, ADMIN, NO_KEY, "server", "4.0.0", "Returns an empty list", inspect::modules),
];

#[rustfmt::skip]
const OBJECT: &[Command] = &[
    row("object|encoding", 3, READ, SECOND_KEY, "generic", "2.2.3", "Returns how Redis would hold the value", inspect::encoding),
    row("object|freq", 3, READ, SECOND_KEY, "generic", "4.0.0", "Returns how often a key is accessed, by a logarithm; an error unless the policy is allkeys-lfu", inspect::freq),
    row("object|help", 2, NONE, NO_KEY, "generic", "6.2.0", "Explains the subcommands", inspect::object_help),
    row("object|idletime", 3, READ, SECOND_KEY, "generic", "2.2.3", "Returns the seconds since a key was accessed; 0 unless the policy is allkeys-lru", inspect::idletime),
    row("object|refcount", 3, READ, SECOND_KEY, "generic", "2.2.3", "Returns 1", inspect::refcount),
];

#[rustfmt::skip]
const SLOWLOG: &[Command] = &[
    row("slowlog|get", -2, ADMIN, NO_KEY, "server", "2.2.12", "Returns the latest slow commands", slow::get),
    row("slowlog|help", 2, NONE, NO_KEY, "server", "6.2.0", "Explains the subcommands", slow::help),
    row("slowlog|len", 2, ADMIN, NO_KEY, "server", "2.2.12", "Counts the slow commands that are kept", slow::len),
    row("slowlog|reset", 2, ADMIN, NO_KEY, "server", "2.2.12", "Forgets the slow commands", slow::reset),
];

#[rustfmt::skip]
const PUBSUBS: &[Command] = &[
    row("pubsub|channels", -2, PUBSUB, NO_KEY, "pubsub", "2.8.0", "Returns the channels that have listeners", pubsub::channels),
    row("pubsub|help", 2, NONE, NO_KEY, "pubsub", "6.2.0", "Explains the subcommands", pubsub::help),
    row("pubsub|numpat", 2, PUBSUB, NO_KEY, "pubsub", "2.8.0", "Counts the patterns that have listeners", pubsub::numpat),
    row("pubsub|numsub", -2, PUBSUB, NO_KEY, "pubsub", "2.8.0", "Counts the listeners of channels", pubsub::numsub),
];

#[rustfmt::skip]
const SAPWOOD: &[Command] = &[
    row("sapwood|counter", 3, READS, SECOND_KEY, "server", "0.1.0", "Returns what a key counts, and who counted it", counter::breakdown),
    row("sapwood|cut", -3, ADMIN, NO_KEY, "server", "0.1.0", "Stops what the link to a peer carries, for tests", cluster::cut),
    row("sapwood|digest", 2, NO_MULTI, NO_KEY, "server", "0.1.0", "Returns the digest of the live keys, and how many they are", sapwood::digest),
    row("sapwood|events", 2, PUBSUB.and(NO_MULTI), NO_KEY, "server", "0.1.0", "Pushes what happens to links and members from here on", cluster::events),
    row("sapwood|forget", 3, ADMIN, NO_KEY, "server", "0.1.0", "Stops waiting for a member that is down", cluster::forget),
    row("sapwood|healing", 2, NONE, NO_KEY, "server", "0.1.0", "Returns how far healing has come, and what it waits for", cluster::healing),
    row("sapwood|help", 2, NONE, NO_KEY, "server", "0.1.0", "Explains the subcommands", sapwood::help),
    row("sapwood|lost", 2, NONE, NO_KEY, "server", "0.1.0", "Returns what had to be given up after an absence", cluster::lost),
    row("sapwood|mend", -3, ADMIN, NO_KEY, "server", "0.1.0", "Undoes SAPWOOD CUT", cluster::mend),
    row("sapwood|meta", 3, READS, SECOND_KEY, "server", "0.1.0", "Returns the timestamps and the deadline of a key", sapwood::meta),
    row("sapwood|peers", 2, NONE, NO_KEY, "server", "0.1.0", "Describes the links to the peers", cluster::peers),
    row("sapwood|ready", -4, NONE, NO_KEY, "server", "0.1.0", "Waits until this node holds what a token of another speaks of", wait::ready),
    row("sapwood|rejoin", -2, ADMIN.and(NO_MULTI), NO_KEY, "server", "0.1.0", "Discards every key here and joins the others anew", cluster::rejoin),
    row("sapwood|token", 2, NONE, NO_KEY, "server", "0.1.0", "Returns a token for all that was written here", wait::token),
    row("sapwood|unwatch", 2, SUBSCRIBED.and(NO_MULTI), NO_KEY, "server", "0.1.0", "Ends SAPWOOD WATCH", watch::unwatch),
    row("sapwood|verified", 2, NONE, NO_KEY, "server", "0.1.0", "Returns what SAPWOOD VERIFY has found", cluster::verified),
    row("sapwood|verify", 2, ADMIN, NO_KEY, "server", "0.1.0", "Compares every cell with every linked peer, and heals", cluster::verify),
    row("sapwood|waitfor", 4, NONE, NO_KEY, "server", "0.1.0", "Waits until these peers hold what this connection wrote", wait::waitfor),
    row("sapwood|watch", -3, SUBSCRIBED.and(NO_MULTI), NO_KEY, "server", "0.1.0", "Sends the keys under some prefixes, then every change of them", watch::watch),
];

#[rustfmt::skip]
const SCRIPTS: &[Command] = &[
    row("script|exists", -3, NO_SCRIPT, NO_KEY, "scripting", "2.6.0", "Says which scripts this node has", script::exists),
    row("script|flush", -2, NO_SCRIPT, NO_KEY, "scripting", "2.6.0", "Drops all scripts of this node", script::flush),
    row("script|help", 2, NONE, NO_KEY, "scripting", "5.0.0", "Explains the subcommands", script::help),
    row("script|kill", 2, NO_SCRIPT, NO_KEY, "scripting", "2.6.0", "Ends the scripts that run; nothing of them is applied", script::kill),
    row("script|load", 3, NO_SCRIPT, NO_KEY, "scripting", "2.6.0", "Keeps a script on this node for EVALSHA", script::load),
    row("script|show", 3, NO_SCRIPT, NO_KEY, "scripting", "8.0.0", "Returns the text of a script", script::show),
];

#[expect(clippy::too_many_arguments, reason = "the columns of the table")]
const fn row(
    name: &'static str,
    arity: i8,
    flags: Flags,
    keys: Keys,
    group: &'static str,
    since: &'static str,
    summary: &'static str,
    handler: fn(&mut Context<'_>, Args<'_>) -> Outcome,
) -> Command {
    let handler = Handler::Plain(handler);
    Command { name, arity, flags, keys, group, since, summary, handler, subcommands: &[] }
}

#[expect(clippy::needless_pass_by_value, reason = "a constant function cannot drop")]
const fn dispatching(
    command: Command,
    handler: fn(&mut Context<'_>, Args<'_>, Dispatch) -> Outcome,
) -> Command {
    Command { handler: Handler::Dispatching(handler), ..command }
}

#[expect(clippy::needless_pass_by_value, reason = "a constant function cannot drop")]
const fn with(command: Command, subcommands: &'static [Command]) -> Command {
    Command { subcommands, ..command }
}

/// The place of each command of [`TABLE`] in [`Table::all`].
static PLACES: [u16; SLOTS] = places();

/// The place of a called command or subcommand in [`Table::all`].
pub(super) fn slot(call: Call) -> usize {
    usize::from(PLACES[call.command()]) + call.subcommand().map_or(0, |subcommand| subcommand + 1)
}

#[expect(clippy::cast_possible_truncation, reason = "the table is small")]
const fn places() -> [u16; SLOTS] {
    let (mut places, mut next, mut i) = ([0; SLOTS], 0, 0);
    while i < TABLE.len() {
        places[i] = next;
        next += 1 + TABLE[i].subcommands.len() as u16;
        i += 1;
    }
    places
}

/// The longest name that [`find`] looks for.
const MAX_NAME: usize = 16;
/// Slots of the hash table of names: several times the commands, so that most lookups compare one name.
const SLOTS: usize = 512;

/// A name in the hash table.
#[derive(Clone, Copy)]
struct Name {
    /// The [`padded`] bytes.
    bytes: u128,
    /// Bit 5 of each byte that is a letter: set in a name of any case, it makes it lower case.
    letters: u128,
    len: u8,
    /// The command's index in [`TABLE`].
    index: u8,
}

/// A hash table with open addressing, built by the compiler.
static INDEX: [Option<Name>; SLOTS] = index();

/// The index of a command in [`TABLE`], ignoring the case of its name.
pub(super) fn find(name: &[u8]) -> Option<usize> {
    if name.len() > MAX_NAME {
        return None;
    }
    let bytes = padded(name);
    let mut slot = slot_of(bytes);
    while let Some(known) = &INDEX[slot] {
        if bytes | known.letters == known.bytes && name.len() == usize::from(known.len) {
            return Some(known.index.into());
        }
        slot = (slot + 1) % SLOTS;
    }
    None
}

/// The bytes of a name as one number.
const fn padded(name: &[u8]) -> u128 {
    let mut bytes = [0; MAX_NAME];
    bytes.split_at_mut(name.len()).0.copy_from_slice(name);
    u128::from_le_bytes(bytes)
}

/// Bit 5 of every byte, in which the cases of a letter differ.
const CASE: u128 = u128::from_le_bytes([0x20; MAX_NAME]);

/// Where a name is, in any case.
#[expect(clippy::cast_possible_truncation, reason = "both halves of the name are folded into one")]
const fn slot_of(bytes: u128) -> usize {
    let folded = bytes & !CASE;
    let mixed = (folded as u64 ^ (folded >> 64) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 55) as usize % SLOTS
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "there are fewer commands than slots, and names are short"
)]
const fn index() -> [Option<Name>; SLOTS] {
    let mut index = [None; SLOTS];
    let mut i = 0;
    while i < TABLE.len() {
        let name = TABLE[i].name.as_bytes();
        let mut letters = [0; MAX_NAME];
        let mut at = 0;
        while at < name.len() {
            letters[at] = if name[at].is_ascii_alphabetic() { 0x20 } else { 0 };
            at += 1;
        }
        let bytes = padded(name);
        let mut slot = slot_of(bytes);
        while index[slot].is_some() {
            slot = (slot + 1) % SLOTS;
        }
        let letters = u128::from_le_bytes(letters);
        index[slot] = Some(Name { bytes, letters, len: name.len() as u8, index: i as u8 });
        i += 1;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::super::error::shown_name;
    use super::super::refused;
    use super::*;

    #[test]
    fn each_command_and_subcommand_has_counters_of_its_own() {
        let calls = TABLE.iter().enumerate().flat_map(|(index, command)| {
            let call = Call::of(index);
            let subcommands = (0..command.subcommands.len()).map(move |sub| call.with_subcommand(sub));
            std::iter::once(call).chain(subcommands)
        });
        assert_eq!(calls.map(slot).collect::<Vec<_>>(), (0..WHOLE.all().count()).collect::<Vec<_>>());
    }

    #[test]
    fn every_command_is_found_in_any_case_and_nothing_else_is() {
        for (i, command) in TABLE.iter().enumerate() {
            assert_eq!(find(command.name.as_bytes()), Some(i));
            assert_eq!(find(command.name.to_ascii_uppercase().as_bytes()), Some(i));
        }
        for other in
            ["", "eval\u{7f}ro", "ge", "gett", "get ", "get\0", "g\u{5}t", "a name longer than any command"]
        {
            assert_eq!(find(other.as_bytes()), None, "{other:?}");
        }
    }

    #[test]
    fn every_command_is_documented_and_takes_its_keys() {
        for command in WHOLE.all() {
            assert!(!command.summary.is_empty() && !command.summary.ends_with('.'), "{}", command.name);
            assert!(!command.since.is_empty() && !command.group.is_empty(), "{}", command.name);
            assert!(command.arity != 0, "{}", command.name);
            let needed = i8::max(command.keys.first, command.keys.last) + 1;
            assert!(command.arity.abs() >= needed, "{}", command.name);
            assert!(command.name.bytes().all(|byte| byte.is_ascii_lowercase() || b"|-_".contains(&byte)));
        }
    }

    #[test]
    fn commands_that_take_subcommands_need_one_or_have_a_meaning_without() {
        for command in TABLE.iter().filter(|command| !command.subcommands.is_empty()) {
            let names = command.subcommands.iter().map(|sub| sub.name);
            assert!(names.clone().all(|name| name.starts_with(&format!("{}|", command.name))));
            assert!(names.is_sorted(), "{}", command.name);
            assert!(command.arity == -2 || command.name == "command", "{}", command.name);
        }
    }

    #[test]
    fn no_command_is_both_executed_and_refused() {
        for name in refused::names() {
            assert_eq!(find(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn the_documentation_has_a_row_for_every_command() {
        let docs = include_str!("../../../docs/commands.md");
        for name in WHOLE.all().map(|command| command.name).chain(refused::names()) {
            let shown = shown_name(name);
            let named = [' ', '`'].iter().any(|end| docs.contains(&format!("`{shown}{end}")));
            assert!(named, "{shown}");
        }
    }
}
