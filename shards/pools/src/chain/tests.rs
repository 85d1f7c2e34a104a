//! Chains against an oracle of plain vectors.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::{PoolConfig, Pools};

fn pools() -> Pools {
    Pools::new(&PoolConfig { small_count: 64, medium_count: 4, large_count: 0, ..PoolConfig::default() })
        .unwrap()
}

fn text(chain: &Chain) -> String {
    chain.slices().map(|slice| std::str::from_utf8(slice).unwrap()).collect::<Vec<_>>().join("|")
}

#[test]
fn chunks_of_all_kinds_come_out_in_order() {
    let pools = pools();
    let mut head = pools.get(10).unwrap();
    head.put(b"head");
    let mut chain = Chain::from(head);
    assert!(chain.is_single());
    chain.push("static");
    chain.push(Bytes::from_static(b"shared"));
    assert_eq!(text(&chain), "head|static|shared");
    assert_eq!(chain.first(), b"head");
    assert_eq!((chain.len(), chain.chunks_count(), chain.is_single()), (16, 3, false));
    chain.push(b"bytes");
    chain.push(vec![b'v'; 3]);
    chain.push(String::from("owned"));
    assert_eq!(text(&chain), "head|static|shared|bytes|vvv|owned");
}

#[test]
fn a_partial_send_ends_inside_a_chunk_on_its_border_or_past_several() {
    let chain = || {
        let mut chain = Chain::from("abc");
        for part in ["de", "fgh", "i", "jklm", "n"] {
            chain.push(part);
        }
        chain
    };
    for (count, expected) in [
        (0, "abc|de|fgh|i|jklm|n"),
        (2, "c|de|fgh|i|jklm|n"),
        (3, "de|fgh|i|jklm|n"),
        (4, "e|fgh|i|jklm|n"),
        (9, "jklm|n"),
        (13, "n"),
        (14, ""),
    ] {
        let mut chain = chain();
        chain.advance(count);
        assert_eq!(text(&chain), expected, "{count}");
        assert_eq!(chain.len(), 14 - count);
        assert_eq!(chain.is_empty(), count == 14);
    }
}

#[test]
#[should_panic(expected = "15 bytes sent of 14")]
fn more_sent_than_there_was_is_a_bug() {
    let mut chain = Chain::from("abcdefghijklmn");
    chain.advance(15);
}

#[test]
fn a_buffer_goes_back_to_its_pool_when_its_last_byte_is_sent() {
    let pools = pools();
    let mut buf = pools.get(3).unwrap();
    buf.put(b"abc");
    let mut chain = Chain::from(buf);
    chain.push("d");
    chain.advance(2);
    assert_eq!(pools.stats().lent(), 1);
    chain.advance(1);
    assert_eq!(pools.stats().lent(), 0);
    assert_eq!(text(&chain), "d");
}

#[test]
fn only_a_buffer_of_its_own_can_be_written_over_and_taken_out_whole() {
    let pools = Pools::new(&PoolConfig::default()).unwrap();
    let mut buf = pools.get(4).unwrap();
    buf.put(b"abcd");
    let mut chain = Chain::from(buf);
    chain.push(&b"static"[..]);
    assert!(chain.is_writable());
    chain.first_mut()[1..3].copy_from_slice(b"XY");
    assert_eq!((chain.first(), chain.len()), (&b"aXYd"[..], 10));
    assert!(matches!(chain.pop(), Some(Chunk::Buf(buf)) if buf.as_slice() == b"aXYd"));
    assert!(!chain.is_writable());
    assert_eq!(chain.first_mut(), b"", "constant bytes are not written over");
    assert!(matches!(chain.pop(), Some(Chunk::Static(b"static"))));
    assert!(chain.pop().is_none() && chain.is_empty());
}

#[test]
fn an_empty_chunk_is_not_kept() {
    let pools = pools();
    let mut chain = Chain::from("");
    chain.push(pools.get(1).unwrap());
    chain.push(Bytes::new());
    assert_eq!((chain.chunks_count(), chain.is_empty(), chain.is_single()), (0, true, false));
    assert_eq!(chain.first(), b"");
    assert_eq!(pools.stats().lent(), 0);
    chain.advance(0);
}

#[test]
fn bytes_stay_where_they_are_when_handles_move_and_chunks_are_added() {
    let pools = pools();
    let mut buf = pools.get(100).unwrap();
    buf.put(&[7; 100]);
    let mut chain = Chain::from(buf);
    chain.push(Bytes::from(vec![8; 100]));
    chain.push("static");
    let ranges = |chain: &Chain| chain.slices().map(<[u8]>::as_ptr_range).collect::<Vec<_>>();
    let before = ranges(&chain);
    let mut boxed = Box::new(Some(chain));
    let mut moved = boxed.take().unwrap();
    assert_eq!(ranges(&moved), before);
    for _ in 0..20 {
        moved.push("more");
    }
    moved.put(b"more");
    assert_eq!(ranges(&moved)[..3], before);
    moved.advance(100);
    assert_eq!(ranges(&moved)[..2], before[1..]);
}

