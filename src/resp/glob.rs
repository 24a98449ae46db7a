//! Redis's patterns (`stringmatchlen`): `*`, `?`, `[a-z]`, `[^a-z]` and `\` to take the next byte as it is.

/// The longest pattern that a client may give. Matching takes the product of both lengths, for every text.
pub(super) const MAX_PATTERN: usize = 1024;

/// Whether `pattern` matches the whole of `text`.
///
/// Only the last `*` seen is ever returned to: whatever an earlier one could match, the later one can reach too. So the
/// time is at most the product of both lengths, where matching by recursion is exponential.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut rest, mut at) = (pattern, 0);
    let mut star: Option<(&[u8], usize)> = None;
    loop {
        if let Some(after) = rest.strip_prefix(b"*") {
            if after.is_empty() {
                return true;
            }
            star = Some((after, at));
            rest = after;
            continue;
        }
        let step = match text.get(at) {
            None => return rest.is_empty(),
            Some(byte) => one(rest, *byte),
        };
        if let Some(after) = step {
            (rest, at) = (after, at + 1);
        } else {
            let Some((after, from)) = star else { return false };
            (rest, at) = (after, from + 1);
            star = Some((after, at));
        }
    }
}

/// [`matches()`] without regard to the case of ASCII letters.
pub(super) fn matches_any_case(pattern: &[u8], text: &[u8]) -> bool {
    matches(&pattern.to_ascii_lowercase(), &text.to_ascii_lowercase())
}

/// The pattern after its first element, if that matches `byte`.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (matched, after) = match pattern {
        [] => return None,
        [b'?', after @ ..] => (true, after),
        [b'[', after @ ..] => class(after, byte),
        [b'\\', escaped, after @ ..] => (*escaped == byte, after),
        [literal, after @ ..] => (*literal == byte, after),
    };
    matched.then_some(after)
}

/// Whether the class that `pattern` is the inside of holds `byte`, and what follows it. A class that is not closed ends
/// with the pattern.
fn class(pattern: &[u8], byte: u8) -> (bool, &[u8]) {
    let (negated, mut rest) = match pattern {
        [b'^', after @ ..] => (true, after),
        _ => (false, pattern),
    };
    let mut found = false;
    loop {
        let (holds, after) = match rest {
            [] => return (found != negated, rest),
            [b']', after @ ..] => return (found != negated, after),
            [b'\\', escaped, after @ ..] => (*escaped == byte, after),
            [from, b'-', to, after @ ..] => ((*from.min(to)..=*from.max(to)).contains(&byte), after),
            [literal, after @ ..] => (*literal == byte, after),
        };
        found |= holds;
        rest = after;
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = "a*".repeat(500) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(10_000).as_bytes()));
    }
}
