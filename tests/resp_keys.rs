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
