//! What the benches share: processes that end with them, which core does what, load, questions, figures.
#![allow(dead_code, reason = "each bench uses its own part")]

pub(crate) mod ask;
pub(crate) mod cores;
pub(crate) mod figures;
pub(crate) mod load;
pub(crate) mod machine;
pub(crate) mod node;
pub(crate) mod options;
pub(crate) mod process;
