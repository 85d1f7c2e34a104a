//! Commands on sorted sets.
//!
//! Reading order: `change` scores; `look` at members; `range` what is between two ends; `pop` from an end, or at
//! random; `combine` several sets.
//!
//! Not here: waiting for a member (`session`): those that may wait try once, and say that they would have to.

mod change;
mod combine;
mod look;
mod pop;
mod range;
#[cfg(test)]
mod tests;

use corelane_proto_resp::Version;

use crate::services::cache::command::{Keys, Reply, Run, Spec};

const LOG: &str = "O(log(N)), N being the number of members";
const LOG_RANGE: &str = "O(log(N)+M), N being the number of members, M those replied or removed";
const ALL: &str = "O(N+M*log(M)), N being the members of all sets, M those of the result";
const LAST_BUT_ONE: Keys = Keys::Range { first: 1, last: -2, step: 1 };
const COUNTED: Keys = Keys::Counted { count: 1, also: 0 };
const STORED: Keys = Keys::Counted { count: 2, also: 1 };

macro_rules! spec {
    ($name:literal, $arity:literal, $flags:literal, $acl:literal, $keys:expr, $run:expr, $since:literal, $cost:expr, $text:literal) => {
        Spec::new($name, $arity, $flags, $acl).keys($keys).run(Run::Data($run)).docs(
            "sorted-set",
            $since,
            $cost,
            $text,
        )
    };
}

