//! Peers that authenticate each other: certificates, shared secrets, what is refused and why, hostile diallers, rotation.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::support::node_process::*;

/// A CA made by `sapwood certs`.
struct Certificates(tempfile::TempDir);

impl Certificates {
    fn new(cluster: &str) -> Certificates {
        let certificates = Certificates(tempfile::tempdir().unwrap());
        certificates.run(&["init", "--cluster", cluster]);
        certificates
    }

    fn run(&self, args: &[&str]) {
        let output =
            sapwood([&["certs"], args].concat()).args(["--dir"]).arg(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// The flags of a node with the certificate of `name`, which trusts the CA of `trusted`.
    fn flags_trusting(&self, name: &str, trusted: &Certificates) -> Vec<String> {
        vec![
            format!("--peer-tls-cert={}", self.path(&format!("{name}.crt")).display()),
            format!("--peer-tls-key={}", self.path(&format!("{name}.key")).display()),
            format!("--peer-tls-ca={}", trusted.path("ca.crt").display()),
        ]
    }

    fn flags(&self, name: &str) -> Vec<String> {
        self.flags_trusting(name, self)
    }
}

fn start(name: &str, join: &[&NodeProcess], flags: &[String]) -> NodeProcess {
    NodeProcess::start(name, join, &flags.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Waits until a node's log has a line with all of these.
fn until_logged(node: &NodeProcess, parts: &[&str]) {
    wait(&format!("{} logs {parts:?}", node.name), || {
        node.log().lines().any(|line| parts.iter().all(|part| line.contains(part)))
    });
}

/// Waits until a node shows this reason for not linking.
fn until_shown(node: &NodeProcess, state: &str, reason: &str) {
    wait(&format!("{} is {state}: {reason}", node.name), || {
        let rows = node.peers_in(state);
        rows.iter().any(|row| row["reason"].as_str().unwrap().contains(reason))
    });
}

fn metrics(node: &NodeProcess) -> String {
    wait("the greeting is written", || node.greeting().contains("  try "));
    let mut stream = TcpStream::connect(node.page()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", node.page()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn nodes_with_certificates_of_one_ca_link_and_refuse_everyone_else_with_the_reason() {
    let ca = Certificates::new("sapwood");
    ["a", "b", "c"].iter().for_each(|name| ca.run(&["node", name]));
    let a = start("a", &[], &ca.flags("a"));
    let b = start("b", &[&a], &ca.flags("b"));
    let c = start("c", &[&a], &ca.flags("c"));
    until_linked(&[&a, &b, &c]);
    a.set("tree", "oak");
    until_equal(&[&a, &b, &c]);
    assert_eq!(c.get("tree").as_deref(), Some("oak"));
    assert_eq!(a.info("peer_security"), "certificates");

    // Its certificate is in order, but of another CA.
    let other = Certificates::new("sapwood");
    other.run(&["node", "d"]);
    let d = start("d", &[&a], &other.flags("d"));
    until_shown(&d, "untrusted", "its certificate is not signed by a CA of --peer-tls-ca");
    until_logged(&a, &["WARN", "a peer is not authenticated", "not signed by a CA of its --peer-tls-ca"]);
    assert_eq!(d.info("state"), "joining", "a refused node never is ready");

    let plain = NodeProcess::start("e", &[&a], &[]);
    until_shown(&plain, "down", "it answers in TLS: if it is a node, give this one --peer-tls-cert");
    let f = start("f", &[&plain], &{
        ca.run(&["node", "f"]);
        ca.flags("f")
    });
    until_shown(&f, "down", "it closed the connection in the TLS handshake");
    until_logged(&plain, &["WARN", "it speaks TLS, but this node has neither --peer-tls-cert nor"]);

    let metrics = metrics(&a);
    for part in [
        "sapwood_tls_certificate_expiry_timestamp_seconds{role=\"peer\",node=\"a\"}",
        "sapwood_tls_handshake_failures_total{reason=\"refused\",node=\"a\"}",
        "sapwood_tls_handshake_failures_total{reason=\"plaintext\",node=\"a\"}",
        "sapwood_peer_security{way=\"certificates\",node=\"a\"} 1",
    ] {
        assert!(metrics.contains(part), "{part} is missing: {metrics}");
    }
    assert_eq!((a.linked(), plain.linked(), d.linked()), (2, 0, 0));
    let warnings = a.log().lines().filter(|line| line.contains("a peer is not authenticated")).count();
    assert_eq!(warnings, 1, "once a minute for each address: {}", a.log());
}

#[test]
fn a_node_does_not_start_with_a_certificate_that_no_peer_would_accept() {
    let (oak, elm) = (Certificates::new("sapwood"), Certificates::new("elm"));
    let other = Certificates::new("sapwood");
    other.run(&["node", "a"]);
    oak.run(&["node", "a"]);
    oak.run(&["client", "web"]);
    elm.run(&["node", "a"]);
    let exposed = oak.path("exposed.key");
    std::fs::copy(oak.path("a.key"), &exposed).unwrap();
    std::fs::set_permissions(&exposed, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let mut with_exposed = oak.flags("a");
    with_exposed[1] = format!("--peer-tls-key={}", exposed.display());
    let missing = format!("--peer-secret-file={}", oak.path("none").display());
    for (flags, reason) in [
        (oak.flags("web"), "it is the certificate of a client (\"web\")"),
        (elm.flags("a"), "it is of cluster \"elm\", this node belongs to \"sapwood\" (--cluster)"),
        (other.flags_trusting("a", &oak), "it is not signed by a CA of --peer-tls-ca"),
        ([&oak.flags("a")[..], &["--name=b".into()]].concat(), "this node is \"b\": give --name a"),
        (with_exposed, "other users can read or write it"),
        (oak.flags("a")[..2].to_vec(), "--peer-tls-cert needs --peer-tls-ca, too"),
        ([&oak.flags("a")[..], &[missing]].concat(), "give one of them, the same on all nodes"),
        (vec!["--peer=10.0.0.1:7172".into()], "--peer-secret-file (`sapwood certs secret` prints a secret)"),
    ] {
        let output = sapwood(["check-config"]).args(&flags).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {told}");
        assert!(told.contains(reason), "{flags:?}: {told}");
    }
}

fn secret() -> String {
    String::from_utf8(sapwood(["certs", "secret"]).output().unwrap().stdout).unwrap()
}

/// Writes a file as a secret is kept, in one step.
fn write_secret(path: &Path, content: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::rename(&new, path).unwrap();
}

#[test]
fn a_secret_is_replaced_on_all_nodes_without_the_loss_of_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (secret(), secret());
    let file = |name: &str| dir.path().join(name);
    let flags = |name: &str| vec![format!("--peer-secret-file={}", file(name).display())];
    ["a", "b"].iter().for_each(|name| write_secret(&file(name), &old));
    write_secret(&file("c"), &new);
    let a = start("a", &[], &flags("a"));
    let b = start("b", &[&a], &flags("b"));
    until_linked(&[&a, &b]);
    let c = start("c", &[&a], &flags("c"));
    until_shown(&c, "untrusted", "it has another secret or cluster");

    // What cannot be used replaces nothing.
    write_secret(&file("a"), "short\n");
    a.signal("HUP");
    until_logged(&a, &["ERROR", "are not used: those before stay", "a secret of 5 bytes could be guessed"]);
    assert!(a.info("peer_security_error").contains("could be guessed"));
    assert!(metrics(&a).contains("sapwood_tls_reload_failed{node=\"a\"} 1"));
    assert!(a.said(&["status"]).contains("could be guessed"));

    for content in [format!("{old}{new}"), format!("{new}{old}"), new.clone()] {
        for node in [&a, &b] {
            let before = node.log().matches("are used for new links").count();
            write_secret(&file(&node.name), &content);
            node.signal("HUP");
            wait(&format!("{} uses the new secrets", node.name), || {
                node.log().matches("are used for new links").count() > before
            });
        }
    }
    until_linked(&[&a, &b, &c]);
    assert_eq!(a.info("peer_security_error"), "");
    for node in [&a, &b] {
        assert!(!node.log().contains("peer unlinked"), "{}", node.log());
    }
}

#[test]
fn a_peer_that_is_not_authenticated_any_more_is_shown_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let flags = |name: &str| vec![format!("--peer-secret-file={}", file(name).display())];
    let same = secret();
    ["a", "b"].iter().for_each(|name| write_secret(&file(name), &same));
    let a = start("a", &[], &flags("a"));
    let mut b = start("b", &[&a], &flags("b"));
    until_linked(&[&a, &b]);
    b.kill();
    write_secret(&file("b"), &secret());
    b.restart();
    wait("a shows why b is not linked", || {
        let rows = a.peers_in("down");
        let b = rows.iter().find(|row| row["name"] == "b");
        b.is_some_and(|row| row["reason"].as_str().unwrap().contains("it has another secret or cluster"))
    });
    until_logged(&a, &["WARN", "a peer is not authenticated any more", "it has another secret or cluster"]);
}

#[test]
fn a_renewed_certificate_is_used_without_a_signal_and_links_stay() {
    let ca = Certificates::new("sapwood");
    ["a", "b"].iter().for_each(|name| ca.run(&["node", name]));
    let a = start("a", &[], &ca.flags("a"));
    let b = start("b", &[&a], &ca.flags("b"));
    until_linked(&[&a, &b]);
    ca.run(&["renew", "a"]);
    until_logged(&a, &["the files have changed", "are used for new links; links stay"]);
    assert!(!a.log().contains("peer unlinked"), "{}", a.log());
    assert_eq!(a.linked(), 1);
}

/// A connection from another address of this host.
fn connect_from(source: IpAddr, to: SocketAddr) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(source, 0)).unwrap();
        socket.connect(to).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn diallers_that_prove_nothing_are_closed_in_time_and_keep_no_node_out() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    write_secret(&file, &secret());
    let flags = vec![format!("--peer-secret-file={}", file.display())];
    let a = start("a", &[], &flags);
    // A probe of the port is counted, and no reason for a warning.
    drop(TcpStream::connect(a.peer).unwrap());
    wait("the probe is counted", || metrics(&a).contains("failures_total{reason=\"closed\",node=\"a\"} 1"));
    assert!(!a.log().contains("WARN"), "{}", a.log());
    let before = a.resident();
    // Another address than that of node b, so that its limit is not b's.
    let source = IpAddr::from([127, 0, 0, 2]);
    let began = Instant::now();
    let openings: [&[u8]; 3] = [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x16"];
    let mut crowd: Vec<TcpStream> = (0..200)
        .map(|n| {
            let mut stream = connect_from(source, a.peer);
            // It may be closed already.
            let _ = stream.write_all(openings[n % openings.len()]);
            stream
        })
        .collect();
    let b = start("b", &[&a], &flags);
    until_linked(&[&a, &b]);
    for stream in &mut crowd {
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    let grown = a.resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes");
    let metrics = metrics(&a);
    for reason in ["crowded", "timeout"] {
        let part = format!("sapwood_tls_handshake_failures_total{{reason=\"{reason}\"");
        assert!(metrics.contains(&part), "{part} is missing: {metrics}");
    }
    let warnings = a.log().lines().filter(|line| line.contains("a peer is not authenticated")).count();
    assert!(warnings <= 2, "{}", a.log());
}

/// Ends the processes of a test with it.
struct Children(Vec<std::process::Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The commands are those of the document, on other ports, so that they work as they stand there.
#[test]
fn the_five_commands_of_the_document_make_three_nodes_that_authenticate_each_other() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/security.md")).unwrap();
    let block = document.split("```").find(|block| block.trim().starts_with("sapwood certs init")).unwrap();
    let block = block.replace("\\\n", " ");
    let commands: Vec<&str> = block.lines().filter(|line| line.starts_with("sapwood ")).collect();
    assert_eq!(commands.len(), 5, "{commands:?}");
    let ports = ["7171", "7172", "7173", "7271", "7272", "7273", "7371", "7372", "7373"];
    let taken = ports.map(|port| (port, free_address().port().to_string()));
    let dir = tempfile::tempdir().unwrap();
    let mut nodes = Children(Vec::new());
    for command in commands {
        let words = command.split_whitespace().skip(1).map(|word| {
            taken.iter().fold(word.to_owned(), |word, (port, free)| {
                word.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{free}"))
            })
        });
        let mut run = sapwood(words);
        run.current_dir(dir.path());
        if command.starts_with("sapwood serve") {
            run.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            nodes.0.push(run.spawn().unwrap());
        } else {
            let output = run.output().unwrap();
            assert!(output.status.success(), "{command}: {output:?}");
        }
    }
    assert_eq!(nodes.0.len(), 3);
    for client in ["7171", "7271", "7371"] {
        let (_, port) = taken.iter().find(|(port, _)| *port == client).unwrap();
        let node = format!("127.0.0.1:{port}");
        wait(&format!("{node} has two peers"), || {
            let output = sapwood(["status", "--json", "--node", &node]).output().unwrap();
            let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            status["linked_peers"] == 2 && status["peer_security"] == "certificates"
        });
    }
}
