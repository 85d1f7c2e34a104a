//! The admin interface and the node's account of itself, over real sockets against running shards.
//!
//! Not here: who may ask, case by case, and the text formats piece by piece (`src/admin`), latencies on a clock
//! that only the test moves (`net`), flags and files (`config.rs`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::client::{get, post};
use common::{Answer, Client, Node, PATIENCE, until};
use corelane::admin::{self, CONNECTIONS_MAX, HEAD_TIME};
use corelane::observe::NodeFacts;
use corelane::{App, Secret};
use crossbeam_channel::{Sender, bounded};
use sonic_rs::{JsonContainerTrait, JsonValueTrait, Value};

const TOKEN: &str = "a-token-of-24-characters";

/// A node and its admin interface, on any free port of loopback.
struct Watched {
    node: Node,
    admin: SocketAddr,
}

impl Watched {
    /// The common application with `/api/...`, on these many shards.
    fn new(shards: u16) -> Watched {
        Watched::with_token(shards, "")
    }

    fn with_token(shards: u16, token: &str) -> Watched {
        // Redis clients, too, so that there is every series.
        let redis = corelane::Listen::Tcp(([127, 0, 0, 1], 0).into());
        let server = common::server().shards(shards).resp(redis);
        let node = Node::serving(server.admin(([127, 0, 0, 1], 0).into(), Secret::new(token)), app);
        let admin = node.running().admin().expect("it was asked for");
        Watched { node, admin }
    }

    #[track_caller]
    fn ask(&self, path: &str) -> Answer {
        Client::connect(self.admin).get(path)
    }

    /// The answer to these exact bytes.
    #[track_caller]
    fn say(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut client = Client::connect(self.admin);
        client.send(bytes);
        client.answer()
    }

    #[track_caller]
    fn scrape(&self) -> Samples {
        Samples::read(self.ask("/metrics").text())
    }

    /// Keeps a shard from turning until the sender is dropped.
    fn freeze(&self, shard: usize) -> Sender<()> {
        let (thaw, thawed) = bounded::<()>(0);
        let (is, frozen) = bounded(1);
        let handle = self.node.running().shards().swap_remove(shard);
        let wait = move |_: &corelane::Shard| {
            is.send(()).unwrap();
            assert!(thawed.recv().is_err(), "nothing is ever sent");
        };
        handle.send(wait).unwrap();
        frozen.recv_timeout(PATIENCE).unwrap();
        thaw
    }

    /// How many connections each shard has.
    fn open(&self) -> Vec<usize> {
        let shards = 0..self.node.running().shards().len();
        let open =
            |shard| self.node.ask(shard, |shard| corelane_net::http1::measure::connections(shard, 0).0);
        shards.map(open).collect()
    }

    /// A connection of the main listener, and the number of the shard it is on.
    fn client_and_shard(&self) -> (Client, usize) {
        let before = self.open();
        let mut client = Client::connect(self.node.addr);
        client.get("/");
        let more = self.open().iter().zip(&before).position(|(now, before)| now > before);
        (client, more.expect("one connection more is on one of the shards"))
    }
}

fn app() -> App<()> {
    corelane::observe::routes(common::app())
}

/// A scrape: families with their types, samples with their values.
struct Samples {
    types: BTreeMap<String, String>,
    values: BTreeMap<String, f64>,
}

impl Samples {
    #[track_caller]
    fn read(text: &str) -> Samples {
        let mut samples = Samples { types: BTreeMap::new(), values: BTreeMap::new() };
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(samples.types.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {name}");
            } else if !line.starts_with('#') {
                let (key, value) = line.rsplit_once(' ').unwrap();
                let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
                assert!(samples.values.insert(key.to_owned(), value).is_none(), "twice: {key}");
            }
        }
        samples
    }

    fn get(&self, key: &str) -> Option<f64> {
        self.values.get(key).copied()
    }

    /// All samples of this name that have this label.
    fn sum_of(&self, name: &str, label: &str) -> f64 {
        let of = |key: &&String| {
            key.split_once('{').is_some_and(|(n, rest)| n == name && rest.contains(label))
                || (key.as_str() == name && label.is_empty())
        };
        self.values.keys().filter(of).map(|key| self.values[key]).sum()
    }

    fn sum(&self, name: &str) -> f64 {
        self.sum_of(name, "")
    }
}

