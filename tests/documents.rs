//! What the documents point to exists: files, tests, and rules that can be left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file below a folder, by its path from the root.
fn sources(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).expect("the project has this folder");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("a folder can be read").file_name();
    let paths = entries.map(|entry| format!("{folder}/{}", name(entry).display()));
    let below = |path: String| if root().join(&path).is_dir() { sources(&path) } else { vec![path] };
    paths.flat_map(below).filter(|path| path.ends_with(".rs")).collect()
}

/// What stands between backticks outside of blocks of code.
fn quoted(document: &str) -> BTreeSet<String> {
    let prose: String = read(document).split("```").step_by(2).collect();
    prose.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_files_that_the_glossary_names_exist() {
    let files: Vec<_> = quoted("docs/glossary.md").into_iter().filter(|text| text.ends_with(".rs")).collect();
    assert!(files.len() > 20, "{files:?}");
    let all = [sources("src"), sources("client/src"), sources("tests")].concat();
    for file in files {
        let is_it = |path: &String| Path::new(path).ends_with(&file);
        assert!(all.iter().any(is_it), "docs/glossary.md names {file}");
    }
}

#[test]
fn the_tests_and_the_rules_that_guard_invariants_exist() {
    let code: String = [sources("src"), sources("tests")].concat().iter().map(|path| read(path)).collect();
    let rules = read("src/ablation.rs");
    let (mut tests, mut ablations) = (0, 0);
    for text in quoted("docs/healing.md") {
        if text.matches('_').count() >= 4 {
            tests += 1;
            assert!(code.contains(&format!("fn {text}(")), "docs/healing.md names the test {text}");
        }
        let is_name = text.chars().all(char::is_alphanumeric) && text.chars().any(char::is_lowercase);
        if is_name && text.starts_with(char::is_uppercase) && text != "Ablation" {
            ablations += usize::from(rules.contains(&format!("    {text},\n")));
            assert!(code.contains(&text), "docs/healing.md names {text}");
        }
    }
    assert!(tests > 15 && ablations > 15, "{tests} tests, {ablations} rules");
}

#[test]
fn every_script_of_a_framework_has_a_row() {
    let folder = "tests/system/frameworks";
    let document = read("docs/compatibility.md");
    let entries = fs::read_dir(root().join(folder)).expect("the project has this folder");
    let names = entries.map(|entry| entry.expect("a folder can be read").file_name().display().to_string());
    let scripts: Vec<_> =
        names.filter(|name| !name.starts_with("shared.") && !name.ends_with(".txt")).collect();
    assert!(scripts.len() > 10, "{scripts:?}");
    for script in &scripts {
        assert!(
            document.contains(&format!("](../{folder}/{script})")),
            "docs/compatibility.md has no {script}"
        );
    }
    assert_eq!(
        document.matches(&format!("](../{folder}/")).count(),
        scripts.len(),
        "rows of scripts that exist"
    );
}
