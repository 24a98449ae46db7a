//! The page: files compiled into the program.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

const JS: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

/// Includes a file of the page under its name.
macro_rules! file {
    ($name:literal, $kind:expr) => {
        (concat!("/page/", $name), $kind, include_bytes!(concat!("page/", $name)))
    };
}

/// Every file except the first: its path, its type and its bytes. A new file of the page gets a line here.
const FILES: &[(&str, &str, &[u8])] = &[
    file!("page.css", CSS),
    file!("api.js", JS),
    file!("cluster.js", JS),
    file!("copies.js", JS),
    file!("counters.js", JS),
    file!("dom.js", JS),
    file!("drawing.js", JS),
    file!("feed.js", JS),
    file!("format.js", JS),
    file!("hues.js", JS),
    file!("keys.js", JS),
    file!("links.js", JS),
    file!("map.js", JS),
    file!("nodes.js", JS),
    file!("notices.js", JS),
    file!("page.js", JS),
    file!("stage.js", JS),
    file!("steps.js", JS),
    file!("theme.js", JS),
    file!("timeline.js", JS),
    file!("write.js", JS),
];

/// The file that `/` serves.
const INDEX: &str = include_str!("page/index.html");

/// The placeholder in the first file for the token.
const TOKEN_PLACE: &str = "{{token}}";

/// The routes of the page. The page sends `token` with requests that change anything.
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
    fn every_file_of_the_page_is_served() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/page");
        let here = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut here: Vec<_> = here.map(|name| format!("/page/{}", name.to_str().unwrap())).collect();
        let mut served: Vec<_> = FILES.iter().map(|(path, ..)| (*path).to_owned()).collect();
        served.push("/page/index.html".into());
        here.sort();
        served.sort();
        assert_eq!(here, served);
    }

    #[test]
    fn the_page_loads_nothing_that_is_not_in_the_program() {
        assert!(INDEX.contains(TOKEN_PLACE));
        let files = FILES.iter().map(|(path, _, bytes)| (*path, std::str::from_utf8(bytes).expect("text")));
        for (path, text) in files.chain([("/", INDEX)]) {
            for elsewhere in ["http://", "https://", "src=\"//", "url(//", "@import"] {
                // Names of XML vocabularies look like URLs, but the browser loads nothing from them.
                let text = text.replace("http://www.w3.org/", "");
                assert!(!text.contains(elsewhere), "{path} has {elsewhere}");
            }
        }
    }
}
