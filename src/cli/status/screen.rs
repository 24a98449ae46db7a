//! A [`Status`] as lines for people.

use std::time::{Duration, UNIX_EPOCH};

use sapwood::status::PeerState;

use super::Status;
use crate::cli::fields::Fields;
use crate::cli::output::{Paint, Table, grouped, rough_size, rough_time};
use crate::cli::peers::{lag, verified};

/// Characters of a progress bar between its brackets.
const BAR: u64 = 20;

/// The node, an empty line, and a row for each peer.
pub(super) fn lines(status: &Status, paint: Paint) -> Vec<String> {
    let own = own(status);
    let mut lines = own.lines(|row, column, cell| match (row, column) {
        (_, 0) => paint.bold(cell),
        (STATE, _) => paint.state(cell),
        _ => cell.to_owned(),
    });
    lines.push(String::new());
    if status.peers.is_empty() {
        lines.push("no peers".into());
    } else {
        lines.extend(peers(&status.peers).painted(paint, Some(1)));
    }
    lines
}

/// The row of [`own`] that holds the state.
const STATE: usize = 1;

/// When the certificate of the node ends.
fn expiry(own: &Fields) -> String {
    let Some(at) = own.number("peer_certificate_expires") else { return String::new() };
    format!("; this node's ends {}", humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(at)))
}

fn own(Status { own, healing, peers, .. }: &Status) -> Table {
    let mut table = Table::default();
    let up = rough_time(own.count("uptime_in_seconds").saturating_mul(1000));
    table.row(["node", &format!("{} of cluster {}, up {up}", own.text("name"), own.text("cluster"))]);
    let reason = Some(own.text("state_reason")).filter(|reason| !reason.is_empty());
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    table.row(["state", &format!("{}{reason}", own.text("state"))]);
    let fault = Some(own.text("users_file_error")).filter(|fault| !fault.is_empty());
    if let Some(fault) = fault {
        table.row(["users", &format!("not reloaded, they stay as they were: {fault}")]);
    }
    table.row(["digest", &own.text("digest")]);
    table.row(["keys", &grouped(own.count("keys"))]);
    table.row(["memory", &own.text("used_memory_human")]);
    if let Some(evicted) = own.number("evicted_keys").filter(|evicted| *evicted > 0) {
        table.row(["evicted", &format!("{} keys, to make room", grouped(evicted))]);
    }
    table.row(["clients", &grouped(own.count("connected_clients"))]);
    table.row(["commands", &format!("{}/s", grouped(own.count("instantaneous_ops_per_sec")))]);
    table.row(["members", &grouped(healing.count("members"))]);
    table.row(["linked", &format!("{} of {}", own.count("linked_peers"), expected(peers))]);
    match &*own.text("peer_security") {
        "certificates" => table.row(["peers", &format!("authenticated by certificates{}", expiry(own))]),
        "secret" => table.row(["peers", "authenticated by a shared secret"]),
        _ => {}
    }
    let problem = own.text("peer_security_error");
    if !problem.is_empty() {
        table.row(["problem", &format!("new certificates or secrets cannot be used: {problem}")]);
    }
    let stable = healing.number("stable_age_ms");
    table.row([
        "stable",
        &stable.map_or_else(|| "never raised".into(), |age| format!("{} ago", rough_time(age))),
    ]);
    table.row(["tombstones", &tombstones(own, healing)]);
    table.row(["retracted", &grouped(healing.count("retractions"))]);
    let exceptional = [
        ("late", "late", "pushes of what had been removed here"),
        ("lost", "lost", "keys given up: see `sapwood lost`"),
        ("dropped", "dropped_tombstones", "tombstones beyond their limit, while alone"),
        ("scrub", "scrub_errors", "ranges whose digest was wrong: please report it"),
    ];
    for (label, field, meaning) in exceptional {
        if let Some(count) = healing.number(field).filter(|count| *count > 0) {
            table.row([label, &format!("{} {meaning}", grouped(count))]);
        }
    }
    table
}

