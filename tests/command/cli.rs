//! The `sapwood` command as a shell sees it: what it prints, where, and the code it ends with.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::command::{sapwood, stderr, stdout};

fn run(args: &[&str]) -> Output {
    sapwood(args).output().unwrap()
}

/// What `check-config` prints for `key`: its value, and the source in the comment.
fn line_of(output: &Output, key: &str) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    let lines = stdout(output);
    let line = lines.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn write(path: &Path, content: &str) -> String {
    std::fs::write(path, content).unwrap();
    path.display().to_string()
}

#[test]
fn help_says_where_to_start() {
    let help = run(&["--help"]);
    assert!(help.status.success());
    assert!(stdout(&help).contains("Where to start:\n  sapwood demo"));
    assert!(run(&["--version"]).stdout.starts_with(b"sapwood "));
}

#[test]
fn the_help_of_serve_is_grouped_and_has_no_colours_in_a_pipe() {
    let help = stdout(&run(&["serve", "--help"]));
    for part in ["Addresses:", "Cluster:", "Limits:", "Security:", "Logging:", "Examples:", "SAPWOOD_JOIN"] {
        assert!(help.contains(part), "{part} is missing");
    }
    assert!(!help.contains('\x1b'));
}

#[test]
fn wrong_usage_ends_with_2_and_a_reason_on_stderr() {
    let cases: [(&[&str], &str); 36] = [
        (&[], "Usage:"),
        (&["plant"], "plant"),
        (&["get"], "<KEY>"),
        (&["set", "k", "v", "--nx", "--xx"], "--xx"),
        (&["set", "k", "v", "--ttl", "5"], "is not a duration"),
        (&["set", "k", "v", "--ttl", "0s"], "1ms or more"),
        (&["serve", "--max-key", "1.5k"], "is not a size"),
        (
            &["serve", "--max-memory", "-1"],
            "\"-1\" is not a size: write 64KiB, 16MiB, 1GiB or a number of bytes",
        ),
        (&["serve", "--max-clients", "-1"], "write a whole number"),
        (&["serve", "--log", "inof"], "\"inof\" is no level: error, warn, info, debug, trace or off"),
        (
            &["serve", "--client", "no-such-host.invalid:1"],
            "--client no-such-host.invalid:1 cannot be resolved",
        ),
        (&["set", "k", "v", "--ttl", "-5s"], "is not a duration"),
        (&["get", "k", "--timeout", "-1"], "is not a duration"),
        (&["serve", "--client", "0.0.0.0:0"], "refusing to listen on 0.0.0.0:0 without a password"),
        (&["check-config", "--join", "here"], "--join \"here\" is not HOST:PORT"),
        (&["get", "k", "--password-file", "/nonexistent"], "--password-file /nonexistent"),
        (&["get", "k", "--node", "here"], "write HOST:PORT"),
        (&["man", "plant"], "serve, demo, get, set"),
        (&["incr"], "<KEY>"),
        (&["incr", "k", "much"], "invalid digit"),
        (&["serve", "--forget-after", "59s"], "--forget-after 59s is too short: give 1m or more, or never"),
        (&["serve", "--forget-after", "soon"], "write 90s, 12h, 7d or never"),
        (&["serve", "--tombstone-limit", "0"], "--tombstone-limit must be more than 0"),
        (&["serve", "--lost-file", "/"], "--lost-file \"/\" names no file"),
        (&["rejoin"], "rejoin discards every key of the node"),
        (&["cut"], "<PEER>"),
        (&["cut", "b", "--direction", "up"], "[possible values: in, out, both]"),
        (&["forget"], "<NAME>"),
        (&["watch"], "<PREFIX>..."),
        (&["status", "--interval", "1s"], "--watch"),
        (&["status", "--watch", "--interval", "10ms"], "write 100ms or more"),
        (&["bench", "--mix", "mget=1"], "the commands are set, get, incr and del"),
        (&["bench", "--distribution", "zipf:-1"], "write uniform, zipf or zipf:S"),
        (&["bench", "--value-size", "9..1"], "such as 100, 4KiB or 64..4096"),
        (&["bench", "--verify", "--value-size", "55"], "give --value-size 56 or more"),
        (&["bench", "--connections", "1000", "--pipeline", "1001"], "lower one of them"),
    ];
    for (args, reason) in cases {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{args:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{args:?}");
    }
}

#[test]
fn a_node_that_is_not_there_ends_with_1_and_says_what_to_do() {
    // The port was free a moment ago; whatever may have taken it since is no node.
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let output = run(&["get", "k", "--node", &format!("127.0.0.1:{port}")]);
    assert_eq!(output.status.code(), Some(1));
    let reason = stderr(&output);
    assert!(
        reason.contains(&format!("could not reach 127.0.0.1:{port}")) && reason.contains("--node"),
        "{reason}"
    );
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(
        &dir.path().join("s.toml"),
        "name = 'f'\ncluster = 'f'\nmax-clients = 5\ntombstone-limit = 5\n",
    );
    let output = sapwood(["check-config", "--config", &file, "--name", "flag", "--enable-faults"])
        .env("SAPWOOD_NAME", "env")
        .env("SAPWOOD_CLUSTER", "env")
        .env("SAPWOOD_JOIN", "a:1,b:2")
        .env("SAPWOOD_INSECURE", "1")
        .env("SAPWOOD_FORGET_AFTER", "never")
        .env("SAPWOOD_LOST_FILE", "lost")
        .output()
        .unwrap();
    assert_eq!(line_of(&output, "name"), "name = \"flag\" # flag");
    assert_eq!(line_of(&output, "cluster"), "cluster = \"env\" # environment");
    assert_eq!(line_of(&output, "max-clients"), "max-clients = 5 # file");
    assert_eq!(line_of(&output, "max-key"), "max-key = \"64KiB\" # default");
    assert_eq!(line_of(&output, "join"), "join = [\"a:1\", \"b:2\"] # environment");
    assert_eq!(line_of(&output, "insecure"), "insecure = true # environment");
    assert_eq!(line_of(&output, "forget-after"), "forget-after = \"never\" # environment");
    assert_eq!(line_of(&output, "tombstone-limit"), "tombstone-limit = 5 # file");
    assert_eq!(line_of(&output, "lost-file"), "lost-file = \"lost\" # environment");
    assert_eq!(line_of(&output, "enable-faults"), "enable-faults = true # flag");
}

#[test]
fn a_variable_that_no_setting_reads_ends_with_2_and_the_name_that_was_meant() {
    for command in ["serve", "check-config"] {
        let mut misspelled = sapwood([command]);
        misspelled.env("SAPWOOD_MAX_MEMROY", "1GiB").env("SAPWOOD_XYZZY", "hunter2");
        let output = misspelled.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}");
        let reason = stderr(&output);
        assert!(reason.contains("SAPWOOD_MAX_MEMROY: did you mean SAPWOOD_MAX_MEMORY?"), "{reason}");
        assert!(reason.contains("SAPWOOD_XYZZY") && !reason.contains("hunter2"), "{reason}");
        assert_eq!(stdout(&output), "");
    }
    let output = sapwood(["check-config"]).env("SAPWOOD_SIM_SEED", "1").env("SAPWOOD_NODE", "a:1").output();
    assert!(output.unwrap().status.success());
    let output = sapwood(["check-config"]).env("SAPWOOD_LOG", "inof").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--log \"inof\""), "{}", stderr(&output));
}

