//! How long answers took, how large requests and answers were, and how fast all of it goes.
//!
//! No clock is read for a request. Answers given within the turn that read their request are only counted, and
//! the count is recorded with the length of that turn once the turn is over. An async handler's answer is recorded
//! with the time from the beginning of the turn that read its head to the end of the turn that completed its
//! answer. So a latency here is the time in the server, from the turn that took the request off the ring to the
//! turn that gave the answer to the kernel; what the kernel and the network add is not in it.
//!
//! Cost: two additions for an answer, one record for a turn that answered. Memory: three histograms of 25 KiB and
//! two lists of 8 KiB a table, made at the start; nothing is allocated later.
//!
//! # Rules
//! 1. One writer: the shard. Other threads get copies ([`numbers`]), made inside a turn.
//! 2. An answer that was cut short is not measured; its status is counted all the same.
//!
//! Not here: counters of what happened (`Http1Stats`), names and units of metrics (the node).

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use corelane_exec::Shard;
use hdrhistogram::Histogram;

use super::{ConnInfo, Http1, Http1Stats};
use crate::service::Service;

/// Shortest and longest latency told apart, nanoseconds. What is beyond is recorded as these.
pub const LATENCY_NS: std::ops::RangeInclusive<u64> = 100..=60_000_000_000;

/// Significant decimal digits of a recorded latency, above 6 us; below, steps of 64 ns.
const DIGITS: u8 = 2;

/// Recent latencies are those of this time, and of up to as long before it.
const RECENT_NS: u64 = 10_000_000_000;

/// The time over which rates are formed, at least.
const RATE_NS: u64 = 1_000_000_000;

/// Late answers that are held back until the length of their turn is known. More are recorded without it.
const LATE_MAX: usize = 1024;

/// A histogram for latencies.
///
/// # Panics
/// Never: the bounds are constants that fit.
pub fn latencies() -> Histogram<u64> {
    match Histogram::new_with_bounds(*LATENCY_NS.start(), *LATENCY_NS.end(), DIGITS) {
        Ok(histogram) => histogram,
        Err(_) => unreachable!("the bounds are in order and two digits are few"),
    }
}

/// Sizes by powers of two: place `n` counts sizes of at most `2^n`, and more than half of that.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SizeCounts {
    /// How many, by power of two; the last place takes all that is larger.
    pub counts: [u64; SizeCounts::PLACES],
    /// All bytes together.
    pub sum: u64,
}

impl SizeCounts {
    /// Up to 8 GiB are told apart.
    pub const PLACES: usize = 35;

    /// Adds another's.
    pub fn merge(&mut self, other: &SizeCounts) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        self.sum += other.sum;
    }

    /// How many sizes were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl Default for SizeCounts {
    fn default() -> SizeCounts {
        SizeCounts { counts: [0; SizeCounts::PLACES], sum: 0 }
    }
}

/// A place for every power of two there is, so that none needs to be looked for.
#[derive(Debug)]
struct Sizes {
    counts: [Cell<u64>; Sizes::PLACES],
    sum: Cell<u64>,
}

impl Sizes {
    const PLACES: usize = u64::BITS as usize + 1;

    fn new() -> Sizes {
        Sizes { counts: [const { Cell::new(0) }; Sizes::PLACES], sum: Cell::new(0) }
    }

    #[inline]
    fn record(&self, size: u64) {
        let place = u64::BITS - size.saturating_sub(1).leading_zeros();
        super::bump(&self.counts[place as usize]);
        self.sum.set(self.sum.get() + size);
    }

    fn read(&self) -> SizeCounts {
        let mut read = SizeCounts { sum: self.sum.get(), ..SizeCounts::default() };
        for (at, count) in self.counts.iter().enumerate() {
            read.counts[at.min(SizeCounts::PLACES - 1)] += count.get();
        }
        read
    }
}

/// What rates are formed from: counters at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Reading {
    /// When, monotonic nanoseconds; of a difference, how long.
    pub at_ns: u64,
    /// Answers, whatever their status.
    pub answers: u64,
    /// Those with a 5xx status.
    pub errors: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Nanoseconds in turns.
    pub busy_ns: u64,
}

impl Reading {
    fn take(shard: &Shard, stats: &Http1Stats) -> Reading {
        let fine = stats.responses_2xx.get() + stats.responses_3xx.get() + stats.responses_4xx.get();
        let errors = stats.responses_5xx.get();
        Reading {
            at_ns: shard.now().mono_ns,
            answers: fine + errors,
            errors,
            bytes_in: stats.bytes_in.get(),
            bytes_out: stats.bytes_out.get(),
            busy_ns: shard.stats.busy_ns.get(),
        }
    }

