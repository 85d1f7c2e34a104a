//! Replies of the commands on sorted sets, as Redis 7.0.15 gives them.

use corelane_proto_resp::Version;

use crate::services::cache::command::run_one;
use crate::services::cache::store::{Config, KeyHasher, Now, Store};

fn replies_in(version: Version, steps: &[(&str, &str)]) {
    let mut store = Store::new(Config::default(), KeyHasher::seeded(1), Now::default());
    for (line, wanted) in steps {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let reply = String::from_utf8(run_one(&mut store, &words, version)).unwrap();
        assert_eq!(reply.replace("\r\n", " ").trim_end(), *wanted, "{line}");
    }
}

fn replies(steps: &[(&str, &str)]) {
    replies_in(Version::Resp2, steps);
}

#[test]
fn scores_are_given_under_conditions() {
    replies(&[
        ("zadd z 1 a 2 b 3 c", ":3"),
        ("zadd z 5 a 4 d", ":1"),
        ("zadd z ch 6 a 5 e", ":2"),
        ("zadd z nx 9 a 9 f", ":1"),
        ("zadd z xx 9 nobody", ":0"),
        ("zadd z gt 1 a", ":0"),
        ("zscore z a", "$1 6"),
        ("zadd z lt ch 1 a", ":1"),
        ("zadd z incr 1.5 a", "$3 2.5"),
        ("zadd z nx incr 1 a", "$-1"),
        ("zadd z xx nx 1 a", "-ERR XX and NX options at the same time are not compatible"),
        ("zadd z gt lt 1 a", "-ERR GT, LT, and/or NX options at the same time are not compatible"),
        ("zadd z incr 1 a 2 b", "-ERR INCR option supports a single increment-element pair"),
        ("zadd z 1 a 2", "-ERR syntax error"),
        ("zadd z one a", "-ERR value is not a valid float"),
        ("zadd z inf i", ":1"),
        ("zincrby z -inf i", "-ERR resulting score is not a number (NaN)"),
        ("zincrby z 2 new", "$1 2"),
        ("zrem z a b nobody", ":2"),
        ("zcard z", ":6"),
        ("zmscore z c nobody", "*2 $1 3 $-1"),
    ]);
}

#[test]
fn ranges_are_by_rank_score_and_name_in_both_directions() {
    replies(&[
        ("zadd z 1 a 2 b 2 c 3 d", ":4"),
        ("zrange z 0 -1", "*4 $1 a $1 b $1 c $1 d"),
        ("zrange z 1 2 rev withscores", "*4 $1 c $1 2 $1 b $1 2"),
        ("zrange z (1 2 byscore", "*2 $1 b $1 c"),
        ("zrange z 2 -inf byscore rev limit 1 1", "*1 $1 b"),
        (
            "zrange z 0 1 limit 0 1",
            "-ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
        ),
        (
            "zrange z - + bylex withscores",
            "-ERR syntax error, WITHSCORES not supported in combination with BYLEX",
        ),
        ("zrange z a b byscore", "-ERR min or max is not a float"),
        ("zrange z a b bylex", "-ERR min or max not valid string range item"),
        ("zrevrange z 0 0", "*1 $1 d"),
        ("zrangebyscore z -inf +inf limit 1 2", "*2 $1 b $1 c"),
        ("zrevrangebyscore z +inf (2", "*1 $1 d"),
        ("zcount z 2 3", ":3"),
        ("zrank z c", ":2"),
        ("zrevrank z c", ":1"),
        ("zrank z nobody", "$-1"),
        ("zrangestore y z 1 2", ":2"),
        ("zrange y 0 -1", "*2 $1 b $1 c"),
        ("zrangestore y z 9 9", ":0"),
        ("exists y", ":0"),
        ("zremrangebyrank z 0 0", ":1"),
        ("zremrangebyscore z 2 2", ":2"),
        ("zadd n 0 a 0 b 0 c 0 d", ":4"),
        ("zrangebylex n [b +", "*3 $1 b $1 c $1 d"),
        ("zrevrangebylex n (c -", "*2 $1 b $1 a"),
        ("zlexcount n - (c", ":2"),
        ("zremrangebylex n - [b", ":2"),
    ]);
}

#[test]
fn members_are_popped_and_sets_combined() {
    replies(&[
        ("zadd a 1 x 2 y 3 z", ":3"),
        ("zadd b 10 y 20 z 30 w", ":3"),
        ("sadd s y q", ":2"),
        ("zunion 2 a b withscores", "*8 $1 x $1 1 $1 y $2 12 $1 z $2 23 $1 w $2 30"),
        ("zinter 2 a b weights 2 1 aggregate max withscores", "*4 $1 y $2 10 $1 z $2 20"),
        ("zinter 2 a s withscores", "*2 $1 y $1 3"),
        ("zdiff 2 a b", "*1 $1 x"),
        ("zunionstore d 2 a none", ":3"),
        ("zinterstore d 2 a none", ":0"),
        ("zdiffstore d 2 a b", ":1"),
        ("zintercard 2 a b limit 1", ":1"),
        ("zunion 0 a", "-ERR at least 1 input key is needed for 'zunion' command"),
        ("zunion 2 a b weights 1 x", "-ERR weight value is not a float"),
        ("zunion 3 a b", "-ERR syntax error"),
        ("zpopmin a", "*2 $1 x $1 1"),
        ("zpopmax a 5", "*4 $1 z $1 3 $1 y $1 2"),
        ("zpopmin a", "*0"),
        ("zmpop 2 none b max count 2", "*2 $1 b *2 *2 $1 w $2 30 *2 $1 z $2 20"),
        ("bzpopmin none b 0", "*3 $1 b $1 y $2 10"),
        ("zmpop 1 none min", "*-1"),
        ("zrandmember none", "$-1"),
        ("zrandmember none 3", "*0"),
    ]);
    replies_in(
        Version::Resp3,
        &[
            ("zadd a 1 x 2.5 y", ":2"),
            ("zrange a 0 -1 withscores", "*2 *2 $1 x ,1 *2 $1 y ,2.5"),
            ("zscore a y", ",2.5"),
            ("zpopmin a", "*2 $1 x ,1"),
            ("zpopmin a 1", "*1 *2 $1 y ,2.5"),
        ],
    );
}
