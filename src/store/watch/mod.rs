//! Watching: a snapshot of some prefixes, then every change, as one state machine for all who show it.
//!
//! ```text
//!        ┌──────────────────── fell off, discarded ────────────────────┐
//!        ▼                                                             │
//!   Walk: Reset, Entry… ──► CatchUp: Change… ──► Live ──► Follow: Change, Skipped …
//!    a few ranges a page     what changed          ▲
//!                            during the walk       └── a cursor whose changes are all there
//! ```
//!
//! Invariants:
//! * Per key timestamps never fall between two resets, and the last event tells what the store holds. The walk may have seen
//!   a key at a later state than the change that catching up meets next; so a change that a later one of its key follows
//!   is left out there.
//! * A watcher holds a place, not what it has not told yet: it pulls a page when the last one was taken. So the memory of
//!   any number of slow watchers is what the changes keep, and a page each.
//! * Watchers slow writers down by their [`pace`] at most.

mod event;
mod pace;
mod page;

pub use event::{BadCursor, Cursor, Item, ResetReason, WatchEvent};
pub use page::Page;

use std::sync::{Arc, Weak};
use std::time::Duration;

use self::event::ResetReason::{Discarded, Lagged, OtherNode, Start};
use self::pace::{Pace, Work};
use self::page::{CachedPages, PAGE, PageCache, Step};
use super::Store;
use super::cell::Cell;
use super::changes::{Change, Follower, MAX_RECENT, Prefixes, Read, TooDeep};
use crate::model::Time;

/// Cells that one step of a walk looks at, and ranges it passes over: under a millisecond either way. Small in tests, so
/// that much happens between two steps.
const STEP_CELLS: usize = 2048;
const STEP_RANGES: usize = if cfg!(test) { 2 } else { 4096 };

/// What all watchers of a store share.
pub(super) struct Watches {
    pace: Pace,
    page_cache: PageCache,
}

impl Watches {
    pub(super) fn new() -> Self {
        Watches { pace: Pace::new(), page_cache: PageCache::default() }
    }
}

/// One watcher. Ask for the [next](Self::next) page whenever it is [ready](Self::ready).
pub struct Watcher {
    store: Arc<Store>,
    follower: Follower,
    cached: Arc<CachedPages>,
    stage: Stage,
}

/// Where a watcher stands.
enum Stage {
    Walk {
        reason: ResetReason,
        /// The next range.
        range: usize,
        /// Every change up to here is in what was walked so far.
        since: Option<u64>,
        /// The pages of the present step, and how many were told.
        step: Option<(Arc<Step>, usize)>,
    },
    CatchUp {
        from: u64,
        /// The last change that happened before the walk had ended.
        to: u64,
    },
    Follow {
        from: u64,
        /// Whether `Live` was told.
        told: bool,
    },
}

impl Watcher {
    /// Watches the keys under `prefixes`: from a snapshot on, or from `cursor` on if all that came after it is known.
    ///
    /// # Errors
    /// As [`Store::follow`].
    pub fn new(store: Arc<Store>, prefixes: &Prefixes, cursor: Option<Cursor>) -> Result<Watcher, TooDeep> {
        let follower = store.follow(prefixes)?;
        let stage = match cursor {
            None => Stage::walk(Start),
            Some(cursor) if cursor.incarnation != store.own_incarnation() => Stage::walk(OtherNode),
            Some(Cursor { sequence, .. }) if follower.knows_all_since(sequence) => {
                Stage::Follow { from: sequence, told: false }
            }
            Some(_) => Stage::walk(Lagged),
        };
        let cached = store.watches.page_cache.cached(prefixes);
        Ok(Watcher { store, follower, cached, stage })
    }

    /// Waits until there may be a page, and it is this watcher's turn. Cancel-safe.
    pub async fn ready(&self) {
        if let Stage::Follow { from, told: true } = self.stage {
            self.follower.news(from).await;
        }
        self.store.watches.pace.turn(Work::of_runtime).await;
    }

    /// Accounts for what the watcher's turn has taken; the more, the later is the next one, for all watchers.
    pub fn pay(&self, time: Duration) {
        self.store.watches.pace.pay(time);
    }

