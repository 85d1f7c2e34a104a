//! Corelane's ways: shards on their rings, and the lane under them.
//!
//! Not here: the turn (`corelane_exec::turn`).

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use corelane_base::{Limits, ShardId};
use corelane_exec::{Mesh, Message, Runtime, Seat, Shard, seats};
use corelane_lanes::{Consumer, Producer, lane as new_lane};
use corelane_pools::{PoolConfig, Pools};
use corelane_uring::{Features, Ring, RingConfig};

use super::{CAPACITY, Case, Plan, Sample, Times};

/// How long a shard polls that is to stay awake: longer than any window.
const AWAKE: Duration = Duration::from_secs(1);

/// A request: the number, and one.
struct Next(u64);

impl Message for Next {
    type Reply = u64;

    fn handle(self, _shard: &Rc<Shard>) -> u64 {
        self.0 + 1
    }
}

/// What came one way, kept by the shard that it came to.
#[derive(Default)]
struct Sum(Cell<u64>);

/// A message one way.
struct Add(u64);

impl Message for Add {
    type Reply = ();

    fn handle(self, shard: &Rc<Shard>) {
        let sum = shard.local(Sum::default);
        sum.0.set(sum.0.get() + self.0);
    }
}

/// Asks for the sum, and begins another.
struct Take;

impl Message for Take {
    type Reply = u64;

    fn handle(self, shard: &Rc<Shard>) -> u64 {
        shard.local(Sum::default).0.take()
    }
}

fn limits(sleeps: bool) -> Limits {
    Limits {
        mesh_credits: u32::try_from(CAPACITY).unwrap_or(u32::MAX),
        busy_poll: if sleeps { Duration::ZERO } else { AWAKE },
        connections_max: 16,
        descriptors_headroom: 16,
        recv_buffers: 8,
        submission_entries: 64,
        completion_entries: 256,
        ..Limits::default()
    }
}

/// Runs one window between two shards.
pub(crate) fn shards(plan: Plan) -> Result<Sample, String> {
    let (own, other) = (limits(plan.case.caller_sleeps()), limits(plan.case.target_sleeps()));
    let mut places = seats(2, &own).into_iter();
    let (Some(here), Some(there)) = (places.next(), places.next()) else {
        unreachable!("two were asked for")
    };
    let target = thread::spawn(move || runtime(1, plan.cpus[1], there, other)?.run());
    let caller = thread::spawn(move || -> io::Result<Option<Sample>> {
        let mut runtime = runtime(0, plan.cpus[0], here, own)?;
        let sample = Rc::new(Cell::new(None));
        let done = Rc::clone(&sample);
        runtime.within(|shard| {
            let (mesh, shard_too) = (shard.mesh(), Rc::clone(shard));
            let task = shard.spawn(async move {
                done.set(Some(drive(plan, &mesh).await));
                let stopped = mesh.handle(TARGET).map(|target| target.send(Shard::stop));
                assert_eq!(stopped, Some(Ok(())));
                shard_too.stop();
            });
            if let Ok(task) = task {
                task.detach();
            }
        });
        runtime.run()?;
        Ok(sample.take())
    });
    let join = |_| "a shard panicked".to_owned();
    let text = |error: io::Error| error.to_string();
    let sample = caller.join().map_err(join)?.map_err(text)?;
    target.join().map_err(join)?.map_err(text)?;
    sample.ok_or_else(|| "the caller panicked".to_owned())
}

fn runtime(id: u16, cpu: usize, seat: Seat, limits: Limits) -> io::Result<Runtime<Ring>> {
    corelane_sys::cpu::pin_current_thread(cpu)?;
    let ring = Ring::new(&RingConfig {
        entries: limits.submission_entries,
        completion_entries: limits.completion_entries,
        recv_buffers: limits.recv_buffers,
        recv_buffer_bytes: limits.recv_buffer_bytes,
        descriptors: limits.connections_max + limits.descriptors_headroom,
        without: Features::NONE,
    });
    let ring = ring.map_err(|error| io::Error::other(error.to_string()))?;
    let pools = Pools::new(&PoolConfig::default())?;
    Ok(Runtime::on_mesh(ShardId(id), limits, pools, ring, None, seat))
}

const TARGET: ShardId = ShardId(1);

/// The caller's task.
async fn drive(plan: Plan, mesh: &Mesh) -> Sample {
    let mut times = Times::new(plan);
    let mut number = 0;
    let mut calls = Vec::new();
    while let Some(began) = times.begin() {
        if plan.case.is_one_way() {
            for _ in 0..times.together {
                cast(mesh).await;
            }
            let all = mesh.call(TARGET, Take).await;
            assert_eq!(all, Ok(u64::from(times.together)), "messages were lost");
        } else if plan.case == Case::CallMany {
            calls.extend((1..=u64::from(times.together)).map(|n| mesh.call(TARGET, Next(number + n))));
            for call in calls.drain(..) {
                number += 1;
                assert_eq!(call.await, Ok(number + 1), "a wrong reply");
            }
        } else {
            for _ in 0..times.together {
                number += 1;
                let reply = mesh.call(TARGET, Next(number)).await;
                assert_eq!(reply, Ok(number + 1), "a wrong reply");
            }
        }
        times.end(began);
    }
    times.sample()
}

