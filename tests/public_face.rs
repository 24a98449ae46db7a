//! The public face of both crates is the one that `docs/public-face.txt` lists, so that a change to it is seen in review.
//!
//! The listing is taken from the pages of `cargo doc`, which follow re-exports, features and hidden items as a user sees
//! them, on stable Rust. A listing that was kept by hand, or code that names every item, would miss additions. To accept
//! a change: `SAPWOOD_PUBLIC_FACE=write cargo test --test public_face -- --ignored`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const LISTING: &str = "docs/public-face.txt";

/// Builds the pages of both crates; returns their folder.
fn pages() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the target folder");
    let doc = target.join("doc");
    for krate in ["sapwood", "sapwood_client"] {
        // Cargo keeps pages that it takes for fresh, also if other features wrote over them.
        let _ = fs::remove_dir_all(doc.join(krate));
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["doc", "--no-deps", "--lib", "--all-features", "-p", "sapwood", "-p", "sapwood-client"]);
    cargo.arg("--target-dir").arg(target).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = cargo.output().expect("cargo has built this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    doc
}

/// The text of HTML.
fn text(html: &str) -> String {
    let mut text = String::new();
    // The label of a folded list of fields is no code.
    for (n, part) in html.split("<summary").enumerate() {
        let part = if n == 0 { part } else { part.split_once("</summary>").map_or("", |(_, code)| code) };
        for (n, piece) in part.split('<').enumerate() {
            text.push_str(if n == 0 { piece } else { piece.split_once('>').map_or("", |(_, text)| text) });
        }
    }
    for (entity, character) in
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")]
    {
        text = text.replace(entity, character);
    }
    text
}

/// The text of HTML, on one line.
fn line(html: &str) -> String {
    text(html).replace('ⓘ', "").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What stands between each `open` and the next `close`.
fn between<'a>(html: &'a str, open: &'a str, close: &'a str) -> impl Iterator<Item = &'a str> {
    html.split(open).skip(1).map(move |rest| rest.split_once(close).map_or(rest, |(inside, _)| inside))
}

/// The part of a page from `start`, if it is there, to the first of `ends`.
fn section<'a>(page: &'a str, start: &str, ends: &[&str]) -> &'a str {
    let rest = page.split_once(start).map_or("", |(_, rest)| rest);
    let end = ends.iter().filter_map(|end| rest.find(end)).min();
    &rest[..end.unwrap_or(rest.len())]
}

/// Declaration, methods and traits of one item.
fn describe(page: &str, listing: &mut String) {
    for declaration in between(page, "<pre class=\"rust item-decl\">", "</pre>").take(1) {
        for line in text(declaration).replace("#[non_exhaustive]", "#[non_exhaustive]\n").lines() {
            writeln!(listing, "    {line}").expect("a string takes everything");
        }
    }
    const TRAITS: &str = "id=\"trait-implementations-list\"";
    const OTHERS: [&str; 2] = ["id=\"synthetic-implementations\"", "id=\"blanket-implementations\""];
    let own =
        section(page, "id=\"implementations-list\"", &["id=\"deref-methods", TRAITS, OTHERS[0], OTHERS[1]]);
    let required = section(page, "id=\"required-methods\"", &["id=\"implementors\""]);
    let methods = |part| between(part, "<h4 class=\"code-header\">", "</h4>");
    for method in methods(own).chain(methods(required)) {
        writeln!(listing, "      {}", line(method)).expect("a string takes everything");
    }
    let traits = section(page, TRAITS, &OTHERS);
    let mut traits: Vec<_> = between(traits, "<h3 class=\"code-header\">", "</h3>").map(line).collect();
    // A part of `PartialEq` that is not stable.
    traits.retain(|implemented| !implemented.starts_with("impl StructuralPartialEq"));
    traits.sort();
    for implemented in traits {
        writeln!(listing, "      {implemented}").expect("a string takes everything");
    }
}

fn list() -> String {
    let doc = pages();
    let mut listing = String::new();
    for krate in ["sapwood", "sapwood_client"] {
        let read = |page: &str| {
            fs::read_to_string(doc.join(krate).join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
        };
        writeln!(listing, "{krate}").expect("a string takes everything");
        let index = read("index.html");
        for export in between(&index, "<code>pub use ", "</code>") {
            writeln!(listing, "  pub use {}", line(export)).expect("a string takes everything");
        }
        let all = read("all.html");
        // Not the links to its parts, which come first.
        let all = section(&all, "<h1>List of all items</h1>", &[]);
        let links = between(all, "<li><a href=\"", "</a>");
        let mut items: Vec<_> =
            links.map(|link| link.split_once("\">").expect("a link has a text")).collect();
        items.sort_unstable_by_key(|(_, name)| *name);
        for (page, name) in items {
            writeln!(listing, "  {name}").expect("a string takes everything");
            describe(&read(page), &mut listing);
        }
    }
    listing
}

#[test]
#[ignore = "reads pages whose form another version of Rust may change: .ci/run runs it"]
fn the_public_face_is_the_one_that_is_listed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(LISTING);
    let found = list();
    if std::env::var("SAPWOOD_PUBLIC_FACE").is_ok_and(|word| word == "write") {
        fs::write(&path, &found).expect("the listing can be written");
    }
    let listed = fs::read_to_string(&path).expect("the listing is in the repository");
    let gone = listed.lines().filter(|line| !found.lines().any(|other| other == *line));
    let new = found.lines().filter(|line| !listed.lines().any(|other| other == *line));
    let changes: Vec<_> =
        gone.map(|line| format!("- {line}")).chain(new.map(|line| format!("+ {line}"))).collect();
    assert!(
        listed == found,
        "the public face differs from {LISTING}:\n{}\nTo accept it: SAPWOOD_PUBLIC_FACE=write cargo test --test public_face -- --ignored",
        changes.join("\n")
    );
}