fn page(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[track_caller]
fn json(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.field("content-type"), Some("application/json"));
    sonic_rs::from_slice(&answer.body).unwrap()
}

/// Every shard answers in time. A busy host may keep one from its CPU for the 100 ms that health waits.
#[track_caller]
fn is_well(admin: SocketAddr) {
    until("every shard is well", || {
        let answer = Client::connect(admin).get("/health");
        assert!([200, 503].contains(&answer.status), "{}", answer.text());
        answer.status == 200 && answer.text() == "ok\n"
    });
}

/// Numbers are counts here, compared as such.
#[track_caller]
fn equal(what: &str, is: f64, should: f64) {
    assert!((is - should).abs() < 1e-6, "{what} is {is}, should be {should}");
}

#[test]
fn every_series_of_a_scrape_is_on_the_page_and_every_one_of_the_page_in_a_scrape() {
    let watched = Watched::new(2);
    let scraped = watched.scrape().types;
    let text = page("docs/METRICS.md");
    let row = |line: &str| {
        let mut cells =
            line.strip_prefix("| `")?.split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
        let (name, kind) = (cells.next()?, cells.next()?);
        ["counter", "gauge", "histogram"].contains(&kind.as_str()).then_some((name, kind))
    };
    let rows: Vec<(String, String)> = text.lines().filter_map(row).collect();
    let documented: BTreeMap<String, String> = rows.iter().cloned().collect();
    assert_eq!(rows.len(), documented.len(), "a series has two rows");
    let names = |of: &BTreeMap<String, String>| of.keys().cloned().collect::<BTreeSet<_>>();
    let (scraped_names, documented_names) = (names(&scraped), names(&documented));
    let missing: Vec<_> = scraped_names.difference(&documented_names).collect();
    assert!(missing.is_empty(), "docs/METRICS.md says nothing of {missing:?}");
    let gone: Vec<_> = documented_names.difference(&scraped_names).collect();
    assert!(gone.is_empty(), "docs/METRICS.md tells of {gone:?}, which no scrape has");
    assert_eq!(scraped, documented, "the types differ");
}

#[test]
fn every_counter_of_the_limits_page_is_a_series() {
    let watched = Watched::new(1);
    let types = watched.scrape().types;
    let text = page("docs/LIMITS.md");
    let mut seen = 0;
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cell = line.split('|').nth(5).unwrap_or("");
        // `area: counter`, or several by `;` and `,`.
        for part in cell.split(';').filter(|_| !cell.contains("of the host")) {
            let Some((area, counters)) = part.split_once(':') else { continue };
            for counter in counters.split('`').skip(1).step_by(2) {
                let name = format!("corelane_{}_{counter}_total", area.trim());
                assert_eq!(types.get(&name).map(String::as_str), Some("counter"), "{name}");
                seen += 1;
            }
        }
    }
    assert!(seen > 30, "only {seen} counters found: the page has changed its form");
}

