//! From words to [`Settings`]: the only place that decides defaults, and refuses what cannot work.
//!
//! Not here: the words themselves (`args`), what needs the network (`engine`).

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use corelane_sys::cpu;
use serde::Deserialize;

use super::args::{HostArgs, HttpArgs, OtherArgs, TrafficArgs};
use super::target::{self, Target};
use crate::host;
use crate::model::{Arrivals, Loop, RequestSpec, RespSpec, Settings, Speaks, Stage};
use crate::plan;
use crate::record::KINDS_MAX;
use crate::units;

/// Connections of one process at most: what direct descriptors of many rings hold, with room to spare.
const CONNECTIONS_MAX: u64 = 4_000_000;

/// Requests under way on a connection at most.
const PIPELINE_MAX: u32 = 4_096;

/// Threads at most.
const THREADS_MAX: u32 = 1_024;

/// Bytes of a body, or of a file with requests, at most.
const BODY_LEN_MAX: u64 = 64 << 20;

/// Requests of a file at most.
const REQUESTS_MAX: usize = KINDS_MAX;

/// Slices of a run at most, 0.8 MiB each: longer runs have longer slices.
const SLICES_MAX: u64 = 200;

/// The shortest slice, ns.
const SLICE_NS_MIN: u64 = 100_000_000;

/// Before the window, unless the user chose.
const WARMUP_NS: u64 = 1_000_000_000;

/// A run at most, ns: a week.
const DURATION_NS_MAX: u64 = 7 * 86_400 * 1_000_000_000;

/// Makes a plan for one target.
///
/// # Errors
/// What cannot work, and what to type instead.
pub(crate) fn settings(
    url: &str,
    traffic: &TrafficArgs,
    http: &HttpArgs,
    others: &OtherArgs,
    host: &HostArgs,
) -> Result<Settings, String> {
    let target = target::parse(url)?;
    let requests = requests(&target, http)?;
    let connections = match u32::try_from(traffic.connections) {
        Ok(count) if (1..=CONNECTIONS_MAX).contains(&traffic.connections) => count,
        _ => {
            let asked = traffic.connections;
            return Err(format!("--connections {asked} cannot work: it goes from 1 to {CONNECTIONS_MAX}"));
        }
    };
    if !(1..=PIPELINE_MAX).contains(&traffic.pipeline) {
        return Err(format!("--pipeline {} cannot work: it goes from 1 to {PIPELINE_MAX}", traffic.pipeline));
    }
    for (flag, value, low) in [
        ("--duration", traffic.duration, 1),
        ("--timeout", traffic.timeout, 1_000_000),
        ("--warmup", traffic.warmup.unwrap_or(0), 0),
        ("--ramp", traffic.ramp, 0),
        ("--drain", traffic.drain.unwrap_or(0), 0),
    ] {
        if value < low || value > DURATION_NS_MAX {
            let least = units::duration(low);
            return Err(format!(
                "{flag} {} cannot work: it goes from {least} to 7 days",
                units::duration(value)
            ));
        }
    }
    let traffic_kind = loop_of(traffic)?;
    // A trace begins with what it begins with.
    let is_trace = matches!(traffic_kind, Loop::Open { arrivals: Arrivals::Trace(_), .. });
    let warmup_ns = traffic.warmup.unwrap_or(if is_trace { 0 } else { WARMUP_NS });
    let sources = host.source.as_deref().map(host::parse_sources).transpose()?.unwrap_or_default();
    let (threads, cpus) = threads_and_cpus(host, connections, is_local(&target))?;
    let size = u32::try_from(others.size).unwrap_or(u32::MAX);
    Ok(Settings {
        url: url.to_owned(),
        speaks: target.speaks,
        host: target.host,
        port: target.port,
        requests,
        resp: RespSpec { get_share: others.gets, keys: others.keys, zipf: others.zipf, value_len: size },
        echo_len: size,
        traffic: traffic_kind,
        connections,
        pipeline: traffic.pipeline,
        requests_per_connection: traffic.requests_per_connection,
        ramp_ns: traffic.ramp,
        warmup_ns,
        duration_ns: traffic.duration,
        timeout_ns: traffic.timeout,
        drain_ns: traffic.drain.unwrap_or(traffic.timeout),
        slice_ns: slice_of(traffic.duration),
        seed: traffic.seed,
        threads,
        cpus,
        busy_poll: host.busy_poll,
        sources,
        expect_status: http.expect_status.clone(),
    })
}