/// How many peers are expected to link: not those that left, lapsed or were forgotten.
fn expected(peers: &[Fields]) -> usize {
    let absent = [PeerState::Lapsed, PeerState::Gone].map(PeerState::as_str);
    peers.iter().filter(|peer| !absent.contains(&peer.text("state").as_str())).count()
}

fn tombstones(own: &Fields, healing: &Fields) -> String {
    let (count, memory) = (own.count("tombstones"), own.text("used_memory_tombstones_human"));
    let none = count == 0;
    let count =
        if none || memory.is_empty() { grouped(count) } else { format!("{} ({memory})", grouped(count)) };
    let waits_for = healing.list("waits_for");
    if none || waits_for.is_empty() { count } else { format!("{count}, kept for {waits_for}") }
}

fn peers(peers: &[Fields]) -> Table {
    let mut table = Table::default();
    table.row(["PEER", "STATE", "LAG", "QUEUED", "DIFFERING", "VERIFIED", "PROGRESS"]);
    for peer in peers {
        // An address at which no node has sent its name yet.
        let name = Some(peer.text("name")).filter(|name| !name.is_empty());
        table.row([
            name.unwrap_or_else(|| peer.text("address")),
            peer.text("state"),
            lag(peer),
            rough_size(peer.count("queued_bytes")),
            grouped(peer.count("ranges_differing")),
            verified(peer),
            progress(peer).unwrap_or_else(|| peer.text("reason")),
        ]);
    }
    table
}

/// The progress of the exchange with a peer, if there is one.
fn progress(peer: &Fields) -> Option<String> {
    peer.number("heal_ms")?;
    let (done, left) =
        (["heal_cells_in", "heal_cells_out"].map(|name| peer.count(name)), peer.count("heal_cells_left"));
    let done = done.into_iter().fold(0, u64::saturating_add);
    // Until a range has been exchanged there is no basis for an estimate; the responder never has one.
    let unknown = left == 0 && peer.count("ranges_differing") > 0;
    let mut text = match bar(done, left) {
        None => "comparing".into(),
        Some(_) if unknown => format!("{} cells so far", grouped(done)),
        Some(bar) => format!("{bar}  {} cells left", grouped(left)),
    };
    for way in ["in", "out"] {
        let bytes = peer.count(&format!("heal_bytes_{way}"));
        if bytes > 0 {
            text += &format!(", {way} {}", rough_size(bytes));
        }
    }
    if let Some(millis) = peer.number("heal_left_ms") {
        text += &format!(", {} to go", rough_time(millis));
    }
    Some(text)
}

