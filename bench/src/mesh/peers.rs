//! How other programs pass messages between threads, each as well as it can be done.
//!
//! Not here: what is sent and timed for all of them alike is, at the end of this file.
#![allow(clippy::disallowed_types, reason = "a lock is one of the things compared")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use rustix::event::{EventfdFlags, eventfd};

use super::{CAPACITY, Case, Plan, Sample, Times};

/// One direction, with one sender and one receiver.
pub(crate) trait Pipe: Send + Sync + Sized + 'static {
    fn new() -> io::Result<Self>;

    /// Sends; polls while it is full. Wakes a receiver that sleeps.
    fn send(&self, value: u64);

    /// Takes a value, if there is one.
    fn take(&self) -> Option<u64>;

    /// Takes a value; sleeps until there is one.
    fn wait(&self) -> u64;

    /// Takes all there is at this moment.
    fn take_all(&self, out: &mut Vec<u64>);

    /// Takes a value, polling until there is one.
    fn poll(&self) -> u64 {
        loop {
            match self.take() {
                Some(value) => return value,
                None => std::hint::spin_loop(),
            }
        }
    }
}

/// `ArrayQueue`, and an eventfd that is written only when the receiver said that it sleeps.
pub(crate) struct Events {
    queue: ArrayQueue<u64>,
    sleeps: CachePadded<AtomicBool>,
    event: OwnedFd,
}

impl Pipe for Events {
    fn new() -> io::Result<Events> {
        let event = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Events { queue: ArrayQueue::new(CAPACITY), sleeps: CachePadded::default(), event })
    }

    fn send(&self, value: u64) {
        while self.queue.push(value).is_err() {
            std::hint::spin_loop();
        }
        // The push comes before the look, as the announcement comes before the receiver's last look.
        fence(Ordering::SeqCst);
        if self.sleeps.load(Ordering::Relaxed) && self.sleeps.swap(false, Ordering::AcqRel) {
            let written = rustix::io::write(&self.event, &1u64.to_ne_bytes());
            assert_eq!(written, Ok(8));
        }
    }

    fn take(&self) -> Option<u64> {
        self.queue.pop()
    }

    fn wait(&self) -> u64 {
        loop {
            if let Some(value) = self.queue.pop() {
                return value;
            }
            self.sleeps.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if self.queue.is_empty() {
                let read = rustix::io::read(&self.event, &mut [0; 8]);
                assert!(matches!(read, Ok(8) | Err(rustix::io::Errno::INTR)), "{read:?}");
            }
            self.sleeps.store(false, Ordering::Relaxed);
        }
    }

    fn take_all(&self, out: &mut Vec<u64>) {
        while let Some(value) = self.queue.pop() {
            out.push(value);
        }
    }
}

/// A bounded channel of flume.
pub(crate) struct Flume {
    sender: flume::Sender<u64>,
    receiver: flume::Receiver<u64>,
}

impl Pipe for Flume {
    fn new() -> io::Result<Flume> {
        let (sender, receiver) = flume::bounded(CAPACITY);
        Ok(Flume { sender, receiver })
    }

    fn send(&self, value: u64) {
        while self.sender.try_send(value).is_err() {
            std::hint::spin_loop();
        }
    }

    fn take(&self) -> Option<u64> {
        self.receiver.try_recv().ok()
    }

    fn wait(&self) -> u64 {
        let Ok(value) = self.receiver.recv() else { unreachable!("the sender is in `self`") };
        value
    }

    fn take_all(&self, out: &mut Vec<u64>) {
        out.extend(self.receiver.drain());
    }
}

/// A queue behind a lock. Notified only when the receiver sleeps, with the lock let go before.
#[derive(Default)]
pub(crate) struct Locked {
    inside: CachePadded<Mutex<Inside>>,
    filled: CachePadded<Condvar>,
}

struct Inside {
    queue: VecDeque<u64>,
    sleeps: bool,
}

