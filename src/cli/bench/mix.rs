//! Which commands are sent, and how often each.

use std::fmt;
use std::str::FromStr;

use rand::Rng;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Set,
    Get,
    Incr,
    Del,
}

impl Kind {
    pub(super) const ALL: [Kind; 4] = [Kind::Set, Kind::Get, Kind::Incr, Kind::Del];

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Set => "set",
            Kind::Get => "get",
            Kind::Incr => "incr",
            Kind::Del => "del",
        }
    }
}

/// The relative frequency of each kind, in the order of [`Kind::ALL`]. At least one is not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mix([u16; Kind::ALL.len()]);

/// The text is not a mix.
#[derive(Debug, thiserror::Error)]
#[error("write commands and their shares, such as set=1,get=9; the commands are set, get, incr and del")]
pub(super) struct NotAMix;

impl Mix {
    /// So many percent `get`, the rest `set`.
    pub(super) fn reads(percent: u16) -> Mix {
        let percent = percent.min(100);
        Mix(Kind::ALL.map(|kind| match kind {
            Kind::Set => 100 - percent,
            Kind::Get => percent,
            Kind::Incr | Kind::Del => 0,
        }))
    }

    pub(super) fn contains(&self, kind: Kind) -> bool {
        self.0[kind as usize] > 0
    }

    /// Draws the kind of the next request.
    pub(super) fn draw(&self, random: &mut impl Rng) -> Kind {
        let mut left = random.random_range(0..self.total());
        let drawn = Kind::ALL.into_iter().zip(self.0).find(|&(_, share)| {
            let found = left < u32::from(share);
            left = left.saturating_sub(share.into());
            found
        });
        drawn.map_or(Kind::Get, |(kind, _)| kind)
    }

    fn total(&self) -> u32 {
        self.0.iter().copied().map(u32::from).sum()
    }
}

impl FromStr for Mix {
    type Err = NotAMix;

    fn from_str(text: &str) -> Result<Self, NotAMix> {
        let mut mix = Mix([0; Kind::ALL.len()]);
        for part in text.split(',') {
            let (name, share) = part.split_once('=').ok_or(NotAMix)?;
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name.trim()).ok_or(NotAMix)?;
            let known = &mut mix.0[kind as usize];
            *known = known.checked_add(share.trim().parse().map_err(|_| NotAMix)?).ok_or(NotAMix)?;
        }
        if mix.total() > 0 { Ok(mix) } else { Err(NotAMix) }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = Kind::ALL.into_iter().zip(self.0).filter(|(_, share)| *share > 0);
        let parts: Vec<_> = parts.map(|(kind, share)| format!("{}={share}", kind.name())).collect();
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn a_mix_is_read_as_it_is_written() {
        for (text, written) in [
            ("set=1,get=9", "set=1,get=9"),
            ("del=2, incr=3,get=0", "incr=3,del=2"),
            ("get=1,get=2", "get=3"),
        ] {
            assert_eq!(text.parse::<Mix>().unwrap().to_string(), written);
        }
        assert_eq!(Mix::reads(90).to_string(), "set=10,get=90");
        assert_eq!(Mix::reads(100).to_string(), "get=100");
        for bad in ["", "get", "get=", "get=-1", "get=0", "mget=1", "get=1;set=1", "get=70000"] {
            assert!(bad.parse::<Mix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn each_kind_is_drawn_in_its_share() {
        const DRAWS: u32 = 100_000;
        let mix: Mix = "set=5,get=80,incr=10,del=5".parse().unwrap();
        let mut random = StdRng::seed_from_u64(1);
        let mut counts = [0; 4];
        for _ in 0..DRAWS {
            counts[mix.draw(&mut random) as usize] += 1;
        }
        for (count, percent) in counts.into_iter().zip([5, 80, 10, 5]) {
            let expected = DRAWS * percent / 100;
            assert!(expected.abs_diff(count) < DRAWS / 200, "{counts:?}");
        }
    }
}
