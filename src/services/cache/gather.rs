//! Gather: a command cut into parts for several shards, and the replies of the parts put together.
//!
//! Not here: sending (`session`, `transaction`).

use std::ops::Range;

use corelane_base::ShardId;
use corelane_proto_resp::Command;

use super::batch::encode;
use super::command::{Gather, Keys, Reply, Spec};
use super::shard::CacheShard;

/// The parts of `command`, one for each key, in order: its name with the arguments of that key.
pub(super) fn split(spec: &Spec, command: &Command<'_>, here: &CacheShard) -> Vec<(ShardId, Vec<u8>)> {
    let mut parts = Vec::new();
    each_part(spec, command, |arguments| {
        let owner = arguments.get(1).map_or(here.here(), |key| here.owner(here.key(key)));
        let mut wire = Vec::new();
        encode(&mut wire, arguments.iter().copied());
        parts.push((owner, wire));
    });
    parts
}

/// Whether every key has all its arguments.
pub(super) fn is_whole(spec: &Spec, command: &Command<'_>) -> bool {
    match spec.keys {
        Keys::Range { step, .. } => (command.len() - 1).is_multiple_of(step),
        Keys::None | Keys::Counted { .. } => true,
    }
}

/// Calls `see` with the arguments of each part.
pub(super) fn each_part(spec: &Spec, command: &Command<'_>, mut see: impl FnMut(&[&[u8]])) {
    let step = match spec.keys {
        Keys::Range { step, .. } => step,
        Keys::None | Keys::Counted { .. } => 1,
    };
    let mut places = Vec::new();
    spec.keys.find(command, &mut places);
    let mut arguments: Vec<&[u8]> = Vec::with_capacity(step + 1);
    for at in places {
        arguments.clear();
        arguments.push(command.name());
        arguments.extend((at..at + step).filter_map(|at| command.get(at)));
        see(&arguments);
    }
}

/// Puts the replies of parts together. Each is a whole reply; an error among them is the reply of all.
pub(super) fn together(how: Gather, parts: &[(&Reply, Range<usize>)], reply: &mut Reply) {
    let failed = parts.iter().find(|(of, range)| of.bytes().get(range.start) == Some(&b'-'));
    if let Some((of, range)) = failed {
        return reply.append_range(of, range.clone());
    }
    match how {
        Gather::Ok => reply.ok(),
        Gather::Sum => {
            let sum = parts.iter().map(|(of, range)| number(&of.bytes()[range.clone()]).0).sum();
            reply.integer(sum);
        }
        // Each part is an array of its own: what they hold stands in one.
        Gather::Each | Gather::Concat => {
            let heads: Vec<(i64, usize)> =
                parts.iter().map(|(of, range)| number(&of.bytes()[range.clone()])).collect();
            let count: i64 = heads.iter().map(|(count, _)| count).sum();
            reply.array(usize::try_from(count).unwrap_or(0));
            for ((of, range), (_, header)) in parts.iter().zip(heads) {
                reply.append_range(of, range.start + header..range.end);
            }
        }
    }
}

/// The number in the first line of a reply, and the bytes of that line.
fn number(reply: &[u8]) -> (i64, usize) {
    let end = memchr::memchr(b'\n', reply).map_or(reply.len(), |at| at + 1);
    let digits = reply.get(1..end.saturating_sub(2)).unwrap_or(&[]);
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    (number.unwrap_or(0), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[&str], how: Gather) -> String {
        let replies: Vec<Reply> = parts
            .iter()
            .map(|text| {
                let mut reply = Reply::default();
                reply.write().raw(text.as_bytes());
                reply
            })
            .collect();
        let ranges: Vec<_> = replies.iter().map(|one| (one, 0..one.bytes().len())).collect();
        let mut reply = Reply::default();
        together(how, &ranges, &mut reply);
        String::from_utf8(reply.to_vec()).unwrap()
    }

    #[test]
    fn parts_become_one_reply() {
        assert_eq!(of(&[":2\r\n", ":0\r\n", ":40\r\n"], Gather::Sum), ":42\r\n");
        assert_eq!(of(&["+OK\r\n", "+OK\r\n"], Gather::Ok), "+OK\r\n");
        let each = of(&["*1\r\n$1\r\na\r\n", "*1\r\n$-1\r\n"], Gather::Each);
        assert_eq!(each, "*2\r\n$1\r\na\r\n$-1\r\n");
        assert_eq!(of(&["*0\r\n", "*2\r\n:1\r\n:2\r\n"], Gather::Concat), "*2\r\n:1\r\n:2\r\n");
    }

    #[test]
    fn an_error_of_one_part_is_the_reply() {
        assert_eq!(of(&[":2\r\n", "-OOM no\r\n"], Gather::Sum), "-OOM no\r\n");
    }
}
