//! A token: names a writer and a feed sequence, so that a client finds its own writes on another node.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::model::{Incarnation, Time};

/// A point in the history of one node: everything that its clients had written when it was issued.
///
/// As text: `1.<sequence>.<time>.<generation>.<incarnation>.<name>`. Clients treat it as opaque.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// The name of the node that issued it.
    pub name: String,
    /// The incarnation of that node.
    pub incarnation: Incarnation,
    /// How many incarnations its name has had, including that one.
    pub generation: u64,
    /// The last change of a client there, as a number of [`publish`](crate::store::Store::publish).
    pub sequence: u64,
    /// Later than every timestamp that was held there.
    pub time: Time,
}

/// The version of the text format.
const LAYOUT: &str = "1";

/// A token that cannot be waited for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The text is not in the format of a token.
    #[error("that is no token: SAPWOOD TOKEN returns one")]
    Malformed,
    /// The incarnation that issued it has ended. This node may not have received everything that it held.
    #[error("the token is of an incarnation of {0:?} that is gone: what that alone held is lost")]
    Gone(String),
    /// Its time is further ahead of this node's clock than is accepted.
    #[error("the token is from {0:.1?} ahead of this node's clock: set both clocks by NTP")]
    Future(Duration),
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Token { name, incarnation, generation, sequence, time } = self;
        write!(f, "{LAYOUT}.{sequence}.{}.{generation}.{incarnation}.{name}", time.0)
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let parts = text.splitn(6, '.').collect::<Vec<_>>();
        let [LAYOUT, sequence, time, generation, incarnation, name] = parts[..] else {
            return Err(TokenError::Malformed);
        };
        let number = |digits: &str| digits.parse().map_err(|_| TokenError::Malformed);
        Ok(Token {
            name: name.to_owned(),
            incarnation: incarnation.parse().map_err(|_| TokenError::Malformed)?,
            generation: number(generation)?,
            sequence: number(sequence)?,
            time: Time(number(time)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::timestamp::incarnation;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_token_survives_its_text(
            name in "[!-~]{1,20}",
            id in 1..u128::MAX,
            [generation, sequence, time] in any::<[u64; 3]>(),
        ) {
            let incarnation = incarnation(id).unwrap();
            let token = Token { name, incarnation, generation, sequence, time: Time(time) };
            prop_assert_eq!(token.to_string().parse(), Ok(token));
        }

        #[test]
        fn any_text_is_a_token_or_an_error(
            text in ".{0,60}",
            close in "1\\.[0-9]{0,25}\\.[0-9]{0,25}(\\.[0-9a-f]{0,40}){0,4}",
        ) {
            for text in [text, close] {
                if let Ok(token) = text.parse::<Token>() {
                    prop_assert_eq!(token.to_string().parse(), Ok(token));
                }
            }
        }
    }
}
