//! The changes of keys that subscribers are notified of, as the letters that Redis uses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de::Error as _};

/// Letters of the event classes and of a channel, in the order in which Redis shows them. Lists, sets, hashes, sorted
/// sets, streams and modules never occur here.
const LETTERS: &[u8; 12] = b"g$lshzxetdnK";
const EVERYTHING: u16 = bits("g$lshzxetd");

/// Which changes of keys subscribers are notified of (`notify-keyspace-events`), and on which channels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KeyspaceEvents(u16);

/// An error: the text has letters other than those of [`KeyspaceEvents`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("Invalid event class character. Use 'Ag$lshzxeKEtdn'.")]
pub struct UnknownEvents;

impl KeyspaceEvents {
    /// No events on no channel.
    pub const NONE: KeyspaceEvents = KeyspaceEvents(0);

    /// Whether any of these letters is included. `letters` must not contain `A`.
    pub(crate) const fn has(self, letters: &str) -> bool {
        self.0 & bits(letters) != 0
    }

    /// Whether any event can be published.
    pub(crate) const fn can_publish(self) -> bool {
        self.has("KE") && self.has("g$xen")
    }

    /// All letters as a number.
    pub(crate) const fn to_bits(self) -> u16 {
        self.0
    }

    /// The letters of a number that [`to_bits`](Self::to_bits) returned.
    pub(crate) const fn from_bits(bits: u16) -> Self {
        KeyspaceEvents(bits)
    }
}

/// The bits of `letters`; panics on an unknown letter.
const fn bits(letters: &str) -> u16 {
    let letters = letters.as_bytes();
    let (mut bits, mut i) = (0, 0);
    while i < letters.len() {
        bits |= match bit(letters[i]) {
            Some(bit) => bit,
            None => panic!("no such letter"),
        };
        i += 1;
    }
    bits
}

const fn bit(letter: u8) -> Option<u16> {
    if letter == b'E' {
        return Some(1 << LETTERS.len());
    }
    let mut place = 0;
    while place < LETTERS.len() {
        if LETTERS[place] == letter {
            return Some(1 << place);
        }
        place += 1;
    }
    None
}

impl FromStr for KeyspaceEvents {
    type Err = UnknownEvents;

    fn from_str(text: &str) -> Result<Self, UnknownEvents> {
        let mut letters = text.bytes().map(|letter| match letter {
            b'A' => Ok(EVERYTHING),
            letter => bit(letter).ok_or(UnknownEvents),
        });
        letters.try_fold(0, |all, one| Ok(all | one?)).map(KeyspaceEvents)
    }
}

impl fmt::Display for KeyspaceEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.0 & EVERYTHING == EVERYTHING;
        let mut text = String::from(if all { "A" } else { "" });
        for &letter in LETTERS.iter().chain(b"E") {
            let bit = bit(letter).unwrap_or_default();
            if self.0 & bit != 0 && !(all && EVERYTHING & bit != 0) {
                text.push(letter.into());
            }
        }
        f.write_str(&text)
    }
}

impl<'de> Deserialize<'de> for KeyspaceEvents {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_shown_as_redis_shows_them() {
        for (given, shown) in
            [("", ""), ("KEA", "AKE"), ("Exn$", "$xnE"), ("KEg$lshzxetd", "AKE"), ("KAn", "AnK"), ("xx", "x")]
        {
            assert_eq!(given.parse::<KeyspaceEvents>().unwrap().to_string(), shown);
        }
        for unknown in ["q", "KEm", "ke"] {
            assert_eq!(unknown.parse::<KeyspaceEvents>(), Err(UnknownEvents));
        }
    }

    #[test]
    fn nothing_is_published_without_a_channel_or_a_class_that_comes_up() {
        for (letters, can_publish) in [
            ("", false),
            ("KE", false),
            ("A", false),
            ("Kl", false),
            ("Kg", true),
            ("Ke", true),
            ("EA", true),
        ] {
            assert_eq!(letters.parse::<KeyspaceEvents>().unwrap().can_publish(), can_publish, "{letters}");
        }
    }
}
