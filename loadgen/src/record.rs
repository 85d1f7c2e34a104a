//! What is counted and timed: latencies with lower bounds, and the tally of one slice of time.
//!
//! # Rules
//! 1. Nothing is dropped. A request that was not answered is a lower bound: how long it had gone unanswered when
//!    we stopped looking. It is kept in a histogram of its own, and percentiles know of it.
//! 2. Tallies are merged, never averaged: a percentile is read from the histogram of all.
//! 3. Values are nanoseconds. One above [`HIGH_NS`] is a lower bound of [`HIGH_NS`].
//!
//! Not here: when something is recorded (`worker`), what is printed (`report`).

use std::fmt;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

/// Histograms are exact to 16 ns up to 32 us, and to three digits above.
pub const LOW_NS: u64 = 16;
/// One hour: the largest value a histogram tells from a larger one.
pub const HIGH_NS: u64 = 3_600_000_000_000;
/// Significant decimal digits.
pub const DIGITS: u8 = 3;

/// An empty histogram of nanoseconds (264 KiB, touched as it fills).
pub fn histogram() -> Histogram<u64> {
    match Histogram::new_with_bounds(LOW_NS, HIGH_NS, DIGITS) {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("constant bounds: {error}"),
    }
}

/// A duration in nanoseconds that is known, or known to be no less.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Value {
    /// This much, to three digits.
    Exact(u64),
    /// This much or more.
    AtLeast(u64),
}

impl Value {
    /// The number itself, whichever it is.
    pub fn ns(self) -> u64 {
        match self {
            Value::Exact(ns) | Value::AtLeast(ns) => ns,
        }
    }

    /// Whether the truth may be larger.
    pub fn is_bound(self) -> bool {
        matches!(self, Value::AtLeast(_))
    }
}

/// How long something took: what was seen to end, and lower bounds of what was not.
#[derive(Clone, Default)]
pub struct Latency {
    /// Both are made when the first value is recorded: an empty one costs nothing.
    exact: Option<Box<Histogram<u64>>>,
    at_least: Option<Box<Histogram<u64>>>,
}

/// What is shown of a latency that has none.
fn nothing() -> &'static Histogram<u64> {
    static EMPTY: OnceLock<Histogram<u64>> = OnceLock::new();
    EMPTY.get_or_init(histogram)
}

/// The histogram to record in.
#[inline]
fn made(place: &mut Option<Box<Histogram<u64>>>) -> &mut Histogram<u64> {
    place.get_or_insert_with(|| Box::new(histogram()))
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Latency({} exact, {} bounds)", self.exact().len(), self.bounds_count())
    }
}

impl Latency {
    /// Takes its memory now, and not when the first value is recorded: 264 KiB, 0.1 ms.
    pub fn prepare(&mut self) {
        made(&mut self.exact);
    }

