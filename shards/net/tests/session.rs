//! Connections of a protocol of bytes: from input to replies, and what is posted to them. How they end is another file's.
#![allow(clippy::unwrap_used)]

mod lines;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use corelane_base::{Limits, Rng, Token};
use corelane_exec::{Driver, Event, Shard, Turn};
use corelane_net::session::{Ending, HELD_MAX, INBOX_PAUSE};
use corelane_net::{ConnKey, Next, SessionConfig, Sessions};
use corelane_sim::{Fault, Faults, Peer, SimConfig};
use lines::{Bench, Lines, Post, limits, text};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn echoes(from: usize, to: usize) -> (String, String) {
    ((from..to).map(|n| format!("echo {n}\n")).collect(), (from..to).map(|n| format!("{n}\n")).collect())
}

// ----- input

#[test]
fn commands_are_answered_in_order_however_many_come_at_once() {
    let mut b = Bench::new();
    let peer = b.connect();
    assert_eq!(b.ask(&peer, b"echo one\n"), "one\n");
    let (many, want) = echoes(0, 500);
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
fn commands_that_come_byte_by_byte_are_the_same_commands() {
    let mut b = Bench::new();
    let peer = b.connect();
    let mut got = String::new();
    for byte in b"echo first\nblock 10\n0123456789echo last\n" {
        got += &b.ask(&peer, &[*byte]);
    }
    assert_eq!(got, "first\n10 bytes: 525\nlast\n");
}

/// Lines and blocks of all lengths, and what is answered to them.
fn mixture(seed: u64, commands: usize) -> (Vec<u8>, String) {
    let mut rng = Rng::new(seed);
    let mut below = |bits: usize| {
        let bound = 1 << rng.index(bits);
        rng.index(bound)
    };
    let (mut wire, mut want) = (Vec::new(), String::new());
    for n in 0..commands {
        if below(3) == 0 {
            let len = below(15);
            let block: Vec<u8> = (0..len).map(|_| u8::try_from(below(9)).unwrap()).collect();
            let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
            wire.extend_from_slice(format!("block {len}\n").as_bytes());
            wire.extend_from_slice(&block);
            want += &format!("{len} bytes: {sum}\n");
        } else {
            let line = format!("{n}{}", "x".repeat(below(12)));
            wire.extend_from_slice(format!("echo {line}\n").as_bytes());
            want += &format!("{line}\n");
        }
    }
    (wire, want)
}

#[test]
fn how_receive_buffers_cut_the_input_makes_no_difference() {
    for (seed, recv_buffer_bytes) in [(1, 64), (2, 100), (3, 257), (4, 1_000), (5, 4_096), (6, 65_536)] {
        let limits = limits();
        let sim = SimConfig { recv_buffer_bytes, free_running: false, ..SimConfig::of(&limits) };
        let mut b = Bench::on(sim, limits, SessionConfig::default());
        let peer = b.connect();
        let (wire, want) = mixture(seed, 300);
        let mut got = String::new();
        for piece in wire.chunks(30_000) {
            got += &b.ask(&peer, piece);
        }
        assert!(got == want, "buffers of {recv_buffer_bytes} bytes: {} of {} bytes", got.len(), want.len());
        assert_eq!(b.table.inbox_bytes(), 0);
        peer.close();
        b.check_clean();
    }
}

#[test]
fn a_block_is_not_asked_for_before_it_is_there() {
    let mut b = Bench::new();
    let peer = b.connect();
    let block = vec![1; 1_000_000];
    b.send(&peer, b"block 1000000\n");
    let calls = b.lines().seen.borrow().len();
    b.send(&peer, &block);
    assert_eq!(text(&peer), "1000000 bytes: 1000000\n");
    let seen = b.lines().seen.borrow();
    assert_eq!(seen.len() - calls, 1, "{:?}", &seen[calls..]);
    assert_eq!(b.table.inbox_bytes(), 0);
}

#[test]
fn what_completes_a_command_is_copied_and_the_rest_is_used_in_place() {
    let mut b = Bench::new();
    let peer = b.connect();
    b.send(&peer, b"echo a");
    let (many, want) = echoes(0, 300);
    assert_eq!(b.ask(&peer, format!("b\n{many}").as_bytes()), format!("ab\n{want}"));
    // The partial line, then it with a little of what came, then all else.
    let seen = b.lines().seen.take();
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert!(seen[1] < 600 && seen[2] > 2_000, "{seen:?}");
}

#[test]
fn a_connection_that_wants_or_holds_more_than_it_may_is_reset() {
    let config = SessionConfig { inbox_bytes_max: 10_000, ..SessionConfig::default() };
    let mut b = Bench::with(limits(), config);
    let fits = b.connect();
    b.send(&fits, b"block 10000\n");
    assert!(b.ask(&fits, &[1; 10_000]).starts_with("10000 bytes"), "on the bound");
    let wants = b.connect();
    b.send(&wants, b"block 10001\n");
    assert!(wants.was_reset());
    let holds = b.connect();
    b.send(&holds, &[b'x'; 10_001]);
    assert!(holds.was_reset());
    assert_eq!(b.table.stats.inbox_full.get(), 2);
    assert_eq!(b.lines().closed.borrow()[..], [(2, Ending::Overrun), (3, Ending::Overrun)]);
    assert_eq!(b.ask(&fits, b"echo still here\n"), "still here\n");
    fits.close();
    b.check_clean();
}

#[test]
fn unread_input_of_all_connections_is_bounded_and_the_oldest_goes_first() {
    let config = SessionConfig { inboxes_bytes_max: Some(10_000), ..SessionConfig::default() };
    let mut b = Bench::with(limits(), config);
    let peers = [b.connect(), b.connect(), b.connect()];
    for peer in &peers {
        b.send(peer, b"echo ");
        b.send(peer, &[b'x'; 3_300]);
    }
    assert_eq!(b.table.len(), 3, "below the bound");
    b.send(&peers[2], &[b'x'; 200]);
    assert!(peers[0].was_reset() && peers[1].is_connected() && peers[2].is_connected());
    assert_eq!(b.table.stats.inbox_evicted.get(), 1);
    assert_eq!(b.ask(&peers[1], b"\n").len(), 3_301);
    assert_eq!(b.ask(&peers[2], b"\n").len(), 3_501);
    peers.iter().for_each(Peer::close);
    b.check_clean();
}

#[test]
fn one_that_spent_its_share_lets_others_have_theirs() {
    let mut b = Bench::new();
    b.lines().budget.set(1);
    let (greedy, modest) = (b.connect(), b.connect());
    let (many, want) = echoes(0, 100);
    greedy.write(many.as_bytes());
    modest.write(b"echo me too\n");
    let mut turns = 0;
    while modest.received_len() == 0 {
        b.turn();
        turns += 1;
        assert!(turns < 10, "{}", text(&greedy));
    }
    assert!(greedy.received_len() < 100, "{}", text(&greedy));
    b.settle();
    assert_eq!(text(&greedy), want);
    assert!(b.table.stats.gave_way.get() > 90);
    [greedy, modest].iter().for_each(Peer::close);
    b.check_clean();
}

#[test]
fn one_share_is_used_in_a_turn_and_no_turn_sleeps_while_another_is_due() {
    let mut b = Bench::new();
    b.lines().budget.set(1);
    let peer = b.connect();
    peer.write(echoes(0, 10).0.as_bytes());
    b.turn();
    let before = b.lines().seen.borrow().len();
    for turn in 1..5 {
        assert_eq!(b.rt.turn(true).unwrap(), Turn::Busy);
        assert_eq!(b.lines().seen.borrow().len() - before, turn);
    }
}

#[test]
fn output_above_the_high_water_mark_stops_input_until_it_drains() {
    let limits = limits();
    let sim = SimConfig { free_running: false, link_bytes: 16 << 10, ..SimConfig::of(&limits) };
    let mut b = Bench::on(sim, limits, SessionConfig::default());
    let peer = b.connect();
    peer.stop_reading();
    peer.write(&b"put 30000\n".repeat(20));
    peer.write(b"echo end\n");
    b.settle();
    let unsent = b.unsent();
    assert!((64 << 10..128 << 10).contains(&unsent), "{unsent}");
    assert!(b.table.stats.recv_paused.get() > 0);
    peer.start_reading();
    b.settle();
    let got = b.drink(&peer);
    assert_eq!(got.len(), 20 * 30_000 + 4);
    assert!(got.ends_with(b"end\n"));
    assert_eq!(b.ask(&peer, b"echo again\n"), "again\n");
    peer.close();
    b.check_clean();
}

#[test]
fn one_that_waits_is_received_from_up_to_a_bound_and_loses_nothing() {
    let mut b = Bench::new();
    let peer = b.connect();
    let key = b.key_of(&peer);
    b.send(&peer, b"wait\n");
    let (many, want) = echoes(0, 30_000);
    let mut left = many.as_bytes();
    for _ in 0..50 {
        left = &left[peer.write(left)..];
        b.settle();
    }
    let held = usize::try_from(b.table.inbox_bytes()).unwrap();
    assert!((INBOX_PAUSE..=INBOX_PAUSE + 65_536).contains(&held), "{held}");
    assert!(!left.is_empty() && b.table.stats.recv_paused.get() == 1);
    b.table.post(key, Post::Answer("now".into()));
    b.settle();
    b.send(&peer, left);
    assert!(b.drink(&peer) == format!("now\n{want}").as_bytes());
    peer.close();
    b.check_clean();
}

// ----- output

#[test]
fn a_pipeline_leaves_in_one_send() {
    let mut b = Bench::new();
    let peer = b.connect();
    let before = b.rt.kernel_stats().submitted;
    assert_eq!(b.ask(&peer, &b"echo x\n".repeat(64)), "x\n".repeat(64));
    assert_eq!(b.rt.kernel_stats().submitted - before, 1);
}

#[test]
fn replies_of_all_sizes_come_in_order() {
    let mut b = Bench::new();
    let peer = b.connect();
    let (mut wire, mut want) = (String::new(), Vec::new());
    for size in [1, 1_023, 1_024, 1_025, 4_096, 4_097, 16_384, 65_536, 70_000, 200_000] {
        wire += &format!("put {size}\npush {size}\necho x\n");
        want.extend([vec![b'p'; size], vec![b'b'; size], b"x\n".to_vec()].concat());
    }
    b.send(&peer, wire.as_bytes());
    assert!(b.drink(&peer) == want);
    peer.close();
    b.check_clean();
}

#[test]
fn a_reply_of_more_pieces_than_one_send_takes_comes_in_order() {
    let limits = Limits { output_high_water: 1 << 30, ..limits() };
    let mut b = Bench::with(limits, SessionConfig::default());
    let peer = b.connect();
    b.send(&peer, b"pieces 3000\necho end\n");
    let got = b.drink(&peer);
    assert_eq!(got.len(), 3_000 * 5_001 + 4);
    for (n, piece) in got[..3_000 * 5_001].chunks(5_001).enumerate() {
        let letter = b'a' + u8::try_from(n % 26).unwrap();
        assert!(piece[..5_000].iter().all(|&byte| byte == letter) && piece[5_000] == b'-', "piece {n}");
    }
    assert!(got.ends_with(b"end\n"));
    peer.close();
    b.check_clean();
}

// ----- posts

#[test]
fn a_post_from_a_task_answers_a_connection_that_waits() {
    let mut b = Bench::new();
    let peer = b.connect();
    assert_eq!(b.ask(&peer, b"later 50\necho behind\n"), "", "what stands behind waits too");
    b.pass(ms(100));
    assert_eq!(text(&peer), "at last\nbehind\n");
    peer.close();
    b.check_clean();
}

#[test]
fn what_was_said_before_a_reply_that_comes_soon_leaves_with_it_in_one_send() {
    let mut b = Bench::new();
    let peer = b.connect();
    let key = b.key_of(&peer);
    let before = b.rt.kernel_stats().submitted;
    assert_eq!(b.ask(&peer, b"echo first\nsoon\necho last\n"), "", "the first waits for the second");
    assert_eq!(b.ask(&peer, b"echo more\n"), "", "whatever comes meanwhile");
    b.rt.within(|_| b.table.post(key, Post::Answer("second".into())));
    b.settle();
    assert_eq!(text(&peer), "first\nsecond\nlast\nmore\n");
    assert_eq!(b.rt.kernel_stats().submitted - before, 1);
    assert_eq!(b.ask(&peer, b"echo a\nwait\n"), "a\n", "a reply that takes its time does not hold it up");
    b.rt.within(|_| b.table.post(key, Post::Answer("done".into())));
    b.settle();
    assert_eq!(text(&peer), "done\n");
    peer.close();
    b.check_clean();
}

#[test]
fn what_waits_for_a_reply_that_comes_soon_is_sent_when_the_connection_ends_and_at_16_kib_at_once() {
    let mut b = Bench::new();
    let peer = b.connect();
    let key = b.key_of(&peer);
    assert_eq!(b.ask(&peer, b"echo first\nsoon\n"), "");
    b.rt.within(|_| b.table.kill(key, Next::Close));
    b.settle();
    assert_eq!(text(&peer), "first\n");
    peer.close();
    let peer = b.connect();
    b.send(&peer, format!("put {HELD_MAX}\nsoon\n").as_bytes());
    assert_eq!(b.drink(&peer).len(), 0, "as much as may wait");
    let peer = b.connect();
    b.send(&peer, format!("put {}\nsoon\n", HELD_MAX + 1).as_bytes());
    assert_eq!(b.drink(&peer).len(), HELD_MAX + 1);
}

#[test]
fn a_post_from_one_connection_to_another_is_sent_in_the_same_turn() {
    let mut b = Bench::new();
    let (a, z) = (b.connect(), b.connect());
    let key = b.key_of(&z).to_bits();
    a.write(format!("to {key} hello\necho done\n").as_bytes());
    let sent = |b: &Bench| b.rt.kernel_stats().submitted;
    let before = sent(&b);
    while sent(&b) == before {
        b.turn();
    }
    assert_eq!(sent(&b) - before, 2, "both of one turn");
    b.settle();
    assert_eq!((text(&z), text(&a)), ("said: hello\n".into(), "done\n".into()));
}

#[test]
fn a_post_to_itself_comes_behind_what_was_answered() {
    let mut b = Bench::new();
    let peer = b.connect();
    let key = b.key_of(&peer).to_bits();
    let wire = format!("to {key} one\necho a\nto {key} two\necho b\n");
    assert_eq!(b.ask(&peer, wire.as_bytes()), "a\nb\nsaid: one\nsaid: two\n");
}

#[test]
fn something_said_to_one_that_waits_does_not_end_its_wait() {
    let mut b = Bench::new();
    let peer = b.connect();
    let key = b.key_of(&peer);
    b.send(&peer, b"wait\necho behind\n");
    b.table.post(key, Post::Say("news".into()));
    b.settle();
    assert_eq!(text(&peer), "said: news\n");
    b.table.post(key, Post::Answer("now".into()));
    b.settle();
    assert_eq!(text(&peer), "now\nbehind\n");
}

#[test]
fn a_post_can_make_a_connection_wait_or_close() {
    let mut b = Bench::new();
    let peer = b.connect();
    let key = b.key_of(&peer);
    b.table.post(key, Post::Wait);
    b.settle();
    assert_eq!(b.ask(&peer, b"echo held\n"), "");
    b.table.post(key, Post::Answer("on".into()));
    b.table.post(key, Post::Close);
    b.settle();
    assert_eq!(text(&peer), "on\nheld\n");
    assert!(peer.is_eof());
}

#[test]
fn posts_come_in_the_order_they_were_made() {
    let mut b = Bench::new();
    let peers = [b.connect(), b.connect()];
    let keys = [b.key_of(&peers[0]), b.key_of(&peers[1])];
    for n in 0..200 {
        b.table.post(keys[n % 2], Post::Say(n.to_string()));
    }
    assert_eq!(b.table.posts_waiting(), 200);
    b.settle();
    for (at, peer) in peers.iter().enumerate() {
        let want: String = (0..200).filter(|n| n % 2 == at).map(|n| format!("said: {n}\n")).collect();
        assert_eq!(text(peer), want);
    }
    assert_eq!(b.table.stats.posts.get(), 200);
}

#[test]
fn two_that_answer_each_other_without_end_let_everybody_else_go_on() {
    let mut b = Bench::new();
    let (a, z, other) = (b.connect(), b.connect(), b.connect());
    let (ka, kz) = (b.key_of(&a), b.key_of(&z));
    b.table.post(ka, Post::PingPong(kz));
    for _ in 0..100 {
        assert_eq!(b.rt.turn(true).unwrap(), Turn::Busy);
    }
    let before = (a.take().len(), z.take().len());
    assert!((50..1_000).contains(&before.0) && before.0.abs_diff(before.1) < 5, "{before:?}");
    other.write(b"echo me\n");
    for _ in 0..4 {
        b.turn();
    }
    assert_eq!(text(&other), "me\n");
}

/// Posts in its flush, which comes after that of the table.
struct LatePoster {
    table: Rc<Sessions<Lines>>,
    key: Cell<Option<ConnKey>>,
}

impl Driver for LatePoster {
    fn complete(&self, _shard: &Shard, event: Event<'_>) {
        panic!("nothing was pushed: {event:?}");
    }

    fn timer(&self, _shard: &Shard, _token: Token) {}

    fn flush(&self, _shard: &Shard) -> bool {
        if let Some(key) = self.key.take() {
            self.table.post(key, Post::Say("late".into()));
        }
        false
    }
}

#[test]
fn a_post_that_comes_when_the_turn_is_flushed_is_delivered_in_the_next_and_none_sleeps_before() {
    let mut b = Bench::new();
    let peer = b.connect();
    let key = b.key_of(&peer);
    let late = Rc::new(LatePoster { table: Rc::clone(&b.table), key: Cell::new(None) });
    let driver = Rc::clone(&late) as Rc<dyn Driver>;
    b.rt.within(|shard| shard.add_driver(driver));
    b.settle();
    assert_eq!(b.rt.turn(true).unwrap(), Turn::Idle);
    late.key.set(Some(key));
    assert_eq!(b.rt.turn(true).unwrap(), Turn::Busy);
    b.settle();
    assert_eq!(text(&peer), "said: late\n");
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
fn a_post_to_a_connection_that_is_closing_comes_back() {
    let mut b = Bench::new();
    let peer = b.connect();
    let key = b.key_of(&peer);
    b.send(&peer, b"quit\n");
    assert_eq!(b.table.len(), 1, "it lingers");
    b.table.post(key, Post::Say("too late".into()));
    b.settle();
    assert_eq!(b.lines().undelivered.take(), [Post::Say("too late".into())]);
    assert_eq!(b.table.stats.posts_undelivered.get(), 1);
    assert_eq!(text(&peer), "bye\n");
}

#[test]
fn what_several_connections_sent_is_foreseen_and_a_panic_over_it_costs_nobody_anything() {
    let mut b = Bench::new();
    let peers = [b.connect(), b.connect(), b.connect()];
    b.lines().foresaw.take();
    for panics in [false, true] {
        b.lines().panics_at_foresight.set(panics);
        for (peer, line) in peers.iter().zip(["echo a\n", "echo bc\n", "echo def\n"]) {
            peer.write(line.as_bytes());
        }
        b.settle();
        assert_eq!(b.lines().foresaw.take(), [7, 8, 9, 0]);
        assert_eq!(peers.each_ref().map(text), ["a\n", "bc\n", "def\n"]);
        assert_eq!(b.table.stats.panics.get(), u64::from(panics));
    }
    peers.iter().for_each(|peer| peer.close());
    b.check_clean();
}

#[test]
fn with_many_posts_waiting_no_input_is_used_until_they_are_delivered() {
    let mut b = Bench::with(limits(), SessionConfig { posts_max: 10, ..SessionConfig::default() });
    let peers: Vec<Peer> = (0..20).map(|_| b.connect()).collect();
    b.lines().budget.set(1);
    for (n, peer) in peers.iter().enumerate() {
        peer.write(format!("all {n}\n").as_bytes());
    }
    let mut most = 0;
    for _ in 0..200 {
        b.turn();
        most = most.max(b.table.posts_waiting());
    }
    b.settle();
    let said = |n: usize| format!("said: {n}\n");
    for peer in &peers {
        let got = text(peer);
        assert_eq!(got.len(), (0..20).map(|n| said(n).len()).sum::<usize>());
        assert!((0..20).all(|n| got.contains(&said(n))), "{got}");
    }
    assert!(b.table.stats.gave_way.get() > 0);
    assert!(most <= 30, "{most} at the end of a turn");
}

#[test]
fn what_was_gathered_over_a_turn_is_done_before_its_sends() {
    let mut b = Bench::new();
    let peers: Vec<Peer> = (0..10).map(|_| b.connect()).collect();
    for peer in &peers {
        peer.write(b"gather together\necho behind\n");
    }
    let (ends, before) = (b.lines().turn_ends.get(), b.rt.kernel_stats().submitted);
    while b.rt.kernel_stats().submitted == before {
        b.turn();
    }
    assert_eq!(b.rt.kernel_stats().submitted - before, 10, "one send each, in one turn");
    assert_eq!(b.lines().turn_ends.get() - ends, 2, "again after what it posted");
    b.settle();
    assert!(peers.iter().all(|peer| text(peer) == "together\nbehind\n"));
}

#[test]
fn a_turn_in_which_nothing_was_called_has_no_end_to_tell_of() {
    let mut b = Bench::new();
    let _peer = b.connect();
    let ends = b.lines().turn_ends.get();
    for _ in 0..10 {
        b.turn();
    }
    assert_eq!(b.lines().turn_ends.get(), ends);
}

// ----- the table

#[test]
fn a_table_is_found_by_its_protocol() {
    let mut b = Bench::new();
    let found = b.rt.within(|shard| Sessions::<Lines>::of(shard)).unwrap();
    assert!(Rc::ptr_eq(&found, &b.table));
}

#[test]
fn a_key_survives_its_packing_and_numbers_grow() {
    let mut b = Bench::new();
    let peer = b.connect();
    let key = b.key_of(&peer);
    assert_eq!(ConnKey::from_bits(key.to_bits()), key);
    assert_eq!(b.lines().open.borrow()[..], [key]);
    peer.close();
    b.settle();
    let second = b.connect();
    assert_eq!(b.ask(&second, b"id\n"), "2\n");
    assert_ne!(b.key_of(&second), key);
}

#[test]
fn connections_are_listed_with_what_is_known_of_them() {
    let mut b = Bench::with(limits(), SessionConfig { peers: true, ..SessionConfig::default() });
    let a = b.world.connect_from(b.listener, "203.0.113.9:4000".parse().unwrap());
    b.settle();
    b.pass(ms(500));
    let z = b.connect();
    b.send(&a, b"wait\n1234567");
    b.send(&z, b"quit\n");
    b.pass(ms(200));
    let mut all = Vec::new();
    b.rt.within(|shard| assert!(b.table.each(shard, |_, conn, facts| all.push((conn.id, *facts)))));
    let (first, second) = (all[0].1, all[1].1);
    assert_eq!((all[0].0, first.id, all[1].0, second.id), (1, 1, 2, 2));
    assert_eq!(first.peer, Some("203.0.113.9:4000".parse().unwrap()));
    assert_eq!((first.inbox_bytes, first.bytes_in, first.bytes_out), (7, 12, 0));
    assert!(first.waiting && !first.closing && !second.waiting && second.closing);
    assert!((700_000_000..800_000_000).contains(&first.age_ns), "{first:?}");
    assert!((200_000_000..300_000_000).contains(&first.idle_ns), "{first:?}");
}

#[test]
fn the_table_can_be_walked_at_the_end_of_a_turn_and_not_from_within_a_call() {
    let mut b = Bench::new();
    let (a, _z) = (b.connect(), b.connect());
    b.lines().lists.set(true);
    assert_eq!(b.ask(&a, b"list\n"), "taken\n");
    assert_eq!(b.lines().listed.take(), [(1, 6), (2, 0)]);
}

#[test]
fn two_tables_on_one_shard_know_their_own_connections() {
    let mut b = Bench::new();
    let listener = b.world.add_listener();
    let second = b.rt.within(|shard| {
        let table = Sessions::start(shard, Lines::default(), SessionConfig::default());
        table.listen(shard, listener);
        table
    });
    let (a, z) = (b.connect(), b.world.connect(listener));
    b.settle();
    assert_eq!((b.ask(&a, b"id\n"), b.ask(&z, b"id\n")), ("1\n".into(), "1\n".into()));
    assert_eq!((b.table.len(), second.len()), (1, 1));
}

// ----- faults

/// Asks with all that a kernel may do, and checks every answer that comes.
fn under(faults: Faults, seed: u64, lossless: bool) {
    let limits = limits();
    let sim = SimConfig {
        free_running: false,
        seed,
        faults,
        recv_buffers: 16,
        recv_buffer_bytes: 512,
        link_bytes: 4_096,
        ..SimConfig::of(&limits)
    };
    let mut b = Bench::on(sim, limits, SessionConfig::default());
    let peers: Vec<(Peer, Vec<u8>, String)> = (0..6)
        .map(|n| {
            let (wire, want) = mixture(seed * 16 + n, 40);
            (b.world.connect(b.listener), wire, want)
        })
        .collect();
    let mut got = vec![Vec::new(); peers.len()];
    let mut at = vec![0; peers.len()];
    for _ in 0..20_000 {
        for (n, (peer, wire, _)) in peers.iter().enumerate() {
            at[n] += peer.write(&wire[at[n]..]);
            got[n].extend(peer.take());
        }
        b.world.advance(Duration::from_micros(100));
        b.turn();
        if peers.iter().zip(&got).all(|((peer, _, want), got)| got.len() == want.len() || peer.is_over()) {
            break;
        }
    }
    for (n, (peer, _, want)) in peers.iter().enumerate() {
        assert!(want.as_bytes().starts_with(&got[n]), "seed {seed}, peer {n}: a wrong answer");
        if lossless {
            assert_eq!(got[n].len(), want.len(), "seed {seed}, peer {n}: {}", b.world.log());
        } else {
            assert!(got[n].len() == want.len() || peer.is_over(), "seed {seed}, peer {n} hangs");
        }
        peer.close();
    }
    b.world.set_faults(Faults::none());
    b.pass(Duration::from_secs(3));
    b.check_clean();
}

#[test]
fn faults_that_lose_nothing_lose_nothing() {
    for seed in corelane_sim::seeds(60) {
        under(Faults::benign(0.1), seed, true);
    }
}

#[test]
fn whatever_the_kernel_does_the_answers_are_right_or_the_connection_is_seen_to_end() {
    for seed in corelane_sim::seeds(60) {
        let faults = Faults::benign(0.1)
            .with(Fault::Reset, 0.01)
            .with(Fault::SendPipe, 0.02)
            .with(Fault::SendReset, 0.02)
            .with(Fault::AcceptAborted, 0.1)
            .with(Fault::AcceptTableFull, 0.1);
        under(faults, seed, false);
    }
}

#[test]
fn an_exhausted_buffer_ring_pauses_receiving_and_loses_no_byte() {
    let limits = Limits { recv_buffers: 2, ..limits() };
    let sim = SimConfig { free_running: false, recv_buffers: 2, ..SimConfig::of(&limits) };
    let mut b = Bench::on(sim, limits, SessionConfig::default());
    let peers: Vec<Peer> = (0..10).map(|_| b.connect()).collect();
    let (many, want) = echoes(0, 3_000);
    for peer in &peers {
        assert_eq!(peer.write(many.as_bytes()), many.len());
    }
    b.settle();
    assert!(peers.iter().all(|peer| text(peer) == want));
    assert!(b.table.stats.recv_no_buffers.get() > 0);
}
