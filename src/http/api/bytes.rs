//! Keys and values in JSON: text as it is, other bytes in base64; long ones are cut.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::http::problem::Problem;

/// Bytes to display.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Shown {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    /// Whether the bytes were cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<bool>,
    /// The full length in bytes, if the bytes were cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

/// The bytes as text, if a person could have typed them: UTF-8 without control characters, and without characters
/// that change the direction of the text around them.
fn as_text(bytes: &[u8]) -> Option<&str> {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    std::str::from_utf8(bytes).ok().filter(|text| !text.chars().any(|c| c.is_control() || turns(c)))
}

impl Shown {
    /// The first bytes, at most `limit`, of something that is `whole` bytes long.
    pub(super) fn beginning(bytes: &[u8], whole: u64, limit: usize) -> Shown {
        let kept = &bytes[..bytes.len().min(limit)];
        let is_cut = whole > kept.len() as u64;
        // Text may have been cut inside a character.
        let letters = match std::str::from_utf8(kept) {
            Err(error) if is_cut && error.error_len().is_none() => &kept[..error.valid_up_to()],
            _ => kept,
        };
        let text = as_text(letters).map(str::to_owned);
        Shown {
            base64: text.is_none().then(|| STANDARD.encode(kept)),
            text,
            cut: is_cut.then_some(true),
            bytes: is_cut.then_some(whole),
        }
    }

    /// All of `bytes`, or the first `limit` of them.
    pub(super) fn of(bytes: &[u8], limit: usize) -> Shown {
        Shown::beginning(bytes, bytes.len() as u64, limit)
    }
}

/// Bytes in a request: a string, or the form that [`Shown`] has.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Given {
    /// Text.
    Plain(String),
    /// Text in the form of [`Shown`].
    Text {
        /// The text.
        text: String,
    },
    /// Any bytes.
    Base64 {
        /// The bytes.
        base64: String,
    },
}

impl Given {
    pub(super) fn bytes(self) -> Result<Vec<u8>, Problem> {
        match self {
            Given::Plain(text) | Given::Text { text } => Ok(text.into_bytes()),
            Given::Base64 { base64 } => decode(&base64),
        }
    }
}

/// Decodes base64 in the standard or the URL alphabet, with or without padding.
pub(super) fn decode(base64: &str) -> Result<Vec<u8>, Problem> {
    let plain: String = base64
        .trim_end_matches('=')
        .chars()
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            c => c,
        })
        .collect();
    let unpadded = base64::engine::general_purpose::STANDARD_NO_PAD.decode(plain);
    unpadded.map_err(|error| Problem::bad(format!("not base64: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(bytes: &[u8], limit: usize) -> serde_json::Value {
        serde_json::to_value(Shown::of(bytes, limit)).unwrap()
    }

    #[test]
    fn what_a_person_could_have_typed_is_text_and_the_rest_is_base64() {
        assert_eq!(json(b"tree", 9), serde_json::json!({"text": "tree"}));
        assert_eq!(json("Zürich <b>".as_bytes(), 99), serde_json::json!({"text": "Zürich <b>"}));
        for no_text in [&b"a\nb"[..], b"\0", b"\xff", "\u{9b}".as_bytes(), "a\u{202e}b".as_bytes()] {
            assert_eq!(json(no_text, 9), serde_json::json!({"base64": STANDARD.encode(no_text)}));
        }
    }

    #[test]
    fn what_is_long_is_cut_between_two_letters_and_says_how_long_it_is() {
        assert_eq!(json(b"abcdef", 4), serde_json::json!({"text": "abcd", "cut": true, "bytes": 6}));
        assert_eq!(json("aüü".as_bytes(), 4), serde_json::json!({"text": "aü", "cut": true, "bytes": 5}));
        assert_eq!(json(b"ab\xc3", 4), serde_json::json!({"base64": STANDARD.encode(b"ab\xc3")}));
        assert_eq!(json(b"\xff\xff\xff", 2), serde_json::json!({"base64": "//8=", "cut": true, "bytes": 3}));
    }

    #[test]
    fn bytes_are_given_as_a_string_or_as_they_are_shown() {
        let bytes = |json: &str| serde_json::from_str::<Given>(json).unwrap().bytes();
        for json in ["\"tree\"", r#"{"text":"tree"}"#, r#"{"base64":"dHJlZQ=="}"#, r#"{"base64":"dHJlZQ"}"#] {
            assert_eq!(bytes(json).unwrap(), b"tree", "{json}");
        }
        assert_eq!(decode("_-8").unwrap(), decode("/+8=").unwrap());
        assert!(bytes(r#"{"base64":"%"}"#).is_err());
        assert!(serde_json::from_str::<Given>("5").is_err());
    }
}