/// Sends one; where no credit is left, as a call, which waits for one and for what was sent before.
async fn cast(mesh: &Mesh) {
    if mesh.cast(TARGET, Add(1)).is_err() {
        assert_eq!(mesh.call(TARGET, Add(1)).await, Ok(()));
    }
}

/// Calls and casts between two shards that one thread turns by turns.
pub(crate) fn count(calls: u32, casts: u32) -> io::Result<()> {
    let cpu = corelane_sys::cpu::current_cpu()?;
    let limits = limits(false);
    let mut seats = seats(2, &limits).into_iter();
    let (Some(here), Some(there)) = (seats.next(), seats.next()) else { unreachable!("two were asked for") };
    let (mut caller, mut target) = (runtime(0, cpu, here, limits.clone())?, runtime(1, cpu, there, limits)?);
    let task = caller.within(|shard| {
        let mesh = shard.mesh();
        shard.spawn(async move {
            for number in 0..u64::from(calls) {
                assert_eq!(mesh.call(TARGET, Next(number)).await, Ok(number + 1), "a wrong reply");
            }
            for _ in 0..casts {
                cast(&mesh).await;
            }
            assert_eq!(mesh.call(TARGET, Take).await, Ok(u64::from(casts)), "messages were lost");
        })
    });
    let Ok(task) = task else { unreachable!("the first task of a shard finds room") };
    while !task.is_finished() {
        caller.turn(false)?;
        target.turn(false)?;
    }
    Ok(())
}

/// Runs one window between two threads with a lane each way, which poll.
pub(crate) fn lane(plan: Plan) -> Result<Sample, String> {
    let (mut there, requests) = new_lane(CAPACITY);
    let (replies, mut back) = new_lane(CAPACITY);
    let target = thread::spawn(move || {
        corelane_sys::cpu::pin_current_thread(plan.cpus[1])?;
        serve(requests, replies);
        Ok(())
    });
    let caller = thread::spawn(move || {
        corelane_sys::cpu::pin_current_thread(plan.cpus[0])?;
        let sample = lane_drive(plan, &mut there, &mut back);
        put(&mut there, END);
        Ok(sample)
    });
    let join = |_| "a thread panicked".to_owned();
    let text = |error: io::Error| error.to_string();
    let sample: io::Result<Sample> = caller.join().map_err(join)?;
    let served: io::Result<()> = target.join().map_err(join)?;
    served.map_err(text)?;
    sample.map_err(text)
}

/// Ends the target's loop; no value of the load.
const END: u64 = u64::MAX;

fn put(lane: &mut Producer<u64>, value: u64) {
    while lane.push(value).is_err() {
        std::hint::spin_loop();
    }
    lane.publish();
}

fn poll(lane: &mut Consumer<u64>) -> u64 {
    loop {
        match lane.pop() {
            Some(value) => return value,
            None => std::hint::spin_loop(),
        }
    }
}

/// Even numbers are calls; an odd one counts one way, and 0 asks for the count.
fn serve(mut requests: Consumer<u64>, mut replies: Producer<u64>) {
    let mut batch = Vec::with_capacity(CAPACITY);
    let mut sum = 0;
    loop {
        if requests.pop_into(CAPACITY, &mut batch) == 0 {
            std::hint::spin_loop();
        }
        for value in batch.drain(..) {
            match value {
                END => return,
                0 => put(&mut replies, std::mem::take(&mut sum)),
                1 => sum += 1,
                value => assert_eq!(replies.push(value + 1), Ok(()), "there is room for all"),
            }
        }
        replies.publish();
    }
}

/// Messages that are shown to the other side at once, as at the end of a turn.
const LANE_BATCH: u32 = 32;

fn lane_drive(plan: Plan, there: &mut Producer<u64>, back: &mut Consumer<u64>) -> Sample {
    let mut times = Times::new(plan);
    let mut number = 0;
    while let Some(began) = times.begin() {
        if plan.case.is_one_way() {
            for _ in 0..times.together / LANE_BATCH {
                for _ in 0..LANE_BATCH {
                    while there.push(1).is_err() {
                        there.publish();
                        std::hint::spin_loop();
                    }
                }
                there.publish();
            }
            put(there, 0);
            assert_eq!(poll(back), u64::from(times.together), "messages were lost");
        } else if plan.case == Case::CallMany {
            for n in 1..=u64::from(times.together) {
                assert_eq!(there.push(number + 2 * n), Ok(()), "there is room for all");
            }
            there.publish();
            for _ in 0..times.together {
                number += 2;
                assert_eq!(poll(back), number + 1, "a wrong reply");
            }
        } else {
            for _ in 0..times.together {
                number += 2;
                put(there, number);
                assert_eq!(poll(back), number + 1, "a wrong reply");
            }
        }
        times.end(began);
    }
    times.sample()
}
