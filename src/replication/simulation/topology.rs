//! Which nodes can reach each other.

use std::collections::BTreeSet;

use rand::Rng as _;
use rand::rngs::StdRng;

/// The shape of a cluster's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Mesh,
    Line,
    Ring,
    Star,
    Random,
}

impl Shape {
    pub(super) fn draw(rng: &mut StdRng) -> Shape {
        match rng.random_range(0..10) {
            0..5 => Shape::Mesh,
            5 | 6 => Shape::Line,
            7 => Shape::Ring,
            8 => Shape::Star,
            _ => Shape::Random,
        }
    }

    /// Returns the pairs that can reach each other, the smaller number first. Every node is connected to every
    /// other.
    pub(super) fn edges(self, nodes: usize, rng: &mut StdRng) -> BTreeSet<(usize, usize)> {
        let all = (0..nodes).flat_map(|a| (a + 1..nodes).map(move |b| (a, b)));
        match self {
            Shape::Mesh => all.collect(),
            Shape::Line => (1..nodes).map(|b| (b - 1, b)).collect(),
            Shape::Ring => {
                (1..nodes).map(|b| (b - 1, b)).chain([(0, nodes - 1)]).filter(|(a, b)| a < b).collect()
            }
            Shape::Star => (1..nodes).map(|b| (0, b)).collect(),
            Shape::Random => {
                let mut edges: BTreeSet<_> = (1..nodes).map(|b| (rng.random_range(0..b), b)).collect();
                edges.extend(all.filter(|_| rng.random_bool(0.3)));
                edges
            }
        }
    }
}