#[test]
fn redis_clients_and_their_keys_are_in_all_accounts() {
    let watched = Watched::new(2);
    let mut redis = TcpStream::connect(watched.node.running().resp_listens()[0].tcp().unwrap()).unwrap();
    redis.set_read_timeout(Some(PATIENCE)).unwrap();
    redis.write_all(b"SET k v\r\nGET k\r\nGET none\r\n").unwrap();
    let mut said = [0; 17];
    redis.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"+OK\r\n$1\r\nv\r\n$-1\r\n");

    let scrape = watched.scrape();
    for (name, wanted) in [
        ("corelane_resp_connections", 1.0),
        ("corelane_resp_accepted_total", 1.0),
        ("corelane_resp_commands_total", 3.0),
        ("corelane_resp_bytes_in_total", 26.0),
        ("corelane_resp_bytes_out_total", 17.0),
        ("corelane_cache_keys", 1.0),
        ("corelane_cache_hits_total", 1.0),
        ("corelane_cache_misses_total", 1.0),
    ] {
        assert!((scrape.sum(name) - wanted).abs() < f64::EPSILON, "{name}: {}", scrape.sum(name));
    }

    let connections = json(&watched.ask("/connections"));
    let list = connections["connections"].as_array().unwrap();
    let client = list.iter().find(|one| one["protocol"].as_str() == Some("resp")).unwrap();
    assert_eq!(client["peer"].as_str(), Some(&*redis.local_addr().unwrap().to_string()));
    assert_eq!((client["state"].as_str(), client["bytes_in"].as_u64()), (Some("open"), Some(26)));
    assert!(client["requests"].is_null());

    let mut http = Client::connect(watched.node.addr);
    let performance = json(&http.get("/api/performance"));
    let shards = performance["shards"].as_array().unwrap();
    let sum =
        |part: &str, of: &str| shards.iter().map(|shard| shard[part][of].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("resp", "connections"), sum("resp", "commands"), sum("cache", "keys")), (1, 3, 1));
    let http = json(&watched.ask("/connections"));
    let list = http["connections"].as_array().unwrap();
    assert!(
        list.iter()
            .any(|one| one["protocol"].as_str() == Some("http1") && one["requests"].as_u64() == Some(1))
    );
}

#[test]
fn promtool_has_nothing_to_say_against_a_scrape() {
    let watched = Watched::new(2);
    let mut client = Client::connect(watched.node.addr);
    for path in ["/", "/nowhere", "/slow/5"] {
        client.get(path);
    }
    let answer = watched.ask("/metrics");
    assert_eq!(answer.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|error| {
        panic!("promtool: {error}; scripts/test installs it, or as root: apt-get install prometheus")
    });
    child.stdin.take().unwrap().write_all(&answer.body).unwrap();
    let said = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && text.is_empty(), "{}: {text}", said.status);
}

#[test]
fn openmetrics_is_given_to_those_who_ask_for_it() {
    let watched = Watched::new(1);
    let answer = watched.say(
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: application/openmetrics-text;version=1.0.0\r\n\r\n",
    );
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!((answer.status, answer.field("content-type")), (200, Some(kind)));
    assert!(answer.text().ends_with("# EOF\n"));
    assert!(answer.text().contains("# TYPE http_requests counter\nhttp_requests_total{"));
}

