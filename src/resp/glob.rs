//! Redis's glob patterns (`stringmatchlen`): `*`, `?`, `[a-z]`, `[^a-z]`, and `\` to escape the next byte.
//!
//! Most texts are matched by a walk through pattern and text. If a pattern causes too much backtracking, an automaton
//! takes over (Shift-And: Baeza-Yates and Gonnet, 1992). So no pattern takes more than about twenty steps per byte.

/// The longest pattern that a client may give, in bytes.
pub(super) const MAX_PATTERN: usize = 1024;

/// How many steps the walk may take per byte of pattern and text before the automaton takes over.
const EFFORT: usize = 4;

/// Whether `pattern` matches the whole of `text`.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let effort = EFFORT * (pattern.len() + text.len());
    walk(pattern, text, effort).unwrap_or_else(|| Automaton::new(pattern).matches(text))
}

/// [`matches()`] ignoring the case of ASCII letters.
pub(super) fn matches_any_case(pattern: &[u8], text: &[u8]) -> bool {
    matches(&pattern.to_ascii_lowercase(), &text.to_ascii_lowercase())
}

/// Whether `pattern` matches the whole of `text`; `None` if that takes more than `effort` steps.
///
/// Only the last `*` is backtracked to: whatever an earlier one could match, the later one can match too.
fn walk(pattern: &[u8], text: &[u8], mut effort: usize) -> Option<bool> {
    let (mut rest, mut at) = (pattern, 0);
    let mut star: Option<(&[u8], usize)> = None;
    loop {
        if let Some(after) = rest.strip_prefix(b"*") {
            if after.is_empty() {
                return Some(true);
            }
            star = Some((after, at));
            rest = after;
            continue;
        }
        let Some(&byte) = text.get(at) else { return Some(rest.is_empty()) };
        let step = Element::take(rest).and_then(|(element, after)| {
            effort = effort.saturating_sub(rest.len() - after.len());
            element.holds(byte).then_some(after)
        });
        if effort == 0 {
            return None;
        }
        if let Some(after) = step {
            (rest, at) = (after, at + 1);
        } else {
            let Some((after, from)) = star else { return Some(false) };
            (rest, at) = (after, from + 1);
            star = Some((after, at));
        }
    }
}

/// One element of a pattern other than `*`: matches one byte.
enum Element<'p> {
    Any,
    Literal(u8),
    Class(Class<'p>),
}

impl<'p> Element<'p> {
    /// The first element of a pattern that does not begin with `*`, and the rest of the pattern.
    fn take(pattern: &'p [u8]) -> Option<(Element<'p>, &'p [u8])> {
        Some(match pattern {
            [] => return None,
            [b'?', after @ ..] => (Element::Any, after),
            [b'[', after @ ..] => {
                let (class, after) = Class::take(after);
                (Element::Class(class), after)
            }
            [b'\\', escaped, after @ ..] => (Element::Literal(*escaped), after),
            [literal, after @ ..] => (Element::Literal(*literal), after),
        })
    }

    fn holds(&self, byte: u8) -> bool {
        match self {
            Element::Any => true,
            Element::Literal(literal) => *literal == byte,
            Element::Class(class) => {
                class.ranges().any(|(from, to)| (from..=to).contains(&byte)) != class.negated
            }
        }
    }
}

/// A set of bytes between `[` and `]`. If it is not closed, it extends to the end of the pattern.
struct Class<'p> {
    negated: bool,
    body: &'p [u8],
}

impl<'p> Class<'p> {
    fn take(pattern: &'p [u8]) -> (Class<'p>, &'p [u8]) {
        let (negated, body) = match pattern {
            [b'^', after @ ..] => (true, after),
            _ => (false, pattern),
        };
        let mut rest = body;
        while let Some((_, after)) = range(rest) {
            rest = after;
        }
        let class = Class { negated, body: &body[..body.len() - rest.len()] };
        (class, rest.strip_prefix(b"]").unwrap_or(rest))
    }

    fn ranges(&self) -> impl Iterator<Item = (u8, u8)> {
        let mut rest = self.body;
        std::iter::from_fn(move || {
            let (found, after) = range(rest)?;
            rest = after;
            Some(found)
        })
    }
}

/// The first range of bytes of a class, and the rest of the class.
fn range(body: &[u8]) -> Option<((u8, u8), &[u8])> {
    Some(match body {
        [] | [b']', ..] => return None,
        [b'\\', escaped, after @ ..] => ((*escaped, *escaped), after),
        [from, b'-', to, after @ ..] => ((*from.min(to), *from.max(to)), after),
        [literal, after @ ..] => ((*literal, *literal), after),
    })
}