    /// What came since `before`.
    fn since(&self, before: &Reading) -> Reading {
        Reading {
            at_ns: self.at_ns.saturating_sub(before.at_ns),
            answers: self.answers - before.answers,
            errors: self.errors - before.errors,
            bytes_in: self.bytes_in - before.bytes_in,
            bytes_out: self.bytes_out - before.bytes_out,
            busy_ns: self.busy_ns.saturating_sub(before.busy_ns),
        }
    }
}

struct Latency {
    /// Of this stretch of `RECENT_NS`, of the one before, and of all before that.
    now: Histogram<u64>,
    then: Histogram<u64>,
    past: Histogram<u64>,
    since_ns: u64,
    sum_ns: u64,
}

impl Latency {
    #[inline]
    fn record(&mut self, ns: u64, count: u64) {
        self.now.saturating_record_n(ns.max(*LATENCY_NS.start()), count);
        self.sum_ns = self.sum_ns.saturating_add(ns.saturating_mul(count));
    }

    #[inline]
    fn pass(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.since_ns) >= RECENT_NS {
            self.rotate(now_ns);
        }
    }

    #[cold]
    fn rotate(&mut self, now_ns: u64) {
        let both = now_ns - self.since_ns >= 2 * RECENT_NS;
        add(&mut self.past, &self.then);
        std::mem::swap(&mut self.now, &mut self.then);
        self.now.reset();
        if both {
            add(&mut self.past, &self.then);
            self.then.reset();
        }
        self.since_ns = now_ns;
    }
}

/// Adds histograms of the same bounds.
fn add(to: &mut Histogram<u64>, from: &Histogram<u64>) {
    if !from.is_empty() {
        assert!(to.add(from).is_ok(), "they have the same bounds");
    }
}

/// Measures of one table.
pub(super) struct Measure {
    /// Answers of this turn, and of the turn before, whose length is not recorded yet.
    inline: Cell<u64>,
    inline_before: Cell<u64>,
    /// Of late answers of this turn, and of the turn before: nanoseconds up to that turn.
    late: RefCell<Vec<u64>>,
    late_before: RefCell<Vec<u64>>,
    /// One of these lists has something.
    has_late: Cell<bool>,
    /// `busy_ns` when the turn before was the present one.
    busy_ns: Cell<u64>,
    latency: RefCell<Latency>,
    requests: Sizes,
    answers: Sizes,
    /// When the next reading is due, monotonic nanoseconds.
    due_ns: Cell<u64>,
    /// Two readings at least `RATE_NS` apart, the older one first.
    readings: Cell<[Reading; 2]>,
}

impl Measure {
    pub(super) fn new(shard: &Shard) -> Measure {
        let start = Reading { at_ns: shard.now().mono_ns, ..Reading::default() };
        let latency = Latency {
            now: latencies(),
            then: latencies(),
            past: latencies(),
            since_ns: start.at_ns,
            sum_ns: 0,
        };
        Measure {
            inline: Cell::new(0),
            inline_before: Cell::new(0),
            late: RefCell::new(Vec::with_capacity(LATE_MAX)),
            late_before: RefCell::new(Vec::with_capacity(LATE_MAX)),
            has_late: Cell::new(false),
            busy_ns: Cell::new(shard.stats.busy_ns.get()),
            latency: RefCell::new(latency),
            requests: Sizes::new(),
            answers: Sizes::new(),
            due_ns: Cell::new(start.at_ns + RATE_NS),
            readings: Cell::new([Reading { busy_ns: shard.stats.busy_ns.get(), ..start }; 2]),
        }
    }

    /// A request was read: head and body, as they came.
    #[inline]
    pub(super) fn request(&self, bytes: u64) {
        self.requests.record(bytes);
    }

    /// An answer is complete: head and body, without the framing of chunks. `began_ns` is the turn that read its
    /// request, where that was not the present one.
    #[inline]
    pub(super) fn answer(&self, shard: &Shard, began_ns: Option<u64>, bytes: u64) {
        self.answers.record(bytes);
        match began_ns {
            None => super::bump(&self.inline),
            Some(began_ns) => self.answer_late(shard.now().mono_ns.saturating_sub(began_ns)),
        }
    }

    #[inline(never)]
    fn answer_late(&self, waited_ns: u64) {
        self.has_late.set(true);
        let mut late = self.late.borrow_mut();
        if late.len() < LATE_MAX {
            late.push(waited_ns);
        } else {
            self.latency.borrow_mut().record(waited_ns, 1);
        }
    }

