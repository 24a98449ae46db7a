//! `/api/key`: one key side by side on every node, and which copy wins.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::bytes::Shown;
use super::keys::MAX_SHOWN_KEY;
use super::query::{Asked, bytes, deadline, moment};
use crate::cluster::{MAX_SHOWN_VALUE, PeerState};
use crate::http::host::NodeApi;
use crate::http::problem::Problem;
use crate::http::state::App;
use crate::model::{Database, timestamp};
use crate::store::{CopyState, CountCopy, KeyCopy};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    key: Option<String>,
    key64: Option<String>,
}

/// A key on every node.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct KeyView {
    key: Shown,
    copies: Vec<CopyRow>,
    winner: Option<String>,
    why: String,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct CopyRow {
    node: String,
    answered: bool,
    #[serde(flatten)]
    held: Option<HeldRow>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct HeldRow {
    state: &'static str,
    kind: Option<&'static str>,
    value: Option<Shown>,
    value_bytes: u64,
    time: Option<String>,
    timestamp: Option<String>,
    origin: Option<String>,
    deadline: Option<String>,
    counter: Option<CounterRow>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct CounterRow {
    total: String,
    base: Option<String>,
    slots: Vec<SlotRow>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct SlotRow {
    name: String,
    incarnation: String,
    up: String,
    down: String,
    sum: String,
    active: bool,
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    Asked(Query { key, key64 }): Asked<Query>,
) -> Result<Json<KeyView>, Problem> {
    let key = bytes(key, key64.as_deref(), "key")?.ok_or_else(|| Problem::bad("key or key64 says which"))?;
    Ok(Json(KeyView::of(&app, &key).await))
}

impl KeyView {
    /// Collects the copies of `key`, of database 0, on every node. Waits at most 1 s for nodes elsewhere.
    pub(super) async fn of(app: &App, key: &[u8]) -> KeyView {
        let apis = app.host.nodes();
        let local: BTreeSet<_> = apis.iter().map(|api| api.name.clone()).collect();
        let mut copies: Vec<(String, Option<KeyCopy>)> = Vec::new();
        for api in &apis {
            copies.push((api.name.clone(), Some(api.copy(key))));
        }
        // A node of another process is asked through the first node here that is linked to it.
        let mut asked = local.clone();
        for api in &apis {
            let peers = api.cluster.peers();
            let is_news = |name: &str| !name.is_empty() && !asked.contains(name);
            if peers.iter().any(|peer| peer.state.is_linked() && is_news(&peer.name)) {
                for (name, copy) in api.cluster.query_key(&Database::ZERO.stored(key)).await {
                    if asked.insert(name.clone()) {
                        copies.push((name, copy));
                    }
                }
            }
        }
        let known = apis.iter().flat_map(|api| api.cluster.peers());
        for peer in known.filter(|peer| !peer.state.is_refused() && peer.state != PeerState::Gone) {
            if !peer.name.is_empty() && asked.insert(peer.name.clone()) {
                copies.push((peer.name, None));
            }
        }
        let (winner, why) = judge(&copies);
        let values = app.options.values;
        let row = |(node, copy): (String, Option<KeyCopy>)| CopyRow {
            answered: copy.is_some(),
            held: copy.zip(apis.first()).map(|(copy, api)| HeldRow::of(api, &copy, values)),
            node,
        };
        KeyView {
            key: Shown::of(key, MAX_SHOWN_KEY),
            copies: copies.into_iter().map(row).collect(),
            winner,
            why,
        }
    }

    /// Whether every node that has answered holds the same.
    pub(super) fn is_equal(&self) -> bool {
        let mut held = self.copies.iter().filter_map(|copy| copy.held.as_ref());
        let first = held.next();
        held.all(|other| {
            first.is_some_and(|first| {
                (&first.timestamp, &first.value, &first.counter)
                    == (&other.timestamp, &other.value, &other.counter)
            })
        })
    }
}

impl HeldRow {
    fn of(api: &NodeApi, copy: &KeyCopy, values: bool) -> HeldRow {
        let value = copy.value.as_deref().filter(|_| values);
        HeldRow {
            state: copy.state.as_str(),
            kind: copy.value.as_ref().map(|_| if copy.counter.is_some() { "counter" } else { "string" }),
            value: value.map(|value| Shown::beginning(value, copy.value_bytes, MAX_SHOWN_VALUE)),
            value_bytes: copy.value_bytes,
            time: copy.timestamp.map(|timestamp| moment(timestamp.time())),
            timestamp: copy.timestamp.map(|timestamp| format!("{:016x}", timestamp.time().0)),
            origin: copy.timestamp.map(|timestamp| api.name_of(timestamp.incarnation())),
            deadline: copy.deadline.map(deadline),
            counter: copy.counter.as_ref().filter(|_| values).map(|count| CounterRow::of(api, count)),
        }
    }
}

impl CounterRow {
    fn of(api: &NodeApi, count: &CountCopy) -> CounterRow {
        let slots = count.slots.iter().map(|slot| SlotRow {
            name: api.name_of(slot.owner),
            incarnation: slot.owner.to_string(),
            up: slot.up.to_string(),
            down: slot.down.to_string(),
            sum: (i128::from(slot.up) - i128::from(slot.down)).to_string(),
            active: slot.active,
        });
        CounterRow {
            total: count.total.to_string(),
            base: count.base.map(|base| base.to_string()),
            slots: slots.collect(),
        }
    }
}

/// Names the nodes that hold the winning copy, and says why it wins.
fn judge(copies: &[(String, Option<KeyCopy>)]) -> (Option<String>, String) {
    let held: Vec<_> = copies.iter().filter_map(|(node, copy)| Some((node, copy.as_ref()?))).collect();
    let Some(largest) = held.iter().filter_map(|(_, copy)| copy.timestamp).max() else {
        return (None, "no node that has answered knows the key".into());
    };
    if held.iter().any(|(_, copy)| copy.counter.is_some()) {
        let totals: BTreeSet<_> =
            held.iter().map(|(_, copy)| copy.counter.as_ref().map(|count| count.total)).collect();
        let why = if totals.len() == 1 {
            "a counter: what all have added is on every node that has answered"
        } else {
            "a counter: what each has added counts, and the nodes will show the sum when they meet"
        };
        return (None, why.into());
    }
    let (latest, others): (Vec<_>, Vec<_>) =
        held.iter().partition(|(_, copy)| copy.timestamp == Some(largest));
    let names = |rows: &[&(&String, &KeyCopy)]| {
        rows.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let winner = names(&latest);
    let what = match latest.first().map(|(_, copy)| copy.state) {
        Some(CopyState::Dead) => "the delete or expiry",
        _ => "the write",
    };
    let beaten = others.iter().filter_map(|(name, copy)| Some((copy.timestamp?, name.as_str()))).max();
    let why = match beaten {
        None if others.is_empty() => "every node that has answered holds the same".into(),
        None => format!("{} has not heard of it yet", names(&others)),
        Some((timestamp, name)) if timestamp.time() == largest.time() => {
            format!("{what} stands: of the same moment as that of {name}, by the larger incarnation")
        }
        Some((timestamp, name)) => {
            let later = timestamp::distance(timestamp.time(), largest.time());
            format!("{what} stands: its timestamp is the largest, {later:.1?} after that of {name}")
        }
    };
    (Some(winner), why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;
    use crate::model::{Timestamp, timestamp::incarnation};

    fn copy(node: &str, timestamp: Option<(u64, u128)>, state: CopyState) -> (String, Option<KeyCopy>) {
        let timestamp =
            timestamp.map(|(time, id)| Timestamp::new(Time(time << 32), incarnation(id).unwrap()));
        (node.to_owned(), Some(KeyCopy { state, timestamp, ..KeyCopy::default() }))
    }

    #[test]
    fn the_largest_timestamp_wins_and_the_reason_says_by_how_much() {
        use CopyState::{Absent, Dead, Live};
        let away = ("c".to_owned(), None);
        let judged = |copies: &[(String, Option<KeyCopy>)]| {
            let (winner, why) = judge(copies);
            format!("{}: {why}", winner.unwrap_or_default())
        };
        let (a, b) = (copy("a", Some((5, 1)), Live), copy("b", Some((5, 1)), Live));
        assert_eq!(
            judged(&[a.clone(), b, away.clone()]),
            "a, b: every node that has answered holds the same"
        );
        let b = copy("b", Some((8, 2)), Live);
        assert!(
            judged(&[a.clone(), b])
                .starts_with("b: the write stands: its timestamp is the largest, 3.0s after that of a")
        );
        let b = copy("b", Some((5, 2)), Dead);
        assert!(judged(&[a.clone(), b]).starts_with("b: the delete or expiry stands: of the same moment"));
        assert_eq!(judged(&[a, copy("b", None, Absent)]), "a: b has not heard of it yet");
        assert_eq!(judged(&[copy("a", None, Absent), away]), ": no node that has answered knows the key");
    }
}
