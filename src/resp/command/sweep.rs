//! Commands that visit every range, in steps.

use std::mem;

use super::context::{Context, Long, Outcome, Progress, begin};
use super::error::CommandError;
use crate::model::Database;
use crate::resp::glob::MAX_PATTERN;
use crate::resp::{Args, Reply, glob};
use crate::store::{Cell, Write};
use crate::time_slice::TimeSlice;

/// Most bytes of encoded keys in one reply: what `KEYS` may gather before it replies.
const MAX_KEYS: usize = 64 << 20;

/// Most live cells of other databases that one `SCAN` visits, which takes some milliseconds. It then returns the keys
/// found so far, like one that has found enough.
const MAX_OTHERS: usize = 50_000;

/// Visits ranges until the time slice is over; returns whether none is left.
fn each_range(
    next: &mut usize,
    ranges: usize,
    mut each: impl FnMut(usize) -> Result<(), CommandError>,
) -> Result<bool, CommandError> {
    let time = TimeSlice::begin();
    while *next < ranges {
        if time.is_over() {
            return Ok(false);
        }
        each(*next)?;
        *next += 1;
    }
    Ok(true)
}

/// Live cells that were visited.
#[derive(Default)]
struct Visited {
    /// Those of keys of the selected database.
    keys: usize,
    /// All others.
    others: usize,
}

/// The matching keys, gathered as an encoded list.
struct Matches {
    /// The pattern; `None` matches all.
    pattern: Option<Box<[u8]>>,
    encoded: Vec<u8>,
    count: usize,
}

impl Matches {
    fn new(pattern: Option<&[u8]>) -> Result<Self, CommandError> {
        if pattern.is_some_and(|pattern| pattern.len() > MAX_PATTERN) {
            return Err(CommandError::PatternTooLong(MAX_PATTERN));
        }
        let pattern = pattern.filter(|pattern| *pattern != b"*").map(Box::from);
        Ok(Self { pattern, encoded: Vec::new(), count: 0 })
    }

    /// Gathers the matching live keys of a range and the selected database; returns how many live cells it visited.
    fn gather(&mut self, cx: &Context<'_>, range: usize) -> Visited {
        let mut seen = Visited::default();
        if cx.shared.store.live_cells(range) == 0 {
            return seen;
        }
        let now = cx.now();
        let Matches { pattern, encoded, count } = self;
        let mut reply = Reply::new(encoded, cx.proto());
        let database = cx.keyspace.database;
        cx.shared.store.walk(range, |cell| {
            if !cell.is_live(now) {
                return;
            }
            let Some(key) = database.key(cell.key()) else {
                seen.others += 1;
                return;
            };
            seen.keys += 1;
            if pattern.as_ref().is_none_or(|pattern| glob::matches(pattern, key)) {
                reply.bulk(key);
                *count += 1;
            }
        });
        seen
    }

    fn reply(&self, cx: &mut Context<'_>) {
        let mut reply = cx.reply();
        reply.array(self.count);
        reply.raw(&self.encoded);
    }
}

/// `KEYS`.
struct Keys {
    matches: Matches,
    range: usize,
}

pub(super) fn keys(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    begin(cx, Keys { matches: Matches::new(args.get(1))?, range: 0 })
}

impl Long for Keys {
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Progress, CommandError> {
        let Keys { matches, range } = self;
        let is_done = each_range(range, cx.shared.store.range_count(), |range| {
            matches.gather(cx, range);
            if matches.encoded.len() > MAX_KEYS {
                let text = format!("ERR KEYS would reply with more than {MAX_KEYS} bytes: use SCAN");
                return Err(CommandError::said(text));
            }
            Ok(())
        })?;
        if !is_done {
            return Ok(Progress::More);
        }
        matches.reply(cx);
        Ok(Progress::Done)
    }
}

/// `SCAN`. The cursor is the next range, so a key that stays is returned once, whatever else is written.
struct Scan {
    matches: Matches,
    range: usize,
    /// Keys of the database still to visit.
    left: usize,
    /// Live cells of other databases still to visit.
    others_left: usize,
}

/// The arguments of `SCAN`.
pub(super) struct ScanRequest<'a> {
    pub(super) cursor: usize,
    pub(super) pattern: Option<&'a [u8]>,
    pub(super) count: usize,
    /// Whether the requested type is one that keys here can have.
    pub(super) strings: bool,
}

pub(super) fn scan(cx: &mut Context<'_>, request: &ScanRequest<'_>) -> Outcome {
    let matches = Matches::new(request.pattern)?;
    let is_empty = cx.keyspace.database != Database::ZERO && keys_of_database(cx) == 0;
    let range = if request.strings && !is_empty { request.cursor } else { usize::MAX };
    begin(cx, Scan { matches, range, left: request.count, others_left: MAX_OTHERS })
}

