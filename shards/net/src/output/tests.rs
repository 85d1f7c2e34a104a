//! What is put in comes out, in order and as one chain, whatever buffers it went through.
#![allow(clippy::unwrap_used)]

use corelane_pools::{CHUNKS_MAX, MEDIUM_LEN, PoolConfig, SMALL_LEN};

use super::*;

fn pools() -> Pools {
    Pools::new(&PoolConfig { poison: true, ..PoolConfig::default() }).unwrap()
}

/// Pools with this many small buffers and nothing else.
fn few(small_count: u32) -> Pools {
    let (medium_count, large_count, heap_bytes_max) = (0, 0, 0);
    Pools::new(&PoolConfig {
        small_count,
        medium_count,
        large_count,
        heap_bytes_max,
        ..PoolConfig::default()
    })
    .unwrap()
}

fn bytes(chain: &Chain) -> Vec<u8> {
    chain.slices().flatten().copied().collect()
}

#[test]
fn nothing_put_in_is_nothing_to_send() {
    let pools = pools();
    let mut out = Output::default();
    assert!(out.is_empty());
    out.begin(&pools, 100);
    assert!(out.is_empty(), "a buffer without bytes is nothing yet");
    assert_eq!(out.len(), 0);
    assert!(out.take().is_empty());
    assert_eq!(pools.stats().lent(), 0);
}

#[test]
fn small_answers_share_one_buffer() {
    let pools = pools();
    let mut out = Output::default();
    for _ in 0..5 {
        out.begin(&pools, 50);
        out.writer(&pools).put(b"an answer ");
    }
    assert_eq!(pools.stats().lent(), 1);
    let chain = out.take();
    assert!(chain.is_single());
    assert_eq!(bytes(&chain), b"an answer ".repeat(5));
}

#[test]
fn what_does_not_fit_goes_on_in_the_next_buffer_and_the_order_stays() {
    let pools = pools();
    let mut out = Output::default();
    out.begin(&pools, 0);
    let mut want = Vec::new();
    for n in 0..200u8 {
        let piece = vec![n; 1 + usize::from(n) % 97];
        out.writer(&pools).put(&piece);
        want.extend(piece);
        assert_eq!(out.len(), want.len());
    }
    assert!(pools.stats().lent() > 1, "one buffer held it all: nothing was tested");
    let chain = out.take();
    assert_eq!(bytes(&chain), want);
    assert_eq!(chain.len(), want.len());
    drop(chain);
    assert_eq!(pools.stats().lent(), 0);
}

#[test]
fn a_piece_larger_than_any_buffer_so_far_gets_one_that_holds_it() {
    let pools = pools();
    let mut out = Output::default();
    let large = vec![b'x'; 2 * MEDIUM_LEN];
    out.writer(&pools).put(b"head");
    out.writer(&pools).put(&large);
    out.writer(&pools).put(b"tail");
    assert_eq!(bytes(&out.take()), [b"head".as_slice(), &large, b"tail"].concat());
}

#[test]
fn the_last_byte_of_a_buffer_is_used_and_the_next_is_in_another() {
    let pools = pools();
    let mut out = Output::default();
    out.begin(&pools, 0);
    out.writer(&pools).put(&[1; SMALL_LEN]);
    assert_eq!(pools.stats().lent(), 1);
    out.writer(&pools).put(&[2]);
    assert_eq!(pools.stats().lent(), 2);
    assert_eq!(out.len(), SMALL_LEN + 1);
}

#[test]
fn a_body_beside_the_buffer_stands_between_what_came_before_and_after() {
    let pools = pools();
    let mut out = Output::default();
    out.writer(&pools).put(b"head one ");
    out.push(b"body one ");
    out.writer(&pools).put(b"head two ");
    out.push(b"body two ");
    assert_eq!(out.len(), 36);
    let chain = out.take();
    assert_eq!(bytes(&chain), b"head one body one head two body two ");
    assert_eq!(chain.chunks_count(), 4, "the bodies are not copied");
}

#[test]
fn after_it_was_taken_it_begins_anew() {
    let pools = pools();
    let mut out = Output::default();
    out.writer(&pools).put(b"first");
    out.push(b" and more");
    let first = out.take();
    assert!(out.is_empty());
    out.writer(&pools).put(b"second");
    assert_eq!(bytes(&out.take()), b"second");
    assert_eq!(bytes(&first), b"first and more");
}

#[test]
fn a_burst_takes_a_buffer_for_many_answers() {
    let pools = pools();
    let mut out = Output::default();
    out.expect_more(true);
    out.begin(&pools, 0);
    for _ in 0..60 {
        out.writer(&pools).put(&[b'a'; 200]);
    }
    assert_eq!(pools.stats().lent(), 1);
    assert!(out.take().is_single());
    out.expect_more(false);
    out.begin(&pools, 0);
    assert_eq!(pools.stats().tiers[0].lent, 1, "alone, a small one will do");
}

#[test]
fn pools_that_are_empty_fail_the_output_and_not_the_shard() {
    let pools = few(1);
    let held = pools.get(1).unwrap();
    let mut out = Output::default();
    out.begin(&pools, 10);
    assert!(out.failed());
    out.writer(&pools).put(b"nowhere to go");
    assert!(out.is_empty());
    drop(held);

    assert_eq!(pools.stats().lent(), 0);
}

#[test]
fn an_output_with_a_hole_takes_no_more() {
    // 65,536 bytes and not one more of heap, beside the small slots.
    let (medium_count, large_count, heap_bytes_max) = (0, 0, 1 << 16);
    let config = PoolConfig { medium_count, large_count, heap_bytes_max, ..PoolConfig::default() };
    let pools = Pools::new(&config).unwrap();
    let held = pools.get(1 << 16).unwrap();
    let mut out = Output::default();
    out.begin(&pools, 10);
    out.writer(&pools).put(&[1; SMALL_LEN]);
    assert!(!out.failed());
    out.writer(&pools).put(&[2; 10]);
    assert!(out.failed(), "the second buffer could not be had");
    drop(held);
    out.writer(&pools).put(&[3; 10]);
    assert!(out.failed());
    assert_eq!(
        bytes(&out.take()),
        [1; SMALL_LEN],
        "what comes after a hole would be read as if there were none"
    );
    assert_eq!(pools.stats().lent(), 0);
}

#[test]
fn it_is_full_while_an_answer_in_three_pieces_still_fits() {
    let pools = pools();
    let mut out = Output::default();
    let mut count = 0;
    while !out.is_full() {
        out.push(b"x");
        count += 1;
    }
    assert_eq!(count, CHUNKS_MAX - 2);
    // The last answer before it was full: a head that spills, and its body.
    let mut out = Output::default();
    (0..CHUNKS_MAX - 3).for_each(|_| out.push(b"x"));
    assert!(!out.is_full());
    out.begin(&pools, 0);
    out.writer(&pools).put(&[b'h'; SMALL_LEN]);
    out.writer(&pools).put(b"more of the head");
    out.push(b"body");
    assert_eq!(out.take().chunks_count(), CHUNKS_MAX);
}
