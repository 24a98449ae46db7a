//! `CLIENT TRACKING`, `CLIENT CACHING` and `CLIENT GETREDIR`.

use super::context::{Context, DONE, Outcome, is};
use super::error::CommandError;
use crate::resp::Args;
use crate::resp::tracking::{Mode, Which};
use crate::store::{MAX_PREFIXES, Prefixes};

/// The longest prefix in bytes: each changed key is compared with all prefixes.
const MAX_PREFIX: usize = 1024;

/// The options of `CLIENT TRACKING`, as given.
#[derive(Default)]
struct Options<'a> {
    broadcasts: bool,
    opt_in: bool,
    opt_out: bool,
    no_loop: bool,
    prefixes: Vec<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(args: Args<'a>) -> Result<Self, CommandError> {
        let mut options = Options::default();
        let mut words = args.iter();
        while let Some(word) = words.next() {
            if is(word, "bcast") {
                options.broadcasts = true;
            } else if is(word, "optin") {
                options.opt_in = true;
            } else if is(word, "optout") {
                options.opt_out = true;
            } else if is(word, "prefix") {
                options.prefixes.push(words.next().ok_or(CommandError::Syntax)?);
            } else if is(word, "redirect") {
                return Err(CommandError::unsupported(
                    "CLIENT TRACKING REDIRECT",
                    "invalidations come on the connection that tracks",
                    "Use RESP3: HELLO 3",
                ));
            } else if is(word, "noloop") {
                options.no_loop = true;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        if options.no_loop && options.broadcasts {
            return Err(CommandError::unsupported(
                "CLIENT TRACKING BCAST NOLOOP",
                "a change does not tell which connection made it",
                "Leave out BCAST, or expect invalidations of the client's own writes too",
            ));
        }
        Ok(options)
    }

    /// The mode that the options ask for, given what the connection tracks already.
    fn which(self, before: Option<&Which>) -> Result<Which, CommandError> {
        if !self.broadcasts && !self.prefixes.is_empty() {
            return Err(said("PREFIX option requires BCAST mode to be enabled"));
        }
        let broadcast_before = matches!(before, Some(Which::Prefixes(..)));
        if before.is_some() && broadcast_before != self.broadcasts {
            return Err(switched("BCAST mode on/off"));
        }
        if self.broadcasts && (self.opt_in || self.opt_out) {
            return Err(said("OPTIN and OPTOUT are not compatible with BCAST"));
        }
        if self.opt_in && self.opt_out {
            return Err(said("You can't specify both OPTIN mode and OPTOUT mode"));
        }
        if self.opt_in && before == Some(&Which::OptOut) || self.opt_out && before == Some(&Which::OptIn) {
            return Err(switched("OPTIN/OPTOUT mode"));
        }
        if self.broadcasts {
            return self.broadcast(before);
        }
        Ok(match before {
            _ if self.opt_in => Which::OptIn,
            _ if self.opt_out => Which::OptOut,
            _ => Which::Read,
        })
    }

    fn broadcast(self, before: Option<&Which>) -> Result<Which, CommandError> {
        let mut all: Vec<Box<[u8]>> = match before {
            Some(Which::Prefixes(all, _)) => all.clone(),
            _ => Vec::new(),
        };
        let held = all.len();
        if self.prefixes.iter().any(|prefix| prefix.len() > MAX_PREFIX) {
            return Err(said(&format!("a prefix is at most {MAX_PREFIX} bytes long")));
        }
        let given = if self.prefixes.is_empty() { vec![&b""[..]] } else { self.prefixes };
        for (n, prefix) in given.iter().enumerate() {
            let existing = all[..held].iter().map(|other| (&**other, "an existing prefix"));
            let provided = given[n + 1..].iter().map(|other| (*other, "another provided prefix"));
            let overlaps = |other: &[u8]| other.starts_with(prefix) || prefix.starts_with(other);
            if let Some((other, which)) = existing.chain(provided).find(|(other, _)| overlaps(other)) {
                // Giving a prefix again is allowed.
                if which == "an existing prefix" && other == *prefix {
                    continue;
                }
                let [prefix, other] = [prefix, other].map(String::from_utf8_lossy);
                return Err(said(&format!(
                    "Prefix '{prefix}' overlaps with {which} '{other}'. Prefixes for a single client must not overlap."
                )));
            }
            all.push((*prefix).into());
        }
        let borrowed: Vec<&[u8]> = all.iter().map(|prefix| &**prefix).collect();
        let prefixes = Prefixes::new(&borrowed)
            .map_err(|_| said(&format!("a connection tracks at most {MAX_PREFIXES} prefixes")))?;
        Ok(Which::Prefixes(all, prefixes))
    }
}

fn said(text: &str) -> CommandError {
    CommandError::said(format!("ERR {text}"))
}

fn switched(what: &str) -> CommandError {
    said(&format!(
        "You can't switch {what} before disabling tracking for this client, and then re-enabling it with a different mode."
    ))
}

pub(super) fn tracking(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let options = Options::parse(args.tail(3))?;
    if is(&args[2], "off") {
        cx.session.stop_tracking(cx.shared);
    } else if is(&args[2], "on") {
        let no_loop = options.no_loop;
        let which = options.which(cx.session.tracking.as_ref().map(|mode| &mode.which))?;
        cx.session
            .start_tracking(cx.shared, Mode { which, caching: false, no_loop })
            .map_err(|error| said(&error.to_string()))?;
    } else {
        return Err(CommandError::Syntax);
    }
    cx.reply().ok();
    DONE
}

pub(super) fn caching(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let yes = is(&args[2], "yes");
    let Some(mode) = cx.session.tracking.as_mut() else {
        return Err(said(
            "CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        ));
    };
    if !yes && !is(&args[2], "no") {
        return Err(CommandError::Syntax);
    }
    match (yes, &mode.which) {
        (true, Which::OptIn) | (false, Which::OptOut) => mode.caching = true,
        (true, _) => {
            return Err(said("CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode."));
        }
        (false, _) => {
            return Err(said("CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode."));
        }
    }
    cx.reply().ok();
    DONE
}

/// -1 without tracking; 0 with it, because `REDIRECT` is not supported.
pub(super) fn getredir(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    let redirect = if cx.session.tracking.is_some() { 0 } else { -1 };
    cx.reply().int(redirect);
    DONE
}

pub(super) fn info(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    let mut flags = Vec::new();
    let mut prefixes: &[Box<[u8]>] = &[];
    match &cx.session.tracking {
        None => flags.push("off"),
        Some(mode) => {
            flags.push("on");
            match &mode.which {
                Which::Read => {}
                Which::OptIn => {
                    flags
                        .extend([Some("optin"), mode.caching.then_some("caching-yes")].into_iter().flatten());
                }
                Which::OptOut => {
                    flags
                        .extend([Some("optout"), mode.caching.then_some("caching-no")].into_iter().flatten());
                }
                Which::Prefixes(all, _) => {
                    flags.push("bcast");
                    prefixes = all;
                }
            }
            flags.extend(mode.no_loop.then_some("noloop"));
        }
    }
    let redirect = if cx.session.tracking.is_some() { 0 } else { -1 };
    let mut reply = crate::resp::Reply::new(cx.out, cx.session.proto);
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"redirect");
    reply.int(redirect);
    reply.bulk(b"prefixes");
    reply.array(prefixes.len());
    prefixes.iter().for_each(|prefix| reply.bulk(prefix));
    DONE
}
