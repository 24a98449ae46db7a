//! Every history of a small cluster, up to a number of steps: the real stores, sessions, queues and codec, under every
//! interleaving of a few writes and faults.
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
//! Beside the histories that the simulation draws from seeds, which are long and mostly ordinary, these are short and
//! complete: a rule that fails in some order of a dozen steps fails here, and the first history that is reported is a
//! shortest one.
//!
//! * **Stateless.** A store or session cannot be cloned, so a state is the steps that lead to it, which are taken again
//!   from the start to go on from there. Time, randomness and the order of frames are arguments, so they lead to the same
//!   state each time.
//! * **Breadth first**, a level after the other, on several threads.
//! * **Each state once.** A fingerprint of 64 bits covers all that bears on the future: cells, clocks, membership, what
//!   is under way, what a session has gone through since it was idle, what the checker remembers, and how many more
//!   faults are allowed. It leaves out the numbers of syncs, and acknowledgements. No timestamps or nodes are renamed, so
//!   states that are equal up to names count as several. A test compares with a search in which no states are taken for
//!   equal. Among ten million states, two have one fingerprint by chance once in 400,000 searches.
//! * **Time** moves by a step of its own, by more than any margin in the core. Between two such steps it stands still, so
//!   timestamps only count writes, and steps that commute lead to one state.
//! * **What is coarse**: a push is on the wire as soon as its write is done; heartbeats arrive in one step where nothing
//!   is on the wire before them; acknowledgements arrive with what is before them; a sync begins because a step says
//!   so, or a peer's gap or late push does, not because time has passed. Whether each frame of a sync is a step or the
//!   whole of it is a scenario's [`Grain`](action::Grain).
//!
//! Not `stateright`: its model is a value that can be cloned, compared and hashed, with a pure function from a state and
//! a step to the next. Wrapped around a list of steps it would leave of itself what is in `search`, some 200 lines, without a
//! limit of time, and would not leave out a rule on each of its threads.
//!
//! Not explored: clocks that differ, memory limits, full queues other than by [`Lose`](action::Action::Lose), syncs that
//! only look whether anything differs, goodbyes and operators, corrupted messages, and threads inside a node.
//!
//! To try another rule of healing, change `adapter` alone.

mod action;
mod adapter;
mod checker;
mod cluster;
mod search;
mod tests;
