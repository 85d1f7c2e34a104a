//! All shards send to all, with hardly any credits: nothing is lost, doubled or overtaken, every reply is the
//! right one, all credits come back, and no shard sleeps over work.
//!
//! Twice: on simulated kernels, many seeds in an order of turns that each chooses; and on real rings, two threads
//! a CPU, for `CORELANE_STORM_SECS` seconds.
//!
//! Not here: the load and its books (`storm/load.rs`).
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod cluster;
#[path = "storm/load.rs"]
mod load;

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cluster::Cluster;
use corelane_base::{Limits, ShardId};
use corelane_exec::host::{self, Host, Kind};
use corelane_exec::{Call, Runtime, Seat, ShardHandle, seats};
use corelane_pools::{PoolConfig, Pools};
use corelane_sim::{Faults, seeds};
use corelane_uring::{Features, Ring, RingConfig};
use load::{Book, at_rest, load, times};

const SHARDS: usize = 4;

/// Hardly any credits, so that every lane is full most of the time; little of everything else, so that a shard is
/// made quickly.
fn limits(credits: u32) -> Limits {
    Limits {
        mesh_credits: credits,
        mesh_budget: 3,
        tasks_max: 512,
        connections_max: 16,
        descriptors_headroom: 16,
        recv_buffers: 8,
        submission_entries: 8,
        completion_entries: 64,
        ..Limits::default()
    }
}

#[test]
fn no_message_is_lost_doubled_or_overtaken_in_any_order_of_turns() {
    const TASKS: usize = 3;
    const REQUESTS: u32 = 40;
    for seed in seeds(1_000) {
        let faults = (seed % 2 == 1).then(|| Faults::benign(0.1));
        let credits = 1 + u32::try_from(seed / 2 % 2).unwrap();
        let mut cluster = Cluster::seeded(SHARDS, &limits(credits), seed, faults);
        for shard in 0..SHARDS {
            cluster.on(shard, |shard, _| drop(Book::open(shard, SHARDS, seed)));
            for task in 0..TASKS {
                let own = seed << 8 | (shard * TASKS + task) as u64;
                cluster.spawn(shard, |mesh| load(mesh, own, times(REQUESTS)));
            }
        }
        cluster.settle(|| false);
        let mut wrong = Vec::new();
        let books: Vec<Book> = (0..SHARDS)
            .map(|shard| {
                cluster.on(shard, |shard, _| {
                    wrong.extend(at_rest(shard));
                    Book::close(shard)
                })
            })
            .collect();
        wrong.extend(Book::compare(&books));
        let (sent, handled) = books.iter().fold((0, 0), |sum, b| (sum.0 + b.sent(), sum.1 + b.handled));
        assert!(wrong.is_empty(), "after {} turns: {wrong:#?}", cluster.turns);
        assert_eq!(sent, handled);
        assert!(sent > (SHARDS * TASKS) as u64 * u64::from(REQUESTS) / 2, "{sent} is no storm");
    }
}

#[test]
fn replies_that_call_when_they_are_dropped_may_spend_the_credits_that_came_with_them() {
    thread_local! { static KEPT: RefCell<Vec<Call<()>>> = const { RefCell::new(Vec::new()) } }
    struct Lease;
    impl Drop for Lease {
        fn drop(&mut self) {
            let Some(mesh) = corelane_exec::try_current().map(|shard| shard.mesh()) else { return };
            if mesh.here() == ShardId(0) {
                KEPT.with_borrow_mut(|kept| kept.extend((0..3).map(|_| mesh.with(ShardId(1), |_| ()))));
            }
        }
    }
    let mut cluster = Cluster::new(2, &limits(2));
    cluster.spawn(0, |mesh| async move {
        // Both replies come in one turn, and nobody waits for them.
        drop([mesh.with(ShardId(1), |_| Lease), mesh.with(ShardId(1), |_| Lease)]);
    });
    cluster.settle(|| false);
    cluster.on(0, |shard, _| {
        assert_eq!(shard.mesh_stats.responses_in.get(), 2 + 2 * 3);
        assert_eq!(at_rest(shard), Vec::<String>::new());
    });
    KEPT.with_borrow_mut(Vec::clear);
}

/// What the threads of a storm on rings share.
struct Shared {
    handles: Vec<OnceLock<ShardHandle>>,
    /// Which threads they are, as /proc has them.
    threads: Vec<OnceLock<String>>,
    progress: Vec<OnceLock<Arc<std::sync::atomic::AtomicU64>>>,
    stop: AtomicBool,
    tasks_left: AtomicUsize,
}

const RING_TASKS: usize = 8;

/// Longest that the shards may take to come to rest, and for any other step that only a fault can keep.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a shard may go without a message before the test fails, time without a CPU left out. On a quiet
/// machine it is below 100 ms.
const STANDSTILL_MAX: Duration = Duration::from_secs(1);