/// `[#####---------------]  25%`; `None` before there is anything to count.
fn bar(done: u64, left: u64) -> Option<String> {
    let (done, all) = (u128::from(done), u128::from(done) + u128::from(left));
    let percent = (done * 100).checked_div(all)?;
    let filled = usize::try_from(done * u128::from(BAR) / all).ok()?;
    Some(format!("[{:-<width$}] {percent:>3}%", "#".repeat(filled), width = usize::try_from(BAR).ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fields(value: &Value) -> Fields {
        Fields(value.as_object().unwrap().clone())
    }

    fn plain(status: &Status) -> Vec<String> {
        lines(status, Paint { colours: false })
    }

    fn quiet() -> Status {
        Status {
            asked: "127.0.0.1:7171".into(),
            own: fields(&json!({
                "name": "a", "cluster": "orders", "state": "ready", "digest": "92682454fb46dc52", "keys": 1_000_000,
                "uptime_in_seconds": 61, "used_memory_human": "162.12M", "connected_clients": 2, "linked_peers": 0,
                "instantaneous_ops_per_sec": 98_765,
                "tombstones": 0,
            })),
            healing: fields(&json!({"members": 1, "stable_age_ms": -1, "retractions": 0, "lost": 0})),
            peers: Vec::new(),
        }
    }

    #[test]
    fn a_node_alone_is_a_screen_without_peers() {
        assert_eq!(
            plain(&quiet()),
            [
                "node        a of cluster orders, up 1m",
                "state       ready",
                "digest      92682454fb46dc52",
                "keys        1,000,000",
                "memory      162.12M",
                "clients     2",
                "commands    98,765/s",
                "members     1",
                "linked      0 of 0",
                "stable      never raised",
                "tombstones  0",
                "retracted   0",
                "",
                "no peers",
            ]
        );
    }

    #[test]
    fn what_an_operator_must_know_is_on_the_screen() {
        let mut status = quiet();
        status.own.0.insert("tombstones".into(), 4_321.into());
        status.own.0.insert("used_memory_tombstones_human".into(), "278.11K".into());
        status.healing = fields(&json!({
            "members": 2, "stable_age_ms": 12_345, "retractions": 7,
            "waits_for": ["b", "c"], "late": 5, "lost": 2, "dropped_tombstones": 0, "scrub_errors": 0,
        }));
        let screen = plain(&status);
        for line in [
            "members     2",
            "stable      12s ago",
            "tombstones  4,321 (278.11K), kept for b, c",
            "retracted   7",
            "lost        2 keys given up: see `sapwood lost`",
        ] {
            assert!(screen.iter().any(|shown| shown == line), "{line} is not in {screen:#?}");
        }
        assert!(!screen.iter().any(|line| line.starts_with("scrub") || line.starts_with("dropped")));
    }

    #[test]
    fn a_peer_is_a_row_with_its_progress_or_the_reason_of_its_state() {
        let mut status = quiet();
        status.peers = [
            json!({
                "name": "b", "state": "healing", "lag_ms": 3, "queued_bytes": 12_400, "ranges_differing": 1_200,
                "verified_ms": 3_000, "heal_ms": 900, "heal_cells_in": 2_000, "heal_cells_out": 500,
                "heal_cells_left": 7_500, "heal_bytes_in": 240_000, "heal_bytes_out": 0, "heal_left_ms": 2_700,
            }),
            json!({"name": "c", "state": "down", "verified_ms": -1, "heal_ms": -1, "reason": "refused"}),
            json!({"name": "", "address": "d:7172", "state": "down", "verified_ms": -1, "heal_ms": -1, "reason": "no"}),
        ]
        .iter()
        .map(fields)
        .collect();
        let screen = plain(&status);
        assert_eq!(
            screen[screen.len() - 4..],
            [
                "PEER    STATE    LAG  QUEUED   DIFFERING  VERIFIED  PROGRESS",
                "b       healing  3ms  12.1KiB  1,200      3s ago    \
                 [#####---------------]  25%  7,500 cells left, in 234.3KiB, 2s to go",
                "c       down     0ms  0B       0          never     refused",
                "d:7172  down     0ms  0B       0          never     no",
            ]
        );
    }

    #[test]
    fn no_tombstones_are_kept_for_nobody() {
        let mut status = quiet();
        status.healing = fields(&json!({"members": 2, "stable_age_ms": 1, "waits_for": ["b"]}));
        assert!(plain(&status).contains(&"tombstones  0".to_owned()), "{:#?}", plain(&status));
    }

    #[test]
    fn a_peer_that_was_forgotten_or_has_left_is_not_one_that_should_be_linked() {
        let mut status = quiet();
        status.own.0.insert("linked_peers".into(), 1.into());
        let states = ["linked", "down", "lapsed", "gone"];
        status.peers = states.map(|state| fields(&json!({"name": state, "state": state}))).into();
        assert!(plain(&status).contains(&"linked      1 of 2".to_owned()), "{:#?}", plain(&status));
    }

    #[test]
    fn progress_stays_within_its_bar() {
        assert_eq!(bar(0, 0), None);
        assert_eq!(bar(0, 1).unwrap(), "[--------------------]   0%");
        assert_eq!(bar(u64::MAX, 0).unwrap(), "[####################] 100%");
        assert_eq!(bar(u64::MAX, u64::MAX).unwrap(), "[##########----------]  50%");
        let comparing = fields(&json!({"heal_ms": 0, "heal_cells_left": 0}));
        assert_eq!(progress(&comparing).unwrap(), "comparing");
        let answering = fields(
            &json!({"heal_ms": 9, "heal_cells_in": 1_234, "heal_cells_left": 0, "ranges_differing": 7}),
        );
        assert_eq!(progress(&answering).unwrap(), "1,234 cells so far");
    }
}
