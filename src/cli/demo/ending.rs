//! The ending of the story: what each node wrote during the partition, and what every node shows of it now.

use std::fmt::Write as _;

use sapwood::{Digest, Node};
use serde_json::{Value, json};

use crate::cli::output::{Paint, Table, grouped};

/// One key, or many similar ones, written during the partition.
pub(super) struct Outcome {
    key: String,
    /// The number of keys, whose names are `key` and a number; `None` for the single key `key`.
    many: Option<u64>,
    wrote: String,
    /// The value that every node must show; `None` if the key must be absent.
    expected: Option<String>,
    why: &'static str,
}

impl Outcome {
    pub(super) fn new(key: &str, wrote: &str, expected: Option<&str>, why: &'static str) -> Outcome {
        let expected = expected.map(str::to_owned);
        Outcome { key: key.to_owned(), many: None, wrote: wrote.to_owned(), expected, why }
    }

    pub(super) fn many(key: &str, many: u64, wrote: &str, expected: &str, why: &'static str) -> Outcome {
        Outcome { many: Some(many), ..Outcome::new(key, wrote, Some(expected), why) }
    }

    fn keys(&self) -> Vec<String> {
        match self.many {
            None => vec![self.key.clone()],
            Some(many) => (0..many).map(|n| format!("{}{n}", self.key)).collect(),
        }
    }

    fn label(&self) -> String {
        match self.many {
            None => self.key.clone(),
            Some(many) => format!("{}* ({})", self.key, grouped(many)),
        }
    }
}

/// The outcomes, and every node's answers at the end.
pub(super) struct Ending {
    outcomes: Vec<(Outcome, Vec<Answer>)>,
    equal: bool,
    digest: Digest,
}

/// What one node shows for an [`Outcome`].
struct Answer {
    node: String,
    shows: Option<String>,
    /// The number of keys whose value differs from the expected one.
    wrong: u64,
}

impl Ending {
    /// Reads all outcomes from every node.
    pub(super) fn ask(nodes: &[&Node], outcomes: Vec<Outcome>, equal: bool, digest: Digest) -> Ending {
        let answer = |node: &Node, outcome: &Outcome| {
            let shows = |key: &str| node.get(key).map(|value| String::from_utf8_lossy(&value).into_owned());
            let shown: Vec<_> = outcome.keys().iter().map(|key| shows(key)).collect();
            let wrong = shown.iter().filter(|shown| **shown != outcome.expected).count() as u64;
            let odd = shown.iter().position(|shown| *shown != outcome.expected).unwrap_or(0);
            Answer { node: node.name().to_owned(), shows: shown[odd].clone(), wrong }
        };
        let ask = |outcome: Outcome| {
            let answers = nodes.iter().map(|node| answer(node, &outcome)).collect();
            (outcome, answers)
        };
        Ending { outcomes: outcomes.into_iter().map(ask).collect(), equal, digest }
    }

    /// Whether all nodes are equal, and show the expected values.
    pub(super) fn is_happy(&self) -> bool {
        self.equal && self.outcomes.iter().flat_map(|(_, answers)| answers).all(|answer| answer.wrong == 0)
    }

    /// One row for each outcome.
    pub(super) fn lines(&self, paint: Paint) -> Vec<String> {
        let mut table = Table::default();
        table.row(["KEY", "WHILE APART", "ALL SHOW", "BECAUSE"]);
        for (outcome, answers) in &self.outcomes {
            let why = if answers.iter().all(|answer| answer.wrong == 0) {
                outcome.why.to_owned()
            } else {
                paint.red(&format!("WRONG: must be {}", text(outcome.expected.as_deref())))
            };
            table.row([outcome.label(), outcome.wrote.clone(), shown(answers), why]);
        }
        table.painted(paint, None)
    }

    pub(super) fn json(&self, steps: &[Value]) -> Value {
        let row = |(outcome, answers): &(Outcome, Vec<Answer>)| {
            let nodes = answers
                .iter()
                .map(|answer| json!({ "node": answer.node, "shows": answer.shows, "wrong": answer.wrong }));
            json!({
                "key": outcome.key, "keys": outcome.many.unwrap_or(1), "wrote": outcome.wrote,
                "expected": outcome.expected, "why": outcome.why, "nodes": nodes.collect::<Vec<_>>(),
            })
        };
        let rows: Vec<_> = self.outcomes.iter().map(row).collect();
        let digest = self.digest.to_string();
        json!({ "ok": self.is_happy(), "equal": self.equal, "digest": digest, "steps": steps, "outcomes": rows })
    }
}

/// The value that all nodes show, or that of each node if they differ.
fn shown(answers: &[Answer]) -> String {
    let first = answers.first().map(|answer| &answer.shows);
    if answers.iter().all(|answer| Some(&answer.shows) == first) {
        return text(first.and_then(|shows| shows.as_deref()));
    }
    answers.iter().fold(String::new(), |mut all, Answer { node, shows, .. }| {
        let gap = if all.is_empty() { "" } else { ", " };
        let _ = write!(all, "{gap}{node}: {}", text(shows.as_deref()));
        all
    })
}

fn text(value: Option<&str>) -> String {
    value.map_or_else(|| "nothing".to_owned(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes() -> Vec<Outcome> {
        vec![
            Outcome::new("tree", "set on a", Some("oak"), "nobody else wrote it"),
            Outcome::new("gone", "deleted on a", None, "a delete is a write"),
            Outcome::many("leaf:", 2, "set on a", "green", "nobody else wrote them"),
        ]
    }

    #[tokio::test]
    async fn an_ending_is_happy_only_if_every_node_shows_all() {
        let [a, b] = [Node::builder().name("a"), Node::builder().name("b")];
        let (a, b) = (a.start().await.unwrap(), b.start().await.unwrap());
        for node in [&a, &b] {
            node.set("tree", "oak").unwrap();
            node.set("leaf:0", "green").unwrap();
        }
        a.set("leaf:1", "green").unwrap();
        let paint = Paint { colours: false };
        let ending = Ending::ask(&[&a, &b], outcomes(), true, a.digest());
        assert!(!ending.is_happy(), "b lacks a leaf");
        assert_eq!(
            ending.lines(paint),
            [
                "KEY         WHILE APART   ALL SHOW              BECAUSE",
                "tree        set on a      oak                   nobody else wrote it",
                "gone        deleted on a  nothing               a delete is a write",
                "leaf:* (2)  set on a      a: green, b: nothing  WRONG: must be green",
            ]
        );
        let json = ending.json(&[]);
        assert_eq!((&json["ok"], &json["outcomes"][2]["nodes"][1]["wrong"]), (&json!(false), &json!(1)));

        b.set("leaf:1", "green").unwrap();
        assert!(Ending::ask(&[&a, &b], outcomes(), true, a.digest()).is_happy());
        assert!(!Ending::ask(&[&a, &b], outcomes(), false, a.digest()).is_happy(), "their digests differ");
        b.set("gone", "back").unwrap();
        assert!(!Ending::ask(&[&a, &b], outcomes(), true, a.digest()).is_happy(), "what was deleted is back");
    }
}