/// The table of these commands.
#[rustfmt::skip]
pub const TABLE: &[Spec] = &[
    spec!("zadd", -4, "write denyoom fast", "write sortedset fast", Keys::ONE, change::zadd, "1.2.0", LOG, "Gives members their scores, perhaps under a condition."),
    spec!("zincrby", 4, "write denyoom fast", "write sortedset fast", Keys::ONE, change::zincrby, "1.2.0", LOG, "Adds to the score of a member."),
    spec!("zrem", -3, "write fast", "write sortedset fast", Keys::ONE, change::zrem, "1.2.0", LOG, "Removes members."),
    spec!("zcard", 2, "readonly fast", "read sortedset fast", Keys::ONE, look::zcard, "1.2.0", "O(1)", "Replies how many members there are."),
    spec!("zscore", 3, "readonly fast", "read sortedset fast", Keys::ONE, look::zscore, "1.2.0", "O(1)", "Replies the score of a member."),
    spec!("zmscore", -3, "readonly fast", "read sortedset fast", Keys::ONE, look::zmscore, "6.2.0", "O(N), N being the number of members asked for", "Replies the scores of members."),
    spec!("zrank", 3, "readonly fast", "read sortedset fast", Keys::ONE, look::zrank, "2.0.0", LOG, "Replies how many members come before one."),
    spec!("zrevrank", 3, "readonly fast", "read sortedset fast", Keys::ONE, look::zrevrank, "2.0.0", LOG, "Replies how many members come behind one."),
    spec!("zscan", -3, "readonly", "read sortedset slow", Keys::ONE, look::zscan, "2.8.0", "O(1) a call", "Goes through members and scores."),
    spec!("zcount", 4, "readonly fast", "read sortedset fast", Keys::ONE, range::zcount, "2.0.0", LOG, "Replies how many members have a score between two."),
    spec!("zlexcount", 4, "readonly fast", "read sortedset fast", Keys::ONE, range::zlexcount, "2.8.9", LOG, "Replies how many members have a name between two."),
    spec!("zrange", -4, "readonly", "read sortedset slow", Keys::ONE, range::zrange, "1.2.0", LOG_RANGE, "Replies members by rank, score or name."),
    spec!("zrangestore", -5, "write denyoom", "write sortedset slow", Keys::TWO, range::zrangestore, "6.2.0", LOG_RANGE, "Keeps members by rank, score or name at another key."),
    spec!("zrevrange", -4, "readonly", "read sortedset slow", Keys::ONE, range::zrevrange, "1.2.0", LOG_RANGE, "Replies members by rank, from the highest on."),
    spec!("zrangebyscore", -4, "readonly", "read sortedset slow", Keys::ONE, range::zrangebyscore, "1.0.5", LOG_RANGE, "Replies members by score."),
    spec!("zrevrangebyscore", -4, "readonly", "read sortedset slow", Keys::ONE, range::zrevrangebyscore, "2.2.0", LOG_RANGE, "Replies members by score, from the highest on."),
    spec!("zrangebylex", -4, "readonly", "read sortedset slow", Keys::ONE, range::zrangebylex, "2.8.9", LOG_RANGE, "Replies members by name."),
    spec!("zrevrangebylex", -4, "readonly", "read sortedset slow", Keys::ONE, range::zrevrangebylex, "2.8.9", LOG_RANGE, "Replies members by name, from the last on."),
    spec!("zremrangebyrank", 4, "write", "write sortedset slow", Keys::ONE, range::zremrangebyrank, "2.0.0", LOG_RANGE, "Removes members by rank."),
    spec!("zremrangebyscore", 4, "write", "write sortedset slow", Keys::ONE, range::zremrangebyscore, "1.2.0", LOG_RANGE, "Removes members by score."),
    spec!("zremrangebylex", 4, "write", "write sortedset slow", Keys::ONE, range::zremrangebylex, "2.8.9", LOG_RANGE, "Removes members by name."),
    spec!("zpopmin", -2, "write fast", "write sortedset fast", Keys::ONE, pop::zpopmin, "5.0.0", LOG, "Takes the member with the lowest score, or several."),
    spec!("zpopmax", -2, "write fast", "write sortedset fast", Keys::ONE, pop::zpopmax, "5.0.0", LOG, "Takes the member with the highest score, or several."),
    spec!("zmpop", -4, "write movablekeys", "write sortedset slow", COUNTED, pop::zmpop, "7.0.0", LOG, "Takes members from the first set that has some."),
    spec!("zrandmember", -2, "readonly", "read sortedset slow", Keys::ONE, pop::zrandmember, "6.2.0", "O(N), N being the number of members replied", "Replies members at random."),
    spec!("bzpopmin", -3, "write noscript blocking fast", "write sortedset fast blocking", LAST_BUT_ONE, pop::bzpopmin, "5.0.0", LOG, "As ZPOPMIN of the first set that has a member, or waits for one."),
    spec!("bzpopmax", -3, "write noscript blocking fast", "write sortedset fast blocking", LAST_BUT_ONE, pop::bzpopmax, "5.0.0", LOG, "As ZPOPMAX of the first set that has a member, or waits for one."),
    spec!("bzmpop", -5, "write blocking movablekeys", "write sortedset slow blocking", STORED_LESS, pop::bzmpop, "7.0.0", LOG, "As ZMPOP, and waits for a member."),
    spec!("zunion", -3, "readonly movablekeys", "read sortedset slow", COUNTED, combine::zunion, "6.2.0", ALL, "Replies the members of any of several sets."),
    spec!("zinter", -3, "readonly movablekeys", "read sortedset slow", COUNTED, combine::zinter, "6.2.0", ALL, "Replies the members of all of several sets."),
    spec!("zdiff", -3, "readonly movablekeys", "read sortedset slow", COUNTED, combine::zdiff, "6.2.0", ALL, "Replies the members of the first of several sets alone."),
    spec!("zunionstore", -4, "write denyoom movablekeys", "write sortedset slow", STORED, combine::zunionstore, "2.0.0", ALL, "Keeps the members of any of several sets."),
    spec!("zinterstore", -4, "write denyoom movablekeys", "write sortedset slow", STORED, combine::zinterstore, "2.0.0", ALL, "Keeps the members of all of several sets."),
    spec!("zdiffstore", -4, "write denyoom movablekeys", "write sortedset slow", STORED, combine::zdiffstore, "6.2.0", ALL, "Keeps the members of the first of several sets alone."),
    spec!("zintercard", -3, "readonly movablekeys", "read sortedset slow", COUNTED, combine::zintercard, "7.0.0", ALL, "Replies how many members all of several sets have."),
];

/// As [`STORED`] without a destination: a timeout comes first.
const STORED_LESS: Keys = Keys::Counted { count: 2, also: 0 };

/// The header of members with their scores: RESP3 has pairs, RESP2 one array of all.
fn header(reply: &mut Reply, count: usize, with_scores: bool) {
    let is_flat = with_scores && reply.version() == Version::Resp2;
    reply.array(if is_flat { 2 * count } else { count });
}

fn member(reply: &mut Reply, found: (&[u8], f64), with_scores: bool) {
    if with_scores && reply.version() == Version::Resp3 {
        reply.array(2);
    }
    reply.bulk(found.0);
    if with_scores {
        reply.write().double(found.1);
    }
}