    /// It took this long.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        if made(&mut self.exact).record(ns).is_err() {
            self.record_at_least(HIGH_NS);
        }
    }

    /// It took this long or more.
    pub fn record_at_least(&mut self, ns: u64) {
        self.record_at_least_n(ns, 1);
    }

    /// `count` of them took this long or more.
    pub fn record_at_least_n(&mut self, ns: u64, count: u64) {
        let recorded = made(&mut self.at_least).record_n(ns.min(HIGH_NS), count);
        debug_assert!(recorded.is_ok(), "within bounds by the line above");
    }

    /// Adds all of `other`. Loses nothing.
    pub fn merge(&mut self, other: &Latency) {
        if !other.exact().is_empty() {
            add(made(&mut self.exact), other.exact());
        }
        if let Some(bounds) = other.bounds() {
            add(made(&mut self.at_least), bounds);
        }
    }

    /// Empties it; keeps the memory.
    pub fn clear(&mut self) {
        for used in [self.exact.as_deref_mut(), self.at_least.as_deref_mut()].into_iter().flatten() {
            if !used.is_empty() {
                used.reset();
            }
        }
    }

    /// What was seen to end.
    pub fn exact(&self) -> &Histogram<u64> {
        match &self.exact {
            Some(exact) => exact,
            None => nothing(),
        }
    }

    /// Lower bounds of what was not, if there are any.
    pub fn bounds(&self) -> Option<&Histogram<u64>> {
        self.at_least.as_deref().filter(|bounds| !bounds.is_empty())
    }

    /// How many were seen to end, and how many were not.
    pub fn count(&self) -> u64 {
        self.exact().len() + self.bounds_count()
    }

    /// How many were not seen to end.
    pub fn bounds_count(&self) -> u64 {
        self.at_least.as_ref().map_or(0, |bounds| bounds.len())
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// The value that `percent` of all (0 to 100) do not exceed; `None` if there are none.
    ///
    /// Each bound may stand for anything from itself to without end. Both ends are tried: where they give the same
    /// bucket the percentile is known, and else it is the lower one, at least. (The order statistic of
    /// right-censored samples lies between that of the bounds taken as values and that of the bounds at infinity.)
    pub fn percentile(&self, percent: f64) -> Option<Value> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = rank_of(percent, count);
        let Some(bounds) = self.bounds() else { return Some(Value::Exact(at_rank(self.exact(), rank))) };
        let low = at_rank_of_both(self.exact(), bounds, rank);
        let high = (rank <= self.exact().len()).then(|| at_rank(self.exact(), rank));
        Some(if high == Some(low) { Value::Exact(low) } else { Value::AtLeast(low) })
    }

    /// The largest; `None` if there are none.
    pub fn max(&self) -> Option<Value> {
        self.percentile(100.0)
    }

    /// The smallest that was seen to end.
    pub fn min_ns(&self) -> Option<u64> {
        (!self.exact().is_empty()).then(|| self.exact().min())
    }

    /// The mean, ns, with bounds taken as values: at least this much where there are some.
    pub fn mean(&self) -> Option<Value> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let sum = |h: &Histogram<u64>| if h.is_empty() { 0.0 } else { h.mean() * h.len() as f64 };
        let total = sum(self.exact()) + self.at_least.as_ref().map_or(0.0, |bounds| sum(bounds));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // below an hour
        let mean = (total / count as f64).round() as u64;
        Some(if self.bounds_count() > 0 { Value::AtLeast(mean) } else { Value::Exact(mean) })
    }

    /// The share, 0 to 1, of all that took longer than `ns` for certain.
    pub fn share_above(&self, ns: u64) -> f64 {
        let count = self.count();
        if count == 0 {
            return 0.0;
        }
        let above = |h: &Histogram<u64>| h.len() - h.count_between(0, ns);
        let sum = above(self.exact()) + self.at_least.as_ref().map_or(0, |bounds| above(bounds));
        sum as f64 / count as f64
    }

    /// The values in the order of their size, each with how many were exact and how many were bounds. For plots.
    pub fn buckets(&self) -> Vec<(u64, u64, u64)> {
        let mut all: std::collections::BTreeMap<u64, (u64, u64)> = std::collections::BTreeMap::new();
        for at in self.exact().iter_recorded() {
            all.entry(at.value_iterated_to()).or_default().0 += at.count_since_last_iteration();
        }
        for at in self.at_least.iter().flat_map(|bounds| bounds.iter_recorded()) {
            all.entry(at.value_iterated_to()).or_default().1 += at.count_since_last_iteration();
        }
        all.into_iter().map(|(value, (exact, bounds))| (value, exact, bounds)).collect()
    }
}

/// The rank, from 1, of a percentile: the smallest that has `percent` of all at or below it.
pub(crate) fn rank_of(percent: f64, count: u64) -> u64 {
    let exact = percent.clamp(0.0, 100.0) / 100.0 * count as f64;
    // What a float cannot say exactly must not cost a whole rank: 0.999 * 1000 is 999.
    let nearest = exact.round();
    let rank = if (exact - nearest).abs() < 1e-9 * exact.max(1.0) { nearest } else { exact.ceil() };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at most `count`
    let rank = rank as u64;
    rank.clamp(1, count)
}

fn at_rank(histogram: &Histogram<u64>, rank: u64) -> u64 {
    let mut seen = 0;
    for at in histogram.iter_recorded() {
        seen += at.count_since_last_iteration();
        if seen >= rank {
            return at.value_iterated_to();
        }
    }
    histogram.max()
}

