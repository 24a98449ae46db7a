//! `sapwood demo`, as a person or a script runs it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::command::sapwood;

fn demo(args: &[&str]) -> Command {
    sapwood([&["demo"], args].concat())
}

#[test]
fn the_story_of_a_heal_ends_with_equal_nodes() {
    let output = demo(&["--script", "heal", "--keys", "3000", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    assert!(output.status.success() && report["ok"] == true, "{report:#}");
    let steps: Vec<_> =
        report["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str()).collect();
    let expected = ["load", "join", "relay", "isolate", "diverge", "mend", "equal"];
    assert_eq!(steps, expected.map(Some));
    for outcome in report["outcomes"].as_array().unwrap() {
        let nodes = outcome["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 3);
        assert!(nodes.iter().all(|node| node["shows"] == outcome["expected"]), "{outcome:#}");
    }
}

#[test]
fn the_page_is_there_until_ctrl_c() {
    let mut demo = demo(&[]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map(Result::unwrap);
    let page = lines.find_map(|line| Some(line.split_once("http://")?.1.trim_end_matches('/').to_owned()));
    let page = page.expect("it says where its page is");
    // The table of nodes comes once they run.
    assert!(lines.any(|line| line.starts_with("c ")), "it shows its three nodes");

    let mut connection = TcpStream::connect(&page).unwrap();
    write!(connection, "GET / HTTP/1.1\r\nHost: {page}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Sapwood"), "{answer}");

    let pid = Pid::from_raw(i32::try_from(demo.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert!(demo.wait().unwrap().success());
    TcpStream::connect(&page).unwrap_err();
}

#[test]
fn a_sighup_without_a_terminal_leaves_the_demo_running() {
    let mut demo = demo(&[]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map(Result::unwrap);
    let page = lines.find_map(|line| Some(line.split_once("http://")?.1.trim_end_matches('/').to_owned()));
    assert!(lines.any(|line| line.starts_with("c ")), "it shows its three nodes");
    let pid = Pid::from_raw(i32::try_from(demo.id()).unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    // It serves its page still, and ends in order.
    TcpStream::connect(page.unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert!(demo.wait().unwrap().success());
}

#[test]
fn a_page_that_lets_anybody_write_stays_on_this_host() {
    let output = demo(&["--http", "0.0.0.0:0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("loopback"), "{output:?}");
}
