//! `/api/status`, `/api/events`: nodes, links and their recorded events.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::query::point;
use crate::cluster::{Figures, NodeState, PeerState, PeerStatus, Recorded, RemoteNode};
use crate::http::health;
use crate::http::host::NodeApi;
use crate::http::state::App;

/// The state that the page draws.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Status {
    version: &'static str,
    cluster: String,
    demo: bool,
    writes: bool,
    faults: bool,
    values: bool,
    nodes: Vec<NodeRow>,
    links: Vec<LinkRow>,
}

/// A node of this process, or one that the nodes here have figures of.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
struct NodeRow {
    name: String,
    local: bool,
    state: &'static str,
    /// Why a node of this process is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    digest: Option<String>,
    keys: Option<u64>,
    tombstones: Option<u64>,
    memory_bytes: Option<u64>,
    tombstone_bytes: Option<u64>,
    ops_per_second: Option<u64>,
    bytes_in_per_second: Option<u64>,
    bytes_out_per_second: Option<u64>,
    stable_age_ms: Option<u64>,
    uptime_ms: Option<u64>,
    retractions: Option<u64>,
    late: Option<u64>,
    lost: Option<u64>,
    incarnation: Option<String>,
    client: Option<String>,
    peer: Option<String>,
    http: Option<String>,
    age_ms: u64,
}

/// A link, from the view of one of its ends.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct LinkRow {
    from: String,
    to: String,
    state: &'static str,
    reported: bool,
    #[serde(flatten)]
    own: Option<OwnLink>,
}

/// Figures that only the end of a link has.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct OwnLink {
    reason: String,
    direction: Option<&'static str>,
    since_ms: u64,
    lag_ms: u64,
    queued_bytes: u64,
    received_bytes: u64,
    sent_bytes: u64,
    received_per_second: u64,
    sent_per_second: u64,
    ranges_differing: u64,
    verified_ms: Option<u64>,
    heal: Option<HealRow>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct HealRow {
    took_ms: u64,
    cells_in: u64,
    cells_out: u64,
    bytes_in: u64,
    bytes_out: u64,
    cells_left: u64,
    time_left_ms: Option<u64>,
}

pub(super) async fn show(State(app): State<Arc<App>>) -> Json<Status> {
    Json(Status::of(&app))
}

impl Status {
    pub(super) fn of(app: &App) -> Status {
        let apis = app.host.nodes();
        let peers: Vec<_> = apis.iter().map(|api| api.cluster.peers()).collect();
        let remotes: Vec<_> = apis.iter().map(|api| api.cluster.remote_figures()).collect();
        let local: BTreeSet<_> = apis.iter().map(|api| api.name.as_str()).collect();
        let stopped = app.host.demo().map(|demo| demo.stopped()).unwrap_or_default();

        let mut nodes: Vec<_> = apis.iter().map(NodeRow::local).collect();
        nodes.extend(stopped.iter().map(|name| NodeRow {
            name: name.clone(),
            local: true,
            state: "stopped",
            ..NodeRow::default()
        }));
        for (row, remotes) in
            peers.iter().zip(&remotes).flat_map(|(rows, remotes)| rows.iter().map(move |row| (row, remotes)))
        {
            // A refused node may have taken any name, and an address without an answer has none.
            if row.name.is_empty() || row.state.is_refused() {
                continue;
            }
            let reported = remotes.iter().find(|remote| remote.name == row.name && row.state.is_linked());
            match nodes.iter_mut().find(|node| node.name == row.name) {
                None => nodes.push(NodeRow::remote(row, reported)),
                // Another node of this process may be linked to it.
                Some(known) if !known.local && known.state == "unknown" && reported.is_some() => {
                    *known = NodeRow::remote(row, reported);
                }
                Some(_) => {}
            }
        }

        let own = apis
            .iter()
            .zip(&peers)
            .flat_map(|(api, rows)| rows.iter().map(|row| LinkRow::own(&api.name, row)));
        let mut links: Vec<_> = own.collect();
        for remote in remotes.iter().flatten().filter(|remote| !local.contains(remote.name.as_str())) {
            for to in &remote.links {
                if !links.iter().any(|link| link.from == remote.name && link.to == *to) {
                    let state = PeerState::Linked.as_str();
                    links.push(LinkRow {
                        from: remote.name.clone(),
                        to: to.clone(),
                        state,
                        reported: true,
                        own: None,
                    });
                }
            }
        }
        Status {
            version: env!("CARGO_PKG_VERSION"),
            cluster: apis.first().map(|api| api.cluster_name.clone()).unwrap_or_default(),
            demo: app.host.demo().is_some(),
            writes: app.options.writes,
            faults: app.options.writes && app.options.faults,
            values: app.options.values,
            nodes,
            links,
        }
    }