fn shard_thread(
    at: usize,
    cpu: usize,
    seat: Seat,
    limits: Limits,
    shared: &Arc<Shared>,
) -> (Book, Vec<String>) {
    let kind = match std::env::var("TEST_HOST").as_deref() {
        Ok("glommio") => Kind::glommio(Some(cpu), &limits).expect("built with the feature glommio"),
        _ => Kind::Native,
    };
    let shared = Arc::clone(shared);
    host::run(&kind, move |host| on_host(at, cpu, seat, limits, shared, host)).unwrap()
}

async fn on_host(
    at: usize,
    cpu: usize,
    seat: Seat,
    limits: Limits,
    shared: Arc<Shared>,
    mut host: Host,
) -> (Book, Vec<String>) {
    corelane_sys::cpu::pin_current_thread(cpu).unwrap();
    let thread = std::fs::read_link("/proc/thread-self").unwrap();
    shared.threads[at].set(thread.to_str().unwrap().to_owned()).unwrap();
    let ring = Ring::new(&RingConfig {
        entries: limits.submission_entries,
        completion_entries: limits.completion_entries,
        recv_buffers: limits.recv_buffers,
        recv_buffer_bytes: limits.recv_buffer_bytes,
        descriptors: limits.connections_max + limits.descriptors_headroom,
        without: Features::NONE,
    });
    let pools = Pools::new(&PoolConfig::default()).unwrap();
    let id = ShardId(u16::try_from(at).unwrap());
    let mut runtime = Runtime::on_mesh(id, limits, pools, ring.unwrap(), None, seat);
    runtime.within(|shard| {
        let progress = Book::open(shard, SHARDS, at as u64);
        shared.progress[at].set(progress).unwrap();
        for task in 0..RING_TASKS {
            let (stop, left) = (Arc::clone(&shared), Arc::clone(&shared));
            let own = (at * RING_TASKS + task) as u64;
            let mesh = shard.mesh();
            let task = shard.spawn(async move {
                load(mesh, own, move || !stop.stop.load(Ordering::Relaxed)).await;
                left.tasks_left.fetch_sub(1, Ordering::Relaxed);
            });
            task.unwrap().detach();
        }
        assert!(shared.handles[at].set(shard.handle()).is_ok());
    });
    host.run(&mut runtime).await.unwrap();
    let done = runtime.within(|shard| (Book::close(shard), at_rest(shard)));
    drop(runtime);
    done
}

/// Waits until `done`, and says what each shard is at if it never is.
#[track_caller]
fn wait_until(shared: &Shared, what: &str, patience: Duration, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > patience {
            let at = |handle: &OnceLock<ShardHandle>| {
                handle.get().map(|handle| (handle.id(), handle.has_work(), handle.pulse()))
            };
            let shards: Vec<_> = shared.handles.iter().map(at).collect();
            let tasks = shared.tasks_left.load(Ordering::Relaxed);
            panic!("{what}: not within {patience:?}; {tasks} tasks left; (id, has work, pulse): {shards:#?}");
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Whether all shards sleep with nothing to take, and did so for a moment.
fn all_rest(shared: &Shared) -> bool {
    let look = || -> Option<Vec<u64>> {
        let rests = |handle: &OnceLock<ShardHandle>| {
            let handle = handle.get()?;
            let pulse = handle.pulse();
            (!handle.has_work() && !pulse.in_turn).then_some(pulse.turn)
        };
        shared.handles.iter().map(rests).collect()
    };
    let before = look();
    std::thread::sleep(Duration::from_millis(1));
    before.is_some() && before == look()
}

/// How long the thread of a shard has waited for a CPU so far: the second field of its schedstat, where the kernel
/// counts that.
fn starved(shared: &Shared, at: usize) -> Duration {
    let path = format!("/proc/{}/schedstat", shared.threads[at].get().unwrap());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let waited = text.split_whitespace().nth(1).and_then(|field| field.parse().ok());
    Duration::from_nanos(waited.unwrap_or(0))
}

/// A time that a shard handled nothing and got no reply.
#[derive(Default)]
struct Standstill {
    lasted: Duration,
    /// Of it, what one of the shards at most waited for a CPU: with so few credits, all wait for that one.
    starved: Duration,
}

impl std::fmt::Debug for Standstill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1?}", self.lasted)?;
        if self.starved.is_zero() { Ok(()) } else { write!(f, " ({:.1?} without a CPU)", self.starved) }
    }
}

/// A standstill this long is looked into: why is it?
const STANDSTILL_SUSPECT: Duration = Duration::from_millis(10);

