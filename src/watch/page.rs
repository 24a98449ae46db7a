//! Pages of events, which watchers of the same prefixes at the same position share.
//!
//! Watchers that have received a change are at the same position when the next one comes. So a change is looked up and
//! rendered once, even for ten thousand watchers.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use tracing_mutex::parkinglot::Mutex;

use super::event::{ResetReason, WatchEvent};
use crate::store::{Cell, Prefixes, ReadLimit};

/// The limits of a page: changes, and bytes of their cells. One cell that is larger has a page of its own.
pub(super) const PAGE: ReadLimit = ReadLimit { changes: 512, bytes: 32 << 10 };
/// Most bytes of pages that are kept for later watchers. A page in use is kept by its watcher.
const MAX_KEPT: u64 = 8 << 20;
/// Estimated bytes of an event beside its cell, if it is rendered once.
const EVENT: u64 = 200;
/// The number of formats that a page may be rendered in.
const RENDERINGS: usize = 2;

/// Some consecutive events.
#[derive(Debug)]
pub struct Page {
    events: Vec<WatchEvent>,
    rendered: [OnceLock<Bytes>; RENDERINGS],
}

impl Page {
    pub(super) fn new(events: Vec<WatchEvent>) -> Arc<Page> {
        Arc::new(Page { events, rendered: [const { OnceLock::new() }; RENDERINGS] })
    }

    /// The events, in order.
    pub fn events(&self) -> &[WatchEvent] {
        &self.events
    }

    /// The events as bytes, rendered for the first caller and shared by all.
    ///
    /// # Panics
    /// If `rendering` is not below 2.
    pub fn rendered(&self, rendering: usize, render: impl FnOnce(&[WatchEvent]) -> Vec<u8>) -> Bytes {
        self.rendered[rendering].get_or_init(|| render(&self.events).into()).clone()
    }

    fn size(&self) -> u64 {
        let cells = self.events.iter().map(|event| match event {
            WatchEvent::Entry(item) | WatchEvent::Change { item, .. } => item.cell.memory(),
            _ => 0,
        });
        cells.sum::<u64>() + EVENT * self.events.len() as u64
    }
}

/// A step of a snapshot: the pages of some ranges.
#[derive(Debug)]
pub(super) struct Step {
    /// The first range after the step.
    pub(super) end: usize,
    /// The step includes every change up to this sequence.
    pub(super) since: u64,
    pub(super) pages: Vec<Arc<Page>>,
}

impl Step {
    /// Divides the events that `event_of` makes of `cells` into pages.
    pub(super) fn new(
        end: usize,
        since: u64,
        first: Option<ResetReason>,
        cells: Vec<Cell>,
        event_of: impl Fn(Cell) -> WatchEvent,
    ) -> Step {
        let mut pages = Vec::new();
        let mut events: Vec<_> = first.map(|reason| WatchEvent::Reset { reason }).into_iter().collect();
        let mut bytes = 0;
        for cell in cells {
            if bytes > 0 && (bytes + cell.memory() > PAGE.bytes || events.len() >= PAGE.changes) {
                pages.push(Page::new(std::mem::take(&mut events)));
                bytes = 0;
            }
            bytes += cell.memory();
            events.push(event_of(cell));
        }
        if !events.is_empty() {
            pages.push(Page::new(events));
        }
        Step { end, since, pages }
    }
}

/// The start of a step: its first range and, if that is range 0, the reason for the reset.
pub(super) type Start = (usize, Option<ResetReason>);

/// The pages that watchers of the same prefixes share.
#[derive(Default)]
pub(super) struct CachedPages {
    /// By the sequence that the changes are read from: the sequence where they end, and the page.
    pub(super) changes: Mutex<HashMap<u64, (u64, Weak<Page>)>>,
    pub(super) steps: Mutex<HashMap<Start, Weak<Step>>>,
}

/// The shared pages of a store.
#[derive(Default)]
pub(super) struct PageCache {
    pages: Mutex<HashMap<Prefixes, Weak<CachedPages>>>,
    kept: Mutex<Kept>,
}

/// The pages that were cached last, kept up to [`MAX_KEPT`] bytes.
#[derive(Default)]
struct Kept {
    entries: VecDeque<(u64, CachedEntry)>,
    bytes: u64,
}

/// Keeps a page or a step alive.
#[expect(dead_code, reason = "what is held is found by the weak references of `CachedPages`")]
enum CachedEntry {
    Page(Arc<Page>),
    Step(Arc<Step>),
}

impl PageCache {
    pub(super) fn cached(&self, prefixes: &Prefixes) -> Arc<CachedPages> {
        let mut pages = self.pages.lock();
        if let Some(cached) = pages.get(prefixes).and_then(Weak::upgrade) {
            return cached;
        }
        sweep(&mut pages, |cached| cached.strong_count() > 0);
        let cached = Arc::new(CachedPages::default());
        pages.insert(prefixes.clone(), Arc::downgrade(&cached));
        cached
    }

    pub(super) fn put_page(&self, cached: &CachedPages, from: u64, through: u64, page: &Arc<Page>) {
        let mut changes = cached.changes.lock();
        sweep(&mut changes, |(_, page)| page.strong_count() > 0);
        changes.insert(from, (through, Arc::downgrade(page)));
        drop(changes);
        self.keep(page.size(), CachedEntry::Page(Arc::clone(page)));
    }

    pub(super) fn put_step(&self, cached: &CachedPages, start: Start, step: &Arc<Step>) {
        let mut steps = cached.steps.lock();
        sweep(&mut steps, |step| step.strong_count() > 0);
        steps.insert(start, Arc::downgrade(step));
        drop(steps);
        // A step without pages has still walked its ranges, so it is worth keeping too.
        let size = EVENT + step.pages.iter().map(|page| page.size()).sum::<u64>();
        self.keep(size, CachedEntry::Step(Arc::clone(step)));
    }

    fn keep(&self, size: u64, entry: CachedEntry) {
        let mut evicted = Vec::new();
        let mut kept = self.kept.lock();
        kept.entries.push_back((size, entry));
        kept.bytes += size;
        while kept.bytes > MAX_KEPT {
            let Some((size, oldest)) = kept.entries.pop_front() else { break };
            kept.bytes -= size;
            evicted.push(oldest);
        }
        drop(kept);
    }
}

/// Drops the entries that are gone, if the map would have to grow.
fn sweep<K, V>(map: &mut HashMap<K, V>, mut is_there: impl FnMut(&V) -> bool)
where
    K: Eq + std::hash::Hash,
{
    if map.len() == map.capacity() {
        map.retain(|_, value| is_there(value));
    }
}
