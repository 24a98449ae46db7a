//! Runs every history of a small cluster, up to a number of steps: real stores, sessions, queues and codec,
//! under every interleaving of a few writes and faults.
//!
//! ```text
//!   scenario: nodes, writes, faults, limits          adapter: what depends on the rules under test
//!        |                                             ^
//!        v                                             |
//!   search: states of depth n --- every step ---> cluster ---> checker, after every step
//!        ^                                             |
//!        '------ those not seen before <--- fingerprint, then: all faults end, must all become equal?
//! ```
//!
//! The simulation draws long and mostly ordinary histories from seeds; the histories here are short and
//! complete. A rule that fails in some order of a dozen steps fails here, and the first reported history is a
//! shortest one.
//!
//! * **Stateless.** A store or session cannot be cloned, so a state is the list of steps that lead to it, and
//!   the search takes them again from the start to continue. Time, randomness and the order of frames are
//!   arguments, so they lead to the same state each time.
//! * **Breadth first**, level by level, on several threads.
//! * **Each state once.** A fingerprint of 64 bits covers everything that affects the future: cells, clocks,
//!   membership, frames in flight, what a session has gone through since it was idle, the state of the checker,
//!   and how many more faults are allowed. It omits the numbers of syncs, and acknowledgements. No timestamps
//!   or nodes are renamed, so states that are equal except for names count as several. A test compares with a
//!   search that treats no states as equal. Among ten million states, two have one fingerprint by chance once
//!   in 400,000 searches.
//! * **Time** moves by a step of its own, by more than any margin in the core. Between two such steps it stands
//!   still, so timestamps only count writes, and steps that commute lead to one state.
//! * **What is coarse**: a push is in flight as soon as its write is done; heartbeats arrive in one step if
//!   nothing is in flight before them; acknowledgements arrive with what is before them; a sync begins because
//!   of a step, or of a peer's gap or late push, not because time has passed. A scenario's
//!   [`Grain`](action::Grain) sets whether each frame of a sync is a step or the whole sync.
//!
//! Not `stateright`: its model is a value that can be cloned, compared and hashed, with a pure function from a
//! state and a step to the next. Wrapped around a list of steps it would replace only `search`, some 200 lines,
//! without a time limit, and could not leave out a rule on each of its threads.
//!
//! A damaged frame closes its link, so it is a [`Cut`](action::Action::Cut); two nodes of one name do not link.
//!
//! Not explored: full queues other than by [`Lose`](action::Action::Lose), probes, goodbyes and operators, and threads
//! inside a node.
//!
//! To try another rule of healing, change `adapter` alone.

mod action;
mod adapter;
mod checker;
mod cluster;
mod search;
mod tests;