impl Long for Scan {
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Progress, CommandError> {
        let ranges = cx.shared.store.range_count();
        let time = TimeSlice::begin();
        while self.range < ranges
            && self.left > 0
            && self.others_left > 0
            && self.matches.encoded.len() < MAX_KEYS
        {
            if time.is_over() {
                return Ok(Progress::More);
            }
            let visited = self.matches.gather(cx, self.range);
            self.left = self.left.saturating_sub(visited.keys);
            self.others_left = self.others_left.saturating_sub(visited.others);
            self.range += 1;
        }
        let next = if self.range < ranges { self.range } else { 0 };
        let mut reply = cx.reply();
        reply.array(2);
        reply.bulk(next.to_string().as_bytes());
        self.matches.reply(cx);
        Ok(Progress::Done)
    }
}

/// `FLUSHALL` and `FLUSHDB`: writes a tombstone for every live key, or for those of one database.
struct Flush {
    database: Option<Database>,
    range: usize,
    cells: Vec<Cell>,
}

/// Clients that track what they have read get one invalidation for all of it, before any key is deleted: what they read
/// from then on is recorded anew.
pub(super) fn flush(cx: &mut Context<'_>, database: Option<Database>) -> Outcome {
    cx.shared.tracking.all_changed();
    begin(cx, Flush { database, range: 0, cells: Vec::new() })
}

impl Long for Flush {
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Progress, CommandError> {
        let (store, now) = (&cx.shared.store, cx.now());
        let Flush { database, range, cells } = self;
        let is_meant = |cell: &Cell| {
            cell.is_live(now) && database.is_none_or(|database| database.key(cell.key()).is_some())
        };
        let is_done = each_range(range, store.range_count(), |range| {
            if store.live_cells(range) > 0 {
                store.walk(range, |cell| cells.extend(is_meant(cell).then(|| cell.clone())));
            }
            for cell in mem::take(cells) {
                store.write(cx.batch, cell.key(), |_| (Write::Delete, ()))?;
            }
            Ok(())
        })?;
        if !is_done {
            return Ok(Progress::More);
        }
        cx.reply().ok();
        Ok(Progress::Done)
    }
}

/// Removes expired keys from the sums of all ranges, then replies from the sums.
struct SweepThenReply {
    range: usize,
    reply: fn(&mut Context<'_>),
}

/// Replies with `reply` once expired keys no longer count in the sums.
pub(super) fn sweep_then_reply(cx: &mut Context<'_>, reply: fn(&mut Context<'_>)) -> Outcome {
    begin(cx, SweepThenReply { range: 0, reply })
}

impl Long for SweepThenReply {
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Progress, CommandError> {
        let store = &cx.shared.store;
        let is_done = each_range(&mut self.range, store.range_count(), |range| {
            store.sweep(range, cx.now());
            Ok(())
        })?;
        if !is_done {
            return Ok(Progress::More);
        }
        (self.reply)(cx);
        Ok(Progress::Done)
    }
}

/// `DBSIZE`: counts keys without the expired ones, and does not sweep them.
#[derive(Default)]
struct Count {
    range: usize,
    expired: u64,
}

pub(super) fn count(cx: &mut Context<'_>) -> Outcome {
    begin(cx, Count::default())
}

impl Long for Count {
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Progress, CommandError> {
        let store = &cx.shared.store;
        let Count { range, expired } = self;
        let is_done = each_range(range, store.range_count(), |range| {
            *expired += store.expired_keys(range, cx.keyspace.database, cx.now());
            Ok(())
        })?;
        if !is_done {
            return Ok(Progress::More);
        }
        let keys = keys_of_database(cx).saturating_sub(self.expired);
        cx.reply().int(i64::try_from(keys).unwrap_or(i64::MAX));
        Ok(Progress::Done)
    }
}

/// The number of keys of the selected database; expired ones that were not swept count.
fn keys_of_database(cx: &Context<'_>) -> u64 {
    cx.shared.store.key_counts(cx.keyspace.database).keys
}

/// `RANDOMKEY`: a key of a random range, or of the first later range that has one.
struct RandomKey {
    random: usize,
    /// How many ranges were visited. None of them had an unexpired key.
    seen: usize,
}

pub(super) fn random_key(cx: &mut Context<'_>) -> Outcome {
    let random = usize::try_from(cx.shared.env.random() >> 32).unwrap_or_default();
    let is_empty = cx.keyspace.database != Database::ZERO && keys_of_database(cx) == 0;
    let seen = if is_empty { cx.shared.store.range_count() } else { 0 };
    begin(cx, RandomKey { random, seen })
}

impl Long for RandomKey {
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Progress, CommandError> {
        let (store, random, database) = (&cx.shared.store, self.random, cx.keyspace.database);
        let (ranges, time) = (store.range_count(), TimeSlice::begin());
        while self.seen < ranges {
            if time.is_over() {
                return Ok(Progress::More);
            }
            let range = (random + self.seen) % ranges;
            self.seen += 1;
            if store.live_cells(range) == 0 {
                continue;
            }
            let mut cells = Vec::new();
            store.walk(range, |cell| {
                if cell.is_live(cx.batch.now()) && database.key(cell.key()).is_some() {
                    cells.push(cell.clone());
                }
            });
            let chosen = (random / ranges).checked_rem(cells.len()).map(|at| &cells[at]);
            if let Some(key) = chosen.and_then(|cell| database.key(cell.key())) {
                cx.reply().bulk(key);
                return Ok(Progress::Done);
            }
        }
        cx.reply().null();
        Ok(Progress::Done)
    }
}
