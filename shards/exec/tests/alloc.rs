//! What calls between shards allocate: nothing once they were made before, up to the bounds on what is kept.
//!
//! Two shards on real rings, turned by one thread, and an allocator that counts.
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::rc::Rc;

use corelane_base::{Limits, ShardId};
use corelane_exec::{Mesh, Message, Runtime, Shard, seats};
use corelane_pools::{PoolConfig, Pools};
use corelane_uring::{Features, Ring, RingConfig};

struct Counting;

thread_local! {
    // Per thread: the test harness allocates on others.
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system allocator as it came; the counter allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Messages of as many types as there are values of `N`.
struct Add<const N: usize>(u64);

impl<const N: usize> Message for Add<N> {
    type Reply = u64;
    fn handle(self, _shard: &Rc<Shard>) -> u64 {
        self.0 + N as u64
    }
}

/// A message of which the kept bytes hold `64 KiB / size` boxes: 15 of them.
struct Large([u8; 4_096]);

impl Message for Large {
    type Reply = u8;
    fn handle(self, _shard: &Rc<Shard>) -> u8 {
        self.0[7]
    }
}

fn pair() -> [Runtime<Ring>; 2] {
    let limits = Limits { mesh_credits: 64, ..Limits::default() };
    let mut made = seats(2, &limits).into_iter().enumerate().map(|(n, seat)| {
        let ring = Ring::new(&RingConfig {
            entries: 8,
            completion_entries: 16,
            recv_buffers: 2,
            recv_buffer_bytes: 64,
            descriptors: 8,
            without: Features::NONE,
        });
        let pools = Pools::new(&PoolConfig::default()).unwrap();
        let id = ShardId(u16::try_from(n).unwrap());
        Runtime::on_mesh(id, limits.clone(), pools, ring.unwrap(), None, seat)
    });
    [made.next().unwrap(), made.next().unwrap()]
}

/// Allocations of `rounds` rounds of what `work` does in a task of the first shard, after as many to warm up.
fn allocations<F: Future<Output = ()>>(rounds: u32, work: impl Fn(Mesh) -> F + 'static) -> usize {
    let mut pair = pair();
    let taken = Rc::new(Cell::new(None));
    let done = Rc::clone(&taken);
    pair[0].within(|shard| {
        let mesh = shard.mesh();
        let task = shard.spawn(async move {
            for _ in 0..rounds {
                work(mesh.clone()).await;
            }
            let before = COUNT.get();
            for _ in 0..rounds {
                work(mesh.clone()).await;
            }
            done.set(Some(COUNT.get() - before));
        });
        task.unwrap().detach();
    });
    while taken.get().is_none() {
        for runtime in &mut pair {
            runtime.turn(false).unwrap();
        }
    }
    taken.get().unwrap()
}

const THERE: ShardId = ShardId(1);

#[test]
fn the_counter_counts() {
    let work = |_| async { drop(std::hint::black_box(Box::new(1_u64))) };
    assert_eq!(allocations(10, work), 10);
}

#[test]
fn a_call_and_a_cast_that_were_made_before_allocate_nothing() {
    let work = |mesh: Mesh| async move {
        assert_eq!(mesh.call(THERE, Add::<1>(1)).await, Ok(2));
        assert_eq!(mesh.cast(THERE, Add::<2>(1)), Ok(()));
    };
    assert_eq!(allocations(100, work), 0);
}

macro_rules! call_each {
    ($mesh:ident: $($n:literal)*) => {{ $(assert_eq!($mesh.call(THERE, Add::<$n>(0)).await, Ok($n));)* }};
}

#[test]
fn boxes_of_sixteen_types_are_kept_and_those_of_a_seventeenth_are_not() {
    let on = |mesh: Mesh| async move {
        call_each!(mesh: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
    };
    assert_eq!(allocations(20, on), 0);
    let past = |mesh: Mesh| async move {
        call_each!(mesh: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17);
    };
    assert_eq!(allocations(20, past), 20);
}

/// Allocations of a round of `n` large calls at once.
fn large(n: usize) -> usize {
    let rounds = 10;
    let work = move |mesh: Mesh| async move {
        let mut calls: [Option<_>; 16] =
            std::array::from_fn(|at| (at < n).then(|| mesh.call(THERE, Large([3; 4_096]))));
        for call in calls.iter_mut().flatten() {
            assert_eq!(call.await, Ok(3));
        }
    };
    allocations(rounds, work) / rounds as usize
}

#[test]
fn boxes_of_64_kib_of_a_type_are_kept_and_those_beyond_are_not() {
    assert_eq!(large(15), 0);
    assert_eq!(large(16), 1);
}
