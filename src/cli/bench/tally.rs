//! Latencies, errors and wrong values. Tallies of threads add up.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use sapwood::client::ClientError;
use sapwood::client::resp::Frame;

use super::mix::Kind;
use super::value::Wrong;

/// The largest latency that is told apart, in nanoseconds: longer ones count as this one.
const MAX_LATENCY: u64 = 3_600_000_000_000;
/// Significant decimal digits of a latency.
const DIGITS: u8 = 3;
/// Most wrong values that are kept to be shown.
const MAX_EXAMPLES: usize = 5;
/// Most kinds of errors. Their names come from the server, so their number must have a limit.
const MAX_ERRORS: usize = 50;

/// A histogram of durations, in nanoseconds.
///
/// Gil Tene's HdrHistogram: a fixed size, and the same relative error at every quantile.
#[derive(Debug, Clone)]
pub(super) struct Durations(Histogram<u64>);

impl Default for Durations {
    fn default() -> Self {
        Durations(Histogram::new_with_bounds(1, MAX_LATENCY, DIGITS).expect("the bounds are in order"))
    }
}

impl Durations {
    pub(super) fn record(&mut self, duration: Duration) {
        self.0.saturating_record(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(super) fn add(&mut self, other: &Durations) {
        self.0.add(&other.0).expect("all histograms have the same bounds");
    }

    pub(super) fn len(&self) -> u64 {
        self.0.len()
    }

    pub(super) fn mean(&self) -> Duration {
        Duration::from_secs_f64(self.0.mean() / 1e9)
    }

    pub(super) fn max(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }

    /// The duration that a fraction `quantile` does not exceed.
    pub(super) fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(quantile))
    }
}

/// The requests of one kind.
#[derive(Debug, Clone, Default)]
pub(super) struct KindTally {
    /// From when a request was sent, or due in the open loop, until its reply. Requests that failed are not among them.
    pub(super) latency: Durations,
    /// Of `get`: how many found a value. Of `del`: how many deleted one.
    pub(super) found: u64,
}

/// The requests that failed in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ErrorTally {
    pub(super) count: u64,
    /// The message of the first.
    pub(super) first: String,
}

/// A wrong value that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WrongValue {
    pub(super) wrong: Wrong,
    pub(super) key: Vec<u8>,
    /// The beginning of the value; empty if it is missing.
    pub(super) value: Vec<u8>,
}

/// How well the open loop kept to its schedule.
#[derive(Debug, Clone, Default)]
pub(super) struct Sending {
    /// From when a request was due until it was sent.
    pub(super) delay: Durations,
    /// How many of them were due while all pipelines were full.
    pub(super) while_full: u64,
}

/// All that one thread has counted.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    /// In the order of [`Kind::ALL`].
    kinds: [KindTally; Kind::ALL.len()],
    /// By name.
    pub(super) errors: BTreeMap<String, ErrorTally>,
    /// The number of reads that were checked.
    pub(super) verified: u64,
    /// In the order of [`Wrong::ALL`].
    wrong: [u64; Wrong::ALL.len()],
    pub(super) examples: Vec<WrongValue>,
    /// Empty in the closed loop.
    pub(super) sending: Sending,
    /// When the last of the requests was completed.
    pub(super) last: Option<Instant>,
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            kinds: std::array::from_fn(|_| KindTally::default()),
            errors: BTreeMap::new(),
            verified: 0,
            wrong: [0; Wrong::ALL.len()],
            examples: Vec::new(),
            sending: Sending::default(),
            last: None,
        }
    }
}

impl Tally {
    pub(super) fn of(&self, kind: Kind) -> &KindTally {
        &self.kinds[kind as usize]
    }

    pub(super) fn wrong(&self, wrong: Wrong) -> u64 {
        self.wrong[wrong as usize]
    }

    /// The number of wrong values.
    pub(super) fn all_wrong(&self) -> u64 {
        self.wrong.iter().sum()
    }