/// Whether settings of a controller are some that [`settings`] could have made: what they claim sizes loops, memory
/// and threads here, and times are added up.
///
/// # Errors
/// What is impossible.
pub(crate) fn check(settings: &Settings) -> Result<(), String> {
    let s = settings;
    if matches!(&s.traffic, Loop::Open { arrivals: Arrivals::Trace(_), .. }) {
        return Err("agents know no traces: a trace is a file of the host that reads it".into());
    }
    let times = [s.duration_ns, s.timeout_ns, s.warmup_ns, s.ramp_ns, s.drain_ns, s.slice_ns];
    let is_possible = (1..=CONNECTIONS_MAX).contains(&u64::from(s.connections))
        && (1..=PIPELINE_MAX).contains(&s.pipeline)
        && (1..=THREADS_MAX).contains(&s.threads)
        && s.requests.len() <= REQUESTS_MAX
        && times.into_iter().all(|ns| ns <= DURATION_NS_MAX)
        && s.duration_ns > 0
        && s.timeout_ns >= 1_000_000
        && s.slice_ns >= SLICE_NS_MIN
        && s.duration_ns.div_ceil(s.slice_ns) <= SLICES_MAX;
    if is_possible {
        Ok(())
    } else {
        Err("a plan with impossible settings: this is not loadgen speaking".into())
    }
}

/// Tenths of a second, or what keeps their number bounded: a round multiple of it.
pub(crate) fn slice_of(duration_ns: u64) -> u64 {
    let least = duration_ns.div_ceil(SLICES_MAX);
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
        .into_iter()
        .map(|times| times * SLICE_NS_MIN)
        .find(|&slice| slice >= least)
        .unwrap_or_else(|| least.div_ceil(1_000_000_000) * 1_000_000_000)
}

fn loop_of(traffic: &TrafficArgs) -> Result<Loop, String> {
    let arrivals = plan::parse_arrivals(&traffic.arrivals)?;
    let is_trace = matches!(arrivals, Arrivals::Trace(_));
    let mut stages = match (&traffic.rate, &traffic.stages) {
        (Some(_), Some(_)) => return Err("--rate and --stages say the same thing twice: keep one".into()),
        (Some(rate), None) => plan::constant_rate(*rate),
        (None, Some(text)) => plan::parse_stages(text)?,
        (None, None) if is_trace => Vec::new(),
        (None, None) if arrivals == Arrivals::Constant => {
            let (think_ns, think_exponential) = think(traffic.think.as_deref())?;
            return Ok(Loop::Closed { think_ns, think_exponential });
        }
        (None, None) => return Err(format!("--arrivals {} needs a --rate (or --stages)", traffic.arrivals)),
    };
    if is_trace && !stages.is_empty() {
        return Err("a trace has its own times: leave --rate and --stages out".into());
    }
    if traffic.ramp > 0
        && let Some(to) = stages.first().map(|stage| stage.from)
    {
        stages.insert(0, Stage { from: 0.0, to, len_ns: traffic.ramp });
    }
    Ok(Loop::Open { arrivals, stages })
}

fn think(text: Option<&str>) -> Result<(u64, bool), String> {
    let Some(text) = text else { return Ok((0, false)) };
    match text.strip_prefix("exp:") {
        Some(mean) => Ok((units::parse_duration(mean)?, true)),
        None => Ok((units::parse_duration(text)?, false)),
    }
}

/// Whether the target is obviously this host; names are not looked up here.
fn is_local(target: &Target) -> bool {
    match target.host.parse::<IpAddr>() {
        Ok(addr) => host::is_local(addr),
        Err(_) => target.host == "localhost",
    }
}

fn threads_and_cpus(host: &HostArgs, connections: u32, local: bool) -> Result<(u32, Vec<usize>), String> {
    let allowed =
        cpu::allowed_cpus().map_err(|error| format!("cannot read which CPUs may be used: {error}"))?;
    let listed = host.cpus.as_deref().map(|text| cpus_of(text, &allowed)).transpose()?;
    let count = allowed.len().max(1);
    // The server needs its share of this host; the control thread needs a CPU elsewhere.
    let usual = if local { count / 2 } else { count - 1 };
    let threads = match (host.threads, &listed) {
        (Some(threads), _) => threads,
        (None, Some(list)) => u32::try_from(list.len()).unwrap_or(1),
        (None, None) => u32::try_from(usual).unwrap_or(1).clamp(1, connections),
    };
    if !(1..=THREADS_MAX).contains(&threads) {
        return Err(format!("--threads {threads} cannot work: it goes from 1 to {THREADS_MAX}"));
    }
    if threads > connections {
        let most = "each thread needs one at least";
        return Err(format!("--threads {threads} are more than {connections} connections: {most}"));
    }
    let needed = threads as usize;
    let cpus = match listed {
        Some(list) if list.len() < needed => {
            return Err(format!("--cpus names {} CPUs for {threads} threads: name as many", list.len()));
        }
        Some(list) => list[..needed].to_vec(),
        None if host.no_pin || needed > allowed.len() => Vec::new(),
        None => allowed[allowed.len() - needed..].to_vec(),
    };
    Ok((threads, cpus))
}

