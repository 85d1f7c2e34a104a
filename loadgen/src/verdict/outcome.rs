//! What came out: whether it is what was asked, and how far its figures carry.
//!
//! Not here: why (`generator`, `surroundings`).

use super::text::{count, digits, percent, time, value};
use super::{Bounds, generator, reason, share};
use crate::model::{Arrivals, Level, Loop, Reason, Run, per_second};
use crate::record::ConnectError;

/// Percentiles that reports print, with how many of 10,000 samples are above.
const PERCENTILES: [(&str, u64); 7] =
    [("P50", 5000), ("P75", 2500), ("P90", 1000), ("P95", 500), ("P99", 100), ("P99.9", 10), ("P99.99", 1)];

/// The kind of error that was most, as text.
fn most_errors(run: &Run) -> Option<String> {
    // Of kinds that are as many, the first.
    let (_, text, number) =
        run.total.errors.iter().reduce(|most, next| if next.2 > most.2 { next } else { most })?;
    Some(format!("{text}: {number}"))
}

/// There is nothing to be judged.
pub(super) fn nothing_answered(run: &Run, _: &Bounds) -> Option<Reason> {
    let total = &run.total;
    let (count, errors) = (total.response.count(), total.errors.total());
    let cure = "see that the server runs there and answers such a request, with curl for example";
    let text = match most_errors(run) {
        _ if count > 0 && errors < count => return None,
        Some(most) => {
            format!("none of {count} requests had a good answer (bound: 1); most were {most}; {cure}")
        }
        None => format!("no request came due or was answered (bound: 1): use a longer --duration; {cure}"),
    };
    reason(Level::Invalid, "nothing_answered", text)
}

/// What a schedule of one rate asks for, and how far chance may lead it astray. None where the rate changes
/// or is that of a file.
fn scheduled(run: &Run, bounds: &Bounds) -> Option<(f64, f64)> {
    let Loop::Open { arrivals, stages } = &run.settings.traffic else { return None };
    let rate = stages.first()?.from;
    if stages.iter().any(|stage| stage.from != rate || stage.to != rate) {
        return None;
    }
    let expected = rate * run.measured_ns as f64 / 1e9;
    let slack = match arrivals {
        Arrivals::Constant => 1.0,
        // Their number has the variance of its mean.
        Arrivals::Poisson => bounds.chance_deviations * expected.sqrt(),
        Arrivals::Burst(size) => f64::from(*size),
        Arrivals::Trace(_) => return None,
    };
    Some((expected, slack))
}

/// Achieved against offered, and whose fault the difference is.
///
/// The server's: requests waited for connections, which were all busy, while the generator was neither late
/// nor out of CPU. A generator without CPU keeps connections busy by not reading what is there.
pub(super) fn offered(run: &Run, bounds: &Bounds) -> Option<Reason> {
    if !matches!(run.settings.traffic, Loop::Open { .. }) {
        return None;
    }
    let counts = &run.total.counts;
    let intended = counts.intended as f64;
    let (least, most) = scheduled(run, bounds)
        .map_or((intended, intended), |(expected, slack)| ((expected - slack).max(0.0), expected + slack));
    // The schedule as far as it was drawn, or as it should have been.
    let due = intended.max(least);
    if due < 1.0 {
        return None;
    }
    let sent = counts.sent as f64;
    let rates = format!(
        "sent {}/s of {}/s",
        digits(per_second(counts.sent, run.measured_ns)),
        digits(due * 1e9 / run.measured_ns.max(1) as f64)
    );
    let over = (sent / due).max(intended / most.max(1.0));
    if over > bounds.sent_share_most {
        let (seen, bound) = (percent(over), percent(bounds.sent_share_most));
        let text =
            format!("{rates}, {seen} of the schedule (bound: {bound}): the counts contradict; report it");
        return reason(Level::Invalid, "offered", text);
    }
    let part = sent / due;
    let ours = [generator::own_lag, generator::cpu_saturated, generator::run_delay];
    let is_ours = ours.iter().any(|check| check(run, bounds).is_some());
    let unsent = counts.intended.saturating_sub(counts.sent);
    let by_server =
        !is_ours && counts.waited > 0 && counts.waited >= unsent && intended >= least * bounds.sent_share;
    if part < bounds.sent_share && !by_server {
        let is_invalid = part < bounds.sent_share_invalid;
        let bound = percent(if is_invalid { bounds.sent_share_invalid } else { bounds.sent_share });
        let text = format!(
            "{rates}, {} (bound: {bound}): the generator did not keep its schedule; add --threads and CPUs \
             (--cpus), or lower --rate",
            percent(part)
        );
        return reason(if is_invalid { Level::Invalid } else { Level::Suspect }, "offered", text);
    }
    let waited = share(counts.waited, counts.intended);
    let connections = run.settings.connections;
    let busy = connections_busy(run, due);
    if part < bounds.sent_share {
        let text = format!(
            "{rates}, {} (bound: {}): all {connections} connections were busy, so the server did not keep \
             up; its latency grows with the length of the run. Lower --rate, or raise --connections if it \
             was not busy{busy}",
            percent(part),
            percent(bounds.sent_share)
        );
        return reason(Level::Suspect, "server_limited", text);
    }
    if waited > bounds.waited_share && !is_ours {
        let text = format!(
            "{} of the requests waited for one of {connections} connections (bound: {}); their response \
             time has it. Raise --connections if clients of this server would not wait{busy}",
            percent(waited),
            percent(bounds.waited_share)
        );
        return reason(Level::Valid, "server_limited", text);
    }
    None
}

