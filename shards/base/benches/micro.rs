//! Micro benches of the names and numbers that every operation carries.
//!
//! Not here: tables of slots (`pools`), queues (`lanes`, `exec`).

#[path = "shared/mod.rs"]
mod shared;

use corelane_base::{Rng, Token};
use divan::{Bencher, black_box};

use shared::Warm;

fn main() {
    divan::main();
}

/// Into the 64 bits of an operation and back, as each completion does.
#[divan::bench]
fn pack_and_unpack_a_token() -> u32 {
    let token = Token::new(black_box(3), black_box(7), black_box(0xabcd), black_box(0xdead_beef));
    let back = Token::from_bits(black_box(token.to_bits()));
    u32::from(back.owner()) + u32::from(back.tag()) + u32::from(back.generation()) + back.index()
}

#[divan::bench]
fn draw_a_number(bencher: Bencher<'_, '_>) {
    let mut rng = Rng::new(7);
    bencher.bench_warm(|| rng.next_u64());
}

/// Below a bound that is no power of two: the jitter of deadlines.
#[divan::bench]
fn draw_below_a_bound(bencher: Bencher<'_, '_>) {
    let mut rng = Rng::new(7);
    bencher.bench_warm(|| rng.below(black_box(1_000_003)));
}
