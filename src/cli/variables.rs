//! Finds `SAPWOOD_*` environment variables that nothing reads, most often misspelled settings.

use std::collections::BTreeSet;

use clap::Command;

const PREFIX: &str = "SAPWOOD_";

/// Variables that tests, benches and `deploy/compose.yaml` read, and the command does not.
const OF_TOOLS: [&str; 5] =
    ["SAPWOOD_BENCH_", "SAPWOOD_EXPLORE_", "SAPWOOD_FUZZ_", "SAPWOOD_SIM_", "SAPWOOD_TEST_"];
const OF_COMPOSE: [&str; 5] =
    ["SAPWOOD_IMAGE", "SAPWOOD_PAGE_PORT", "SAPWOOD_A_PORT", "SAPWOOD_B_PORT", "SAPWOOD_C_PORT"];

/// Least similarity, from 0 to 1, of two names for one to be suggested for the other.
const ALIKE: f64 = 0.8;

/// Environment variables that look like settings and are not. The message has no values: one may be a password.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n       "))]
pub(crate) struct UnknownVariables(Vec<String>);

/// Checks that `command`, one of its subcommands, or a tool of this project reads each of `variables` (name and
/// value) that begins with `SAPWOOD_`.
pub(crate) fn check(
    command: &Command,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<(), UnknownVariables> {
    let mut known = BTreeSet::new();
    collect(command, &mut known);
    let mut unknown: Vec<String> = variables
        .into_iter()
        .filter(|(name, value)| {
            name.starts_with(PREFIX) && !known.contains(name) && !is_of_others(name, value)
        })
        .map(|(name, _)| match nearest(&name, &known) {
            Some(near) => format!("unknown environment variable {name}: did you mean {near}?"),
            None => {
                format!("unknown environment variable {name}: `sapwood serve --help` lists those of settings")
            }
        })
        .collect();
    unknown.sort();
    if unknown.is_empty() { Ok(()) } else { Err(UnknownVariables(unknown)) }
}

/// The environment as text. A name that is not UTF-8 cannot be a known one.
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

fn collect(command: &Command, into: &mut BTreeSet<String>) {
    let variables = command.get_arguments().filter_map(|arg| arg.get_env());
    into.extend(variables.map(|name| name.to_string_lossy().into_owned()));
    command.get_subcommands().for_each(|sub| collect(sub, into));
}

fn is_of_others(name: &str, value: &str) -> bool {
    OF_TOOLS.iter().any(|prefix| name.starts_with(prefix))
        || OF_COMPOSE.contains(&name)
        || is_of_kubernetes(name, value)
}

/// Whether Kubernetes or Docker set the variable for a service or container whose name begins with `sapwood`: they
/// describe each service to every container as `NAME_SERVICE_HOST`, `NAME_PORT_7171_TCP_ADDR` and so on.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    let after = |part: &str| name.split_once(part).map(|(_, rest)| rest);
    let is_part = |rest: &str| rest.is_empty() || rest.starts_with('_');
    let is_link = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let is_port = |rest: &str| is_link && rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_digit());
    name.ends_with("_SERVICE_HOST")
        || after("_SERVICE_PORT").is_some_and(is_part)
        || name.ends_with("_PORT") && is_link
        || after("_PORT_").is_some_and(is_port)
}

fn nearest<'k>(name: &str, known: &'k BTreeSet<String>) -> Option<&'k str> {
    // Compared without the prefix, which would make all names similar.
    let likeness = |other: &str| strsim::jaro_winkler(&name[PREFIX.len()..], &other[PREFIX.len()..]);
    let best = known.iter().map(|other| (likeness(other), other)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= ALIKE).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn refusal(name: &str, value: &str) -> Option<String> {
        let environment = [(name.to_owned(), value.to_owned()), ("HOME".into(), "/".into())];
        check(&crate::cli::Cli::command(), environment).err().map(|error| error.to_string())
    }

    #[test]
    fn a_misspelled_variable_is_refused_with_the_nearest_name_and_without_its_value() {
        for (wrong, right) in [
            ("SAPWOOD_MAX_MEMROY", "SAPWOOD_MAX_MEMORY"),
            ("SAPWOOD_JOINS", "SAPWOOD_JOIN"),
            ("SAPWOOD_PASSWORD", "SAPWOOD_PASSWORD_FILE"),
            ("SAPWOOD_CLIENT_PORT", "SAPWOOD_CLIENT"),
            ("SAPWOOD_LOGS", "SAPWOOD_LOG"),
        ] {
            let refusal = refusal(wrong, "hunter2").unwrap();
            assert_eq!(refusal, format!("unknown environment variable {wrong}: did you mean {right}?"));
        }
        let refusal = refusal("SAPWOOD_XYZZY", "1").unwrap();
        assert!(refusal.contains("SAPWOOD_XYZZY") && !refusal.contains("did you mean"), "{refusal}");
    }

    #[test]
    fn what_the_command_the_tools_and_kubernetes_set_is_known() {
        for known in ["SAPWOOD_MAX_MEMORY", "SAPWOOD_CONFIG", "SAPWOOD_NODE", "SAPWOOD_PASSWORD_FILE", "SAP"]
        {
            assert_eq!(refusal(known, "1"), None, "{known}");
        }
        for tool in ["SAPWOOD_SIM_SEED", "SAPWOOD_FUZZ_CASES", "SAPWOOD_EXPLORE_DEPTH", "SAPWOOD_IMAGE"] {
            assert_eq!(refusal(tool, "1"), None, "{tool}");
        }
        for (name, value) in [
            ("SAPWOOD_SERVICE_HOST", "10.0.0.1"),
            ("SAPWOOD_SERVICE_PORT", "7171"),
            ("SAPWOOD_SERVICE_PORT_CLIENT", "7171"),
            ("SAPWOOD_PORT", "tcp://10.0.0.1:7171"),
            ("SAPWOOD_PORT_7171_TCP", "tcp://10.0.0.1:7171"),
            ("SAPWOOD_PORT_7171_TCP_ADDR", "10.0.0.1"),
            ("SAPWOOD_DB_1_PORT_7171_TCP_PROTO", "tcp"),
        ] {
            assert_eq!(refusal(name, value), None, "{name}");
        }
        assert!(refusal("SAPWOOD_PORT", "7171").is_some());
    }
}
