//! Decides on a hello. Pure: from this node's identity, the received hello and the time it computes a peer, or
//! a refusal with its reason.

use std::net::SocketAddr;
use std::time::Duration;

use super::codec::MAX_FRAME;
use super::message::{Hello, MAGIC, Refusal, VERSIONS, incarnation_number};
use crate::config::MAX_NAME;
use crate::model::{Incarnation, Time, timestamp};

/// How far a hybrid clock may lead the clock of its own machine, in multiples of `--max-clock-skew`; also how
/// far in the future a received timestamp may lie. Leads accumulate along a chain of nodes, each within the
/// skew of the next, so this allows a chain of ten.
const SKEW_MULTIPLE: u32 = 10;

/// The largest generation that is accepted: counting from there never overflows.
pub(super) const MAX_GENERATION: u64 = u64::MAX / 2;

/// The most peers that a node links with or keeps in its table, and the most addresses that it dials.
pub(super) const MAX_PEERS: usize = 256;

/// The end of a hello: a server that reads lines, and is no node, then answers at once instead of waiting for a
/// line.
const LINE_ENDS: &[u8] = b"\r\n\r\n";

/// The contents of this node's hello.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) cluster: String,
    pub(crate) name: String,
    /// The address at which peers can dial it; `:port` means at the IP address that they see; empty if none.
    pub(crate) advertise: String,
    pub(crate) max_clock_skew: Duration,
}

impl Identity {
    pub(super) fn hello(&self, place: Place, wall: Time, hlc: Time) -> Hello<'_> {
        Hello {
            magic: MAGIC,
            versions: VERSIONS,
            cluster: &self.cluster,
            name: &self.name,
            incarnation: incarnation_number(place.incarnation),
            wall: wall.0,
            hlc: hlc.0,
            advertise: &self.advertise,
            max_frame: MAX_FRAME as u64,
            generation: place.generation,
            extension: LINE_ENDS,
        }
    }
}

/// The largest time that is accepted in a received timestamp.
pub(super) fn max_accepted(wall: Time, max_clock_skew: Duration) -> Time {
    timestamp::later(wall, max_clock_skew * SKEW_MULTIPLE)
}

/// A node's place in the cluster, which may change while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) incarnation: Incarnation,
    pub(super) generation: u64,
}

/// A peer whose hello was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Introduction {
    pub(super) name: String,
    pub(super) incarnation: Incarnation,
    pub(super) place: Place,
    /// The address at which it can be dialled; empty if none.
    pub(super) advertise: String,
    pub(super) hlc: Time,
}

/// A hello that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    /// The reason, for people on both sides: names the values of both.
    pub(super) text: String,
}

/// A request to a peer and its answer, by this node's clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    /// The machine's clock when the request was written.
    pub(super) asked: Time,
    /// The machine's clock once the answer was read.
    pub(super) answered: Time,
    /// The time between the two by a monotonic clock.
    pub(super) took: Duration,
}

impl Exchange {
    /// Returns the time between request and answer, by the larger of both clocks: the monotonic clock stands
    /// still while the machine is suspended.
    fn round_trip(&self) -> Duration {
        let by_the_wall = Time(self.answered.0.max(self.asked.0));
        self.took.max(timestamp::distance(self.asked, by_the_wall))
    }
}

/// Decides on a hello from `remote` that was read at `wall`. `exchange` is given if the hello answers that of
/// this node; the clock of a node that speaks first is checked by its welcome.
pub(super) fn judge(
    own: &Identity,
    own_incarnation: Incarnation,
    hello: &Hello<'_>,
    wall: Time,
    exchange: Option<Exchange>,
    remote: SocketAddr,
) -> Result<Introduction, Refused> {
    let refuse = |refusal, text: String| Err(Refused { refusal, text });
    if hello.magic != MAGIC {
        return refuse(Refusal::Incompatible, "it does not speak Sapwood's peer protocol".into());
    }
    if VERSIONS.agree(hello.versions).is_none() {
        let (ours, theirs) = (VERSIONS, hello.versions);
        let text = format!(
            "no protocol version in common: {} speaks {} to {}, {} speaks {} to {}",
            own.name, ours.oldest, ours.newest, hello.name, theirs.oldest, theirs.newest
        );
        return refuse(Refusal::Incompatible, text);
    }
    let Some(incarnation) = timestamp::incarnation(hello.incarnation) else {
        return refuse(Refusal::Incompatible, "its incarnation is zero".into());
    };
    if hello.name.is_empty() || hello.name.len() > MAX_NAME {
        return refuse(Refusal::Incompatible, format!("its name has {} bytes", hello.name.len()));
    }
    if hello.generation > MAX_GENERATION {
        return refuse(Refusal::Incompatible, format!("its generation is {}", hello.generation));
    }
    if incarnation == own_incarnation {
        return refuse(Refusal::Itself, "it is this node itself".into());
    }
    if hello.cluster != own.cluster {
        let text = format!(
            "{} belongs to cluster {:?}, {} to {:?} (--cluster)",
            own.name, own.cluster, hello.name, hello.cluster
        );
        return refuse(Refusal::WrongCluster, text);
    }
    if hello.name == own.name {
        let text = format!("two nodes are named {:?}: give one another --name", own.name);
        return refuse(Refusal::Duplicate, text);
    }
    if let Some(exchange) = exchange {
        judge_clock(own, hello.name, Time(hello.wall), exchange)?;
    }
    if let Err(text) = check_timestamps(own, hello, wall) {
        return refuse(Refusal::Skewed, text);
    }
    if hello.max_frame < MAX_FRAME as u64 {
        let text =
            format!("{} takes messages of {} bytes only, not {MAX_FRAME}", hello.name, hello.max_frame);
        return refuse(Refusal::Incompatible, text);
    }
    let advertise = advertised(hello, remote);
    let place = Place { incarnation, generation: hello.generation };
    Ok(Introduction { name: hello.name.to_owned(), incarnation, place, advertise, hlc: Time(hello.hlc) })
}