/// By Little's law: the rate times the mean service time is the mean number of busy connections.
fn connections_busy(run: &Run, due: f64) -> String {
    let Some(mean) = run.total.service.mean() else { return String::new() };
    let pipeline = f64::from(run.settings.pipeline.max(1));
    let busy = due / run.measured_ns.max(1) as f64 * mean.ns() as f64 / pipeline;
    let bound = if mean.is_bound() { " or more" } else { "" };
    format!(": that rate keeps {}{bound} busy at this service time", digits(busy.ceil()))
}

/// The figure is that of the generator and the network.
///
/// A remark where connections ask again as soon as they were answered: there the median is their number by the
/// rate (Little's law), and twice the floor says only that the server does half of what the null server does.
pub(super) fn floor(run: &Run, bounds: &Bounds) -> Option<Reason> {
    let floor = run.floor.filter(|floor| floor.p50_ns > 0)?;
    let response = &run.total.response;
    let p50 = response.percentile(50.0)?;
    let least_ns = response.exact().lowest_equivalent(p50.ns());
    if least_ns as f64 > floor.p50_ns as f64 * bounds.floor_ratio {
        return None;
    }
    let text = format!(
        "the response P50 is {} and the noise floor {} (bound: {} times that): much of it is the generator \
         and the network, not the server; read differences, not absolute figures, or compare CPU costs",
        value(p50),
        time(floor.p50_ns),
        digits(bounds.floor_ratio)
    );
    let saturates = matches!(run.settings.traffic, Loop::Closed { think_ns: 0, .. });
    reason(if saturates { Level::Valid } else { Level::Suspect }, "floor", text)
}

/// It is not known how much of it is the server.
pub(super) fn no_floor(run: &Run, _: &Bounds) -> Option<Reason> {
    if run.floor.is_some() {
        return None;
    }
    let text = "no noise floor is known for such traffic on this host: type `loadgen calibrate` with the \
                same options once, to know how much of a latency is the generator's"
        .to_owned();
    reason(Level::Valid, "no_floor", text)
}

/// The server stood still, or was gone, while a closed loop waited for it: the requests that nobody asked
/// meanwhile are in no histogram.
pub(super) fn silent(run: &Run, bounds: &Bounds) -> Option<Reason> {
    let Loop::Closed { think_ns, .. } = run.settings.traffic else { return None };
    let of_window = || run.slices.iter().filter(|slice| slice.start_ns < run.measured_ns && slice.len_ns > 0);
    let slices = of_window().count() as u64;
    if slices == 0 || run.total.counts.completed < bounds.silent_answers.saturating_mul(slices) {
        return None;
    }
    let (mut gap_ns, mut longest_ns) = (0_u64, 0);
    for slice in of_window() {
        let is_silent = slice.tally.counts.completed == 0;
        gap_ns = if is_silent { gap_ns.saturating_add(slice.len_ns) } else { 0 };
        longest_ns = gap_ns.max(longest_ns);
    }
    let usual_ns = run.total.response.percentile(50.0)?.ns().saturating_add(think_ns);
    let of_whole = share(longest_ns, run.measured_ns);
    if of_whole <= bounds.silent_share || longest_ns as f64 <= usual_ns as f64 * bounds.silent_p50s {
        return None;
    }
    let text = format!(
        "no answer came for {}, {} of the window (bound: {}): a closed loop asks nothing meanwhile, so the \
         percentiles do not show it, and the rate is a mean over it; see what the server did, and use --rate",
        time(longest_ns),
        percent(of_whole),
        percent(bounds.silent_share)
    );
    reason(Level::Suspect, "silent", text)
}