#[test]
fn what_was_done_is_what_is_counted() {
    let watched = Watched::new(2);
    let before = watched.scrape();
    equal("requests at the start", before.sum("http_requests_total"), 0.0);
    let (mut sent, mut received) = (0, 0);
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(watched.node.addr)).collect();
    let mut requests = Vec::new();
    for path in ["/", "/plaintext", "/nowhere", "/slow/20", "/big/100000", "/token/x"] {
        requests.extend([get(path), get(path)]);
    }
    // A body that nobody reads counts with the request behind it, so there is one.
    requests.extend([post("/echo", &[b'e'; 5_000]), post("/ignore", b"not read"), get("/")]);
    for client in &mut clients {
        for request in &requests {
            client.send(request);
            sent += request.len();
            let answer = client.answer();
            received += answer.head.len() + "\r\n\r\n".len() + answer.body.len();
        }
    }
    let count = (clients.len() * requests.len()) as f64;
    // The last answers are recorded by the turn after theirs: the scrape's own, at the latest.
    let after = watched.scrape();
    let missed = (clients.len() * 2) as f64;
    equal("answers", after.sum("http_requests_total"), count);
    equal("2xx", after.sum_of("http_requests_total", "status=\"2xx\""), count - missed);
    equal("4xx", after.sum_of("http_requests_total", "status=\"4xx\""), missed);
    equal("heads", after.sum("corelane_http1_requests_total"), count);
    equal("bytes in", after.sum("corelane_http1_bytes_in_total"), sent as f64);
    equal("bytes out", after.sum("corelane_http1_bytes_out_total"), received as f64);
    for (name, sum) in [("http_request_size_bytes", sent), ("http_response_size_bytes", received)] {
        equal(name, after.sum(&format!("{name}_count")), count);
        equal(name, after.sum(&format!("{name}_sum")), sum as f64);
        equal(name, after.sum_of(&format!("{name}_bucket"), "le=\"+Inf\""), count);
    }
    let latency = "http_request_duration_seconds";
    equal(latency, after.sum(&format!("{latency}_count")), count);
    equal(latency, after.sum_of(&format!("{latency}_bucket"), "le=\"+Inf\""), count);
    // Sixteen waited for 20 ms each, and nothing else for anything.
    let slow = (clients.len() * 2) as f64;
    let up_to = |le: &str| after.sum_of(&format!("{latency}_bucket"), &format!("le=\"{le}\""));
    assert!(up_to("0.02") <= count - slow, "{} took less than 20 ms", up_to("0.02"));
    let sum = after.sum(&format!("{latency}_sum"));
    assert!((slow * 0.02..60.0).contains(&sum), "{sum} s in all");
    equal("connections", after.sum("active_connections"), 8.0);
    assert!(after.sum("corelane_pools_hits_total") > 0.0);
    assert!(after.get("memory_usage_bytes").unwrap() > 1e6);
    assert!(after.sum("corelane_exec_turns_total") > before.sum("corelane_exec_turns_total"));
    assert!(after.sum("corelane_shard_cpu_seconds_total") > before.sum("corelane_shard_cpu_seconds_total"));
    drop(clients);
    until("the connections are gone", || watched.scrape().sum("active_connections") < 0.5);
}

#[test]
fn shards_are_told_apart() {
    let watched = Watched::new(2);
    let (mut client, shard) = watched.client_and_shard();
    for _ in 0..20 {
        client.get("/plaintext");
    }
    let samples = watched.scrape();
    let of = |shard: usize| {
        samples.get(&format!("http_requests_total{{shard=\"{shard}\",status=\"2xx\"}}")).unwrap()
    };
    equal("its shard's", of(shard), 21.0);
    equal("the other's", of(1 - shard), 0.0);
}

