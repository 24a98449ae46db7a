//! `sapwood certs show`

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, bail};

use super::issued::Issued;
use crate::cli::output::{self, Paint, Stream, Table, printable};

const COLUMNS: [&str; 6] = ["FILE", "NAME", "HOSTS", "FROM", "UNTIL", "DAYS LEFT"];

pub(super) fn run(path: &Path) -> anyhow::Result<()> {
    let files = if path.is_dir() { files_of(path)? } else { vec![path.to_owned()] };
    let mut table = Table::default();
    table.row(COLUMNS);
    let mut found = 0;
    for file in files {
        let pem = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        for issued in Issued::read(&pem) {
            found += 1;
            table.row(row(&file, &issued));
        }
    }
    if found == 0 {
        bail!("{} has no certificates in PEM format", path.display());
    }
    output::table(&table, Paint::on(Stream::Stdout), None)?;
    Ok(())
}

fn row(file: &Path, issued: &Issued) -> [String; COLUMNS.len()] {
    let name = match &issued.name {
        Some(name) => name.to_string(),
        None if issued.is_ca => format!("CA: {}", issued.subject),
        None => issued.subject.clone(),
    };
    let days = match issued.days_left() {
        0.. if issued.not_before > issued.not_after => "never valid".to_owned(),
        days @ 0.. => days.to_string(),
        _ => "expired".to_owned(),
    };
    let hosts = printable(issued.hosts.join(", ").as_bytes());
    let file = file.display().to_string();
    [file, printable(name.as_bytes()), hosts, date(issued.not_before), date(issued.not_after), days]
}

fn date(seconds: i64) -> String {
    let since_epoch = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since_epoch).to_string()
}

/// The files of a folder that may hold certificates, in alphabetical order.
fn files_of(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "crt" || extension == "pem") {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}
