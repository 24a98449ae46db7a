//! Watching: a state machine that sends a snapshot of some prefixes, then every change.
//!
//! ```text
//!        ┌───────────────────── lagged, discarded ─────────────────────┐
//!        ▼                                                             │
//!   Walk: Reset, Entry… ──► CatchUp: Change… ──► Live ──► Follow: Change, Skipped …
//!    a few ranges a page     what changed          ▲
//!                            during the walk       └── a cursor whose changes are all there
//! ```
//!
//! Invariants:
//! * Between two resets the timestamps of a key never fall, and its last event shows what the store holds. The walk
//!   may have read a key in a later state than the next change that catching up meets. So catching up omits a change
//!   that a later one of its key follows.
//! * A watcher holds a position, not the events that it has yet to send: it pulls a page when the last one was taken.
//!   So any number of slow watchers use the memory of the recorded changes, and of one page each.
//! * The locks of the page cache are taken alone.
//! * Watchers slow writers down by their `pace` at most.

mod event;
mod pace;
mod page;
mod prefixes;

pub use event::{BadCursor, Cursor, ResetReason, WatchEvent, WatchItem};
pub use page::Page;
pub use prefixes::DatabasePrefixes;

use std::sync::{Arc, Weak};
use std::time::Duration;

use self::event::ResetReason::{Discarded, Lagged, OtherNode, Start};
use self::pace::{Pace, Work};
use self::page::{CachedPages, PAGE, PageCache, Step};
use crate::model::{Database, Time};
use crate::store::{Cell, Change, Follower, MAX_RECENT, Read, Store, TooDeep};

/// Most cells that one step of a walk reads, and most ranges that it passes: either takes under 1 ms. The ranges are
/// few in tests, so that much happens between two steps.
const STEP_CELLS: usize = 2048;
const STEP_RANGES: usize = if cfg!(test) { 2 } else { 4096 };

/// A store and the state that all of its watchers share.
pub struct Watches {
    store: Arc<Store>,
    pace: Pace,
    page_cache: PageCache,
}

impl Watches {
    /// Watches of this store. All watchers of a node must share one, because their common `pace` limits what they
    /// take from its writers.
    pub fn new(store: Arc<Store>) -> Self {
        Watches { store, pace: Pace::new(), page_cache: PageCache::default() }
    }
}

impl std::fmt::Debug for Watches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watches").finish_non_exhaustive()
    }
}

/// One watcher. Call [`next`](Self::next) for a page whenever it is [ready](Self::ready).
pub struct Watcher {
    watches: Arc<Watches>,
    /// The database that it watches.
    database: Database,
    follower: Follower,
    cached: Arc<CachedPages>,
    stage: Stage,
}

/// The stage of a watcher.
enum Stage {
    Walk {
        reason: ResetReason,
        /// The next range.
        range: usize,
        /// The walk so far includes every change up to this sequence.
        since: Option<u64>,
        /// The current step, and how many of its pages were returned.
        step: Option<(Arc<Step>, usize)>,
    },
    CatchUp {
        from: u64,
        /// The last change before the walk ended.
        to: u64,
    },
    Follow {
        from: u64,
        /// Whether `Live` was sent.
        sent_live: bool,
    },
}

impl Watcher {
    /// Watches the keys of a database under `prefixes`: after `cursor` if every later change is recorded, else from a snapshot on.
    ///
    /// # Errors
    /// As [`Store::follow`].
    pub fn new(
        watches: Arc<Watches>,
        prefixes: &DatabasePrefixes,
        cursor: Option<Cursor>,
    ) -> Result<Watcher, TooDeep> {
        let store = &watches.store;
        let DatabasePrefixes { database, stored } = prefixes;
        let follower = store.follow(stored)?;
        let stage = match cursor {
            None => Stage::walk(Start),
            Some(cursor) if cursor.incarnation != store.own_incarnation() => Stage::walk(OtherNode),
            Some(Cursor { sequence, .. }) if follower.knows_all_since(sequence) => {
                Stage::Follow { from: sequence, sent_live: false }
            }
            Some(_) => Stage::walk(Lagged),
        };
        // Watchers with the same stored prefixes watch the same database.
        let cached = watches.page_cache.cached(stored);
        Ok(Watcher { watches, database: *database, follower, cached, stage })
    }

    /// Waits until there may be a page and it is this watcher's turn. Cancel-safe.
    pub async fn ready(&self) {
        if let Stage::Follow { from, sent_live: true } = self.stage {
            self.follower.news(from).await;
        }
        self.watches.pace.turn(Work::of_runtime).await;
    }

    /// Accounts for the time of this watcher's turn. The longer it took, the later is the next turn of all watchers.
    pub fn pay(&self, time: Duration) {
        self.watches.pace.pay(time);
    }

    /// Returns the next page, if there is one; `wall` is the machine's clock.
    ///
    /// A page without events means that there is more to read. Never waits, and works for about 1 ms at most.
    pub fn next(&mut self, wall: Time) -> Option<Arc<Page>> {
        loop {
            match &mut self.stage {
                Stage::Walk { step: Some((step, returned)), .. } if *returned < step.pages.len() => {
                    *returned += 1;
                    return Some(Arc::clone(&step.pages[*returned - 1]));
                }
                &mut Stage::Walk { reason, range, since, .. } => {
                    if range < self.watches.store.range_count() {
                        self.walk(reason, range, since, wall);
                        // The caller should let others run between two steps, with or without a page.
                        if matches!(&self.stage, Stage::Walk { step: Some((step, _)), .. } if step.pages.is_empty())
                        {
                            return Some(Page::new(Vec::new()));
                        }
                    } else {
                        let to = self.follower.last();
                        self.stage = Stage::CatchUp { from: since.unwrap_or(to).min(to), to };
                    }
                }
                &mut Stage::CatchUp { from, to } if from < to => {
                    if let Some(page) = self.catch_up(from, to) {
                        return Some(page);
                    }
                }
                &mut Stage::CatchUp { to, .. } => self.stage = Stage::Follow { from: to, sent_live: false },
                &mut Stage::Follow { from, sent_live: false } => {
                    self.stage = Stage::Follow { from, sent_live: true };
                    return Some(Page::new(vec![WatchEvent::Live { cursor: self.cursor(from) }]));
                }
                &mut Stage::Follow { from, sent_live: true } => match self.follow(from) {
                    Found::Page(page) => return Some(page),
                    Found::Nothing => return None,
                    Found::Lagged => {}
                },
            }
        }
    }

