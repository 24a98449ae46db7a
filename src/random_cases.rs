//! The settings of property tests.

use proptest::test_runner::{Config, RngAlgorithm};

/// So many cases, drawn by xorshift: in a debug build ChaCha, the default, takes most of the time of a small case.
pub(crate) fn random_cases(cases: u32) -> Config {
    Config { cases, failure_persistence: None, rng_algorithm: RngAlgorithm::XorShift, ..Config::default() }
}