    /// The next page, if there is one; `wall` is the machine's clock. One without events means that there is more to look
    /// at. Never waits, and works for about a millisecond at most.
    pub fn next(&mut self, wall: Time) -> Option<Arc<Page>> {
        loop {
            match &mut self.stage {
                Stage::Walk { step: Some((step, told)), .. } if *told < step.pages.len() => {
                    *told += 1;
                    return Some(Arc::clone(&step.pages[*told - 1]));
                }
                &mut Stage::Walk { reason, range, since, .. } => {
                    if range < self.store.range_count() {
                        self.walk(reason, range, since, wall);
                        // The caller is to let others run between two steps, with or without a page.
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
                &mut Stage::CatchUp { to, .. } => self.stage = Stage::Follow { from: to, told: false },
                &mut Stage::Follow { from, told: false } => {
                    self.stage = Stage::Follow { from, told: true };
                    return Some(Page::new(vec![WatchEvent::Live { cursor: self.cursor(from) }]));
                }
                &mut Stage::Follow { from, told: true } => match self.follow(from) {
                    Told::Page(page) => return Some(page),
                    Told::Nothing => return None,
                    Told::Lagged => {}
                },
            }
        }
    }

    /// Takes the next step of the walk, or one that another watcher has taken not long ago.
    fn walk(&mut self, reason: ResetReason, range: usize, since: Option<u64>, wall: Time) {
        let first = (range == 0).then_some(reason);
        let start = (range, first);
        let last = self.follower.last();
        let is_fresh = |step: &Arc<Step>| {
            self.follower.knows_all_since(step.since) && last.saturating_sub(step.since) < MAX_RECENT as u64
        };
        let found = self.cached.steps.lock().get(&start).and_then(Weak::upgrade).filter(is_fresh);
        let step = found.unwrap_or_else(|| {
            let step = Arc::new(self.look_at(range, last, first, self.store.now(wall)));
            self.store.watches.page_cache.put_step(&self.cached, start, &step);
            step
        });
        let since = since.map_or(step.since, |since| since.min(step.since));
        self.stage = Stage::Walk { reason, range: step.end, since: Some(since), step: Some((step, 0)) };
    }

    fn look_at(&self, start: usize, since: u64, first: Option<ResetReason>, now: Time) -> Step {
        let (mut cells, mut bytes, mut seen, mut range) = (Vec::new(), 0, 0, start);
        let end = self.store.range_count().min(start + STEP_RANGES);
        let prefixes = self.follower.prefixes();
        while range < end && seen < STEP_CELLS && bytes < PAGE.bytes {
            self.store.walk(range, |cell| {
                seen += 1;
                if cell.is_live(now) && prefixes.cover(cell.key()) {
                    bytes += cell.memory();
                    cells.push(cell.clone());
                }
            });
            range += 1;
        }
        Step::new(range, since, first, cells, |cell| WatchEvent::Entry(self.item(&cell)))
    }

    /// The next of the changes that happened during the walk; `None` where the stage has changed, or none was news.
    fn catch_up(&mut self, from: u64, to: u64) -> Option<Arc<Page>> {
        let Some((through, changes)) = self.follower.read_last(from, PAGE) else {
            self.fall_off(from);
            return None;
        };
        let (from, to) = if through == from { (to, to) } else { (through, to.max(through)) };
        self.stage = Stage::CatchUp { from, to };
        (!changes.is_empty()).then(|| Page::new(self.tell(changes)))
    }

    fn follow(&mut self, from: u64) -> Told {
        let found = self
            .cached
            .changes
            .lock()
            .get(&from)
            .and_then(|(through, page)| Some((*through, page.upgrade()?)));
        let (through, page) = match found {
            // What is kept of one who lagged is not shared: it would not be told.
            Some(found) if self.follower.knows_all_since(from) => found,
            _ => match self.follower.read(from, PAGE) {
                Read::Lagged => {
                    self.fall_off(from);
                    return Told::Lagged;
                }
                Read::Changes(changes) => {
                    let Some(last) = changes.last() else { return Told::Nothing };
                    let through = last.sequence;
                    let page = Page::new(self.tell(changes));
                    self.store.watches.page_cache.put_page(&self.cached, from, through, &page);
                    (through, page)
                }
            },
        };
        self.stage = Stage::Follow { from: through, told: true };
        Told::Page(page)
    }

    /// The changes after `from` are gone.
    fn fall_off(&mut self, from: u64) {
        let discarded = self.follower.was_discarded_since(from);
        self.stage = Stage::walk(if discarded { Discarded } else { Lagged });
    }

    fn tell(&self, changes: Vec<Change>) -> Vec<WatchEvent> {
        let skipped: u64 = changes.iter().map(|change| change.skipped).sum();
        let skipped = (skipped > 0).then_some(WatchEvent::Skipped(skipped));
        let changes = changes.into_iter().map(|Change { sequence, cell, cause, .. }| WatchEvent::Change {
            cause,
            item: self.item(&cell),
            cursor: self.cursor(sequence),
        });
        skipped.into_iter().chain(changes).collect()
    }

    fn item(&self, cell: &Cell) -> Item {
        Item { cell: cell.as_kept(), version: self.store.last_write(cell) }
    }

    fn cursor(&self, sequence: u64) -> Cursor {
        Cursor { incarnation: self.store.own_incarnation(), sequence }
    }
}

impl Stage {
    fn walk(reason: ResetReason) -> Stage {
        Stage::Walk { reason, range: 0, since: None, step: None }
    }
}

/// What became of looking for changes.
enum Told {
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