/// The CPUs of `--cpus`, all of which must be among `allowed`.
///
/// # Errors
/// Which is not, or what is wrong with the list.
pub(crate) fn cpus_of(text: &str, allowed: &[usize]) -> Result<Vec<usize>, String> {
    let list = cpu::parse_cpu_list(text).map_err(|error| format!("--cpus {text}: {error}"))?;
    if let Some(other) = list.iter().find(|cpu| !allowed.contains(cpu)) {
        let may = cpu::format_cpu_list(allowed);
        return Err(format!("--cpus names CPU {other}, which this process may not use: there are {may}"));
    }
    Ok(list)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestFile {
    request: Vec<RequestEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestEntry {
    #[serde(default = "one")]
    weight: u32,
    name: Option<String>,
    method: Option<String>,
    path: String,
    #[serde(default)]
    headers: Vec<String>,
    body: Option<String>,
    #[serde(default)]
    template: bool,
}

fn one() -> u32 {
    1
}

fn requests(target: &Target, http: &HttpArgs) -> Result<Vec<RequestSpec>, String> {
    if target.speaks != Speaks::Http1 {
        let asked = http.method.is_some() || !http.headers.is_empty() || http.body.is_some();
        if asked || http.requests.is_some() {
            return Err("--method, --header, --body and --requests are for http:// targets".into());
        }
        return Ok(Vec::new());
    }
    let common = headers(&http.headers)?;
    let Some(path) = &http.requests else {
        let entry = RequestEntry {
            weight: 1,
            name: None,
            method: http.method.clone(),
            path: target.path.clone(),
            headers: Vec::new(),
            body: http.body.clone(),
            template: http.template,
        };
        return Ok(vec![spec(entry, &common, false)?]);
    };
    let shown = path.display();
    let text =
        String::from_utf8(read_bounded(path, BODY_LEN_MAX)?).map_err(|_| format!("{shown} is no text"))?;
    let file: RequestFile = toml::from_str(&text).map_err(|error| {
        // Its own text is a page: the line is drawn.
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        format!("{shown}:{}: {}", before.matches('\n').count() + 1, error.message().replace('\n', " "))
    })?;
    let count = file.request.len();
    if !(1..=REQUESTS_MAX).contains(&count) {
        return Err(format!("{shown} has {count} [[request]] tables: there can be 1 to {REQUESTS_MAX}"));
    }
    let all = file.request.into_iter().map(|entry| spec(entry, &common, http.template));
    all.collect::<Result<_, String>>().map_err(|error| format!("{shown}: {error}"))
}

fn spec(entry: RequestEntry, common: &[(String, String)], template: bool) -> Result<RequestSpec, String> {
    let body = entry.body.as_deref().map(body).transpose()?;
    let usual = if body.is_some() { "POST" } else { "GET" };
    let method = entry.method.unwrap_or_else(|| usual.into());
    let mut all = common.to_vec();
    all.extend(headers(&entry.headers)?);
    Ok(RequestSpec {
        weight: entry.weight,
        name: entry.name.unwrap_or_else(|| format!("{method} {}", entry.path)),
        method,
        path: entry.path,
        headers: all,
        body: body.unwrap_or_default(),
        template: entry.template || template,
    })
}

fn headers(lines: &[String]) -> Result<Vec<(String, String)>, String> {
    let parse = |line: &String| match line.split_once(':') {
        Some((name, value)) => Ok((name.to_owned(), value.trim().to_owned())),
        None => Err(format!("the header {line:?} has no colon: write it as 'Name: value'")),
    };
    lines.iter().map(parse).collect()
}

/// Text, or the bytes of a file after an @.
fn body(text: &str) -> Result<Vec<u8>, String> {
    match text.strip_prefix('@') {
        Some(path) => read_bounded(Path::new(path), BODY_LEN_MAX),
        None => Ok(text.as_bytes().to_vec()),
    }
}

/// A file of at most `max` bytes.
pub(crate) fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let shown = path.display();
    let wrong = |error| format!("cannot read {shown}: {error}");
    let file = fs::File::open(path).map_err(wrong)?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() as u64 > max {
        return Err(format!("{shown} is longer than {max} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod check_tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser as _;

    use super::super::args::Cli;
    use super::*;

    #[test]
    fn a_plan_is_taken_where_a_command_line_could_have_made_it() {
        for words in [&["-d", "1s"][..], &["-d", "604800s"], &["--rate", "1k"], &["-c", "4000"]] {
            let all = ["loadgen", "http://127.0.0.1:1/"].iter().chain(words);
            let made = super::super::run::settings_of(&Cli::try_parse_from(all).unwrap().run).unwrap();
            check(&made).unwrap();
            let refused = |change: fn(&mut Settings)| {
                let mut settings = made.clone();
                change(&mut settings);
                assert!(check(&settings).unwrap_err().contains("impossible settings"));
            };
            refused(|s| s.slice_ns = 0);
            refused(|s| s.duration_ns = u64::MAX);
            refused(|s| s.warmup_ns = DURATION_NS_MAX + 1);
            refused(|s| s.timeout_ns = 0);
            refused(|s| s.pipeline = PIPELINE_MAX + 1);
            refused(|s| s.threads = THREADS_MAX + 1);
            refused(|s| s.connections = 0);
            refused(|s| (s.duration_ns, s.slice_ns) = (401 * SLICE_NS_MIN, SLICE_NS_MIN));
        }
    }
}