/// A pattern as a nondeterministic automaton: state `n` is reached once the first `n` elements have matched. The
/// reached states are bits of one row, so a byte of the text takes a few operations per 64 elements.
struct Automaton {
    /// The number of 64-bit words in a row.
    width: usize,
    /// For each byte, the states that it leads to from the preceding state.
    steps: Vec<u64>,
    /// The states that are followed by a `*`: once reached, they stay reached.
    stays: Vec<u64>,
    last: usize,
}

impl Automaton {
    fn new(pattern: &[u8]) -> Automaton {
        let width = pattern.len() / 64 + 1;
        let mut automaton = Automaton { width, steps: vec![0; 256 * width], stays: vec![0; width], last: 0 };
        let mut rest = pattern;
        loop {
            if let Some(after) = rest.strip_prefix(b"*") {
                automaton.stays[automaton.last / 64] |= 1 << (automaton.last % 64);
                rest = after;
                continue;
            }
            let Some((element, after)) = Element::take(rest) else { return automaton };
            automaton.last += 1;
            automaton.add(&element);
            rest = after;
        }
    }

    fn add(&mut self, element: &Element<'_>) {
        let mut set = |from: u8, to: u8, holds: bool| {
            let (word, bit) = (self.last / 64, 1 << (self.last % 64));
            for byte in from..=to {
                let states = &mut self.steps[usize::from(byte) * self.width + word];
                *states = if holds { *states | bit } else { *states & !bit };
            }
        };
        match element {
            Element::Any => set(0, u8::MAX, true),
            Element::Literal(literal) => set(*literal, *literal, true),
            Element::Class(class) => {
                set(0, u8::MAX, class.negated);
                class.ranges().for_each(|(from, to)| set(from, to, !class.negated));
            }
        }
    }

    fn matches(&self, text: &[u8]) -> bool {
        let mut reached = vec![0; self.width];
        reached[0] = 1;
        for &byte in text {
            let steps = &self.steps[usize::from(byte) * self.width..][..self.width];
            let (mut carry, mut alive) = (0, 0);
            for ((states, step), stays) in reached.iter_mut().zip(steps).zip(&self.stays) {
                let moved = (*states << 1 | carry) & step;
                carry = *states >> 63;
                *states = moved | *states & stays;
                alive |= *states;
            }
            if alive == 0 {
                return false;
            }
        }
        reached[self.last / 64] >> (self.last % 64) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("**", "abc"),
            ("a*c", "abbbc"),
            ("a*b*c", "a-b-b-c-c"),
            ("h?llo", "hello"),
            ("h[ae]llo", "hallo"),
            ("h[^x]llo", "hello"),
            ("h[a-c]llo", "hbllo"),
            ("h[c-a]llo", "hbllo"),
            ("\\*", "*"),
            ("[\\]]", "]"),
            ("[a", "a"),
            ("a\\", "a\\"),
            ("*ab", "aab"),
            ("[^]x", "ax"),
        ] {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("?", ""),
            ("a", "ab"),
            ("a*c", "abcd"),
            ("h[^e]llo", "hello"),
            ("h[a-c]llo", "hdllo"),
            ("\\*", "a"),
            ("[]", "a"),
            ("*a?", "ba"),
            ("A", "a"),
        ] {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        assert!(matches_any_case(b"MAX[M]em*", b"maxmemory"));
    }

    /// A pattern that makes the walk backtrack over the whole pattern for every byte of the text.
    #[test]
    fn patterns_that_go_back_and_forth_are_left_to_the_automaton() {
        let texts = ["a".repeat(1 << 17), "b".repeat(1 << 17)];
        for pattern in ["*".to_owned() + &"a".repeat(1000) + "b", format!("*[{}]", "xyz".repeat(330))] {
            let text = if pattern.contains('[') { &texts[1] } else { &texts[0] };
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            assert_eq!(walk(pattern, text, EFFORT * (pattern.len() + text.len())), None);
            assert!(!matches(pattern, text));
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = "a*".repeat(500) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(10_000).as_bytes()));
    }

    #[test]
    fn usual_patterns_need_no_automaton() {
        let text = b"user:12345:session:abcdef";
        for pattern in ["user:*", "*:session:*", "*[0-9]*:abc*", "user:?????:*", "*f", "nothing*"] {
            let effort = EFFORT * (pattern.len() + text.len());
            assert!(walk(pattern.as_bytes(), text, effort).is_some(), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn the_automaton_and_the_walk_agree(pattern in "[ab\\-^?*\\[\\]\\\\]{0,80}", text in "[ab\\-^]{0,40}") {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            let walked = walk(pattern, text, usize::MAX).unwrap();
            prop_assert_eq!(Automaton::new(pattern).matches(text), walked);
        }
    }
}
