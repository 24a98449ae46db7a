//! Checks `--log`.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// The only crate that logs in the `sapwood` command.
const TARGET: &str = "sapwood";

/// Checks a filter: comma-separated directives, each a level or `TARGET=LEVEL` with a module of this crate.
///
/// [`EnvFilter`] takes a word that is no level as a target, so a misspelled level would silence every line.
///
/// # Errors
/// Returns a description of the problem.
pub(crate) fn check(filter: &str) -> Result<(), String> {
    if filter.trim().is_empty() {
        return Err("it is empty".into());
    }
    // Directives on spans and fields have another grammar, which [`EnvFilter`] checks.
    if !filter.contains('[') {
        filter.split(',').filter(|directive| !directive.is_empty()).try_for_each(check_directive)?;
    }
    EnvFilter::try_new(filter).map(drop).map_err(|error| error.to_string())
}

fn check_directive(directive: &str) -> Result<(), String> {
    match directive.split_once('=') {
        None if is_level(directive) || is_target(directive) => Ok(()),
        None => Err(format!("{directive:?} is no level: error, warn, info, debug, trace or off")),
        Some((target, _)) if !is_target(target) => {
            Err(format!("{target:?} is no module of this program: they begin with {TARGET}"))
        }
        Some((_, level)) if is_level(level) => Ok(()),
        Some((_, level)) => Err(format!("{level:?} is no level: error, warn, info, debug, trace or off")),
    }
}

fn is_level(word: &str) -> bool {
    !word.is_empty() && word.parse::<LevelFilter>().is_ok()
}

fn is_target(word: &str) -> bool {
    word.strip_prefix(TARGET).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_levels_and_modules_of_this_crate() {
        for good in [
            "info",
            "WARN",
            "off",
            "sapwood",
            "info,sapwood::replication=debug",
            "sapwood=trace,",
            "[x]=info",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_filter_that_would_silence_lines_by_a_slip_is_refused() {
        for (bad, reason) in [
            ("inof", "\"inof\" is no level"),
            ("info,debgu", "\"debgu\" is no level"),
            ("sapwod=debug", "\"sapwod\" is no module"),
            ("sapwood=loud", "\"loud\" is no level"),
            ("sapwood=", "\"\" is no level"),
            ("sapwoodx=info", "\"sapwoodx\" is no module"),
            ("info, sapwood=debug", "\" sapwood\" is no module"),
            (" ", "it is empty"),
            ("", "it is empty"),
        ] {
            let problem = check(bad).unwrap_err();
            assert!(problem.starts_with(reason), "{bad}: {problem}");
        }
    }
}