    /// Takes the next step of the walk, or reuses a recent one of another watcher.
    fn walk(&mut self, reason: ResetReason, range: usize, since: Option<u64>, wall: Time) {
        let first = (range == 0).then_some(reason);
        let start = (range, first);
        let last = self.follower.last();
        let is_fresh = |step: &Arc<Step>| {
            self.follower.knows_all_since(step.since) && last.saturating_sub(step.since) < MAX_RECENT as u64
        };
        let found = self.cached.steps.lock().get(&start).and_then(Weak::upgrade).filter(is_fresh);
        let step = found.unwrap_or_else(|| {
            let step = Arc::new(self.look_at(range, last, first, self.watches.store.now(wall)));
            self.watches.page_cache.put_step(&self.cached, start, &step);
            step
        });
        let since = since.map_or(step.since, |since| since.min(step.since));
        self.stage = Stage::Walk { reason, range: step.end, since: Some(since), step: Some((step, 0)) };
    }

    fn look_at(&self, start: usize, since: u64, first: Option<ResetReason>, now: Time) -> Step {
        let (mut cells, mut bytes, mut seen, mut range) = (Vec::new(), 0, 0, start);
        let end = self.watches.store.range_count().min(start + STEP_RANGES);
        let prefixes = self.follower.prefixes();
        while range < end && seen < STEP_CELLS && bytes < PAGE.bytes {
            self.watches.store.walk(range, |cell| {
                seen += 1;
                if cell.is_live(now) && prefixes.cover(cell.key()) && self.shows(cell) {
                    bytes += cell.memory();
                    cells.push(cell.clone());
                }
            });
            range += 1;
        }
        Step::new(range, since, first, cells, |cell| WatchEvent::Entry(self.item(&cell)))
    }

    /// Returns the next of the changes during the walk; `None` if the stage has changed, or all of them were outdated.
    fn catch_up(&mut self, from: u64, to: u64) -> Option<Arc<Page>> {
        let Some((through, changes)) = self.follower.read_last(from, PAGE) else {
            self.fall_off(from);
            return None;
        };
        let (from, to) = if through == from { (to, to) } else { (through, to.max(through)) };
        self.stage = Stage::CatchUp { from, to };
        (!changes.is_empty()).then(|| Page::new(self.events_of(changes)))
    }

    fn follow(&mut self, from: u64) -> Found {
        let found = self
            .cached
            .changes
            .lock()
            .get(&from)
            .and_then(|(through, page)| Some((*through, page.upgrade()?)));
        let (through, page) = match found {
            // A cached page is not used for a watcher that lags: it must be reset instead.
            Some(found) if self.follower.knows_all_since(from) => found,
            _ => match self.follower.read(from, PAGE) {
                Read::Lagged => {
                    self.fall_off(from);
                    return Found::Lagged;
                }
                Read::Changes(changes) => {
                    let Some(last) = changes.last() else { return Found::Nothing };
                    let through = last.sequence;
                    let page = Page::new(self.events_of(changes));
                    self.watches.page_cache.put_page(&self.cached, from, through, &page);
                    (through, page)
                }
            },
        };
        self.stage = Stage::Follow { from: through, sent_live: true };
        Found::Page(page)
    }

    /// Restarts with a snapshot, because the changes after `from` are gone.
    fn fall_off(&mut self, from: u64) {
        let discarded = self.follower.was_discarded_since(from);
        self.stage = Stage::walk(if discarded { Discarded } else { Lagged });
    }

    fn events_of(&self, changes: Vec<Change>) -> Vec<WatchEvent> {
        // Of a key that is not shown, none was left out.
        let shown = changes.iter().filter(|change| self.shows(&change.cell));
        let skipped: u64 = shown.map(|change| change.skipped).sum();
        let skipped = (skipped > 0).then_some(WatchEvent::Skipped(skipped));
        let changes = changes.into_iter().filter(|change| self.shows(&change.cell));
        let changes = changes.map(|Change { sequence, cell, cause, .. }| WatchEvent::Change {
            cause,
            item: self.item(&cell),
            cursor: self.cursor(sequence),
        });
        skipped.into_iter().chain(changes).collect()
    }

    /// Whether a cell under the prefixes is that of a key of the database: the empty prefix of database 0 covers the
    /// stored keys of all.
    fn shows(&self, cell: &Cell) -> bool {
        self.database.key(cell.key()).is_some()
    }

    fn item(&self, cell: &Cell) -> WatchItem {
        WatchItem { cell: cell.as_at_last_sweep(), timestamp: self.watches.store.last_write(cell) }
    }

    fn cursor(&self, sequence: u64) -> Cursor {
        Cursor { incarnation: self.watches.store.own_incarnation(), sequence }
    }
}

impl Stage {
    fn walk(reason: ResetReason) -> Stage {
        Stage::Walk { reason, range: 0, since: None, step: None }
    }
}

/// The result of looking for changes.
enum Found {
    Page(Arc<Page>),
    Nothing,
    Lagged,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").field("prefixes", self.follower.prefixes()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