#[test]
fn the_numbers_of_shards_add_up_to_those_of_the_node() {
    let watched = Watched::new(2);
    let mut clients: Vec<Client> = (0..6).map(|_| Client::connect(watched.node.addr)).collect();
    let start = Instant::now();
    let mut answered = 0;
    // Long enough for every shard to have a second to look back on.
    while start.elapsed() < Duration::from_millis(1_600) {
        for client in &mut clients {
            client.get("/plaintext");
            answered += 1;
        }
        clients[0].get("/panic-later");
        clients[0] = Client::connect(watched.node.addr);
        answered += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    let rate = f64::from(answered) / start.elapsed().as_secs_f64();
    let performance = json(&clients[0].get("/api/performance"));
    let number =
        |of: &Value, name: &str| of.get(name).and_then(|n| n.as_f64()).unwrap_or_else(|| panic!("{name}"));
    let shards = performance.get("shards").unwrap().as_array().unwrap();
    assert_eq!(shards.len(), 2);
    assert!(performance.get("silent").unwrap().as_array().unwrap().is_empty());
    for name in ["requests", "responses", "errors", "active_connections"] {
        let sum: f64 = shards.iter().map(|shard| number(shard, name)).sum();
        equal(name, number(&performance, name), sum);
    }
    // The one that asks is not answered yet.
    equal("requests", number(&performance, "requests"), f64::from(answered) + 1.0);
    equal("responses", number(&performance, "responses"), f64::from(answered));
    equal("connections", number(&performance, "active_connections"), 6.0);
    let qps = number(&performance, "current_qps");
    // One second of them, which a busy host may have made a slow or a fast one.
    assert!((rate / 10.0..rate * 10.0).contains(&qps), "{qps} of {rate} answers a second");
    let sum: f64 = shards.iter().map(|shard| number(shard, "current_qps")).sum();
    assert!((qps - sum).abs() < 0.01, "{qps} is not {sum}");
    assert!((0.01..0.5).contains(&number(&performance, "error_rate")), "one in seven failed");
    let latencies = ["p50_us", "p90_us", "p99_us", "p99_9_us"].map(|name| number(&performance, name));
    assert!(latencies[0] > 0.0 && latencies.is_sorted(), "{latencies:?}");
    for name in ["avg_latency_us", "cpu", "memory_mb", "net_mbps", "net_in_mbps", "net_out_mbps"] {
        assert!(number(&performance, name) > 0.0, "{name}");
    }
    for shard in shards {
        for name in ["busy", "saturation", "pool_hit_rate"] {
            assert!((0.0..=1.0).contains(&number(shard, name)), "{name}");
        }
        let peers = shard.get("peers").unwrap().as_array().unwrap();
        assert_eq!(peers.len(), 1);
        for name in ["run_queue", "lane_depth", "credits_in_use", "stalls", "accept_paused", "pool_lent"] {
            number(shard, name);
        }
    }
}

#[test]
fn a_node_tells_what_it_is() {
    let watched = Watched::new(2);
    let info = json(&Client::connect(watched.node.addr).get("/api/info"));
    let text = |name: &str| info.get(name).and_then(|value| value.as_str().map(str::to_owned)).unwrap();
    assert_eq!(text("version"), env!("CARGO_PKG_VERSION"));
    let release = page("/proc/sys/kernel/osrelease");
    assert!(release.starts_with(&text("kernel")), "{release}");
    let shards = info.get("shards").unwrap().as_array().unwrap();
    assert_eq!(shards.len(), 2);
    for (n, shard) in (0_u64..).zip(shards) {
        assert_eq!(shard.get("shard").unwrap().as_u64(), Some(n));
        assert!(!shard.get("ring").unwrap().as_str().unwrap().is_empty());
    }
    let limits = info.get("limits").unwrap();
    assert_eq!(limits.get("connections_max").unwrap().as_u64(), Some(3_000), "{limits:?}");
    assert_eq!(limits.get("drain_time").unwrap().as_str(), Some("5s"));
    let listeners = info.get("listeners").unwrap().as_array().unwrap();
    assert!(listeners[0].as_str().unwrap().contains(&watched.node.addr.to_string()), "{listeners:?}");
    assert!(info.get("uptime_s").unwrap().as_f64().unwrap() < PATIENCE.as_secs_f64());
}

#[test]
fn a_shard_that_stands_still_is_named_and_nobody_waits_for_it() {
    let watched = Watched::new(2);
    let (mut client, here) = watched.client_and_shard();
    let other = 1 - here;
    is_well(watched.admin);
    let mut beside = Vec::new();
    let mut elsewhere = Vec::new();
    while beside.len() < 8 {
        let (client, shard) = watched.client_and_shard();
        if shard == here { beside.push(client) } else { elsewhere.push(client) }
    }
    let thaw = watched.freeze(other);

    let health = watched.ask("/health");
    assert_eq!((health.status, health.text()), (503, format!("silent shards: {other}\n").as_str()));
    // More often than may be asked without an answer.
    for _ in 0..12 {
        let start = Instant::now();
        let samples = watched.scrape();
        assert!(start.elapsed() < Duration::from_secs(5), "a scrape took {:?}", start.elapsed());
        equal(
            "the frozen one",
            samples.get(&format!("corelane_shard_up{{shard=\"{other}\"}}")).unwrap(),
            0.0,
        );
        equal("the other one", samples.get(&format!("corelane_shard_up{{shard=\"{here}\"}}")).unwrap(), 1.0);
        assert_eq!(samples.get(&format!("active_connections{{shard=\"{other}\"}}")), None);
        assert!(samples.get(&format!("active_connections{{shard=\"{here}\"}}")).is_some());
    }
    let connections = json(&watched.ask("/connections"));
    assert_eq!(connections.get("silent").unwrap().as_array().unwrap()[0].as_u64(), Some(other as u64));
    // Many at once, answered by one gathering, or two where one came late.
    let calls = || watched.node.ask(here, |shard| shard.mesh_stats.calls.get());
    let before = calls();
    let start = Instant::now();
    beside.iter_mut().for_each(|client| client.send(get("/api/performance")));
    let performance = json(&client.get("/api/performance"));
    beside.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200));
    assert!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
    assert!(calls() - before <= 2, "the silent shard was called {} times", calls() - before);
    assert_eq!(performance.get("silent").unwrap().as_array().unwrap()[0].as_u64(), Some(other as u64));
    assert_eq!(performance.get("shards").unwrap().as_array().unwrap().len(), 1);

    drop(thaw);
    is_well(watched.admin);
    until("and asked again", || watched.scrape().sum("corelane_shard_up") > 1.5);
}

