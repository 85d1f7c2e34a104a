//! Every maximum of a shard, its default, and what happens at it. The only place where defaults live.
//!
//! Not here: where a value came from (the configuration of the node), what counts the refusals (metrics of
//! the same name).

use core::fmt;
use std::time::Duration;

/// Maxima of one shard. Plain fields: change what you need, then [`Limits::check`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Connections a shard holds. At it, accept is paused and new peers wait in the listen queue.
    pub connections_max: u32,
    /// Connections a shard holds from one peer address; 0 is no limit. Past it, a new one is closed at once.
    pub connections_per_peer_max: u32,
    /// Slots of the direct-descriptor table kept free beyond `connections_max`, for what was accepted before
    /// the pause took effect and for outbound sockets and files. A full table loses connections.
    pub descriptors_headroom: u32,
    /// Connections waiting to be accepted (listen(2) backlog; the host caps it at `net.core.somaxconn`).
    pub backlog: u32,
    /// Buffers in the receive ring; a power of two. All in use: receives pause until the turn ends.
    pub recv_buffers: u16,
    /// Bytes of one receive buffer.
    pub recv_buffer_bytes: u32,
    /// Entries of the submission queue; a power of two. Full: the shard enters the kernel and goes on.
    pub submission_entries: u32,
    /// Entries of the completion queue. Full: the kernel keeps the rest and the next enter brings them.
    pub completion_entries: u32,

    /// Pool slots of at most 1 KiB. All lent: the next tier is used.
    pub pool_small: u32,
    /// Pool slots of at most 64 KiB. All lent: the next tier is used.
    pub pool_medium: u32,
    /// Pool slots of at most 1 MiB. All lent: the heap is used, up to `pool_heap_bytes_max`.
    pub pool_large: u32,
    /// Bytes the pools may take from the heap beyond their slots. At it, the connection whose
    /// answer finds none is cut.
    pub pool_heap_bytes_max: u64,

    /// Bytes of a request line. Past it: 414, close.
    pub line_bytes_max: u32,
    /// Bytes of a whole request head. Past it: 431, close.
    pub head_bytes_max: u32,
    /// Header fields of a request. Past it: 431, close.
    pub headers_max: u16,
    /// Bytes of a request body after decoding. Past it: 413, close.
    pub body_bytes_max: u64,
    /// Unread body bytes swallowed to keep a connection alive. More: answered, then closed.
    pub drain_bytes_max: u64,
    /// Received bytes a shard may hold for partial heads and unread input. At it, the connection whose
    /// partial head is oldest is closed to make room.
    pub inbox_bytes_max: u64,
    /// Received body bytes that wait for a handler before receiving on that connection stops. A handler that
    /// collects the whole body waits for more instead, up to its own maximum and `body_bytes_max`.
    pub body_high_water: u32,
    /// Output bytes that wait on one connection before receiving and producing stop.
    pub output_high_water: u32,
    /// Requests of one connection answered in one turn before others get theirs.
    pub pipeline_max: u32,

    /// Tasks of a shard, one for each async request among them. At it: 503.
    pub tasks_max: u32,
    /// Sleeps and timeouts of a shard, besides the deadlines of connections. At it: a sleep ends at once, a
    /// timeout counts as elapsed.
    pub timers_max: u32,
    /// Calls and casts of a shard that one other shard may have unanswered; its lanes are as long. At it: a call
    /// waits its turn, a cast gets `Full`.
    pub mesh_credits: u32,
    /// Calls of a shard that wait for a credit. At it: the caller gets `Full`.
    pub mesh_waiting_max: u32,
    /// Requests of other shards taken in one turn; the rest waits for the next.
    pub mesh_budget: u32,
    /// Threads for what must block, shared by all shards.
    pub blocking_threads: u32,
    /// Blocking jobs that wait for a thread. At it: the caller gets `Full`.
    pub blocking_queue_max: u32,

    /// From the first byte of a head to its end. Past it: 408, close.
    pub head_time: Duration,
    /// From the end of a head to the end of its body. Past it: 408, close.
    pub body_time: Duration,
    /// For the peer to take what was handed over by one send (at most `output_high_water` and one body
    /// chunk). Past it: reset.
    pub write_time: Duration,
    /// Without a request, before the first one or between two: close. Without a byte from the producer of a
    /// streamed answer: cut.
    pub idle_time: Duration,
    /// For an async handler to give its response. Past it: 503, close, and the handler is cancelled.
    pub handler_time: Duration,
    /// For a call to another shard to be answered, the wait for a credit included. Past it the caller gets an
    /// error; what the other shard does meanwhile is not undone.
    pub call_time: Duration,
    /// A turn longer than this is counted and logged, with what it was at. Twice as long without an end: the
    /// control thread says so.
    pub stall_time: Duration,
    /// For an async handler to go on after the peer ended its side of the connection. Past it: cancelled.
    pub half_close_time: Duration,
    /// To read and drop what a peer still sends after our last answer, so that it can read that answer.
    pub linger_time: Duration,
    /// In a drain: how long idle connections may bring one more request before they are closed.
    pub drain_idle: Duration,
    /// In a drain: when everything left is cut.
    pub drain_time: Duration,

    /// Task polls in one turn before timers, sends and the kernel have theirs.
    pub task_budget: u32,
    /// Completions taken in one turn.
    pub completion_budget: u32,
    /// How long an idle shard polls before it sleeps; zero sleeps at once.
    pub busy_poll: Duration,
    /// How long a shard that is busy more than half of the time, with 32 connections or more, waits for further
    /// completions before it takes the first; zero takes each as it comes.
    pub gather_time: Duration,

    /// On the glommio host: places of each of an executor's three rings. Full: glommio submits what there is and goes on.
    pub host_ring_entries: u32,
    /// On the glommio host: memory for direct I/O that an executor sets aside and registers. All in use: it takes more
    /// from the heap.
    pub host_io_bytes: u64,
    /// On the glommio host: how long a task queue of the application keeps the CPU while the shard sleeps. Past it the
    /// queue gives way as it looks at `yield_if_needed`. The shard itself gives way after 5 ms.
    pub host_preempt_time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 16_384,
            connections_per_peer_max: 0,
            descriptors_headroom: 1_024,
            backlog: 4_096,
            recv_buffers: 1_024,
            recv_buffer_bytes: 4_096,
            submission_entries: 1_024,
            completion_entries: 8_192,
            pool_small: 500,
            pool_medium: 200,
            pool_large: 50,
            pool_heap_bytes_max: 64 << 20,
            line_bytes_max: 16 << 10,
            head_bytes_max: 32 << 10,
            headers_max: 100,
            body_bytes_max: 1 << 20,
            drain_bytes_max: 64 << 10,
            inbox_bytes_max: 16 << 20,
            body_high_water: 64 << 10,
            output_high_water: 64 << 10,
            pipeline_max: 128,
            tasks_max: 65_536,
            timers_max: 65_536,
            mesh_credits: 128,
            mesh_waiting_max: 4_096,
            mesh_budget: 256,
            blocking_threads: 4,
            blocking_queue_max: 1_024,
            head_time: Duration::from_secs(10),
            body_time: Duration::from_secs(30),
            write_time: Duration::from_secs(30),
            idle_time: Duration::from_secs(60),
            handler_time: Duration::from_secs(30),
            call_time: Duration::from_secs(5),
            stall_time: Duration::from_millis(25),
            half_close_time: Duration::from_secs(1),
            linger_time: Duration::from_secs(2),
            drain_idle: Duration::from_secs(1),
            drain_time: Duration::from_secs(30),
            task_budget: 256,
            completion_budget: 4_096,
            busy_poll: Duration::ZERO,
            gather_time: Duration::ZERO,
            host_ring_entries: 128,
            host_io_bytes: 1 << 20,
            host_preempt_time: Duration::from_millis(1),
        }
    }
}

