//! The image and the compose file of `deploy/`, on a container engine. What it makes there has a name of its own, and is
//! removed when the test ends.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::node_process::wait;

const NODES: [&str; 3] = ["a", "b", "c"];

/// The three nodes of the compose file, under a name that nobody else uses.
struct Composed {
    name: String,
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: install Debian's docker.io"))
}

/// What a command prints that must succeed.
fn said(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = run(command);
    assert!(status.success(), "{command:?}: {status}\n{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap().trim().to_owned()
}

fn docker(args: &[&str]) -> String {
    // The builder that every engine has.
    said(Command::new("docker").env("DOCKER_BUILDKIT", "0").args(args))
}

impl Composed {
    /// Packs the binary under test and starts the three.
    fn up() -> Composed {
        let top = Path::new(env!("CARGO_MANIFEST_DIR"));
        let binary = std::env::var("SAPWOOD_TEST_STATIC").expect("SAPWOOD_TEST_STATIC names a static binary");
        let binary = Path::new(&binary).strip_prefix(top).expect("it is below the top of the repository");
        let composed = Composed { name: format!("sapwoodtest{}", std::process::id()) };
        let binary = format!("BINARY={}", binary.display());
        let image = composed.name.as_str();
        docker(&[
            "build",
            "--quiet",
            "--file",
            "deploy/Dockerfile",
            "--tag",
            image,
            "--target",
            "packed",
            "--build-arg",
            &binary,
            ".",
        ]);
        said(composed.compose().args(["up", "-d"]));
        composed
    }

    fn compose(&self) -> Command {
        let mut command = match Command::new("docker-compose").arg("version").output() {
            Ok(output) if output.status.success() => Command::new("docker-compose"),
            _ => {
                let mut command = Command::new("docker");
                command.arg("compose");
                command
            }
        };
        // Empty: the engine chooses the ports.
        for port in ["SAPWOOD_PAGE_PORT", "SAPWOOD_A_PORT", "SAPWOOD_B_PORT", "SAPWOOD_C_PORT"] {
            command.env(port, "");
        }
        command.env("SAPWOOD_IMAGE", &self.name).args(["-p", &self.name, "-f", "deploy/compose.yaml"]);
        command
    }

    fn container(&self, node: &str) -> String {
        let id = said(self.compose().args(["ps", "-q", node]));
        assert!(!id.is_empty(), "{node} has no container");
        id
    }

    /// What `sapwood` says inside a node's container, whether or not that has a network.
    fn sapwood(&self, node: &str, args: &[&str]) -> Output {
        run(Command::new("docker").args(["exec", &self.container(node), "/sapwood"]).args(args))
    }

    fn set(&self, node: &str, key: &str, value: &str) {
        let set = self.sapwood(node, &["set", key, value]);
        assert!(set.status.success(), "{set:?}");
    }

    fn get(&self, node: &str, key: &str) -> String {
        String::from_utf8(self.sapwood(node, &["get", key]).stdout).unwrap().trim().to_owned()
    }

    fn status(&self, node: &str) -> Option<serde_json::Value> {
        let status = self.sapwood(node, &["status", "--json"]);
        serde_json::from_slice(&status.stdout).ok()
    }

    fn digest(&self, node: &str) -> Option<String> {
        self.status(node)?["digest"].as_str().map(str::to_owned)
    }

    fn linked(&self, node: &str) -> Option<u64> {
        self.status(node)?["linked_peers"].as_u64()
    }

    fn until_equal(&self) {
        wait("all show one digest", || {
            let [a, b, c] = NODES.map(|node| self.digest(node));
            a.is_some() && a == b && b == c
        });
    }

    fn network(&self, how: &[&str], node: &str) {
        let network = format!("{}_cluster", self.name);
        docker(&[&["network"], how, &[&network, &self.container(node)]].concat());
    }
}

impl Drop for Composed {
    fn drop(&mut self) {
        // What is left when one of these fails is reported by the next command that looks.
        let _ = self.compose().args(["down", "--timeout", "5", "--volumes"]).output();
        let _ = Command::new("docker").args(["image", "rm", "--force", &self.name]).output();
    }
}

/// One node loses its network; both sides are written to; the network comes back, and all are equal again.
#[test]
#[ignore = "needs a container engine with compose (Debian docker.io, docker-compose) and, in SAPWOOD_TEST_STATIC, a static binary"]
fn the_composed_cluster_heals_after_one_of_its_nodes_had_no_network() {
    let composed = Composed::up();
    let health = |node| {
        docker(&["inspect", "--format", "{{.State.Health.Status}}", &composed.container(node)]) == "healthy"
    };
    wait("all are healthy", || NODES.iter().all(|node| health(node)));
    wait("all are linked", || NODES.iter().all(|node| composed.linked(node) == Some(2)));
    assert!(page_of_a(&composed).contains("Sapwood"));

    composed.set("a", "both", "before");
    composed.until_equal();
    composed.network(&["disconnect"], "c");
    wait("c is missed", || composed.linked("a") == Some(1) && composed.linked("c") == Some(0));
    composed.set("a", "only-a", "from a");
    composed.set("a", "both", "from a");
    composed.set("c", "only-c", "from c");
    composed.set("c", "both", "from c");
    assert_ne!(composed.digest("a"), composed.digest("c"));

    composed.network(&["connect", "--alias", "c"], "c");
    composed.until_equal();
    for node in NODES {
        let shown = ["only-a", "only-c", "both"].map(|key| composed.get(node, key));
        assert_eq!(shown, ["from a", "from c", "from c"], "at {node}");
    }
    let c = composed.container("c");
    docker(&["stop", "--time", "10", &c]);
    assert_eq!(
        docker(&["inspect", "--format", "{{.State.ExitCode}}", &c]),
        "0",
        "it drains and leaves in order"
    );
}

/// What a browser on this host gets.
fn page_of_a(composed: &Composed) -> String {
    let address = docker(&["port", &composed.container("a"), "7173/tcp"]);
    let address = address.lines().next().unwrap();
    let mut connection = TcpStream::connect(address).unwrap();
    write!(connection, "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    connection.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    page
}