fn at_rank_of_both(one: &Histogram<u64>, other: &Histogram<u64>, rank: u64) -> u64 {
    let (mut a, mut b) = (one.iter_recorded().peekable(), other.iter_recorded().peekable());
    let mut seen = 0;
    loop {
        let from_a = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) => x.value_iterated_to() <= y.value_iterated_to(),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return one.max().max(other.max()),
        };
        let Some(next) = (if from_a { a.next() } else { b.next() }) else { unreachable!("it was peeked at") };
        seen += next.count_since_last_iteration();
        if seen >= rank {
            return next.value_iterated_to();
        }
    }
}

fn add(to: &mut Histogram<u64>, from: &Histogram<u64>) {
    if let Err(error) = to.add(from) {
        unreachable!("all histograms have the same bounds: {error}");
    }
}

/// A latency in JSON and between agents: HdrHistogram V2 with deflate, base64, as in `.hlog` files. Empty where
/// nothing was recorded.
#[derive(Debug, Deserialize, Serialize)]
struct Packed {
    exact: String,
    at_least: String,
}

fn pack(histogram: &Histogram<u64>) -> Result<String, String> {
    if histogram.is_empty() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).map_err(|error| error.to_string())?;
    Ok(STANDARD.encode(bytes))
}

/// Bytes a packed histogram may have: a full one takes well below.
const PACKED_LEN_MAX: usize = 1 << 20;

fn unpack(text: &str) -> Result<Histogram<u64>, String> {
    if text.len() > PACKED_LEN_MAX {
        return Err(format!("a histogram of {} bytes", text.len()));
    }
    let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
    let found: Histogram<u64> =
        Deserializer::new().deserialize(&mut &bytes[..]).map_err(|error| error.to_string())?;
    let mut wanted = histogram();
    // Also checks what a file or another host claims: bounds that differ would not merge.
    if (found.low(), found.high(), found.sigfig()) != (wanted.low(), wanted.high(), wanted.sigfig()) {
        return Err("a histogram with other bounds".into());
    }
    add(&mut wanted, &found);
    Ok(wanted)
}

impl Serialize for Latency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let of = |h: Option<&Histogram<u64>>| h.map_or(Ok(String::new()), pack);
        let exact = of(Some(self.exact())).map_err(serde::ser::Error::custom)?;
        let at_least = of(self.bounds()).map_err(serde::ser::Error::custom)?;
        Packed { exact, at_least }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Latency, D::Error> {
        let packed = Packed::deserialize(deserializer)?;
        let of = |text: &str| if text.is_empty() { Ok(None) } else { unpack(text).map(Some) };
        let exact = of(&packed.exact).map_err(serde::de::Error::custom)?.map(Box::new);
        let at_least = of(&packed.at_least).map_err(serde::de::Error::custom)?.map(Box::new);
        Ok(Latency { exact, at_least })
    }
}

/// Why a request has no good answer. The order is that of [`Errors`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// Answered with a status from 400 to 499.
    Status4xx,
    /// Answered with a status of 500 or above.
    Status5xx,
    /// Answered with an error of the protocol (RESP `-ERR`).
    ErrorReply,
    /// Answered with other bytes than wanted (an echo that differs, `--expect-status` not met).
    WrongAnswer,
    /// What came is not the protocol. The connection is closed.
    Garbage,
    /// Bytes came that no request had asked for. The connection is closed.
    Unasked,
    /// No answer within the timeout. The connection is closed.
    Timeout,
    /// The peer closed before the answer began.
    Closed,
    /// The peer closed in the middle of an answer.
    Truncated,
    /// The peer reset the connection, or a send or receive failed.
    Reset,
    /// Not answered when the run and its drain were over.
    Unanswered,
    /// Its time came, and no connection was free to send it before the end.
    Unsent,
    /// A request that was behind another one on a connection that had to be closed.
    Abandoned,
}

/// Why a connection could not be opened. These cost no request by themselves.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectError {
    /// Refused.
    Refused,
    /// No answer within the timeout.
    Timeout,
    /// No local port is left for this source and target.
    NoPort,
    /// No descriptor is left.
    NoDescriptor,
    /// Unreachable, or any other reason.
    Other,
}

macro_rules! kinds {
    ($what:ident, $count:expr, [$($kind:ident = $name:literal = $text:literal),+ $(,)?]) => {
        impl $what {
            /// Every kind.
            pub const ALL: [$what; $count] = [$($what::$kind),+];

            /// Its name in JSON, CSV and metrics.
            pub fn name(self) -> &'static str {
                match self { $($what::$kind => $name),+ }
            }

            /// What a person reads.
            pub fn text(self) -> &'static str {
                match self { $($what::$kind => $text),+ }
            }
        }
    };
}

