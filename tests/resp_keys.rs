//! Short scripts about keys, beside `redis-server`, on a node of one shard and of two: what random sequences found so
//! seldom that it stands here, too.
//!
//! Not here: random sequences (`resp_model`), users and the node (`resp_admin`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod resp;

use resp::compare;

#[test]
fn bits_that_are_as_they_were_are_no_change_for_those_who_watch() {
    compare(
        "a: set s xxxx
        a: set other 1
        a: watch s other
        b: setbit s 9 1
        b: setbit s 8 0
        b: bitfield s set u8 0 120 incrby u8 8 0 get u8 16
        b: bitfield s overflow fail incrby u8 0 200
        a: multi
        a: get s
        a: get other
        a: exec
        a: watch s other
        b: setbit s 9 0
        a: multi
        a: exec
        a: watch s other
        b: bitfield s set u8 0 121
        a: multi
        a: exec
        a: watch s other
        b: setbit s 32 0
        a: multi
        a: exec
        a: watch none other
        b: setbit none 0 0
        a: multi
        a: exec",
    );
}

#[test]
fn a_malformed_command_on_several_keys_does_nothing_in_a_transaction() {
    compare(
        "a: multi
        a: mset k0 1 k1 1 k2 1 k3 1 k4
        a: exists k0 k1 k2 k3 k4
        a: exec
        a: mset k0 1 k1 1 k2 1 k3 1 k4
        a: exists k0 k1 k2 k3 k4
        a: multi
        a: msetnx k0 1 k1 1 k2
        a: exec
        a: exists k0 k1 k2",
    );
}

#[test]
fn an_increment_that_is_an_option_is_a_syntax_error() {
    compare(
        "a: zincrby z nx m
        a: zincrby z INCR m
        a: zincrby z ch nx
        a: zincrby z x m
        a: zincrby z 1 nx
        a: zscore z nx",
    );
}

#[test]
fn scores_are_added_up_in_the_order_in_which_redis_does_and_so_are_rounded_alike() {
    compare(
        "a: zadd small 0.15000000000000002 m
        a: zadd middle 1.5 m 1 b
        a: zadd large 0.15 m 2 b 3 c
        a: zunion 3 large middle small withscores
        a: zunion 3 small large middle withscores
        a: zinter 3 large middle small withscores
        a: zinterstore to 3 middle large small weights 0.1 0.7 3
        a: zrange to 0 -1 withscores
        a: sadd plain m b c d
        a: zunionstore to 4 plain middle large small weights 0.1 0.2 0.3 0.7 aggregate sum
        a: zrange to 0 -1 withscores",
    );
}

#[test]
fn infinities_without_weight_are_what_redis_makes_of_them() {
    compare(
        "a: zadd z +inf m -inf n 1 o
        a: zinterstore to 2 z z weights -2.5 -0
        a: zrange to 0 -1 withscores
        a: zinterstore to 2 z z weights 0 1
        a: zrange to 0 -1 withscores
        a: zinterstore to 2 z z weights 1 0 aggregate min
        a: zrange to 0 -1 withscores
        a: zinterstore to 2 z z weights 1 0 aggregate max
        a: zrange to 0 -1 withscores
        a: zunionstore to 2 z z weights 1 0
        a: zrange to 0 -1 withscores
        a: zunionstore to 2 z z weights 1 -1
        a: zrange to 0 -1 withscores",
    );
}