impl Default for Inside {
    fn default() -> Inside {
        Inside { queue: VecDeque::with_capacity(CAPACITY), sleeps: false }
    }
}

impl Locked {
    fn inside(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipe for Locked {
    fn new() -> io::Result<Locked> {
        Ok(Locked::default())
    }

    fn send(&self, value: u64) {
        loop {
            let mut inside = self.inside();
            if inside.queue.len() < CAPACITY {
                inside.queue.push_back(value);
                let sleeps = inside.sleeps;
                drop(inside);
                if sleeps {
                    self.filled.notify_one();
                }
                return;
            }
            drop(inside);
            std::hint::spin_loop();
        }
    }

    fn take(&self) -> Option<u64> {
        self.inside().queue.pop_front()
    }

    fn wait(&self) -> u64 {
        let mut inside = self.inside();
        loop {
            if let Some(value) = inside.queue.pop_front() {
                return value;
            }
            inside.sleeps = true;
            inside = self.filled.wait(inside).unwrap_or_else(PoisonError::into_inner);
            inside.sleeps = false;
        }
    }

    fn take_all(&self, out: &mut Vec<u64>) {
        out.extend(self.inside().queue.drain(..));
    }
}

/// Ends the target's loop; no value of the load.
const END: u64 = u64::MAX;

/// Runs one window.
pub(crate) fn measure<P: Pipe>(plan: Plan) -> Result<Sample, String> {
    let text = |error: io::Error| error.to_string();
    let (there, back) = (Arc::new(P::new().map_err(text)?), Arc::new(P::new().map_err(text)?));
    let (requests, replies) = (Arc::clone(&there), Arc::clone(&back));
    let target = thread::spawn(move || {
        corelane_sys::cpu::pin_current_thread(plan.cpus[1])?;
        serve(&plan, &*requests, &*replies);
        Ok(())
    });
    let caller = thread::spawn(move || {
        corelane_sys::cpu::pin_current_thread(plan.cpus[0])?;
        let sample = drive(plan, &*there, &*back);
        there.send(END);
        Ok(sample)
    });
    let join = |_| "a thread panicked".to_owned();
    let sample: io::Result<Sample> = caller.join().map_err(join)?;
    let served: io::Result<()> = target.join().map_err(join)?;
    served.map_err(text)?;
    sample.map_err(text)
}

/// The target: answers calls by their number and one, and counts what comes one way.
fn serve<P: Pipe>(plan: &Plan, requests: &P, replies: &P) {
    let next = || if plan.case.target_sleeps() { requests.wait() } else { requests.poll() };
    if !plan.case.is_one_way() {
        loop {
            match next() {
                END => return,
                value => replies.send(value + 1),
            }
        }
    }
    let mut batch = Vec::with_capacity(CAPACITY);
    let mut sum = 0;
    loop {
        batch.push(next());
        requests.take_all(&mut batch);
        for value in batch.drain(..) {
            match value {
                END => return,
                // Wants to know that all before it was handled.
                0 => replies.send(std::mem::take(&mut sum)),
                value => sum += value,
            }
        }
    }
}

/// The caller.
fn drive<P: Pipe>(plan: Plan, there: &P, back: &P) -> Sample {
    let next = || if plan.case.caller_sleeps() { back.wait() } else { back.poll() };
    let mut times = Times::new(plan);
    let mut number = 0;
    while let Some(began) = times.begin() {
        if plan.case.is_one_way() {
            for _ in 0..times.together {
                there.send(1);
            }
            there.send(0);
            assert_eq!(next(), u64::from(times.together), "messages were lost");
        } else if plan.case == Case::CallMany {
            for _ in 0..times.together {
                number += 1;
                there.send(number);
            }
            for sent in number - u64::from(times.together) + 1..=number {
                assert_eq!(next(), sent + 1, "a wrong reply");
            }
        } else {
            for _ in 0..times.together {
                number += 1;
                there.send(number);
                assert_eq!(next(), number + 1, "a wrong reply");
            }
        }
        times.end(began);
    }
    times.sample()
}