#[test]
fn what_check_config_prints_is_a_file_that_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let first = run(&["check-config", "--name", "a", "--join", "b:1", "--log-format=json", "--max-value=1k"]);
    let file = write(&dir.path().join("s.toml"), &stdout(&first));
    let second = run(&["check-config", "--config", &file]);
    assert!(second.status.success(), "{}", stderr(&second));
    let values = |output| -> Vec<String> {
        let lines = stdout(output);
        lines.lines().map(|line| line.rsplit_once("  # ").unwrap().0.to_owned()).collect()
    };
    assert_eq!(values(&first), values(&second));
}

#[test]
fn a_file_with_an_unknown_key_ends_with_2_and_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(&dir.path().join("s.toml"), "colour = 'green'\n");
    let output = run(&["check-config", "--config", &file]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("unknown field `colour`") && stderr(&output).contains(&file));
}

#[test]
fn a_password_is_never_printed() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(&dir.path().join("password"), "hunter2\n");
    #[cfg(unix)]
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let output = run(&["check-config", "--client", "0.0.0.0:7171", "--client-password-file", &file]);
    assert!(line_of(&output, "client-password-file").contains(&file));
    assert!(!stdout(&output).contains("hunter2") && !stderr(&output).contains("hunter2"));

    std::fs::write(&file, "\n").unwrap();
    let output = run(&["check-config", "--client-password-file", &file]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("it is empty"));

    std::fs::write(&file, "hunter2\nhunter3\n").unwrap();
    let output = run(&["check-config", "--client-password-file", &file]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("more than one line") && !stderr(&output).contains("hunter"));
}