    /// A copy without the values that change merely because time passes.
    pub(super) fn still(&self) -> Status {
        let mut still = self.clone();
        for node in &mut still.nodes {
            (node.uptime_ms, node.stable_age_ms, node.age_ms) = (None, None, 0);
        }
        for own in still.links.iter_mut().filter_map(|link| link.own.as_mut()) {
            (own.since_ms, own.verified_ms) = (0, own.verified_ms.map(|_| 0));
        }
        still
    }
}

impl NodeRow {
    fn local(api: &NodeApi) -> NodeRow {
        let state = api.cluster.state();
        let address = |address: Option<std::net::SocketAddr>| address.map(|address| address.to_string());
        let mut row = NodeRow {
            incarnation: Some(api.store.own_incarnation().to_string()),
            client: address(api.client),
            peer: address(api.peer),
            http: address(api.http),
            reason: health::why_not(api),
            ..NodeRow::with(&api.name, state.as_str(), &api.cluster.figures())
        };
        row.local = true;
        row.uptime_ms = Some(millis(api.started.elapsed()));
        row
    }

    fn remote(row: &PeerStatus, reported: Option<&RemoteNode>) -> NodeRow {
        let shared = NodeRow {
            name: row.name.clone(),
            state: "unknown",
            incarnation: row.incarnation.map(|incarnation| incarnation.to_string()),
            peer: (!row.address.is_empty()).then(|| row.address.clone()),
            ..NodeRow::default()
        };
        let Some(RemoteNode { figures, age, .. }) = reported else { return shared };
        let state = figures.state.map_or("unknown", NodeState::as_str);
        let NodeRow { incarnation, peer, .. } = shared;
        NodeRow { incarnation, peer, age_ms: millis(*age), ..NodeRow::with(&row.name, state, figures) }
    }

    fn with(name: &str, state: &'static str, figures: &Figures) -> NodeRow {
        NodeRow {
            name: name.to_owned(),
            state,
            digest: figures.digest.map(|digest| format!("{digest:016x}")),
            keys: Some(figures.keys),
            tombstones: figures.tombstones,
            memory_bytes: figures.memory_bytes,
            tombstone_bytes: figures.tombstone_bytes,
            ops_per_second: figures.ops_per_second,
            bytes_in_per_second: figures.bytes_in_per_second,
            bytes_out_per_second: figures.bytes_out_per_second,
            stable_age_ms: figures.stable_age_ms,
            uptime_ms: figures.uptime_ms,
            retractions: figures.retractions,
            late: figures.late,
            lost: figures.lost,
            ..NodeRow::default()
        }
    }
}

impl LinkRow {
    fn own(from: &str, row: &PeerStatus) -> LinkRow {
        let heal = row.heal.as_ref().map(|heal| HealRow {
            took_ms: millis(heal.took),
            cells_in: heal.cells_in,
            cells_out: heal.cells_out,
            bytes_in: heal.bytes_in,
            bytes_out: heal.bytes_out,
            cells_left: heal.cells_left,
            time_left_ms: heal.time_left.map(millis),
        });
        LinkRow {
            from: from.to_owned(),
            to: if row.name.is_empty() { row.address.clone() } else { row.name.clone() },
            state: row.state.as_str(),
            reported: false,
            own: Some(OwnLink {
                reason: row.reason.clone(),
                direction: row.direction.map(|direction| direction.as_str()),
                since_ms: millis(row.since),
                lag_ms: millis(row.lag),
                queued_bytes: row.queued_bytes,
                received_bytes: row.received_bytes,
                sent_bytes: row.sent_bytes,
                received_per_second: row.traffic.received_per_second,
                sent_per_second: row.traffic.sent_per_second,
                ranges_differing: row.ranges_differing,
                verified_ms: row.verified.map(millis),
                heal,
            }),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The recorded events.
#[derive(Debug, Serialize)]
pub(super) struct EventList {
    events: Vec<EventRow>,
}

/// One recorded event.
#[derive(Clone, Debug, Serialize)]
pub(super) struct EventRow {
    pub(super) id: u64,
    node: String,
    kind: &'static str,
    peer: String,
    reason: String,
    time: String,
}

pub(super) async fn events(State(app): State<Arc<App>>) -> Json<EventList> {
    Json(EventList { events: events_after(&app.host.nodes(), 0) })
}

/// The events of these nodes with an id above `after`, oldest first.
pub(super) fn events_after(apis: &[NodeApi], after: u64) -> Vec<EventRow> {
    let recorded = apis.iter().flat_map(|api| {
        let recorded = api.cluster.recorded_events(after);
        recorded.into_iter().map(|Recorded { id, event }| EventRow {
            id,
            node: api.name.clone(),
            kind: event.kind.as_str(),
            peer: event.peer,
            reason: event.reason,
            time: point(event.time),
        })
    });
    let mut events: Vec<_> = recorded.collect();
    events.sort_by_key(|event| event.id);
    events
}
