//! The figures a run is judged by, each with its reason.
//!
//! Not here: how they are applied (`verdict`).

/// Every threshold of the verdict. Shares are 0 to 1, times nanoseconds. What stands exactly on a bound has
/// not passed it.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds {
    /// P99 of our own lag above this share of the response P50 is suspect: 10 %. The response time has our
    /// lag in it, and two figures that differ by less are not told apart by one run anyway.
    pub own_lag_share: f64,
    /// The same in a closed loop that never rests: 50 %. A worker that saturates its server takes answers and sends
    /// requests in batches, and that is a part of each round; the median is connections by rate in any case.
    pub own_lag_share_closed: f64,
    /// ... unless it is no more than this: 50 us. It is what a timer of the kernel costs, and lag below it is
    /// the lot of servers that answer within microseconds, where the noise floor says so.
    pub own_lag_ns: u64,
    /// P99 of our own lag above this *and* above the response P50 is invalid: 1 ms. Half of what was measured
    /// is then less than what the generator may have added.
    pub own_lag_invalid_ns: u64,
    /// A request is late when our own lag exceeds this: 1 ms, far above pacing, of the size of a lost time
    /// slice.
    pub late_ns: u64,
    /// More than this share of late requests is suspect: 1 %. P99 is then ours.
    pub late_share: f64,

    /// More than this share of the connections not open at the beginning is suspect: 1 %. The traffic has another
    /// shape than was asked for.
    pub unopened_share: f64,
    /// Sent less than this share of what was due is suspect: 0.99. The rate it says is not the rate it was.
    pub sent_share: f64,
    /// Sent less than this share is invalid: 0.9. A server at 90 % of its capacity waits half as long as at
    /// 95 %.
    pub sent_share_invalid: f64,
    /// Sent more than this share is invalid: 1.01. A schedule is not exceeded; a count is wrong.
    pub sent_share_most: f64,
    /// A schedule with chance in it may fall short by so many standard deviations: 5, one run in 3 million.
    pub chance_deviations: f64,
    /// More than this share of requests that waited for a free connection is a remark: 1 %. Less does not
    /// reach P99.
    pub waited_share: f64,

    /// A worker that works (polling left out) more than this share of the time in an open loop is suspect:
    /// 0.95. A queue that is 95 % full makes its own waiting, twenty times the work of one request.
    pub cpu_share_open: f64,
    /// ... in a closed loop: 0.98. There a busy worker bends nothing but hides what the server could do more.
    pub cpu_share_closed: f64,
    /// A worker that waited for a CPU more than this share of the time is suspect: 1 %. P99 may be that.
    pub run_delay_share: f64,
    /// ... is invalid: 10 %. P90 may be that.
    pub run_delay_share_invalid: f64,
    /// Time stolen by the hypervisor, suspect above: 1 %, as for `run_delay_share`.
    pub steal_share: f64,
    /// ... invalid above: 10 %.
    pub steal_share_invalid: f64,
    /// A longer time without a look at the clock is a hiccup: 10 ms. Two time slices of the scheduler.
    pub hiccup_ns: u64,
    /// A hiccup longer than this share of the window is suspect: 0.1 %. So many requests came due in it, and
    /// P99.9 is printed. A shorter one bends the maximum only and is a remark.
    pub hiccup_share: f64,
    /// A gap of more than so many times the response P99 is a remark: 10. The maximum is then ours.
    pub hiccup_p99s: f64,
    /// ... unless it is no more than this: 1 ms.
    pub hiccup_least_ns: u64,

    /// Receives without a buffer, suspect above this share of answers: 1 %. Fewer are a remark: each costs
    /// another turn of the ring.
    pub no_buffers_share: f64,
    /// Segments sent again, suspect above this share of answers: 0.1 %. Each is a wait of 200 ms or so that
    /// P99.9 would show, and that no server made.
    pub retransmits_share: f64,
    /// Packets dropped at a CPU's backlog, suspect above this share of answers: 0.1 %, as each is sent again.
    /// Fewer are a remark.
    pub softnet_share: f64,
    /// The busiest shard may have so many times the mean: 1.25. Its queue is that of a server with a fifth
    /// less capacity.
    pub skew: f64,
    /// Requests a shard, on average, from which on skew is judged: 1,000. Chance alone makes 10 % there.
    pub skew_requests: u64,
    /// A response P50 within so many times the noise floor is suspect: 2. Half of what was measured is ours.
    pub floor_ratio: f64,

    /// A closed loop without any answer for longer than this share of the window is suspect: 5 %. Nothing is
    /// asked meanwhile, so that no percentile shows it, and the rate is a mean of two things.
    pub silent_share: f64,
    /// ... and for longer than so many times the response P50 and the thinking time: 10. Connections that
    /// keep step are silent between their answers.
    pub silent_p50s: f64,
    /// ... where a slice has so many answers on average: 10. With fewer, chance leaves some without.
    pub silent_answers: u64,
    /// A shorter window is suspect: 1 s. Counters of the kernel tick a hundred times a second.
    pub window_ns: u64,
    /// Requests without a good answer, a remark above: 1 %.
    pub errors_share: f64,
    /// Requests whose time is a lower bound, a remark above: 0.1 %. P99.9 then prints `>=`.
    pub unanswered_share: f64,
    /// A percentile needs so many samples above it: 10. With fewer it is luck: where 10 are seen, 5 to
    /// 18 are as likely (95 % interval of a Poisson count).
    pub samples_above: u64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            own_lag_share: 0.10,
            unopened_share: 0.01,
            own_lag_share_closed: 0.5,
            own_lag_ns: 50_000,
            own_lag_invalid_ns: 1_000_000,
            late_ns: 1_000_000,
            late_share: 0.01,
            sent_share: 0.99,
            sent_share_invalid: 0.9,
            sent_share_most: 1.01,
            chance_deviations: 5.0,
            waited_share: 0.01,
            cpu_share_open: 0.95,
            cpu_share_closed: 0.98,
            run_delay_share: 0.01,
            run_delay_share_invalid: 0.10,
            steal_share: 0.01,
            steal_share_invalid: 0.10,
            hiccup_ns: 10_000_000,
            hiccup_share: 0.001,
            hiccup_p99s: 10.0,
            hiccup_least_ns: 1_000_000,
            no_buffers_share: 0.01,
            retransmits_share: 0.001,
            softnet_share: 0.001,
            skew: 1.25,
            skew_requests: 1000,
            floor_ratio: 2.0,
            silent_share: 0.05,
            silent_p50s: 10.0,
            silent_answers: 10,
            window_ns: 1_000_000_000,
            errors_share: 0.01,
            unanswered_share: 0.001,
            samples_above: 10,
        }
    }
}