#[cfg(unix)]
#[test]
fn a_password_file_that_others_can_read_ends_with_2_and_what_to_run() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(&dir.path().join("password"), "hunter2\n");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    for args in [["check-config", "--client-password-file"], ["status", "--password-file"]] {
        let output = run(&[args[0], args[1], &file]);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let reason = stderr(&output);
        assert!(reason.contains(&format!("{} {file}", args[1])), "{reason}");
        assert!(
            reason.contains(&format!("run `chmod 600 {file}`")) && !reason.contains("hunter2"),
            "{reason}"
        );
    }
}

#[test]
fn completions_and_pages_of_the_manual_are_written() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&run(&["completions", shell])).contains("check-config"), "{shell}");
    }
    assert!(stdout(&run(&["man"])).contains(".TH"));
    assert!(stdout(&run(&["man", "serve"])).contains("sapwood\\-serve"));

    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    assert!(run(&["man", "--dir", &pages.display().to_string()]).status.success());
    assert!(pages.join("sapwood.1").exists() && pages.join("sapwood-serve.1").exists());
}

/// A node on ports of the system's choice, ended when the test is.
struct NodeProcess {
    process: Child,
    banner: Vec<String>,
}

impl NodeProcess {
    /// Starts it and reads its banner, which ends with the `try` line.
    fn start() -> NodeProcess {
        let mut command =
            sapwood(["serve", "--client", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut banner = Vec::new();
        for line in BufReader::new(process.stdout.take().unwrap()).lines() {
            banner.push(line.unwrap());
            if banner.last().unwrap().starts_with("  try ") {
                break;
            }
        }
        NodeProcess { process, banner }
    }

    fn client(&self) -> &str {
        let line = self.banner.iter().find_map(|line| line.trim_start().strip_prefix("clients "));
        line.unwrap_or_else(|| panic!("no client address in {:?}", self.banner)).trim()
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn serve_says_which_ports_it_got() {
    let node = NodeProcess::start();
    assert!(!node.client().ends_with(":0"), "{:?}", node.banner);
    assert!(std::net::TcpStream::connect(node.client()).is_ok());
}

#[test]
fn a_port_in_use_ends_with_1_and_names_the_flag_to_change() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let flags = ["--client", "--peer", "--http"];
    for flag in flags {
        let args = flags.map(|each| [each, if each == flag { &address } else { "127.0.0.1:0" }]);
        let output = run(&[&["serve"], &args.concat()[..]].concat());
        assert_eq!(output.status.code(), Some(1));
        let reason = stderr(&output);
        let named = flags.iter().filter(|each| reason.contains(**each)).collect::<Vec<_>>();
        assert!(reason.contains(&address) && named == [&flag], "{reason}");
    }
}

#[cfg(unix)]
#[test]
fn a_node_asked_to_end_drains_and_ends_with_0() {
    for signal in ["TERM", "INT"] {
        let mut node = NodeProcess::start();
        let pid = node.process.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        assert_eq!(node.process.wait().unwrap().code(), Some(0), "{signal}");
        let mut log = String::new();
        node.process.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert!(log.contains("draining") && log.contains("stopped"), "{log}");
    }
}

#[test]
fn a_lone_node_answers_all_an_operator_asks() {
    let node = NodeProcess::start();
    let ask = |args: &[&str]| sapwood(args).env("SAPWOOD_NODE", node.client()).output().unwrap();
    assert!(stdout(&ask(&["status"])).contains("\n\nno peers\n"));
    assert!(stderr(&ask(&["lost"])).contains("nothing was lost"));
    assert!(stderr(&ask(&["verify"])).contains("no peer is linked"));
    assert!(stderr(&ask(&["forget", "nobody"])).contains("no member is named"));
    assert!(stderr(&ask(&["cut", "*"])).contains("--enable-faults"));
}

#[test]
fn incr_prints_what_the_counter_has_come_to() {
    let node = NodeProcess::start();
    let ask = |args: &[&str]| sapwood(args).env("SAPWOOD_NODE", node.client()).output().unwrap();
    assert_eq!(stdout(&ask(&["incr", "visits"])), "1\n");
    assert_eq!(stdout(&ask(&["incr", "visits", "10"])), "11\n");
    assert_eq!(stdout(&ask(&["incr", "visits", "-3"])), "8\n");
    assert_eq!(stdout(&ask(&["incr", "visits", "0", "--json"])), "{\"key\":\"visits\",\"value\":8}\n");
    assert_eq!(stdout(&ask(&["get", "visits"])), "8");

    assert!(ask(&["set", "word", "tree"]).status.success());
    let refused = ask(&["incr", "word"]);
    assert_eq!((refused.status.code(), stdout(&refused)), (Some(1), String::new()));
    assert!(stderr(&refused).contains("not an integer"), "{}", stderr(&refused));
}
