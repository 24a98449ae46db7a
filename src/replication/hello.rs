//! Judging a hello. Pure: what is known of this daemon, what the other side says, the time; out comes a peer or
//! a refusal with its reason.

use std::net::SocketAddr;
use std::time::Duration;

use uhlc::NTP64;

use super::codec::MAX_FRAME;
use super::message::{Hello, MAGIC, Refusal, VERSIONS, incarnation_number};
use crate::config::MAX_NAME;
use crate::model::{Incarnation, Time, stamp};

/// How far a hybrid clock may lead the clock of its own machine, in multiples of `--max-clock-skew`; also how far
/// in the future a received stamp may lie. Leads accumulate along a chain of daemons, each within the skew of the
/// next, so this is a chain of ten.
pub(super) const SKEW_MULTIPLE: u32 = 10;

/// The last generation that is believed: counting on from there comes to no end.
pub(super) const MAX_GENERATION: u64 = u64::MAX / 2;

/// What a daemon says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) cluster: String,
    pub(crate) name: String,
    /// Where peers can dial it; `:port` for the address they see it at; empty if nowhere.
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
            extension: &[],
        }
    }

    /// The latest time that a received stamp may have.
    pub(super) fn horizon(&self, wall: Time) -> Time {
        stamp::later(wall, self.max_clock_skew * SKEW_MULTIPLE)
    }
}

/// What a daemon says of its place in the cluster: it may change while it runs.
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
    /// Where it can be dialled; empty if nowhere.
    pub(super) advertise: String,
    pub(super) hlc: Time,
}

/// A hello that was turned down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    /// The reason, for people on both sides: names both sides' values.
    pub(super) text: String,
}

/// Judges a hello that arrived at `wall` from `remote`, at most `in_flight` after it was written.
pub(super) fn judge(
    own: &Identity,
    own_incarnation: Incarnation,
    hello: &Hello<'_>,
    wall: Time,
    in_flight: Duration,
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
    let Some(incarnation) = stamp::incarnation(hello.incarnation) else {
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
        return refuse(Refusal::Foreign, text);
    }
    if hello.name == own.name {
        let text = format!("two nodes are named {:?}: give one another --name", own.name);
        return refuse(Refusal::Duplicate, text);
    }
    if let Err(text) = check_clocks(own, hello, wall, in_flight) {
        return refuse(Refusal::Skewed, text);
    }
    if hello.max_frame < MAX_FRAME as u64 {
        let text =
            format!("{} takes messages of {} bytes only, not {MAX_FRAME}", hello.name, hello.max_frame);
        return refuse(Refusal::Incompatible, text);
    }
    let advertise = match hello.advertise.strip_prefix(':') {
        Some(port) if remote.is_ipv6() => format!("[{}]:{port}", remote.ip()),
        Some(port) => format!("{}:{port}", remote.ip()),
        None => hello.advertise.to_owned(),
    };
    let place = Place { incarnation, generation: hello.generation };
    Ok(Introduction { name: hello.name.to_owned(), incarnation, place, advertise, hlc: NTP64(hello.hlc) })
}

fn check_clocks(own: &Identity, hello: &Hello<'_>, wall: Time, in_flight: Duration) -> Result<(), String> {
    let limit = own.max_clock_skew;
    let theirs = NTP64(hello.wall);
    let apart = stamp::distance(theirs, wall);
    // A clock that lags may only look so, by the time its hello took.
    let allowance = if theirs < wall { in_flight } else { Duration::ZERO };
    if apart > limit + allowance {
        let order = if theirs > wall { "ahead of" } else { "behind" };
        return Err(format!(
            "the clock of {} is {apart:.1?} {order} that of {}, more than {limit:?} (--max-clock-skew): set both by NTP",
            hello.name, own.name
        ));
    }
    let lead = stamp::distance(NTP64(hello.hlc.max(hello.wall)), theirs);
    if lead > limit * SKEW_MULTIPLE || NTP64(hello.hlc) > own.horizon(wall) {
        return Err(format!(
            "{} has stamps {lead:.1?} ahead of its own clock, more than {SKEW_MULTIPLE} times --max-clock-skew: \
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

    const WALL: Time = NTP64(1_700_000_000 << 32);

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
        let incarnation = |id| stamp::incarnation(id).unwrap();
        let place = Place { incarnation: incarnation(2), generation: 1 };
        let mut hello = other.hello(place, WALL, WALL);
        change(&mut hello);
        let remote = "10.0.0.7:999".parse().unwrap();
        judge(&identity("a"), incarnation(1), &hello, WALL, Duration::from_millis(100), remote)
            .map_err(|r| r.refusal)
    }

    fn shifted(millis: i64) -> u64 {
        let by = stamp::time_since_epoch(Duration::from_millis(millis.unsigned_abs())).0;
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
        assert_eq!(verdict(|h| h.cluster = "elm"), Err(Refusal::Foreign));
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
    fn stamps_far_ahead_of_their_own_clock_are_refused() {
        assert!(verdict(|h| h.hlc = shifted(4_900)).is_ok());
        assert_eq!(verdict(|h| h.hlc = shifted(5_100)), Err(Refusal::Skewed));
        assert_eq!(verdict(|h| h.hlc = u64::MAX), Err(Refusal::Skewed));
    }
}
