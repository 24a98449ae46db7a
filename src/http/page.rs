//! The page: files that are part of the program.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

const JS: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

/// Every file beside the first: its path, its type and its bytes. What is added to the page gets a line here.
const FILES: &[(&str, &str, &[u8])] =
    &[("/page.css", CSS, include_bytes!("page/page.css")), ("/page.js", JS, include_bytes!("page/page.js"))];

/// What `/` serves.
const INDEX: &str = include_str!("page/index.html");

/// Where the first file carries what its requests must carry to be done.
const TOKEN_PLACE: &str = "{{token}}";

/// The routes of the page, which sends `token` along with what it wants written.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(token: &str) -> Router<S> {
    let index = INDEX.replace(TOKEN_PLACE, token);
    let html = move || async move { ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], index) };
    let router = Router::new().route("/", get(html));
    FILES.iter().fold(router, |router, &(path, kind, bytes)| {
        router
            .route(path, get(move || async move { ([(header::CONTENT_TYPE, kind)], bytes).into_response() }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_loads_nothing_that_is_not_in_the_program() {
        assert!(INDEX.contains(TOKEN_PLACE));
        let files = FILES.iter().map(|(path, _, bytes)| (*path, std::str::from_utf8(bytes).expect("text")));
        for (path, text) in files.chain([("/", INDEX)]) {
            for elsewhere in ["http://", "https://", "src=\"//", "url(//", "@import"] {
                // Names of XML vocabularies look like addresses and load nothing.
                let text = text.replace("http://www.w3.org/", "");
                assert!(!text.contains(elsewhere), "{path} has {elsewhere}");
            }
        }
    }
}
