//! Connections of a protocol of bytes: input, replies, posts, ends.
#![allow(clippy::unwrap_used)]

mod lines;

use std::time::Duration;

use corelane_net::session::Ending;
use corelane_net::{ConnKey, Next, SessionConfig, Sessions};
use lines::{Bench, Lines, Post, limits, text};

#[test]
fn commands_are_answered_in_order_however_many_come_at_once() {
    let mut b = Bench::new();
    let peer = b.connect();
    assert_eq!(b.ask(&peer, b"echo one\n"), "one\n");
    let many: String = (0..500).map(|n| format!("echo {n}\n")).collect();
    let want: String = (0..500).map(|n| format!("{n}\n")).collect();
    assert_eq!(b.ask(&peer, many.as_bytes()), want);
    peer.close();
    b.check_clean();
}

#[test]
fn a_command_split_at_every_byte_is_the_same_command() {
    let wire = b"echo first\nblock 10\n0123456789echo last\n";
    for at in 1..wire.len() {
        let mut b = Bench::new();
        let peer = b.connect();
        let mut got = b.ask(&peer, &wire[..at]);
        got += &b.ask(&peer, &wire[at..]);
        assert_eq!(got, "first\n10 bytes: 525\nlast\n", "split at {at}");
        assert_eq!(b.table.inbox_bytes(), 0);
        peer.close();
        b.check_clean();
    }
}

#[test]
fn a_pipeline_leaves_in_one_send() {
    let mut b = Bench::new();
    let peer = b.connect();
    let before = b.rt.kernel_stats().submitted;
    assert_eq!(b.ask(&peer, &b"echo x\n".repeat(64)), "x\n".repeat(64));
    assert_eq!(b.rt.kernel_stats().submitted - before, 1);
}

#[test]
fn a_post_from_a_task_answers_a_connection_that_waits() {
    let mut b = Bench::new();
    let peer = b.connect();
    assert_eq!(b.ask(&peer, b"later 50\necho behind\n"), "", "what stands behind waits too");
    b.pass(Duration::from_millis(100));
    assert_eq!(text(&peer), "at last\nbehind\n");
    peer.close();
    b.check_clean();
}

#[test]
fn a_post_from_one_connection_to_another_is_sent_in_the_same_turn() {
    let mut b = Bench::new();
    let (a, z) = (b.connect(), b.connect());
    let key = b.key_of(&z).to_bits();
    a.write(format!("to {key} hello\necho done\n").as_bytes());
    let before = b.rt.shard().stats.turns.get();
    while z.received_len() == 0 {
        b.turn();
        assert!(b.rt.shard().stats.turns.get() - before < 4);
    }
    assert_eq!((text(&z), text(&a)), ("said: hello\n".into(), "done\n".into()));
}

#[test]
fn a_table_is_found_by_its_protocol() {
    let mut b = Bench::new();
    let found = b.rt.within(|shard| Sessions::<Lines>::of(shard)).unwrap();
    assert!(std::rc::Rc::ptr_eq(&found, &b.table));
}

#[test]
fn a_post_to_a_connection_that_is_gone_comes_back() {
    let mut b = Bench::new();
    let peer = b.connect();
    let key = b.key_of(&peer);
    peer.close();
    b.settle();
    let other = b.connect();
    assert_eq!(b.key_of(&other).index(), key.index(), "its slot has another connection");
    b.table.post(key, Post::Say("too late".into()));
    b.settle();
    assert_eq!(b.lines().undelivered.take(), [Post::Say("too late".into())]);
    assert_eq!(text(&other), "");
    assert_eq!(b.lines().closed.borrow()[..], [(1, Ending::Left)]);
}

#[test]
fn quit_says_goodbye_and_closes() {
    let mut b = Bench::new();
    let peer = b.connect();
    assert_eq!(b.ask(&peer, b"quit\necho unread\n"), "bye\n");
    assert!(peer.is_eof() && !peer.was_reset());
    peer.close();
    b.settle();
    assert_eq!(b.lines().closed.borrow()[..], [(1, Ending::Asked)]);
    b.check_clean();
}

#[test]
fn a_key_survives_its_packing() {
    let mut b = Bench::new();
    let peer = b.connect();
    let key = b.key_of(&peer);
    assert_eq!(ConnKey::from_bits(key.to_bits()), key);
    let open = b.lines().open.borrow()[0];
    assert_eq!(open, key);
    let _ = (limits(), SessionConfig::default(), Next::Same);
}