/// Decides whether the sender of a hello may have the name in it: its certificate must be for `certified`.
pub(super) fn judge_name(certified: &str, name: &str) -> Result<(), Refused> {
    if certified == name {
        return Ok(());
    }
    let text = format!(
        "the certificate is of node {certified:?}, and it calls itself {name:?}: give it --name {certified}, or another \
         certificate"
    );
    Err(Refused { refusal: Refusal::Untrusted, text })
}

/// Returns the address at which the sender of a hello from `remote` can be dialled; empty if none.
pub(super) fn advertised(hello: &Hello<'_>, remote: SocketAddr) -> String {
    match hello.advertise.strip_prefix(':') {
        Some(port) if remote.is_ipv6() => format!("[{}]:{port}", remote.ip()),
        Some(port) => format!("{}:{port}", remote.ip()),
        None => hello.advertise.to_owned(),
    }
}

/// Checks the clock of a peer that read `theirs` in answer to this node.
///
/// The offset is estimated as in NTP, from the times t1 of the request, t2 of its arrival, t3 of the answer and
/// t4 of its arrival: ((t2 - t1) + (t3 - t4)) / 2, which is wrong by at most half the round trip. A peer reads
/// its clock as it answers, so t2 and t3 are both `theirs`. A message that waited before it was read makes the
/// round trip longer, and never makes a correct clock look wrong.
pub(super) fn judge_clock(
    own: &Identity,
    name: &str,
    theirs: Time,
    exchange: Exchange,
) -> Result<(), Refused> {
    let limit = own.max_clock_skew;
    let uncertainty = exchange.round_trip() / 2;
    let half = timestamp::time_since_epoch(uncertainty);
    let middle = Time(exchange.answered.0.saturating_sub(half.0));
    let apart = timestamp::distance(theirs, middle);
    if apart.saturating_sub(uncertainty) <= limit {
        return Ok(());
    }
    let order = if theirs > middle { "ahead of" } else { "behind" };
    let text = format!(
        "the clock of {name} is {apart:.1?} (give or take {uncertainty:.1?}) {order} that of {}, more than {limit:?} \
         (--max-clock-skew): set both by NTP",
        own.name
    );
    Err(Refused { refusal: Refusal::Skewed, text })
}