/// Watches the shards, and gives the longest standstill of each.
///
/// One that went on between two looks counts as going on, however late the second one was: a watcher that has no
/// CPU tells nothing of others.
fn watch(shared: &Shared, time: Duration) -> Vec<Standstill> {
    struct Last {
        count: u64,
        since: Instant,
        /// Since when it was suspect, what each had waited for a CPU.
        before: Option<Vec<Duration>>,
        longest: Standstill,
    }
    let all_starved = || (0..SHARDS).map(|at| starved(shared, at)).collect::<Vec<_>>();
    let start = Instant::now();
    let new = |_| Last { count: 0, since: start, before: None, longest: Standstill::default() };
    let mut last: Vec<Last> = (0..SHARDS).map(new).collect();
    let mut looked = start;
    while start.elapsed() < time {
        std::thread::sleep(Duration::from_millis(1));
        let now = Instant::now();
        // So late that the whole machine may have stood still: no time of the shards either.
        let gap = now - std::mem::replace(&mut looked, now);
        if gap >= STANDSTILL_SUSPECT {
            last.iter_mut().for_each(|last| last.since += gap);
        }
        for (at, last) in last.iter_mut().enumerate() {
            let count = shared.progress[at].get().unwrap().load(Ordering::Relaxed);
            let went_on = count != last.count;
            let lasted = if went_on { Duration::ZERO } else { now - last.since };
            if lasted > last.longest.lasted {
                last.longest = Standstill { lasted, starved: Duration::ZERO };
            }
            if lasted >= STANDSTILL_SUSPECT {
                last.before.get_or_insert_with(all_starved);
            }
            // The kernel counts a wait when it is over, so once more when the shard went on.
            if let Some(before) = &last.before {
                let waited = all_starved().into_iter().zip(before).map(|(now, before)| now - *before);
                let starved = waited.max().unwrap_or_default();
                last.longest.starved = last.longest.starved.max(starved.min(last.longest.lasted));
            }
            if went_on {
                (last.count, last.since, last.before) = (count, now, None);
            }
        }
    }
    last.into_iter().map(|last| last.longest).collect()
}

/// Runs the storm and gives the longest standstill of each shard.
fn storm_on_rings(credits: u32, time: Duration) -> Vec<Standstill> {
    let cpus = corelane_sys::cpu::allowed_cpus().unwrap();
    let shared = Arc::new(Shared {
        handles: (0..SHARDS).map(|_| OnceLock::new()).collect(),
        threads: (0..SHARDS).map(|_| OnceLock::new()).collect(),
        progress: (0..SHARDS).map(|_| OnceLock::new()).collect(),
        stop: AtomicBool::new(false),
        tasks_left: AtomicUsize::new(SHARDS * RING_TASKS),
    });
    let limits = limits(credits);
    let threads: Vec<JoinHandle<_>> = seats(SHARDS, &limits)
        .into_iter()
        .enumerate()
        .map(|(at, seat)| {
            // The second of the two on a CPU polls before it sleeps.
            let busy_poll = Duration::from_micros(if at >= SHARDS / 2 { 20 } else { 0 });
            let limits = Limits { busy_poll, ..limits.clone() };
            let (cpu, shared) = (cpus[at % 2 % cpus.len()], Arc::clone(&shared));
            std::thread::spawn(move || shard_thread(at, cpu, seat, limits, &shared))
        })
        .collect();
    wait_until(&shared, "all shards start", PATIENCE, || shared.handles.iter().all(|h| h.get().is_some()));

    let watched = watch(&shared, time);
    shared.stop.store(true, Ordering::Relaxed);
    // Nobody is woken from here: whatever is under way must come to its end by itself.
    wait_until(&shared, "all tasks end", PATIENCE, || shared.tasks_left.load(Ordering::Relaxed) == 0);
    wait_until(&shared, "all shards rest", PATIENCE, || all_rest(&shared));
    for handle in &shared.handles {
        handle.get().unwrap().send(|shard| shard.stop()).unwrap();
    }
    let mut wrong = Vec::new();
    let mut books = Vec::new();
    for thread in threads {
        let (book, faults) = thread.join().unwrap();
        wrong.extend(faults);
        books.push(book);
    }
    wrong.extend(Book::compare(&books));
    let sum = |figure: fn(&Book) -> u64| books.iter().map(figure).sum::<u64>();
    let (sent, handled) = (sum(Book::sent), sum(|b| b.handled));
    eprintln!(
        "credits {credits}, {time:?}: {handled} messages, {} replies, {} calls dropped, {} casts refused; longest \
         standstill of each shard {watched:?}",
        sum(|b| b.replies),
        sum(|b| b.dropped),
        sum(|b| b.refused),
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(sent, handled);
    assert!(handled > 1_000, "{handled} is no storm");
    watched
}

#[test]
fn on_real_rings_with_two_threads_a_cpu_nothing_is_lost_and_no_shard_stands_still() {
    let secs = match std::env::var("CORELANE_STORM_SECS") {
        Ok(text) => text.parse().expect("CORELANE_STORM_SECS is a number of seconds"),
        Err(_) => 3.0,
    };
    for credits in [1, 2] {
        let watched = storm_on_rings(credits, Duration::from_secs_f64(secs / 2.0));
        for (shard, longest) in watched.iter().enumerate() {
            let alone = longest.lasted.saturating_sub(longest.starved);
            assert!(alone < STANDSTILL_MAX, "shard {shard} stood still for {longest:?}");
        }
    }
}
