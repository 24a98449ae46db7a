//! The scripts that a node has seen, by their SHA-1, for `EVALSHA`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use mlua::chunk::Compiler;
use tracing_mutex::parkinglot::Mutex;

/// Most scripts that are kept, and most bytes of their texts. Beyond it the one that was not used for longest goes.
const MAX_SCRIPTS: usize = 1_000;
const MAX_CACHED: usize = 16 << 20;
/// The longest text of a script. Compiling it takes some 50 ms.
pub(super) const MAX_SOURCE: usize = 256 << 10;

/// The bytes of a SHA-1.
type Digest = [u8; 20];

/// A script that has been compiled.
pub(super) struct Script {
    pub(super) sha: String,
    pub(super) source: Box<[u8]>,
    /// What Luau's compiler has made of it. It never comes from outside.
    pub(super) bytecode: Vec<u8>,
    /// Whether its first line says `no-writes`.
    pub(super) only_reads: bool,
}

/// The scripts of a node.
#[derive(Default)]
pub(super) struct Scripts {
    cached: Mutex<Cached>,
    running: AtomicUsize,
    kills: Arc<AtomicU64>,
}

#[derive(Default)]
struct Cached {
    by_digest: HashMap<Digest, (Arc<Script>, u64)>,
    bytes: usize,
    /// Counts uses: what was used last has the largest number.
    uses: u64,
}

impl Cached {
    fn get(&mut self, digest: &Digest) -> Option<Arc<Script>> {
        self.uses += 1;
        let (script, used) = self.by_digest.get_mut(digest)?;
        *used = self.uses;
        Some(Arc::clone(script))
    }

    fn remove(&mut self, digest: &Digest) {
        if let Some((script, _)) = self.by_digest.remove(digest) {
            self.bytes -= script.source.len();
        }
    }

    fn add(&mut self, digest: Digest, script: Arc<Script>) {
        self.remove(&digest);
        self.uses += 1;
        self.bytes += script.source.len();
        self.by_digest.insert(digest, (script, self.uses));
        while self.by_digest.len() > MAX_SCRIPTS || self.bytes > MAX_CACHED {
            let oldest = self.by_digest.iter().min_by_key(|(_, (_, used))| *used);
            let Some(digest) = oldest.map(|(digest, _)| *digest) else { break };
            self.remove(&digest);
        }
    }
}

impl Scripts {
    /// How many scripts are kept.
    pub(super) fn len(&self) -> usize {
        self.cached.lock().by_digest.len()
    }

    /// The script of this text, compiled now unless it is cached.
    ///
    /// # Errors
    /// In Redis's words, if the text is no script.
    pub(super) fn load(&self, source: &[u8]) -> Result<Arc<Script>, String> {
        if source.len() > MAX_SOURCE {
            return Err(format!("ERR a script has at most {MAX_SOURCE} bytes"));
        }
        let sha = sha1_smol::Sha1::from(source).digest();
        let digest = sha.bytes();
        if let Some(script) = self.cached.lock().get(&digest) {
            return Ok(script);
        }
        let (only_reads, body) = shebang(source)?;
        let compiler = Compiler::new().set_optimization_level(1).set_debug_level(1);
        let bytecode = compiler.compile(body).map_err(|error| {
            let text = match error {
                mlua::Error::SyntaxError { message, .. } => message,
                other => other.to_string(),
            };
            let text = text.trim_start_matches(':');
            format!("ERR Error compiling script (new function): user_script:{text}")
        })?;
        let script = Arc::new(Script { sha: sha.to_string(), source: source.into(), bytecode, only_reads });
        self.cached.lock().add(digest, Arc::clone(&script));
        Ok(script)
    }

    /// The script of this SHA-1, in hexadecimal digits.
    pub(super) fn find(&self, sha: &[u8]) -> Option<Arc<Script>> {
        let digest = str::from_utf8(sha).ok()?.parse::<sha1_smol::Digest>().ok()?;
        self.cached.lock().get(&digest.bytes())
    }

    pub(super) fn flush(&self) {
        let dropped = std::mem::take(&mut *self.cached.lock());
        drop(dropped);
    }

    /// Notes that a script runs, until the result is dropped.
    pub(super) fn run(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::Relaxed);
        Running {
            scripts: self,
            kill: Kill { kills: Arc::clone(&self.kills), before: self.kills.load(Ordering::Relaxed) },
        }
    }

    /// Ends all scripts that run; returns whether there were any.
    pub(super) fn kill(&self) -> bool {
        let any = self.running.load(Ordering::Relaxed) > 0;
        self.kills.fetch_add(1, Ordering::Relaxed);
        any
    }
}

/// A script that runs.
pub(super) struct Running<'s> {
    scripts: &'s Scripts,
    pub(super) kill: Kill,
}

/// Tells whether a script that runs is to end.
#[derive(Clone)]
pub(super) struct Kill {
    kills: Arc<AtomicU64>,
    before: u64,
}

impl Kill {
    pub(super) fn is_asked(&self) -> bool {
        self.kills.load(Ordering::Relaxed) != self.before
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.scripts.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads the first line if it is `#!lua flags=…`; returns whether the script only reads, and the text without it.
fn shebang(source: &[u8]) -> Result<(bool, &[u8]), String> {
    if !source.starts_with(b"#!") {
        return Ok((false, source));
    }
    let end = source.iter().position(|byte| *byte == b'\n').ok_or("ERR Invalid script shebang")?;
    let line = String::from_utf8_lossy(&source[..end.min(128)]).into_owned();
    let mut words = line.split_ascii_whitespace();
    if words.next() != Some("#!lua") {
        return Err(format!("ERR Unexpected engine in script shebang: {line}"));
    }
    let mut only_reads = false;
    for word in words {
        let flags = word.strip_prefix("flags=").ok_or(format!("ERR Unknown lua shebang option: {word}"))?;
        for flag in flags.split(',').filter(|flag| !flag.is_empty()) {
            match flag {
                "no-writes" => only_reads = true,
                "allow-oom" | "allow-stale" | "no-cluster" | "allow-cross-slot-keys" => {}
                _ => return Err(format!("ERR Unexpected flag in script shebang: {flag}")),
            }
        }
    }
    // The line end stays, so that errors name the lines of the text.
    Ok((only_reads, &source[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_that_was_not_used_for_longest_goes_first() {
        let scripts = Scripts::default();
        let text = |n: usize| format!("return {n}").into_bytes();
        let first = scripts.load(&text(0)).unwrap();
        for n in 1..MAX_SCRIPTS {
            scripts.load(&text(n)).unwrap();
        }
        assert!(scripts.find(first.sha.as_bytes()).is_some());
        let second = scripts.load(&text(1)).unwrap();
        let third = sha1_smol::Sha1::from(text(2)).digest().to_string();
        scripts.load(&text(MAX_SCRIPTS)).unwrap();
        assert!(
            scripts.find(first.sha.as_bytes()).is_some() && scripts.find(second.sha.as_bytes()).is_some()
        );
        assert!(scripts.find(third.as_bytes()).is_none());
    }
}
