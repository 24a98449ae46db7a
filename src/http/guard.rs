//! Checks every request, and limits its time; adds security headers to every response.
//!
//! * **Host.** A server on a loopback address answers only requests whose `Host` is such an address. Otherwise a site
//!   whose name is made to resolve to 127.0.0.1 (DNS rebinding) could act as this server's page.
//! * **Origin and token.** A request that changes anything must carry the token that this server has put into its
//!   page, which no other site's script can read, and must not come from another origin.
//! * **Content security policy.** The page runs only its own files and connects only to this server, whatever keys
//!   and values contain.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::time::timeout;

use super::problem::Problem;
use super::state::{App, MAX_BODY, REQUEST_LIMIT};

/// The header in which the page sends its token.
pub(super) const TOKEN: HeaderName = HeaderName::from_static("x-sapwood-token");

/// Headers of every response.
const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Passes allowed requests on, within the time limit, and adds the headers to every response.
pub(super) async fn watch(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let answer = async {
        let Err(problem) = check(&app, request.method(), request.headers()) else {
            return next.run(request).await;
        };
        // Reads the body, because closing a connection with unread input resets it, and the response may be lost.
        let _ = to_bytes(request.into_body(), MAX_BODY).await;
        problem.into_response()
    };
    let mut response = timeout(REQUEST_LIMIT, answer).await.unwrap_or_else(|_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "it took too long").into_response()
    });
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn check(app: &App, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let host = text(headers, &header::HOST);
    if app.address.ip().to_canonical().is_loopback()
        && !host.is_some_and(|host| names_this(host, app.address))
    {
        let detail = "this server is on a loopback address: ask for it by localhost or 127.0.0.1";
        return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail));
    }
    if method == Method::GET || method == Method::HEAD {
        return Ok(());
    }
    if !app.options.writes {
        return Err(Problem::forbidden("start the node with --http-writes to write from here"));
    }
    if headers.contains_key(header::ORIGIN) && !is_same_origin(text(headers, &header::ORIGIN), host) {
        return Err(Problem::forbidden("the request comes from another origin"));
    }
    if !is_token(text(headers, &TOKEN), &app.token) {
        return Err(Problem::forbidden(
            "the request has not the token of this server's page: reload the page",
        ));
    }
    Ok(())
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a `Host` header can only name this machine. The port may be that of a tunnel.
fn names_this(host: &str, address: SocketAddr) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback() || ip == address.ip())
}

/// Whether an `Origin` is that of the server named by `host`; the scheme is the one that the browser used.
fn is_same_origin(origin: Option<&str>, host: Option<&str>) -> bool {
    let authority = origin.and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    authority.is_some_and(|authority| host.is_some_and(|host| authority.eq_ignore_ascii_case(host)))
}

/// Compares tokens in a time that depends only on their length.
fn is_token(given: Option<&str>, token: &str) -> bool {
    let given = given.unwrap_or_default().as_bytes();
    let differing = given.iter().zip(token.as_bytes()).fold(0, |bits, (a, b)| bits | (a ^ b));
    given.len() == token.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_answered_on_loopback() {
        let address = "127.0.0.1:7173".parse().unwrap();
        for good in
            ["localhost", "LOCALHOST:7173", "127.0.0.1:8000", "127.1.2.3", "[::1]:7173", "[::ffff:127.0.0.1]"]
        {
            assert!(names_this(good, address), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "evil.example:7173",
            "localhost.evil.example",
            "10.0.0.1:7173",
            "::",
            "[evil]:1",
        ] {
            assert!(!names_this(bad, address), "{bad}");
        }
    }

    #[test]
    fn an_origin_is_compared_with_the_host_that_was_asked() {
        assert!(is_same_origin(Some("http://localhost:7173"), Some("localhost:7173")));
        for other in ["http://localhost:7174", "http://evil.example", "null", ""] {
            assert!(!is_same_origin(Some(other), Some("localhost:7173")), "{other}");
        }
        assert!(!is_same_origin(None, Some("localhost:7173")), "an origin that is no text");
    }

    #[test]
    fn a_token_is_taken_whole_or_not_at_all() {
        assert!(is_token(Some("abcd"), "abcd"));
        for other in [None, Some(""), Some("abc"), Some("abcde"), Some("abce")] {
            assert!(!is_token(other, "abcd"), "{other:?}");
        }
    }
}