/// Checks how far the timestamps of a hello lead its own clock, and this node's.
fn check_timestamps(own: &Identity, hello: &Hello<'_>, wall: Time) -> Result<(), String> {
    let lead = timestamp::distance(Time(hello.hlc.max(hello.wall)), Time(hello.wall));
    if lead > own.max_clock_skew * SKEW_MULTIPLE || Time(hello.hlc) > max_accepted(wall, own.max_clock_skew) {
        return Err(format!(
            "{} has timestamps {lead:.1?} ahead of its own clock, more than {SKEW_MULTIPLE} times --max-clock-skew: \
             its clock was set back",
            hello.name
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::message::Versions;
    use super::*;

    const WALL: Time = Time(1_700_000_000 << 32);

    fn identity(name: &str) -> Identity {
        Identity {
            cluster: "oak".into(),
            name: name.into(),
            advertise: ":7172".into(),
            max_clock_skew: Duration::from_millis(500),
        }
    }

    fn verdict(change: impl FnOnce(&mut Hello<'_>)) -> Result<Introduction, Refusal> {
        let other = identity("b");
        let incarnation = |id| timestamp::incarnation(id).unwrap();
        let place = Place { incarnation: incarnation(2), generation: 1 };
        let mut hello = other.hello(place, WALL, WALL);
        change(&mut hello);
        let remote = "10.0.0.7:999".parse().unwrap();
        let exchange = answered_after(Duration::from_millis(100));
        judge(&identity("a"), incarnation(1), &hello, WALL, Some(exchange), remote).map_err(|r| r.refusal)
    }

    /// An answer that was read at `WALL`.
    fn answered_after(took: Duration) -> Exchange {
        Exchange { asked: Time(WALL.0 - timestamp::time_since_epoch(took).0), answered: WALL, took }
    }

    fn shifted(millis: i64) -> u64 {
        let by = timestamp::time_since_epoch(Duration::from_millis(millis.unsigned_abs())).0;
        if millis < 0 { WALL.0 - by } else { WALL.0 + by }
    }

    #[test]
    fn a_peer_is_introduced_at_the_address_it_was_seen_at() {
        assert_eq!(verdict(|_| ()).unwrap().advertise, "10.0.0.7:7172");
        assert_eq!(verdict(|h| h.advertise = "b.example:1").unwrap().advertise, "b.example:1");
        assert_eq!(verdict(|h| h.advertise = "").unwrap().advertise, "", "it cannot be dialled");
    }

    #[test]
    fn each_refusal_has_a_reason_of_its_own() {
        assert_eq!(verdict(|h| h.cluster = "elm"), Err(Refusal::WrongCluster));
        assert_eq!(verdict(|h| h.name = "a"), Err(Refusal::Duplicate));
        assert_eq!(verdict(|h| h.incarnation = 1), Err(Refusal::Itself));
        assert_eq!(verdict(|h| h.incarnation = 0), Err(Refusal::Incompatible));
        assert_eq!(verdict(|h| h.magic = *b"GET / HT"), Err(Refusal::Incompatible));
        assert_eq!(verdict(|h| h.generation = u64::MAX), Err(Refusal::Incompatible));
        assert_eq!(verdict(|h| h.max_frame = 1 << 20), Err(Refusal::Incompatible));
        let newest = VERSIONS.newest;
        for (oldest, refused) in [(newest + 1, true), (newest, false), (0, false)] {
            let verdict = verdict(|h| h.versions = Versions { oldest, newest: newest + 1 });
            assert_eq!(verdict == Err(Refusal::Incompatible), refused);
        }
    }

    #[test]
    fn clocks_too_far_apart_are_refused_in_both_directions() {
        for (millis, accepted) in [(0, true), (499, true), (501, false), (-590, true), (-610, false)] {
            assert_eq!(verdict(|h| (h.wall, h.hlc) = (shifted(millis), shifted(millis))).is_ok(), accepted);
        }
        for millis in [400_000, -400_000] {
            assert_eq!(verdict(|h| h.wall = shifted(millis)), Err(Refusal::Skewed));
        }
    }

    #[test]
    fn a_message_that_waited_is_never_taken_for_a_wrong_clock() {
        let minute = Duration::from_secs(60);
        let accepts =
            |millis, exchange| judge_clock(&identity("a"), "b", Time(shifted(millis)), exchange).is_ok();
        // At any moment of the exchange at which the peer may have answered.
        for millis in (-60_000..=0).step_by(500) {
            assert!(accepts(millis, answered_after(minute)), "{millis}");
        }
        assert!(!accepts(501, answered_after(minute)), "an answer from after it was read");
        assert!(!accepts(-60_501, answered_after(minute)), "an answer from before it was asked");
        // The machine was suspended meanwhile, which the monotonic clock does not count.
        let suspended = Exchange { took: Duration::from_millis(1), ..answered_after(minute) };
        assert!(accepts(-59_000, suspended));
        // The machine's clock was set back meanwhile.
        let set_back = Exchange { asked: Time(shifted(3_600_000)), answered: WALL, took: Duration::ZERO };
        assert!(accepts(0, set_back) && !accepts(501, set_back) && !accepts(-501, set_back));
    }

    #[test]
    fn the_clock_of_a_node_that_speaks_first_is_not_judged_by_its_hello() {
        let other = identity("b");
        let place = Place { incarnation: timestamp::incarnation(2).unwrap(), generation: 1 };
        let written = Time(shifted(-3_600_000));
        let hello = other.hello(place, written, written);
        let remote = "10.0.0.7:999".parse().unwrap();
        assert!(
            judge(&identity("a"), timestamp::incarnation(1).unwrap(), &hello, WALL, None, remote).is_ok()
        );
    }

    #[test]
    fn timestamps_far_ahead_of_their_own_clock_are_refused() {
        assert!(verdict(|h| h.hlc = shifted(4_900)).is_ok());
        assert_eq!(verdict(|h| h.hlc = shifted(5_100)), Err(Refusal::Skewed));
        assert_eq!(verdict(|h| h.hlc = u64::MAX), Err(Refusal::Skewed));
    }
}