    /// Records what the turn before this one answered: its length is known by now.
    #[inline]
    fn settle(&self, shard: &Shard) {
        let busy_ns = shard.stats.busy_ns.get();
        let took_ns = busy_ns - self.busy_ns.replace(busy_ns);
        let count = self.inline_before.take();
        if count > 0 {
            let mut latency = self.latency.borrow_mut();
            latency.pass(shard.now().mono_ns);
            latency.record(took_ns, count);
        }
        if self.has_late.get() {
            self.settle_late(shard, took_ns);
        }
    }

    #[inline(never)]
    fn settle_late(&self, shard: &Shard, took_ns: u64) {
        let mut latency = self.latency.borrow_mut();
        latency.pass(shard.now().mono_ns);
        for waited_ns in self.late_before.borrow_mut().drain(..) {
            latency.record(waited_ns + took_ns, 1);
        }
    }

    /// The last thing of every turn.
    #[inline]
    pub(super) fn end_turn(&self, shard: &Shard, stats: &Http1Stats) {
        self.settle(shard);
        self.inline_before.set(self.inline.take());
        if self.has_late.get() {
            self.late.swap(&self.late_before);
            self.has_late.set(!self.late_before.borrow().is_empty());
        }
        if shard.now().mono_ns >= self.due_ns.get() {
            self.read(shard, stats);
        }
    }

    #[cold]
    fn read(&self, shard: &Shard, stats: &Http1Stats) {
        let [_, newer] = self.readings.get();
        let newest = Reading::take(shard, stats);
        self.readings.set([newer, newest]);
        self.due_ns.set(newest.at_ns + RATE_NS);
    }

    /// What came since a reading that is at least `RATE_NS` old; since the start where none is.
    fn window(&self, shard: &Shard, stats: &Http1Stats) -> Reading {
        let now = Reading::take(shard, stats);
        let [older, newer] = self.readings.get();
        let from = if now.at_ns.saturating_sub(newer.at_ns) >= RATE_NS { newer } else { older };
        now.since(&from)
    }
}

/// Numbers of the HTTP/1.1 connections of a shard, at one moment: plain data.
#[derive(Clone, Debug)]
pub struct Http1Numbers {
    /// Connections open.
    pub connections: u64,
    /// Bytes held for partial heads and unread input.
    pub inbox_bytes: u64,
    /// Names and values of [`Http1Stats`].
    pub counters: Vec<(&'static str, u64)>,
    /// Nanoseconds of every answer since the start.
    pub latency: Histogram<u64>,
    /// The sum of them.
    pub latency_sum_ns: u64,
    /// Those of the last 10 to 20 seconds.
    pub recent: Histogram<u64>,
    /// Bytes of requests.
    pub requests: SizeCounts,
    /// Bytes of answers.
    pub answers: SizeCounts,
    /// What came in the last second, or since the shard last had something to do if that is longer ago.
    pub window: Reading,
}

impl Http1Numbers {
    fn none() -> Http1Numbers {
        Http1Numbers {
            connections: 0,
            inbox_bytes: 0,
            counters: Http1Stats::default().list(),
            latency: latencies(),
            latency_sum_ns: 0,
            recent: latencies(),
            requests: SizeCounts::default(),
            answers: SizeCounts::default(),
            window: Reading::default(),
        }
    }
}

/// What a table shows of itself, whatever its service is.
pub(super) trait Observed {
    /// Adds its numbers to `sum`.
    fn add_numbers(&self, shard: &Shard, sum: &mut Http1Numbers);

    /// Connections open. None are known within a call of the service, which has the table.
    fn open(&self) -> usize;

    /// As [`Http1::list`].
    fn connections(&self, shard: &Shard, max: usize) -> Vec<ConnInfo>;
}

impl<S: Service> Observed for Http1<S> {
    fn add_numbers(&self, shard: &Shard, sum: &mut Http1Numbers) {
        let measure = &self.measure;
        measure.settle(shard);
        let mut latency = measure.latency.borrow_mut();
        latency.pass(shard.now().mono_ns);
        for part in [&latency.now, &latency.then] {
            add(&mut sum.latency, part);
            add(&mut sum.recent, part);
        }
        add(&mut sum.latency, &latency.past);
        sum.latency_sum_ns += latency.sum_ns;
        sum.connections += self.open() as u64;
        sum.inbox_bytes += self.inbox_bytes();
        for (of_sum, (name, value)) in sum.counters.iter_mut().zip(self.stats.list()) {
            debug_assert_eq!(of_sum.0, name);
            of_sum.1 += value;
        }
        sum.requests.merge(&measure.requests.read());
        sum.answers.merge(&measure.answers.read());
        let window = measure.window(shard, &self.stats);
        sum.window = Reading {
            at_ns: sum.window.at_ns.max(window.at_ns),
            answers: sum.window.answers + window.answers,
            errors: sum.window.errors + window.errors,
            bytes_in: sum.window.bytes_in + window.bytes_in,
            bytes_out: sum.window.bytes_out + window.bytes_out,
            busy_ns: sum.window.busy_ns.max(window.busy_ns),
        };
    }