kinds!(
    ErrorKind,
    13,
    [
        Status4xx = "status_4xx" = "status 4xx",
        Status5xx = "status_5xx" = "status 5xx",
        ErrorReply = "error_reply" = "error replies",
        WrongAnswer = "wrong_answer" = "wrong answers",
        Garbage = "garbage" = "not the protocol",
        Unasked = "unasked" = "unasked bytes",
        Timeout = "timeout" = "timeouts",
        Closed = "closed" = "closed before an answer",
        Truncated = "truncated" = "closed within an answer",
        Reset = "reset" = "connection reset",
        Unanswered = "unanswered" = "unanswered at the end",
        Unsent = "unsent" = "never sent",
        Abandoned = "abandoned" = "lost behind another",
    ]
);

kinds!(
    ConnectError,
    5,
    [
        Refused = "refused" = "connect refused",
        Timeout = "connect_timeout" = "connect timeouts",
        NoPort = "no_port" = "no local port left",
        NoDescriptor = "no_descriptor" = "no descriptor left",
        Other = "connect_failed" = "connect failed",
    ]
);

impl ErrorKind {
    /// An answer came, and its time is known: it is no lower bound.
    pub fn was_answered(self) -> bool {
        use ErrorKind::{ErrorReply, Status4xx, Status5xx, WrongAnswer};
        matches!(self, Status4xx | Status5xx | ErrorReply | WrongAnswer)
    }
}

/// How many requests ended in each kind of error.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Errors {
    counts: [u64; ErrorKind::ALL.len()],
    connects: [u64; ConnectError::ALL.len()],
}

impl Errors {
    /// One more request.
    pub fn add(&mut self, kind: ErrorKind) {
        self.add_n(kind, 1);
    }

    /// `count` more requests.
    pub fn add_n(&mut self, kind: ErrorKind, count: u64) {
        self.counts[kind as usize] += count;
    }

    /// One more connection.
    pub fn add_connect(&mut self, kind: ConnectError) {
        self.connects[kind as usize] += 1;
    }

    /// Requests of this kind.
    pub fn get(&self, kind: ErrorKind) -> u64 {
        self.counts[kind as usize]
    }

    /// Connections of this kind.
    pub fn get_connect(&self, kind: ConnectError) -> u64 {
        self.connects[kind as usize]
    }

    /// Requests without a good answer.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Connections that could not be opened.
    pub fn connects_total(&self) -> u64 {
        self.connects.iter().sum()
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Errors) {
        self.counts.iter_mut().zip(other.counts).for_each(|(a, b)| *a += b);
        self.connects.iter_mut().zip(other.connects).for_each(|(a, b)| *a += b);
    }

    /// The kinds that occurred, as name and count, requests first.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        let requests = ErrorKind::ALL.into_iter().map(|kind| (kind.name(), kind.text(), self.get(kind)));
        let connects = ConnectError::ALL.into_iter().map(|k| (k.name(), k.text(), self.get_connect(k)));
        requests.chain(connects).filter(|&(.., count)| count > 0)
    }
}

/// Plain counters of a slice or a run. Requests are those whose intended time is in it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Counts {
    /// Requests whose time came.
    pub intended: u64,
    /// Requests handed to the kernel.
    pub sent: u64,
    /// Answers that arrived within the time of the slice, good or bad, whenever they were asked for. The rate is
    /// this one by the length of the slice.
    pub completed: u64,
    /// Requests that found no free connection when their time came, and waited for one.
    pub waited: u64,
    /// Bytes received within the time of the slice.
    pub bytes_in: u64,
    /// Bytes sent within the time of the slice.
    pub bytes_out: u64,
    /// Connections opened within the time of the slice.
    pub connects: u64,
    /// Connections that ended within the time of the slice, whoever ended them.
    pub ended: u64,
}

impl Counts {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Counts) {
        self.intended += other.intended;
        self.sent += other.sent;
        self.completed += other.completed;
        self.waited += other.waited;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.connects += other.connects;
        self.ended += other.ended;
    }
}