/// A limit that cannot work, and what would.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LimitError {
    /// The field.
    pub field: &'static str,
    /// What it was.
    pub value: String,
    /// What it may be.
    pub wanted: &'static str,
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} cannot work: set it to {}", self.field, self.value, self.wanted)
    }
}

impl std::error::Error for LimitError {}

impl Limits {
    /// Checks what the parts rely on.
    ///
    /// # Errors
    /// The first field that cannot work, with the values that can.
    pub fn check(&self) -> Result<(), LimitError> {
        let err = |field, value: &dyn fmt::Display, wanted| {
            Err(LimitError { field, value: value.to_string(), wanted })
        };
        let within = |v: u64, low: u64, high: u64| v >= low && v <= high;
        if !within(self.connections_max.into(), 1, 1 << 20) {
            return err("connections_max", &self.connections_max, "1 to 1048576");
        }
        if !within(self.descriptors_headroom.into(), 16, 1 << 20) {
            return err("descriptors_headroom", &self.descriptors_headroom, "16 to 1048576");
        }
        if !within(self.backlog.into(), 1, 65_535) {
            return err("backlog", &self.backlog, "1 to 65535");
        }
        if !self.recv_buffers.is_power_of_two() || !within(self.recv_buffers.into(), 2, 32_768) {
            return err("recv_buffers", &self.recv_buffers, "a power of two from 2 to 32768");
        }
        if !within(self.recv_buffer_bytes.into(), 64, 1 << 20) {
            return err("recv_buffer_bytes", &self.recv_buffer_bytes, "64 to 1048576");
        }
        if !self.submission_entries.is_power_of_two() || !within(self.submission_entries.into(), 2, 32_768) {
            return err("submission_entries", &self.submission_entries, "a power of two from 2 to 32768");
        }
        if !within(self.completion_entries.into(), self.submission_entries.into(), 65_536) {
            return err("completion_entries", &self.completion_entries, "submission_entries to 65536");
        }
        if !within(self.pool_small.into(), 1, 1 << 20) {
            return err("pool_small", &self.pool_small, "1 to 1048576");
        }
        if !within(self.pool_medium.into(), 1, 1 << 16) {
            return err("pool_medium", &self.pool_medium, "1 to 65536");
        }
        if !within(self.pool_large.into(), 1, 1 << 14) {
            return err("pool_large", &self.pool_large, "1 to 16384");
        }
        if !within(self.line_bytes_max.into(), 16, self.head_bytes_max.into()) {
            return err("line_bytes_max", &self.line_bytes_max, "16 to head_bytes_max");
        }
        if !within(self.head_bytes_max.into(), 64, 1 << 20) {
            return err("head_bytes_max", &self.head_bytes_max, "64 to 1048576");
        }
        if !within(self.headers_max.into(), 1, 128) {
            return err("headers_max", &self.headers_max, "1 to 128");
        }
        if self.inbox_bytes_max < 2 * u64::from(self.head_bytes_max) {
            return err("inbox_bytes_max", &self.inbox_bytes_max, "at least twice head_bytes_max");
        }
        if !within(self.output_high_water.into(), 1_024, 1 << 30) {
            return err("output_high_water", &self.output_high_water, "1024 to 1073741824");
        }
        if !within(self.body_high_water.into(), 1, 1 << 30) {
            return err("body_high_water", &self.body_high_water, "1 to 1073741824");
        }
        if !within(self.pipeline_max.into(), 1, 1 << 16) {
            return err("pipeline_max", &self.pipeline_max, "1 to 65536");
        }
        if !within(self.tasks_max.into(), 1, 1 << 24) {
            return err("tasks_max", &self.tasks_max, "1 to 16777216");
        }
        if !within(self.timers_max.into(), 1, 1 << 24) {
            return err("timers_max", &self.timers_max, "1 to 16777216");
        }
        if !within(self.mesh_credits.into(), 1, 1 << 16) {
            return err("mesh_credits", &self.mesh_credits, "1 to 65536");
        }
        if !within(self.mesh_waiting_max.into(), 0, 1 << 24) {
            return err("mesh_waiting_max", &self.mesh_waiting_max, "0 to 16777216");
        }
        if self.mesh_budget == 0 {
            return err("mesh_budget", &0, "at least 1");
        }
        if !within(self.blocking_threads.into(), 1, 1_024) {
            return err("blocking_threads", &self.blocking_threads, "1 to 1024");
        }
        if self.blocking_queue_max == 0 {
            return err("blocking_queue_max", &0, "at least 1");
        }
        if self.task_budget == 0 {
            return err("task_budget", &0, "at least 1");
        }
        if self.completion_budget == 0 {
            return err("completion_budget", &0, "at least 1");
        }
        for (field, time) in [
            ("head_time", self.head_time),
            ("body_time", self.body_time),
            ("write_time", self.write_time),
            ("idle_time", self.idle_time),
            ("handler_time", self.handler_time),
            ("call_time", self.call_time),
            ("stall_time", self.stall_time),
            ("half_close_time", self.half_close_time),
            ("linger_time", self.linger_time),
        ] {
            if time < Duration::from_millis(1) || time > Duration::from_secs(86_400) {
                return err(field, &format!("{time:?}"), "1ms to 24h");
            }
        }
        if self.drain_idle > self.drain_time {
            return err("drain_idle", &format!("{:?}", self.drain_idle), "at most drain_time");
        }
        if self.drain_time > Duration::from_secs(86_400) {
            return err("drain_time", &format!("{:?}", self.drain_time), "at most 24h");
        }
        if self.busy_poll > Duration::from_secs(1) {
            return err("busy_poll", &format!("{:?}", self.busy_poll), "at most 1s");
        }
        if self.gather_time > Duration::from_millis(10) {
            return err("gather_time", &format!("{:?}", self.gather_time), "at most 10ms");
        }
        if !self.host_ring_entries.is_power_of_two() || !within(self.host_ring_entries.into(), 8, 4_096) {
            return err("host_ring_entries", &self.host_ring_entries, "a power of two from 8 to 4096");
        }
        if !within(self.host_io_bytes, 65_536, 1 << 30) {
            return err("host_io_bytes", &self.host_io_bytes, "65536 to 1073741824");
        }
        let times = Duration::from_micros(50)..=Duration::from_secs(1);
        if !times.contains(&self.host_preempt_time) {
            return err("host_preempt_time", &format!("{:?}", self.host_preempt_time), "50us to 1s");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_pass_their_own_check() {
        assert_eq!(Limits::default().check(), Ok(()));
    }

    #[test]
    fn values_of_the_glommio_host_pass_on_their_bounds_and_not_past_them() {
        let refused = |limits: Limits| limits.check().err().map(|error| error.field);
        for (entries, named) in [(8, false), (4_096, false), (4, true), (8_192, true), (12, true)] {
            let field = refused(Limits { host_ring_entries: entries, ..Limits::default() });
            assert_eq!(field, named.then_some("host_ring_entries"), "{entries}");
        }
        for (bytes, named) in [(65_536, false), (1 << 30, false), (65_535, true), ((1 << 30) + 1, true)] {
            let field = refused(Limits { host_io_bytes: bytes, ..Limits::default() });
            assert_eq!(field, named.then_some("host_io_bytes"), "{bytes}");
        }
        for (us, named) in [(50, false), (1_000_000, false), (49, true), (1_000_001, true)] {
            let time = Duration::from_micros(us);
            let field = refused(Limits { host_preempt_time: time, ..Limits::default() });
            assert_eq!(field, named.then_some("host_preempt_time"), "{time:?}");
        }
    }

    #[test]
    fn a_value_on_its_bound_passes_and_one_past_it_is_named() {
        let on = Limits { headers_max: 128, ..Limits::default() };
        assert_eq!(on.check(), Ok(()));
        let past = Limits { headers_max: 129, ..Limits::default() };
        assert_eq!(past.check().map_err(|e| e.field), Err("headers_max"));
        let zero = Limits { connections_max: 0, ..Limits::default() };
        assert!(zero.check().is_err_and(|e| e.to_string().contains("connections_max = 0")));
    }

    #[test]
    fn a_time_to_gather_passes_up_to_10_ms() {
        let refused = |time| {
            let limits = Limits { gather_time: time, ..Limits::default() };
            limits.check().err().map(|error| error.field)
        };
        assert_eq!(refused(Duration::from_millis(10)), None);
        assert_eq!(refused(Duration::from_nanos(10_000_001)), Some("gather_time"));
    }

    #[test]
    fn a_ring_of_buffers_must_be_a_power_of_two() {
        let odd = Limits { recv_buffers: 1000, ..Limits::default() };
        assert_eq!(odd.check().map_err(|e| e.field), Err("recv_buffers"));
    }
}