    fn open(&self) -> usize {
        self.conns.try_borrow().map_or(0, |conns| conns.len())
    }

    fn connections(&self, shard: &Shard, max: usize) -> Vec<ConnInfo> {
        self.list(shard, max)
    }
}

/// The tables of a shard.
#[derive(Default)]
struct Tables(RefCell<Vec<Weak<dyn Observed>>>);

/// Has [`numbers`] and [`connections`] find a table.
pub(super) fn register<S: Service>(shard: &Shard, table: &Rc<Http1<S>>) {
    let table: Rc<dyn Observed> = Rc::<Http1<S>>::clone(table);
    shard.local(Tables::default).0.borrow_mut().push(Rc::downgrade(&table));
}

/// The numbers of all HTTP/1.1 connections of a shard. Costs some 20 us and 50 KiB: for a reading now and then.
pub fn numbers(shard: &Shard) -> Http1Numbers {
    let mut sum = Http1Numbers::none();
    for table in shard.local(Tables::default).0.borrow().iter().filter_map(Weak::upgrade) {
        table.add_numbers(shard, &mut sum);
    }
    sum
}

/// How many HTTP/1.1 connections a shard has open, and at most `max` of them.
pub fn connections(shard: &Shard, max: usize) -> (usize, Vec<ConnInfo>) {
    let (mut open, mut found) = (0, Vec::new());
    for table in shard.local(Tables::default).0.borrow().iter().filter_map(Weak::upgrade) {
        open += table.open();
        found.extend(table.connections(shard, max - found.len()));
    }
    (open, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_goes_to_the_place_of_its_power_of_two() {
        let sizes = Sizes::new();
        for size in [0, 1, 2, 3, 4, 1023, 1024, u64::from(u32::MAX), 1 << 33, (1 << 33) - 1, (1 << 33) + 1] {
            sizes.record(size);
        }
        let read = sizes.read();
        for (place, count) in [(0, 2), (1, 1), (2, 2), (3, 0), (10, 2), (11, 0), (32, 1), (33, 2), (34, 1)] {
            assert_eq!(read.counts[place], count, "place {place}");
        }
        assert_eq!(read.count(), 11);
        assert_eq!(read.sum, 1 + 2 + 3 + 4 + 1023 + 1024 + u64::from(u32::MAX) + 3 * (1 << 33));
    }

    #[test]
    fn what_is_larger_than_all_places_goes_to_the_last() {
        let sizes = Sizes::new();
        sizes.record(u64::MAX);
        assert_eq!(sizes.read().counts[SizeCounts::PLACES - 1], 1);
    }

    #[test]
    fn latencies_keep_two_digits_from_microseconds_to_a_minute() {
        let mut histogram = latencies();
        for ns in [7_000, 150_000, 3_300_000, 59_000_000_000_u64] {
            histogram.reset();
            histogram.saturating_record(ns);
            let read = histogram.value_at_quantile(0.5);
            assert!(read.abs_diff(ns) * 100 <= ns, "{ns} reads as {read}");
        }
        assert!(histogram.distinct_values() * size_of::<u64>() <= 25 << 10, "the memory that is told");
        histogram.saturating_record(3_600_000_000_000);
        assert_eq!(histogram.len(), 2, "an hour counts as a minute");
    }

    fn one_stretch_each() -> Latency {
        let mut latency =
            Latency { now: latencies(), then: latencies(), past: latencies(), since_ns: 0, sum_ns: 0 };
        latency.record(1_000, 2);
        latency.pass(RECENT_NS);
        latency.record(2_000, 3);
        latency
    }

    #[test]
    fn recent_latencies_become_past_ones_and_none_is_lost() {
        let mut latency = one_stretch_each();
        assert_eq!((latency.now.len(), latency.then.len(), latency.past.len()), (3, 2, 0));
        latency.pass(2 * RECENT_NS - 1);
        assert_eq!((latency.now.len(), latency.then.len(), latency.past.len()), (3, 2, 0));
        latency.pass(2 * RECENT_NS);
        assert_eq!((latency.now.len(), latency.then.len(), latency.past.len()), (0, 3, 2));
        assert_eq!(latency.sum_ns, 8_000);
    }

    #[test]
    fn after_a_long_silence_no_latency_is_recent() {
        let mut latency = one_stretch_each();
        latency.pass(3 * RECENT_NS);
        assert_eq!((latency.now.len(), latency.then.len(), latency.past.len()), (0, 0, 5));
    }
}
