//! Describes a state as a fingerprint, and as text.

use std::fmt::Write as _;

use xxhash_rust::xxh3::Xxh3;

use super::super::adapter;
use super::super::checker::dot;
use super::wires::is_answer;
use super::{Cluster, Node};

impl Cluster<'_> {
    /// Returns a hash that is equal for states with the same future.
    pub(in super::super) fn fingerprint(&self) -> u64 {
        let mut hasher = Xxh3::new();
        hasher.update(&self.wall.0.to_le_bytes());
        hasher.update(&self.left.bytes());
        for node in &self.nodes {
            hasher.update(&[node.restarts]);
            adapter::hash_cells(&node.local, self.keys, &mut hasher);
            adapter::hash_state(&node.local, &mut hasher);
            for (&peer, link) in &node.links {
                let progress = link.session.progress(self.now).map(|(progress, _)| progress);
                hasher.update(&[u8::try_from(peer).unwrap_or(u8::MAX), u8::from(link.session.has_work())]);
                hasher.update(&link.past.to_le_bytes());
                write!(adapter::Hashed(&mut hasher), "{progress:?}").expect("hashing does not fail");
            }
        }
        for wire in &self.wires {
            wire.iter()
                .filter(|frame| !is_answer(frame))
                .for_each(|frame| adapter::hash_frame(frame, &mut hasher));
            hasher.update(&u32::MAX.to_le_bytes());
        }
        self.checker.describe(&mut adapter::Hashed(&mut hasher)).expect("hashing does not fail");
        hasher.digest()
    }

    /// Formats what each node holds, on one line.
    pub(in super::super) fn picture(&self) -> String {
        let node = |node: &Node| {
            let key = |key: &&[u8]| {
                let view = adapter::view(&node.local, key)?;
                let now = node.local.store.now(self.wall);
                let shown = node.local.store.read(key, now, |live| {
                    live.map(|live| String::from_utf8_lossy(live.value()).into_owned())
                });
                let shown = shown.unwrap_or_else(|| "-".into());
                let by = view.deadline_by.filter(|by| Some(*by) != view.timestamp).map(dot);
                let timestamp = view.timestamp.map_or("unset".into(), dot);
                Some(format!(
                    "{} {shown} ({timestamp}{}{})",
                    String::from_utf8_lossy(key),
                    by.map_or(String::new(), |by| format!(", deadline by {by}")),
                    if view.slots.is_empty() {
                        String::new()
                    } else {
                        format!(", {} slots", view.slots.len())
                    },
                ))
            };
            let held: Vec<_> = self.keys.iter().filter_map(key).collect();
            if held.is_empty() { "nothing".into() } else { held.join(", ") }
        };
        let nodes = self.nodes.iter().enumerate().map(|(n, one)| format!("n{n}: {}", node(one)));
        nodes.collect::<Vec<_>>().join(" | ")
    }
}
