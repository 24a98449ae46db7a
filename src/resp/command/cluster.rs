//! `SAPWOOD`'s commands about the cluster, for operators.

use std::borrow::Cow;
use std::time::Duration;

use super::context::{Context, DONE, Outcome, is};
use super::error::CommandError;
use crate::cluster::{ClusterError, Heal, LostCell, PeerStatus, Verification, VerificationState, Way};
use crate::model::timestamp;
use crate::resp::{Args, Reply};

pub(super) fn peers(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    let mut peers = cx.shared.cluster.peers();
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    rows(cx, &peers, peer)
}

fn peer(reply: &mut Reply<'_>, peer: &PeerStatus) {
    let idle = Heal::default();
    let heal = peer.heal.as_ref().unwrap_or(&idle);
    map(
        reply,
        &[
            ("name", Field::text(&peer.name)),
            ("state", Field::text(peer.state.as_str())),
            ("address", Field::text(&peer.address)),
            ("direction", Field::text(peer.direction.map_or("", |direction| direction.as_str()))),
            ("reason", Field::text(&peer.reason)),
            ("incarnation", Field::text(peer.incarnation.map(|id| id.to_string()).unwrap_or_default())),
            ("lag_ms", Field::millis(peer.lag)),
            ("queued_bytes", Field::Count(peer.queued_bytes)),
            ("since_ms", Field::millis(peer.since)),
            ("received_bytes", Field::Count(peer.received_bytes)),
            ("sent_bytes", Field::Count(peer.sent_bytes)),
            ("ranges_differing", Field::Count(peer.ranges_differing)),
            ("verified_ms", Field::millis(peer.verified)),
            ("heal_cells_in", Field::Count(heal.cells_in)),
            ("heal_cells_out", Field::Count(heal.cells_out)),
            ("heal_bytes_in", Field::Count(heal.bytes_in)),
            ("heal_bytes_out", Field::Count(heal.bytes_out)),
            ("heal_cells_left", Field::Count(heal.cells_left)),
            ("heal_ms", Field::millis(peer.heal.as_ref().map(|heal| heal.took))),
            ("heal_left_ms", Field::millis(heal.time_left)),
        ],
    );
}

pub(super) fn events(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    cx.session.start_events(cx.shared);
    cx.reply().ok();
    DONE
}

pub(super) fn healing(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    let healing = cx.shared.cluster.healing();
    map(
        &mut cx.reply(),
        &[
            ("members", Field::Count(healing.members as u64)),
            ("stable_age_ms", Field::millis(healing.stable_age)),
            ("tombstones", Field::Count(healing.tombstones)),
            ("waits_for", Field::Texts(&healing.waits_for)),
            ("retractions", Field::Count(healing.retractions)),
            ("late", Field::Count(healing.late)),
            ("lost", Field::Count(healing.lost)),
            ("dropped_tombstones", Field::Count(healing.dropped_tombstones)),
            ("scrub_errors", Field::Count(healing.scrub_errors)),
        ],
    );
    DONE
}

pub(super) fn lost(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    let lost = cx.shared.cluster.lost();
    rows(cx, &lost, lost_cell)
}

fn lost_cell(reply: &mut Reply<'_>, cell: &LostCell) {
    let time = cell.timestamp.time();
    map(
        reply,
        &[
            ("database", cell.database.map_or(Field::NEVER, |database| Field::Count(database.into()))),
            ("key", Field::Bytes(&cell.key)),
            ("value", cell.value.as_deref().map_or(Field::Null, Field::Bytes)),
            ("value_bytes", Field::Count(cell.value_bytes as u64)),
            // As text, because the upper half of the range exceeds the protocol's integers.
            ("timestamp", Field::text(time.0.to_string())),
            ("timestamp_ms", Field::Count(timestamp::unix_millis(time))),
            ("origin", Field::text(cell.timestamp.incarnation().to_string())),
            ("deadline_ms", cell.deadline.map_or(Field::NEVER, |at| Field::Count(at.as_unix_millis()))),
            ("peer", Field::text(&cell.peer)),
        ],
    );
}

pub(super) fn verified(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    let mut verified = cx.shared.cluster.verified();
    verified.sort_by(|a, b| a.peer.cmp(&b.peer));
    rows(cx, &verified, verification)
}