    /// The number of requests that succeeded.
    pub(super) fn succeeded(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.latency.len()).sum()
    }

    /// The number of requests that failed.
    pub(super) fn failed(&self) -> u64 {
        self.errors.values().map(|error| error.count).sum()
    }

    /// The latencies of all kinds together.
    pub(super) fn all_latencies(&self) -> Durations {
        let mut all = Durations::default();
        self.kinds.iter().for_each(|kind| all.add(&kind.latency));
        all
    }

    /// Records a reply that arrived at `now`, `latency` after its request was sent or due.
    pub(super) fn reply(&mut self, kind: Kind, found: bool, latency: Duration, now: Instant) {
        let tally = &mut self.kinds[kind as usize];
        tally.latency.record(latency);
        tally.found += u64::from(found);
        self.last = self.last.max(Some(now));
    }

    /// Records a request that failed at `now`.
    pub(super) fn failure(&mut self, failure: &Failure, now: Instant) {
        let name = match self.errors.len() < MAX_ERRORS || self.errors.contains_key(&failure.name) {
            true => &failure.name,
            false => "other",
        };
        match self.errors.get_mut(name) {
            Some(error) => error.count += 1,
            None => {
                let error = ErrorTally { count: 1, first: failure.message.clone() };
                self.errors.insert(name.to_owned(), error);
            }
        }
        self.last = self.last.max(Some(now));
    }

    /// Records a wrong value.
    pub(super) fn wrong_value(&mut self, value: WrongValue) {
        self.wrong[value.wrong as usize] += 1;
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(value);
        }
    }

    /// Records a request of the open loop that was sent `delay` after it was due; `was_free` if a worker was free then.
    pub(super) fn sent(&mut self, delay: Duration, was_free: bool) {
        self.sending.delay.record(delay);
        self.sending.while_full += u64::from(!was_free);
    }

    /// Adds what another thread has counted.
    pub(super) fn add(&mut self, other: &Tally) {
        for (mine, others) in self.kinds.iter_mut().zip(&other.kinds) {
            mine.latency.add(&others.latency);
            mine.found += others.found;
        }
        for (name, error) in &other.errors {
            let mine = self.errors.entry(name.clone());
            mine.and_modify(|mine| mine.count += error.count).or_insert_with(|| error.clone());
        }
        self.verified += other.verified;
        self.wrong.iter_mut().zip(other.wrong).for_each(|(mine, others)| *mine += others);
        let room = MAX_EXAMPLES - self.examples.len();
        self.examples.extend(other.examples.iter().take(room).cloned());
        self.sending.delay.add(&other.sending.delay);
        self.sending.while_full += other.sending.while_full;
        self.last = self.last.max(other.last);
    }
}

/// Why a request has no proper reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// The code of an error reply, such as `OOM`, or a word in lower case.
    pub(super) name: String,
    pub(super) message: String,
}

/// The reply to a request: the value of a `get` that found one, else whether a key was found.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    Value(bytes::Bytes),
    Found(bool),
}

impl Answer {
    /// Reads the reply to a request of this kind.
    pub(super) fn read(kind: Kind, reply: Result<Frame, ClientError>) -> Result<Answer, Failure> {
        match (kind, reply) {
            (Kind::Get, Ok(Frame::Bulk(value))) => Ok(Answer::Value(value)),
            (Kind::Get, Ok(Frame::Null)) => Ok(Answer::Found(false)),
            (Kind::Set, Ok(Frame::Simple(_))) | (Kind::Incr, Ok(Frame::Int(_))) => Ok(Answer::Found(true)),
            (Kind::Del, Ok(Frame::Int(deleted))) => Ok(Answer::Found(deleted > 0)),
            (_, Ok(reply)) => {
                let reply: String = format!("{reply:?}").chars().take(100).collect();
                let message = format!("unexpected reply to {}: {reply}", kind.name().to_uppercase());
                Err(Failure { name: "unexpected_reply".to_owned(), message })
            }
            (_, Err(error)) => Err(Failure { name: name_of(&error), message: error.to_string() }),
        }
    }
}

