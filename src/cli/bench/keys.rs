//! Which keys the requests use, and how often each.

use std::fmt;
use std::str::FromStr;

use rand::Rng;
use rand::distr::{Distribution as _, Uniform};
use rand_distr::Zipf;

/// The exponent of Zipf's law if none is given: that of YCSB.
const EXPONENT: f64 = 0.99;
/// The largest exponent. With 10, all but one of 1,000 requests use the first key.
const MAX_EXPONENT: f64 = 10.0;

/// How often each key is used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Distribution {
    /// All keys equally often.
    Uniform,
    /// Key `n` in proportion to `1 / n^exponent`.
    Zipf { exponent: f64 },
}

/// The text is not a distribution.
#[derive(Debug, thiserror::Error)]
#[error("write uniform, zipf or zipf:S, where S is the exponent, from 0 to {MAX_EXPONENT}, such as zipf:0.8")]
pub(super) struct NotADistribution;

impl FromStr for Distribution {
    type Err = NotADistribution;

    fn from_str(text: &str) -> Result<Self, NotADistribution> {
        match (text, text.strip_prefix("zipf:").map(str::parse)) {
            ("uniform", _) => Ok(Distribution::Uniform),
            ("zipf", _) => Ok(Distribution::Zipf { exponent: EXPONENT }),
            (_, Some(Ok(exponent))) if (0.0..=MAX_EXPONENT).contains(&exponent) => {
                Ok(Distribution::Zipf { exponent })
            }
            _ => Err(NotADistribution),
        }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Distribution::Uniform => f.write_str("uniform"),
            Distribution::Zipf { exponent } => write!(f, "zipf:{exponent}"),
        }
    }
}

/// Draws the numbers of keys, from 0.
#[derive(Debug, Clone, Copy)]
pub(super) enum KeySampler {
    Uniform(Uniform<u64>),
    Zipf(Zipf<f64>),
}

impl KeySampler {
    /// A sampler of `keys` keys, at least one.
    pub(super) fn new(distribution: Distribution, keys: u64) -> KeySampler {
        match distribution {
            Distribution::Uniform => {
                KeySampler::Uniform(Uniform::new(0, keys).expect("there is at least one key"))
            }
            Distribution::Zipf { exponent } => {
                // Exact: the number of keys is below 2^53.
                let zipf = Zipf::new(keys as f64, exponent);
                KeySampler::Zipf(zipf.expect("there is a key, and the exponent is not negative"))
            }
        }
    }

    pub(super) fn draw(&self, random: &mut impl Rng) -> u64 {
        match self {
            KeySampler::Uniform(uniform) => uniform.sample(random),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a whole number from 1 to the number of keys"
            )]
            KeySampler::Zipf(zipf) => zipf.sample(random) as u64 - 1,
        }
    }
}

/// What a key holds. Counters have names of their own, because `INCR` refuses other values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Value,
    Counter,
}

/// Digits of a key's number.
const DIGITS: usize = 12;

/// Writes the name of key `number` to `out`.
pub(super) fn write_name(out: &mut Vec<u8>, prefix: &str, holds: Holds, number: u64) {
    let word: &[u8] = match holds {
        Holds::Value => b"key:",
        Holds::Counter => b"counter:",
    };
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(number).as_bytes();
    out.clear();
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(word);
    out.extend(std::iter::repeat_n(b'0', DIGITS.saturating_sub(digits.len())));
    out.extend_from_slice(digits);
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    const DRAWS: u32 = 100_000;

    fn counts(distribution: Distribution, keys: usize, seed: u64) -> Vec<u32> {
        let sampler = KeySampler::new(distribution, keys as u64);
        let mut random = StdRng::seed_from_u64(seed);
        let mut counts = vec![0; keys];
        for _ in 0..DRAWS {
            counts[usize::try_from(sampler.draw(&mut random)).unwrap()] += 1;
        }
        counts
    }

    /// Pearson's statistic of `counts` against `law`, which need not be normalised, divided by its degrees of freedom:
    /// near 1 if the draws follow the law.
    fn misfit(counts: &[u32], law: impl Fn(f64) -> f64) -> f64 {
        let law: Vec<f64> = (1..=counts.len()).map(|rank| law(rank as f64)).collect();
        let scale = f64::from(DRAWS) / law.iter().sum::<f64>();
        let term = |(&count, law): (&u32, &f64)| (f64::from(count) - scale * law).powi(2) / (scale * law);
        counts.iter().zip(&law).map(term).sum::<f64>() / (counts.len() - 1) as f64
    }

    /// The goal: the frequencies are those of the law, over all ranks, below, at and above the exponent 1, where the
    /// formulas differ. The method: Pearson's test, which must also reject a slightly different exponent.
    #[test]
    fn zipf_draws_follow_the_law() {
        for exponent in [0.0, 0.5, 0.99, 1.0, 1.2, 2.0] {
            let counts = counts(Distribution::Zipf { exponent }, 200, 7);
            let fit = misfit(&counts, |rank| rank.powf(-exponent));
            assert!((0.6..1.4).contains(&fit), "zipf:{exponent}: {fit}");
            let other = misfit(&counts, |rank| rank.powf(-exponent - 0.05));
            assert!(other > 2.0, "zipf:{exponent} also fits {}: {other}", exponent + 0.05);
        }
    }

    #[test]
    fn uniform_draws_are_uniform() {
        let fit = misfit(&counts(Distribution::Uniform, 200, 7), |_| 1.0);
        assert!((0.6..1.4).contains(&fit), "{fit}");
    }

    #[test]
    fn every_number_of_keys_has_a_first_and_a_last() {
        for distribution in [Distribution::Uniform, Distribution::Zipf { exponent: 0.5 }] {
            assert_eq!(counts(distribution, 1, 1), [DRAWS]);
            assert!(counts(distribution, 3, 1).iter().all(|&count| count > DRAWS / 10));
        }
    }

    #[test]
    fn a_seed_draws_the_same_keys_again() {
        let zipf = Distribution::Zipf { exponent: 0.99 };
        assert_eq!(counts(zipf, 50, 3), counts(zipf, 50, 3));
        assert_ne!(counts(zipf, 50, 3), counts(zipf, 50, 4));
    }

    #[test]
    fn a_distribution_is_read_as_it_is_written() {
        for (text, written) in [("uniform", "uniform"), ("zipf", "zipf:0.99"), ("zipf:1.2", "zipf:1.2")] {
            assert_eq!(text.parse::<Distribution>().unwrap().to_string(), written);
        }
        for bad in ["", "zipf:", "zipf:-1", "zipf:11", "zipf:NaN", "normal", "uniform:1"] {
            assert!(bad.parse::<Distribution>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_have_one_length() {
        let mut name = b"earlier".to_vec();
        write_name(&mut name, "bench:", Holds::Value, 42);
        assert_eq!(name, b"bench:key:000000000042");
        write_name(&mut name, "", Holds::Counter, 0);
        assert_eq!(name, b"counter:000000000000");
    }
}