/// The window was short.
pub(super) fn short(run: &Run, bounds: &Bounds) -> Option<Reason> {
    if run.measured_ns >= bounds.window_ns {
        return None;
    }
    let (seen, bound) = (time(run.measured_ns), time(bounds.window_ns));
    let text = format!("only {seen} were measured (bound: {bound}): use a longer --duration");
    reason(Level::Suspect, "short", text)
}

/// The user ended it.
pub(super) fn interrupted(run: &Run, _: &Bounds) -> Option<Reason> {
    if !run.interrupted {
        return None;
    }
    let (seen, asked) = (time(run.measured_ns), time(run.settings.duration_ns));
    let text = format!("ended early: {seen} of {asked} were measured; do not compare it with whole runs");
    reason(Level::Valid, "interrupted", text)
}

/// Connections failed; of our own making where ports or descriptors were missing.
pub(super) fn connects(run: &Run, bounds: &Bounds) -> Option<Reason> {
    let unopened: u64 = run.workers.iter().map(|worker| u64::from(worker.unopened)).sum();
    if share(unopened, u64::from(run.settings.connections)) > bounds.unopened_share {
        let (all, bound) = (run.settings.connections, percent(bounds.unopened_share));
        let text = format!(
            "{unopened} of {all} connections were not open when the traffic began (bound: {bound}): the load was on \
             the others; look at the server's limits, or ask for fewer --connections"
        );
        return reason(Level::Suspect, "connects", text);
    }
    let errors = &run.total.errors;
    let failed = errors.connects_total();
    if failed == 0 {
        return None;
    }
    let kinds = ConnectError::ALL.into_iter().filter(|&kind| errors.get_connect(kind) > 0);
    let kinds: Vec<String> =
        kinds.map(|kind| format!("{}: {}", kind.text(), errors.get_connect(kind))).collect();
    let kinds = kinds.join(", ");
    let ours = errors.get_connect(ConnectError::NoPort) + errors.get_connect(ConnectError::NoDescriptor);
    let seen = format!("{} not opened ({kinds}; bound: 0)", count(failed, "connection"));
    if ours > 0 {
        let text = format!(
            "{seen}: this host had no port or descriptor for it; name more addresses with --source, raise \
             `ulimit -n`, or use fewer --connections"
        );
        return reason(Level::Suspect, "connects", text);
    }
    let text = format!("{seen}: traffic was on the others; look at the server's limits and backlog");
    reason(Level::Valid, "connects", text)
}

/// A part of the requests failed.
pub(super) fn errors(run: &Run, bounds: &Bounds) -> Option<Reason> {
    let part = run.total.error_share();
    let most = most_errors(run)?;
    if part <= bounds.errors_share || part >= 1.0 {
        return None;
    }
    let text = format!(
        "{} of the requests had no good answer (bound: {}); most were {most}; an error may be quicker than \
         an answer: look at the latencies of failed requests apart",
        percent(part),
        percent(bounds.errors_share)
    );
    reason(Level::Valid, "errors", text)
}

/// Percentiles have lower bounds among them.
pub(super) fn unanswered(run: &Run, bounds: &Bounds) -> Option<Reason> {
    let response = &run.total.response;
    let part = share(response.bounds_count(), response.count());
    if part <= bounds.unanswered_share {
        return None;
    }
    let text = format!(
        "{} of the requests had no answer when we stopped looking (bound: {}): percentiles among them read \
         `>=`; a longer --timeout or --drain would tell more",
        percent(part),
        percent(bounds.unanswered_share)
    );
    reason(Level::Valid, "unanswered", text)
}

/// A percentile stands on a handful of samples.
pub(super) fn few_samples(run: &Run, bounds: &Bounds) -> Option<Reason> {
    let samples = run.total.response.count();
    let carries =
        |above: u64| u128::from(samples) * u128::from(above) >= u128::from(bounds.samples_above) * 10_000;
    if samples == 0 || PERCENTILES.iter().all(|&(_, above)| carries(above)) {
        return None;
    }
    let highest = PERCENTILES.iter().rfind(|&&(_, above)| carries(above));
    let carried = match highest {
        Some((name, _)) => format!("carry percentiles up to {name}; those above it are luck"),
        None => "carry no percentile".to_owned(),
    };
    let text = format!(
        "{} {carried} (bound: {} samples above each): use a longer --duration for more",
        count(samples, "sample"),
        bounds.samples_above
    );
    reason(Level::Valid, "few_samples", text)
}
