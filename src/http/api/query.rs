//! Extracts queries and bodies of requests; errors become problems.

use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::bytes::decode;
use crate::http::problem::Problem;
use crate::model::{Deadline, Time, timestamp};

/// Extracts the query of a request. Unknown parameters are refused, so that a typing error shows.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(asked) = Query::<T>::from_request_parts(parts, state)
            .await
            .map_err(|error| Problem::bad(error.body_text()))?;
        Ok(Asked(asked))
    }
}

/// Extracts the JSON body of a request.
pub(super) struct Sent<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|error| Problem::new(error.status(), error.body_text()))?;
        let sent = serde_json::from_slice(&body);
        Ok(Sent(sent.map_err(|error| Problem::bad(format!("the body is not what is expected: {error}")))?))
    }
}

/// Bytes that a query gives as text, or in base64 under the name with the suffix 64.
pub(super) fn bytes(
    text: Option<String>,
    base64: Option<&str>,
    name: &str,
) -> Result<Option<Vec<u8>>, Problem> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(Problem::bad(format!("give {name} or {name}64, not both"))),
        (Some(text), None) => Ok(Some(text.into_bytes())),
        (None, Some(base64)) => decode(base64).map(Some),
        (None, None) => Ok(None),
    }
}

/// Formats a time as RFC 3339, in milliseconds.
pub(super) fn moment(time: Time) -> String {
    point(SystemTime::UNIX_EPOCH + timestamp::distance(time, timestamp::ZERO))
}

/// Formats a deadline in the same way; one after the year 9999, the last of RFC 3339, as the end of that year.
pub(super) fn deadline(deadline: Deadline) -> String {
    const LAST: u64 = 253_402_300_799_999;
    point(SystemTime::UNIX_EPOCH + Duration::from_millis(deadline.as_unix_millis().min(LAST)))
}

/// Formats a time of the machine's clock in the same way.
pub(super) fn point(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