fn verification(reply: &mut Reply<'_>, verification: &Verification) {
    let (state, reason) = match &verification.state {
        VerificationState::Waiting => ("waiting", ""),
        VerificationState::Running => ("running", ""),
        VerificationState::Done => ("done", ""),
        VerificationState::Failed(reason) => ("failed", reason.as_str()),
    };
    map(
        reply,
        &[
            ("peer", Field::text(&verification.peer)),
            ("state", Field::text(state)),
            ("reason", Field::text(reason)),
            ("cells", Field::Count(verification.cells)),
            ("ranges_differing", Field::Count(verification.differing_ranges)),
            ("cells_healed", Field::Count(verification.healed_cells)),
            ("took_ms", Field::millis(verification.took)),
        ],
    );
}

pub(super) fn verify(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    cx.shared.cluster.verify();
    done(cx, Ok(()))
}

pub(super) fn forget(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let name = name(&args[2]);
    let outcome = cx.shared.cluster.forget(&name);
    operated(cx, outcome, "SAPWOOD FORGET", Some(&name))
}

/// Requires the word `DISCARD` after the command's name, because discarded keys cannot be recovered.
pub(super) fn rejoin(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    match args.get(2) {
        Some(word) if args.len() == 3 && is(word, "DISCARD") => {
            let outcome = cx.shared.cluster.rejoin();
            operated(cx, outcome, "SAPWOOD REJOIN", None)
        }
        _ => Err(CommandError::said(
            "ERR this discards every key that this node holds: say SAPWOOD REJOIN DISCARD to do it",
        )),
    }
}

pub(super) fn cut(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (name, way) = (name(&args[2]), way(args)?);
    let outcome = cx.shared.cluster.cut(&name, way);
    operated(cx, outcome, "SAPWOOD CUT", Some(&format!("{name} {}", way.as_str())))
}

pub(super) fn mend(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (name, way) = (name(&args[2]), way(args)?);
    let outcome = cx.shared.cluster.mend(&name, way);
    operated(cx, outcome, "SAPWOOD MEND", Some(&format!("{name} {}", way.as_str())))
}

/// The direction after the peer's name; both if it is missing.
fn way(args: Args<'_>) -> Result<Way, CommandError> {
    let ways = [Way::In, Way::Out, Way::Both];
    match args.get(3) {
        None => Ok(Way::default()),
        Some(word) if args.len() == 4 => {
            ways.into_iter().find(|way| is(word, way.as_str())).ok_or(CommandError::Syntax)
        }
        Some(_) => Err(CommandError::Syntax),
    }
}

/// A peer's name is text, so bytes that are not UTF-8 match no peer.
fn name(arg: &[u8]) -> String {
    String::from_utf8_lossy(arg).into_owned()
}

/// Replies to an operator's command, and logs it if it succeeded.
fn operated(
    cx: &mut Context<'_>,
    outcome: Result<(), ClusterError>,
    command: &str,
    detail: Option<&str>,
) -> Outcome {
    if outcome.is_ok() {
        cx.audit(command, detail);
    }
    done(cx, outcome)
}

fn done(cx: &mut Context<'_>, outcome: Result<(), ClusterError>) -> Outcome {
    outcome.map_err(|error| CommandError::said(format!("ERR {error}")))?;
    cx.reply().ok();
    DONE
}

/// One value of a map in a reply.
enum Field<'a> {
    Bytes(&'a [u8]),
    Text(Cow<'a, str>),
    Texts(&'a [String]),
    Count(u64),
    Int(i64),
    Null,
}

impl<'a> Field<'a> {
    /// Stands for a time that is unknown, or an event that never happened.
    const NEVER: Field<'a> = Field::Int(-1);

    fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Field::Text(text.into())
    }

    fn millis(time: impl Into<Option<Duration>>) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        time.into().map_or(Self::NEVER, |time| Field::Count(millis(time)))
    }
}

fn map(reply: &mut Reply<'_>, fields: &[(&str, Field<'_>)]) {
    reply.map(fields.len());
    for (name, field) in fields {
        reply.bulk(name.as_bytes());
        match field {
            Field::Bytes(bytes) => reply.bulk(bytes),
            Field::Text(text) => reply.bulk(text.as_bytes()),
            Field::Texts(texts) => {
                reply.array(texts.len());
                texts.iter().for_each(|text| reply.bulk(text.as_bytes()));
            }
            Field::Count(count) => reply.int(i64::try_from(*count).unwrap_or(i64::MAX)),
            Field::Int(number) => reply.int(*number),
            Field::Null => reply.null(),
        }
    }
}

fn rows<T>(cx: &mut Context<'_>, rows: &[T], row: fn(&mut Reply<'_>, &T)) -> Outcome {
    let mut reply = cx.reply();
    reply.array(rows.len());
    for one in rows {
        row(&mut reply, one);
    }
    DONE
}