/// What belongs to one of several weighted requests.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct KindTally {
    /// Requests with an answer, good or bad.
    pub answered: u64,
    /// Requests without a good answer.
    pub failed: u64,
    /// From intended to done.
    pub response: Latency,
}

/// Different requests a run can have.
pub const KINDS_MAX: usize = 1_000;

/// Reads no more of them than there can be: each takes 264 KiB, whatever little it says.
fn bounded_kinds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<KindTally>, D::Error> {
    struct Visitor;

    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = Vec<KindTally>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {KINDS_MAX} tallies")
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut all: A) -> Result<Vec<KindTally>, A::Error> {
            let mut kinds = Vec::new();
            while let Some(kind) = all.next_element()? {
                if kinds.len() == KINDS_MAX {
                    return Err(serde::de::Error::invalid_length(KINDS_MAX + 1, &self));
                }
                kinds.push(kind);
            }
            Ok(kinds)
        }
    }

    deserializer.deserialize_seq(Visitor)
}

/// All that is known of a slice of time, or of a whole run.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Tally {
    /// Plain counters.
    pub counts: Counts,
    /// Errors by kind.
    pub errors: Errors,
    /// From intended to done: what a user waits.
    pub response: Latency,
    /// From submitted to done: what the server took, and the network.
    pub service: Latency,
    /// From intended to submitted: all the waiting on our side, for a free connection too.
    pub send_lag: Latency,
    /// The part of the send lag that is the generator's own: from when the request was due and a connection was
    /// free, to submitted. The verdict judges by it.
    pub own_lag: Latency,
    /// From connect to connected.
    pub connect: Latency,
    /// Response times of requests that were answered with an error; they are in `response`, too.
    pub failed: Latency,
    /// By request, where there are several; empty otherwise, and in slices, as are own lag, connect and failed. At most [`KINDS_MAX`] are read.
    #[serde(deserialize_with = "bounded_kinds")]
    pub kinds: Vec<KindTally>,
}

impl Tally {
    /// A tally that has the memory for what every request records.
    pub fn prepared() -> Tally {
        let mut tally = Tally::default();
        let latencies = [
            &mut tally.response,
            &mut tally.service,
            &mut tally.send_lag,
            &mut tally.own_lag,
            &mut tally.connect,
        ];
        latencies.into_iter().for_each(Latency::prepare);
        tally
    }

    /// Adds what a time series shows: counters, errors, and the three clocks. The rest is kept for the run alone,
    /// since each histogram takes 264 KiB.
    pub fn merge_series(&mut self, other: &Tally) {
        self.counts.merge(&other.counts);
        self.errors.merge(&other.errors);
        self.response.merge(&other.response);
        self.service.merge(&other.service);
        self.send_lag.merge(&other.send_lag);
    }

    /// Adds all of `other`. Loses nothing.
    pub fn merge(&mut self, other: &Tally) {
        self.merge_series(other);
        self.own_lag.merge(&other.own_lag);
        self.connect.merge(&other.connect);
        self.failed.merge(&other.failed);
        self.merge_kinds(&other.kinds);
    }

    /// Adds what belongs to each of several requests alone.
    pub fn merge_kinds(&mut self, kinds: &[KindTally]) {
        if self.kinds.len() < kinds.len() {
            self.kinds.resize_with(kinds.len(), KindTally::default);
        }
        for (mine, theirs) in self.kinds.iter_mut().zip(kinds) {
            mine.answered += theirs.answered;
            mine.failed += theirs.failed;
            mine.response.merge(&theirs.response);
        }
    }

    /// Empties it; keeps the memory.
    pub fn clear(&mut self) {
        self.counts = Counts::default();
        self.errors = Errors::default();
        let latencies = [&mut self.response, &mut self.service, &mut self.send_lag, &mut self.own_lag];
        latencies.into_iter().for_each(Latency::clear);
        [&mut self.connect, &mut self.failed].into_iter().for_each(Latency::clear);
        for kind in &mut self.kinds {
            (kind.answered, kind.failed) = (0, 0);
            kind.response.clear();
        }
    }

    /// The share, 0 to 1, of requests without a good answer.
    pub fn error_share(&self) -> f64 {
        let count = self.response.count();
        if count == 0 { 0.0 } else { self.errors.total() as f64 / count as f64 }
    }
}

#[cfg(test)]
mod tests;
