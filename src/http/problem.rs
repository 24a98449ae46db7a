//! Errors in the format of RFC 9457: `application/problem+json`.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::cluster::ClusterError;
use crate::store::WriteError;

use super::host::DemoError;

/// A request that was refused, and why. Nothing was changed.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Problem { status, detail: detail.into() }
    }

    /// The request is invalid.
    pub(super) fn bad(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    /// The named thing does not exist.
    pub(super) fn unknown(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::NOT_FOUND, detail)
    }

    /// The caller or the operator's settings do not permit it.
    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::FORBIDDEN, detail)
    }

    /// It conflicts with the present state.
    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::CONFLICT, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.status, kind, body.to_string()).into_response()
    }
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::KeyTooLong { limit, .. } => {
                Problem::bad(format!("the key has more than {limit} bytes (--max-key)"))
            }
            WriteError::ValueTooLong { limit, .. } => {
                Problem::bad(format!("the value has more than {limit} bytes (--max-value)"))
            }
            WriteError::OutOfMemory => {
                let text = "the node is out of memory (--max-memory): only deletes are taken";
                Problem::new(StatusCode::INSUFFICIENT_STORAGE, text)
            }
            WriteError::Overflow | WriteError::NotAnInteger | WriteError::TooManySlots => {
                Problem::conflict(error.to_string())
            }
        }
    }
}

impl From<ClusterError> for Problem {
    fn from(error: ClusterError) -> Self {
        match error {
            ClusterError::UnknownMember(_) => Problem::unknown(error.to_string()),
            ClusterError::FaultsDisabled => Problem::forbidden(error.to_string()),
            _ => Problem::conflict(error.to_string()),
        }
    }
}

impl From<DemoError> for Problem {
    fn from(error: DemoError) -> Self {
        match error {
            DemoError::UnknownNode(_) => Problem::unknown(error.to_string()),
            DemoError::NotNow(_) => Problem::conflict(error.to_string()),
        }
    }
}
