//! `/api/keys`: the keys of database 0 under a prefix, a page at a time.
//!
//! Keys are in ranges by their hash. So a page holds what a bounded walk through the ranges has found, sorted by key
//! within each range. The cursor is the position of the walk: a range, and the last key returned from it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::bytes::{Shown, decode};
use super::query::{Asked, bytes, deadline, moment};
use crate::cluster::MAX_SHOWN_VALUE;
use crate::http::host::NodeApi;
use crate::http::problem::Problem;
use crate::http::state::App;
use crate::model::{Database, Time};

/// Most cells that one request visits, which takes some milliseconds.
const MAX_SCANNED: usize = 50_000;

/// The walk yields after this many cells.
const STEP: usize = 4096;

/// Keys per page by default.
pub(super) const DEFAULT_LIMIT: usize = 50;

/// Most keys per page that a request may ask for.
const MAX_LIMIT: usize = 500;

/// Most bytes of a key that are shown.
pub(super) const MAX_SHOWN_KEY: usize = 1 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    prefix: Option<String>,
    prefix64: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
    node: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Page {
    keys: Vec<KeyRow>,
    next: Option<String>,
    scanned: usize,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct KeyRow {
    key: Shown,
    kind: &'static str,
    value: Option<Shown>,
    value_bytes: u64,
    time: Option<String>,
    timestamp: Option<String>,
    origin: Option<String>,
    deadline: Option<String>,
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    Asked(query): Asked<Query>,
) -> Result<Json<Page>, Problem> {
    let api = app.api(query.node.as_deref())?;
    let prefix = bytes(query.prefix, query.prefix64.as_deref(), "prefix")?.unwrap_or_default();
    let from = query.after.map_or(Ok(Place::default()), |after| Place::read(&after))?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if limit == 0 || limit > MAX_LIMIT {
        return Err(Problem::bad(format!("limit is 1 to {MAX_LIMIT}")));
    }
    Ok(Json(page(&api, &prefix, from, limit, app.options.values).await))
}

impl Page {
    /// Whether both pages show the same keys.
    pub(super) fn shows_the_same(&self, other: &Page) -> bool {
        self.keys == other.keys
    }
}

/// The position at which a walk continues.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Place {
    range: usize,
    /// The last key of the range that was returned.
    after: Option<Vec<u8>>,
}

impl Place {
    fn read(text: &str) -> Result<Place, Problem> {
        let bad = || Problem::bad("after is not the `next` of an earlier answer");
        let (range, after) = text.split_once('.').map_or((text, None), |(range, after)| (range, Some(after)));
        let after = after.map(decode).transpose().map_err(|_| bad())?;
        Ok(Place { range: range.parse().map_err(|_| bad())?, after })
    }

    fn text(&self) -> String {
        match &self.after {
            None => self.range.to_string(),
            Some(key) => format!("{}.{}", self.range, URL_SAFE_NO_PAD.encode(key)),
        }
    }
}

/// The first `limit` keys under `prefix` that a walk starting at `from` finds.
pub(super) async fn page(api: &NodeApi, prefix: &[u8], from: Place, limit: usize, values: bool) -> Page {
    let now = api.now();
    let (mut found, mut scanned, mut breath) = (Vec::new(), 0, 0);
    let Place { mut range, mut after } = from;
    let mut next = None;
    while range < api.store.range_count() {
        let mut keys = Vec::new();
        api.store.walk(range, |cell| {
            scanned += 1;
            let Some(key) = Database::ZERO.key(cell.key()) else { return };
            let is_news = after.as_deref().is_none_or(|after| key > after);
            if key.starts_with(prefix) && is_news && cell.is_live(now) {
                keys.push(key.to_vec());
            }
        });
        keys.sort_unstable();
        let room = limit - found.len();
        if keys.len() > room || (keys.len() == room && range + 1 < api.store.range_count()) {
            let more = keys.len() > room;
            keys.truncate(room);
            let last = if more { keys.last().cloned() } else { None };
            next = Some(Place { range: if more { range } else { range + 1 }, after: last });
            found.extend(keys);
            break;
        }
        found.extend(keys);
        (after, range) = (None, range + 1);
        if scanned >= MAX_SCANNED && range < api.store.range_count() {
            next = Some(Place { range, after: None });
            break;
        }
        if scanned - breath > STEP {
            breath = scanned;
            tokio::task::yield_now().await;
        }
    }
    let keys = found.iter().filter_map(|key| row(api, key, now, values)).collect();
    Page { keys, next: next.map(|place| place.text()), scanned }
}

/// The row of a key; `None` if the key has gone meanwhile.
fn row(api: &NodeApi, key: &[u8], now: Time, values: bool) -> Option<KeyRow> {
    let copy = api.store.copy(&Database::ZERO.stored(key), now, MAX_SHOWN_VALUE);
    let value = copy.value.as_deref()?;
    Some(KeyRow {
        key: Shown::of(key, MAX_SHOWN_KEY),
        kind: if copy.counter.is_some() { "counter" } else { "string" },
        value: values.then(|| Shown::beginning(value, copy.value_bytes, MAX_SHOWN_VALUE)),
        value_bytes: copy.value_bytes,
        time: copy.timestamp.map(|timestamp| moment(timestamp.time())),
        timestamp: copy.timestamp.map(|timestamp| format!("{:016x}", timestamp.time().0)),
        origin: copy.timestamp.map(|timestamp| api.name_of(timestamp.incarnation())),
        deadline: copy.deadline.map(deadline),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_as_text() {
        for place in [Place::default(), Place { range: 16_383, after: Some(b"a.\xff/b".to_vec()) }] {
            assert_eq!(Place::read(&place.text()).unwrap(), place);
        }
        for bad in ["", ".", "x", "-1", "1.%", "1.2.3"] {
            assert!(Place::read(bad).is_err(), "{bad}");
        }
    }
}