#[test]
fn connections_are_listed_with_what_they_did() {
    let watched = Watched::new(2);
    let mut clients: Vec<Client> = (0..5).map(|_| Client::connect(watched.node.addr)).collect();
    clients.iter_mut().for_each(|client| drop(client.get("/")));
    clients[0].get("/plaintext");
    clients[1].send(get("/slow/20000"));
    let listed = |limit: &str| json(&watched.ask(&format!("/connections{limit}")));
    let states = || -> Vec<String> {
        let all = listed("");
        let all = all.get("connections").unwrap().as_array().unwrap();
        all.iter().map(|c| c.get("state").unwrap().as_str().unwrap().to_owned()).collect()
    };
    until("one is at its handler", || states().iter().filter(|state| *state == "handler").count() == 1);
    let all = listed("");
    assert_eq!(all.get("open").unwrap().as_u64(), Some(5));
    let list = all.get("connections").unwrap().as_array().unwrap();
    let sum = |name: &str| list.iter().map(|c| c.get(name).unwrap().as_u64().unwrap()).sum::<u64>();
    assert_eq!((list.len(), sum("requests")), (5, 7));
    assert!(sum("bytes_in") > 100 && sum("bytes_out") > 100);
    let ids: BTreeSet<(u64, u64)> = list
        .iter()
        .map(|c| (c.get("shard").unwrap().as_u64().unwrap(), c.get("id").unwrap().as_u64().unwrap()))
        .collect();
    assert_eq!(ids.len(), 5, "shard and id tell them apart");
    let two = listed("?limit=2");
    assert_eq!(two.get("connections").unwrap().as_array().unwrap().len(), 2);
    assert_eq!(two.get("open").unwrap().as_u64(), Some(5));
    assert_eq!(watched.ask("/connections?limit=many").status, 400);
}

#[test]
fn with_a_token_all_but_health_needs_it() {
    let watched = Watched::with_token(1, TOKEN);
    let ask = |path: &str, field: &str| {
        watched.say(format!("GET {path} HTTP/1.1\r\nHost: any.example\r\n{field}\r\n"))
    };
    is_well(watched.admin);
    for path in ["/", "/metrics", "/connections", "/nowhere"] {
        let refused = ask(path, "");
        assert_eq!((refused.status, refused.field("www-authenticate")), (401, Some("Bearer")), "{path}");
        assert_eq!(ask(path, "Authorization: Bearer a-token-of-24-characterz\r\n").status, 401, "{path}");
        assert_ne!(ask(path, &format!("Authorization: Bearer {TOKEN}\r\n")).status, 401, "{path}");
    }
    let answer = ask("/metrics", &format!("Authorization: Bearer {TOKEN}\r\n"));
    assert_eq!(answer.status, 200);
    assert!(!answer.text().contains(TOKEN));
}

