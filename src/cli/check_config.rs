//! `sapwood check-config`

use std::path::PathBuf;

use clap::{ArgMatches, CommandFactory as _};
use sapwood::config::{Size, Span, SpanOrNever};
use toml::Value;

use super::logging::LogFormat;
use super::settings::{ConfigArgs, Loaded};
use super::{Cli, Exit, output};

/// Print the configuration that `serve` would run with, and where each value comes from
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood check-config --config /etc/sapwood.toml     # exit code 2 and the reason if it is not valid
  sapwood check-config --join 10.0.0.2:7172 > sapwood.toml

What is printed is itself a file for --config.")]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(crate) fn run(args: Args, matches: &ArgMatches) -> anyhow::Result<Exit> {
    let loaded = args.config.load_checked(&Cli::command())?;
    let matches = matches.subcommand_matches("check-config").unwrap_or(matches);
    for (key, value) in entries(&loaded) {
        let source = loaded.source(key, matches);
        let entry = match value {
            Some(value) => format!("{key} = {value}"),
            None => format!("# {key} is not set"),
        };
        output::line(&format!("{entry:<48}  # {source}"))?;
    }
    Ok(Exit::Done)
}

/// Every setting in the form of the file, in the order of the help; `None` if an unset value cannot be written there.
fn entries(Loaded { config, log, password_file, .. }: &Loaded) -> [(&'static str, Option<Value>); 38] {
    let text = |value: &dyn ToString| Some(Value::String(value.to_string()));
    let size = |bytes: u64| text(&Size(bytes));
    let path = |path: &Option<PathBuf>| path.as_ref().and_then(|path| text(&path.display()));
    [
        ("client", config.client.and_then(|address| text(&address))),
        ("peer", config.peer.and_then(|address| text(&address))),
        ("http", config.http.map_or(text(&"none"), |address| text(&address))),
        ("advertise", config.advertise.clone().map(Value::String)),
        ("join", Some(config.join.clone().into())),
        ("name", config.name.clone().map(Value::String)),
        ("cluster", text(&config.cluster)),
        ("max-clock-skew", text(&Span(config.max_clock_skew))),
        ("drain-timeout", text(&Span(config.drain_timeout))),
        ("ready-alone-after", text(&Span(config.ready_alone_after))),
        ("serve-while-joining", Some(config.serve_while_joining.into())),
        ("forget-after", text(&SpanOrNever(config.forget_after))),
        ("lost-file", path(&config.lost_file)),
        ("max-memory", size(config.max_memory.unwrap_or(0))),
        ("max-memory-policy", text(&config.max_memory_policy)),
        ("tombstone-limit", config.tombstone_limit.and_then(|n| i64::try_from(n).ok()).map(Value::Integer)),
        ("max-key", size(config.max_key as u64)),
        ("max-value", size(config.max_value as u64)),
        ("max-command", size(config.max_command as u64)),
        ("max-clients", i64::try_from(config.max_clients).ok().map(Value::Integer)),
        ("databases", Some(i64::from(config.databases).into())),
        ("peer-queue", size(config.peer_queue as u64)),
        ("notify-keyspace-events", text(&config.notify_keyspace_events)),
        ("client-password-file", path(password_file)),
        ("users-file", path(&config.users_file)),
        ("peer-tls-cert", path(&config.peer_tls_cert)),
        ("peer-tls-key", path(&config.peer_tls_key)),
        ("peer-tls-ca", path(&config.peer_tls_ca)),
        ("peer-secret-file", path(&config.peer_secret_file)),
        ("insecure", Some(config.insecure.into())),
        ("enable-flush", Some(config.enable_flush.into())),
        ("enable-scripts", Some(config.enable_scripts.into())),
        ("script-time-limit", text(&Span(config.script_time_limit))),
        ("enable-faults", Some(config.enable_faults.into())),
        ("http-writes", Some(config.http_writes.into())),
        ("http-show-values", Some(config.http_show_values.into())),
        ("log", text(&log.filter)),
        (
            "log-format",
            text(match log.format {
                LogFormat::Text => &"text",
                LogFormat::Json => &"json",
            }),
        ),
    ]
}

/// The settings that differ, except for the log filter, which can be changed while a node runs.
pub(super) fn differing(before: &Loaded, after: &Loaded) -> Vec<&'static str> {
    // The password file may contain another password than before.
    let password = before.config.client_password != after.config.client_password;
    let pairs = entries(before).into_iter().zip(entries(after));
    let changed = pairs.filter(|((key, before), (_, after))| match *key {
        "log" => false,
        "client-password-file" => password || before != after,
        _ => before != after,
    });
    changed.map(|((key, _), _)| key).collect()
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    #[test]
    fn every_setting_is_printed_in_the_order_of_the_help() {
        let command = ConfigArgs::augment_args(clap::Command::new("test"));
        let settings: Vec<String> = command
            .get_arguments()
            .filter_map(|arg| arg.get_long())
            .filter(|&long| long != "config")
            .map(str::to_owned)
            .collect();
        let matches = command.get_matches_from(["test"]);
        let loaded = ConfigArgs::from_arg_matches(&matches).unwrap().load().unwrap();
        assert_eq!(entries(&loaded).map(|(key, _)| key).to_vec(), settings);
    }
}
