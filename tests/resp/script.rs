//! Scripts of several connections, run by a node and by `redis-server`.
//!
//! Not here: random ones (`resp_model`).

use std::collections::BTreeMap;

use super::{Conn, Cut, Subject, Value, encode};

fn shown(value: &Value) -> String {
    format!("{value:?}")
}

/// Runs `lines`, each `connection: words`, and gives the replies as text. A connection is opened when it is first named.
fn replies(subject: &Subject, lines: &str) -> Vec<String> {
    let mut conns: BTreeMap<String, Conn> = BTreeMap::new();
    let mut all = Vec::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, words) = line.split_once(": ").unwrap();
        let conn = conns.entry(name.to_owned()).or_insert_with(|| subject.open());
        let words: Vec<&str> = words.split(' ').collect();
        assert!(conn.send(&encode(&words)), "{line}");
        let reply = match conn.read() {
            Ok(reply) => shown(&reply),
            Err(Cut::End) => "closed".to_owned(),
            Err(cut) => panic!("{}: {line}: {cut:?}", subject.name),
        };
        all.push(format!("{line} -> {reply}"));
    }
    all
}

/// Has a node of one shard, one of two and `redis-server` run `lines`, and compares what they reply.
pub(crate) fn compare(lines: &str) {
    let Some(redis) = Subject::redis() else { return };
    let wanted = replies(&redis, lines);
    for shards in [1, 2] {
        let Some(node) = Subject::corelane(shards) else { return };
        let ours = replies(&node, lines);
        for (ours, wanted) in ours.iter().zip(&wanted) {
            assert_eq!(ours, wanted, "{}", node.name);
        }
    }
}