#[test]
fn an_address_that_others_reach_needs_a_token_and_a_taken_one_is_refused_with_what_to_type() {
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let refused = admin::bind(everywhere, Secret::default()).unwrap_err().to_string();
    assert!(refused.contains("token") && refused.contains("--admin"), "{refused}");
    let bound = admin::bind(everywhere, Secret::new(TOKEN)).unwrap();
    let taken = SocketAddr::from(([127, 0, 0, 1], bound.addr().port()));
    let refused = admin::bind(taken, Secret::default()).unwrap_err().to_string();
    assert!(refused.contains("--admin ") && refused.contains("--admin off"), "{refused}");
}

#[test]
fn a_foreign_host_is_not_answered_without_a_token() {
    let watched = Watched::new(1);
    let asked = |host: &str| watched.say(format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n")).status;
    assert_eq!(asked("evil.example:9901"), 421);
    assert_eq!(asked("127.0.0.1:9901"), 200);
    assert_eq!(asked("[::1]"), 200);
    assert_eq!(watched.say("GET /metrics HTTP/1.1\r\n\r\n").status, 421);
    assert_eq!(
        watched.say("GET http://evil.example/metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").status,
        421
    );
}

#[test]
fn nothing_but_get_and_head_is_answered_and_a_body_is_no_one_s_concern() {
    let watched = Watched::new(1);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        let answer = watched
            .say(format!("{method} /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!((answer.status, answer.field("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    let mut client = Client::connect(watched.admin);
    client.send("HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let head = client.answer_without_body();
    assert_eq!(head.status, 200);
    assert!(head.field("content-length").unwrap().parse::<usize>().unwrap() > 1_000);
    client.ends();
    let index = watched.ask("/");
    assert!(["/metrics", "/health", "/connections"].iter().all(|path| index.text().contains(path)));
    assert_eq!(watched.ask("/nowhere").status, 404);
}

#[test]
fn a_connection_serves_one_request() {
    let watched = Watched::new(1);
    let mut client = Client::connect(watched.admin);
    client.send(get("/").repeat(3));
    let answer = client.answer();
    assert_eq!(answer.status, 200);
    assert!(answer.closes());
}

#[test]
fn heads_that_are_too_large_or_no_heads_are_refused() {
    let watched = Watched::new(1);
    let large = format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(60_000));
    let many = format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(70));
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "p".repeat(60_000));
    for bytes in [large, many, long, "\x16\x03\x01\x02\0\x01\0\x01".to_owned(), "\r\n\0\r\n\r\n".to_owned()] {
        let mut stream = TcpStream::connect(watched.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may be cut while it is still written.
        drop(stream.write_all(bytes.as_bytes()));
        let mut said = Vec::new();
        drop(stream.read_to_end(&mut said));
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
        is_well(watched.admin); // and goes on
    }
}

#[test]
fn clients_that_say_nothing_are_cut_and_the_next_ones_served() {
    let watched = Watched::new(1);
    let start = Instant::now();
    // All places taken, by clients that stop in the middle of a head or never begin one.
    let mut slow: Vec<Client> = (0..CONNECTIONS_MAX).map(|_| Client::connect(watched.admin)).collect();
    slow.iter_mut().step_by(2).for_each(|client| client.send("GET /metrics HTT"));
    std::thread::sleep(Duration::from_millis(200));
    assert!([200, 503].contains(&watched.ask("/health").status), "it waited for a place");
    let waited = start.elapsed();
    assert!(waited >= HEAD_TIME - Duration::from_millis(300), "nobody was cut, yet there was a place");
    assert!(waited < PATIENCE, "{waited:?}");
    for mut client in slow {
        // Without a word, or with 408.
        let rest = client.rest();
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408 "), "{}", common::client::lossy(&rest));
    }
    is_well(watched.admin);
}

#[test]
fn it_answers_until_the_last_shard_has_drained_and_then_is_gone() {
    let server = common::server().shards(2).admin(([127, 0, 0, 1], 0).into(), Secret::default());
    let running = server.start(|_| app()).unwrap();
    let (addr, admin) = (running.addr(), running.admin().unwrap());
    // A handler that keeps its shard from having drained.
    let mut slow = Client::connect(addr);
    slow.send(get("/slow/3000"));
    until("it is at its handler", || Client::connect(admin).get("/connections").text().contains("handler"));
    running.stopper().drain();
    until("the node drains", || TcpStream::connect(addr).is_err());
    is_well(admin);
    assert_eq!(slow.answer().status, 200);
    running.wait().unwrap();
    assert!(TcpStream::connect(admin).is_err());
}

#[test]
fn what_is_stopped_is_gone_and_the_node_serves_on() {
    let node = Node::new();
    assert_eq!(node.running().admin(), None, "nobody asked for one");
    let bound = admin::bind(([127, 0, 0, 1], 0).into(), Secret::default()).unwrap();
    let admin = bound.start(node.running().shards(), Arc::new(NodeFacts::default())).unwrap();
    let addr = admin.addr();
    is_well(addr);
    let open = Client::connect(addr);
    let start = Instant::now();
    admin.stop();
    assert!(start.elapsed() < HEAD_TIME, "clients do not keep it: {:?}", start.elapsed());
    assert!(TcpStream::connect(addr).is_err());
    drop(open);
    assert_eq!(Client::connect(node.addr).get("/").status, 200);
}

/// How often threads of this name were switched to, in this process.
fn switches(name: &str) -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|entry| entry.unwrap().path());
    let named = tasks
        .filter(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name));
    let of = |task: std::path::PathBuf| {
        let status = std::fs::read_to_string(task.join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    named.map(of).sum()
}

#[test]
fn with_nobody_asking_its_thread_sleeps() {
    // A process of its own, where no other test has such a thread.
    if std::env::var_os("ADMIN_TEST_ALONE").is_none() {
        let test = std::env::current_exe().unwrap();
        let mut alone = Command::new(test);
        alone.args(["--exact", "with_nobody_asking_its_thread_sleeps", "--nocapture"]);
        let output = common::process::run(alone.env("ADMIN_TEST_ALONE", "1"), PATIENCE);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let watched = Watched::new(1);
    assert_eq!(watched.ask("/metrics").status, 200);
    std::thread::sleep(Duration::from_millis(200));
    let before = switches("admin");
    assert!(before > 0, "there is such a thread");
    std::thread::sleep(Duration::from_secs(2));
    assert!(switches("admin") <= before + 2, "it woke up {} times", switches("admin") - before);
}

#[test]
fn the_program_has_one_by_default_and_says_what_to_type_where_its_port_is_taken() {
    let place = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = place.local_addr().unwrap();
    let flags = ["--admin", &addr.to_string(), "--shards", "1"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(flags).args(["--listen", "127.0.0.1:0", "--no-pin"]).env_remove("CORELANE_CONFIG");
    let refused = common::process::run(&mut command, PATIENCE);
    let says = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{says}");
    assert!(says.contains(&addr.to_string()) && says.contains("--admin off"), "{says}");

    drop(place);
    let node = common::Process::node(&flags);
    let scrape = Client::connect(addr).get("/metrics");
    equal("its one shard", Samples::read(scrape.text()).sum("corelane_shard_up"), 1.0);
    let performance = json(&Client::connect(node.addr).get("/api/performance"));
    assert_eq!(performance.get("shards").unwrap().as_array().unwrap().len(), 1);
}
