//! A worker sends one request at a time: draws, sends, awaits the reply, records.
//!
//! As many workers share a connection as its pipeline is long. A worker sends its next request when its reply
//! arrives, or when the next one is due, so a closed loop keeps its pipelines full. The client writes together what
//! its workers send together. Requests are sent by [`Client::call`],
//! which never sends one again: a lost connection shows as errors, not as a delay.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use sapwood::client::Client;

use super::generator::{Job, SharedTally, Times};
use super::keys::{Holds, KeySampler, write_name};
use super::mix::{Kind, Mix};
use super::pace::{Due, Pace};
use super::tally::{Answer, Failure, WrongValue};
use super::value::{Values, Wrong};

/// Bytes of a wrong value that are kept to be shown.
const SHOWN: usize = 80;

/// Sends one request at a time.
pub(super) struct Worker {
    job: Arc<Job>,
    client: Client,
    tally: SharedTally,
    times: Times,
    random: StdRng,
    mix: Mix,
    sampler: KeySampler,
    values: Values,
    /// The name of the key of the request that is under way.
    name: Vec<u8>,
}

impl Worker {
    /// Worker number `number` of all.
    pub(super) fn new(
        job: Arc<Job>,
        number: u64,
        client: Client,
        tally: SharedTally,
        times: Times,
    ) -> Worker {
        let args = &job.args;
        Worker {
            client,
            tally,
            times,
            // Workers with neighbouring seeds draw independently, because the seed is hashed.
            random: StdRng::seed_from_u64(args.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(number)),
            mix: args.mix(),
            sampler: KeySampler::new(args.distribution, args.keys),
            values: job.values.clone(),
            name: Vec::new(),
            job,
        }
    }

    /// Sends requests until the end of the run, or until `stopped` is set. With a `pace` it keeps to that.
    pub(super) async fn run(mut self, pace: Option<Arc<Pace>>, stopped: Arc<AtomicBool>) -> io::Result<()> {
        let mut free_since = Instant::now();
        loop {
            let due = match &pace {
                Some(pace) => pace.next(free_since).await?,
                None => Some(Due { at: free_since, was_free: true }).filter(|due| {
                    !stopped.load(Ordering::Relaxed) && self.times.end.is_none_or(|end| due.at < end)
                }),
            };
            let Some(due) = due else { return Ok(()) };
            let is_measured = due.at >= self.times.counts_from;
            if is_measured && !self.may_measure() {
                return Ok(());
            }
            let sent = if pace.is_some() { Instant::now() } else { due.at };
            let (kind, key, answer) = self.send().await;
            free_since = Instant::now();

            let checked = self.check(kind, key, &answer);
            let mut tally = self.tally.lock();
            if let Some(checked) = checked {
                tally.verified += 1;
                if let Err(wrong) = checked {
                    tally.wrong_value(self.wrong_value(wrong, &answer));
                }
            }
            if !is_measured {
                continue;
            }
            if pace.is_some() {
                tally.sent(sent.saturating_duration_since(due.at), due.was_free);
            }
            match answer {
                Ok(answer) => {
                    let latency = free_since.saturating_duration_since(due.at);
                    tally.reply(kind, answer != Answer::Found(false), latency, free_since);
                }
                Err(failure) => tally.failure(&failure, free_since),
            }
        }
    }

    /// Takes one of the requests that are left to measure, if their number is limited.
    fn may_measure(&self) -> bool {
        let take = |left: &AtomicU64| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
        };
        self.job.left.as_ref().is_none_or(take)
    }

    /// Draws a request, sends it and returns its kind, the number of its key and its reply.
    async fn send(&mut self) -> (Kind, u64, Result<Answer, Failure>) {
        let kind = self.mix.draw(&mut self.random);
        let key = self.sampler.draw(&mut self.random);
        let holds = if kind == Kind::Incr { Holds::Counter } else { Holds::Value };
        write_name(&mut self.name, &self.job.args.prefix, holds, key);
        let name = &self.name[..];
        let reply = match kind {
            Kind::Set => {
                let value = self.values.make(key, &mut self.random);
                self.client.call(&[b"SET", name, value]).await
            }
            Kind::Get => self.client.call(&[b"GET", name]).await,
            Kind::Incr => self.client.call(&[b"INCR", name]).await,
            Kind::Del => self.client.call(&[b"DEL", name]).await,
        };
        (kind, key, Answer::read(kind, reply))
    }

    /// Checks the reply to a `get`; `None` if nothing is checked.
    fn check(&self, kind: Kind, key: u64, answer: &Result<Answer, Failure>) -> Option<Result<(), Wrong>> {
        if !self.job.args.verify || kind != Kind::Get {
            return None;
        }
        match answer {
            Ok(Answer::Value(value)) => Some(self.values.check(value, key)),
            Ok(Answer::Found(_)) if self.job.args.must_find() => Some(Err(Wrong::Missing)),
            Ok(Answer::Found(_)) => Some(Ok(())),
            Err(_) => None,
        }
    }

    fn wrong_value(&self, wrong: Wrong, answer: &Result<Answer, Failure>) -> WrongValue {
        let value = if let Ok(Answer::Value(value)) = answer { &value[..] } else { &[] };
        WrongValue { wrong, key: self.name.clone(), value: value[..value.len().min(SHOWN)].to_vec() }
    }
}