#[test]
fn the_last_chunk_is_allowed_and_the_one_after_is_a_bug() {
    let mut chain = Chain::new();
    for at in 0..CHUNKS_MAX {
        assert!(!chain.is_full(), "{at}");
        chain.push("x");
    }
    assert!(chain.is_full());
    assert_eq!(chain.chunks_count(), CHUNKS_MAX);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| chain.push("y")));
    assert!(caught.is_err());
    assert_eq!((chain.len(), chain.slices().count()), (CHUNKS_MAX, CHUNKS_MAX));
    chain.advance(1);
    chain.push("z");
    assert!(chain.is_full());
}

#[test]
fn put_fills_the_spare_bytes_of_a_last_buffer_and_of_nothing_else() {
    let pools = pools();
    let mut chain = Chain::new();
    assert_eq!(chain.put(b"none"), 0);
    chain.push(pools.get(1).unwrap());
    assert_eq!(chain.put(b"dropped, it was empty"), 0);
    let mut buf = pools.get(1024).unwrap();
    buf.put(&[b'a'; 1020]);
    chain.push(buf);
    assert_eq!(chain.put(b"123456"), 4);
    assert_eq!(chain.len(), 1024);
    assert_eq!(&chain.first()[1020..], b"1234");
    chain.push("static");
    assert_eq!(chain.put(b"7"), 0);
    assert_eq!(chain.len(), 1030);
}

#[test]
fn appending_a_partly_sent_chain_works_only_to_an_empty_one() {
    let mut sent = Chain::from("abc");
    sent.advance(1);
    let mut empty = Chain::new();
    empty.append(sent);
    assert_eq!(text(&empty), "bc");
    let mut other = Chain::from("x");
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| other.append(empty)));
    assert!(caught.is_err());
}

#[derive(Clone, Debug)]
enum Step {
    Push { kind: u8, len: usize },
    Put { len: usize },
    Advance { part: u8 },
    Append { chunks: usize },
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_u8, 0..40_usize).prop_map(|(kind, len)| Step::Push { kind, len }),
        2 => (0..300_usize).prop_map(|len| Step::Put { len }),
        5 => any::<u8>().prop_map(|part| Step::Advance { part }),
        1 => (0..6_usize).prop_map(|chunks| Step::Append { chunks }),
        1 => Just(Step::Clear),
    ]
}

/// Source of the bytes of static chunks.
static BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut at = 0;
    while at < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let byte = at as u8;
        bytes[at] = byte.wrapping_mul(37);
        at += 1;
    }
    bytes
};

/// A chunk in the oracle: its bytes left, and how many more it takes.
type Model = VecDeque<(VecDeque<u8>, usize)>;

fn push(chain: &mut Chain, model: &mut Model, pools: &Pools, kind: u8, len: usize) {
    let bytes = &BYTES[len..2 * len];
    let spare = match kind {
        0 => {
            let mut buf = pools.get(len).unwrap();
            buf.put(bytes);
            let spare = buf.spare_len();
            chain.push(buf);
            spare
        }
        1 => {
            chain.push(bytes);
            0
        }
        _ => {
            chain.push(Bytes::copy_from_slice(bytes));
            0
        }
    };
    if len > 0 {
        model.push_back((bytes.iter().copied().collect(), spare));
    }
}

proptest! {
    #[test]
    fn any_steps_leave_what_the_oracle_has(steps in proptest::collection::vec(step(), 0..60)) {
        let pools = pools();
        let mut chain = Chain::new();
        let mut model = Model::new();
        for step in steps {
            match step {
                Step::Push { kind, len } => push(&mut chain, &mut model, &pools, kind, len),
                Step::Put { len } => {
                    let bytes = vec![b'p'; len];
                    let count = model.back_mut().map_or(0, |(left, spare)| {
                        let count = len.min(*spare);
                        left.extend(&bytes[..count]);
                        *spare -= count;
                        count
                    });
                    prop_assert_eq!(chain.put(&bytes), count);
                }
                Step::Advance { part } => {
                    let count = chain.len() * usize::from(part) / 255;
                    chain.advance(count);
                    for _ in 0..count {
                        model[0].0.pop_front();
                        if model[0].0.is_empty() {
                            model.pop_front();
                        }
                    }
                }
                Step::Append { chunks } => {
                    let (mut other, mut other_model) = (Chain::new(), Model::new());
                    for at in 0..chunks {
                        push(&mut other, &mut other_model, &pools, u8::try_from(at % 3).unwrap(), 5 + at);
                    }
                    chain.append(other);
                    model.append(&mut other_model);
                }
                Step::Clear => {
                    chain.clear();
                    model.clear();
                }
            }
            let expected: Vec<Vec<u8>> = model.iter().map(|(left, _)| left.iter().copied().collect()).collect();
            let slices: Vec<&[u8]> = chain.slices().collect();
            prop_assert_eq!(&slices, &expected);
            prop_assert_eq!(chain.first(), expected.first().map_or(&[][..], |first| first));
            prop_assert_eq!(chain.len(), expected.iter().map(Vec::len).sum::<usize>());
            prop_assert_eq!(chain.chunks_count(), expected.len());
            prop_assert_eq!(chain.is_single(), expected.len() == 1);
            prop_assert_eq!(chain.is_empty(), expected.is_empty());
        }
        drop(chain);
        prop_assert_eq!(pools.stats().lent(), 0);
    }
}