fn name_of(error: &ClientError) -> String {
    let name = match error {
        ClientError::Server { code, .. } => code,
        ClientError::Timeout { .. } => "timeout",
        ClientError::NotSent { .. } => "not_sent",
        ClientError::Closed | ClientError::Io(_) => "connection_lost",
        ClientError::Protocol(_) => "protocol",
        _ => "other",
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    fn near(duration: Duration, expected: u64) {
        let off = duration.as_nanos().abs_diff(u128::from(expected) * 1_000);
        assert!(off <= u128::from(expected), "{duration:?}, not {expected} us");
    }

    #[test]
    fn quantiles_are_within_a_thousandth() {
        let mut durations = Durations::default();
        (1..=10_000).for_each(|us| durations.record(micros(us)));
        near(durations.quantile(0.5), 5_000);
        near(durations.quantile(0.99), 9_900);
        near(durations.quantile(0.999), 9_990);
        near(durations.max(), 10_000);
        near(durations.mean(), 5_000);
        durations.record(Duration::from_secs(100_000));
        near(durations.max(), 3_600_000_000);
    }

    #[test]
    fn the_tally_of_two_threads_is_that_of_all_requests() {
        let now = Instant::now();
        let failure = |name: &str, message: &str| Failure { name: name.into(), message: message.into() };
        let wrong = |key: u8| WrongValue { wrong: Wrong::Damaged, key: vec![key], value: vec![] };
        let (mut one, mut other, mut all) = (Tally::default(), Tally::default(), Tally::default());
        for us in 1..=1_000 {
            let part = if us % 3 == 0 { &mut one } else { &mut other };
            for tally in [part, &mut all] {
                tally.reply(Kind::Get, us % 2 == 0, micros(us), now + micros(us));
                tally.sent(micros(us / 10), us % 5 > 0);
            }
        }
        one.failure(&failure("OOM", "first"), now);
        other.failure(&failure("OOM", "second"), now + micros(5_000));
        other.failure(&failure("timeout", "third"), now);
        (0..4).for_each(|key| one.wrong_value(wrong(key)));
        (4..8).for_each(|key| other.wrong_value(wrong(key)));
        one.add(&other);
        assert_eq!((one.succeeded(), one.failed(), one.of(Kind::Get).found), (1_000, 3, 500));
        assert_eq!((one.all_wrong(), one.wrong(Wrong::Damaged), one.examples.len()), (8, 8, MAX_EXAMPLES));
        assert_eq!(one.errors["OOM"], ErrorTally { count: 2, first: "first".into() });
        assert_eq!((one.sending.while_full, one.last), (200, Some(now + micros(5_000))));
        for quantile in [0.5, 0.9, 0.99, 1.0] {
            assert_eq!(one.all_latencies().quantile(quantile), all.of(Kind::Get).latency.quantile(quantile));
            assert_eq!(one.sending.delay.quantile(quantile), all.sending.delay.quantile(quantile));
        }
    }

    #[test]
    fn the_kinds_of_errors_have_a_limit() {
        let mut tally = Tally::default();
        for code in 0..1_000 {
            tally.failure(&Failure { name: code.to_string(), message: String::new() }, Instant::now());
        }
        assert_eq!((tally.failed(), tally.errors.len()), (1_000, MAX_ERRORS + 1));
    }

    #[test]
    fn each_command_has_its_replies() {
        let read = |kind, reply| Answer::read(kind, Ok(reply));
        assert_eq!(read(Kind::Get, Frame::Bulk("v".into())), Ok(Answer::Value("v".into())));
        assert_eq!(read(Kind::Get, Frame::Null), Ok(Answer::Found(false)));
        assert_eq!(read(Kind::Set, Frame::Simple("OK".into())), Ok(Answer::Found(true)));
        assert_eq!(read(Kind::Incr, Frame::Int(3)), Ok(Answer::Found(true)));
        assert_eq!(read(Kind::Del, Frame::Int(0)), Ok(Answer::Found(false)));
        let odd = read(Kind::Set, Frame::Int(1)).unwrap_err();
        assert_eq!(
            (odd.name.as_str(), odd.message.as_str()),
            ("unexpected_reply", "unexpected reply to SET: Int(1)")
        );
        let full = ClientError::Server { code: "OOM".into(), message: "no room".into() };
        let full = Answer::read(Kind::Set, Err(full)).unwrap_err();
        assert_eq!((full.name.as_str(), full.message.as_str()), ("OOM", "OOM no room"));
        assert_eq!(Answer::read(Kind::Get, Err(ClientError::Closed)).unwrap_err().name, "connection_lost");
    }
}
