//! What the admin interface answers.
//!
//! Not here: who may ask (`access`), series (`metrics`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corelane_exec::ShardHandle;
use corelane_net::http1::ConnInfo;
use corelane_net::http1::measure;
use corelane_net::session::Facts;
use http_body_util::Full;
use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde::Serialize;

use super::ask::Shards;
use super::metrics::{self, Process, Scrape};
use crate::observe::{CpuMeter, NodeFacts, ShardNumbers};
use crate::services::cache::numbers;

/// How long a scrape waits for a shard: half of the least interval that makes sense.
const SCRAPE_PATIENCE: Duration = Duration::from_millis(500);

/// How long health waits.
const HEALTH_PATIENCE: Duration = Duration::from_millis(100);

/// Connections listed if nobody says how many, and at most.
const LISTED: usize = 100;
const LISTED_MAX: usize = 1000;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

const INDEX: &str = "\
corelane, admin interface

GET /metrics                for Prometheus: every series is explained in docs/METRICS.md
GET /health                 200 while every shard answers within 100 ms, else 503 with their numbers
GET /connections?limit=N    connections of HTTP and Redis clients as JSON: 100 of them, or N (at most 1000)
";

/// The pages, and what they are made from.
pub(super) struct Pages {
    shards: Shards,
    node: Arc<NodeFacts>,
    meter: CpuMeter,
}

type Page = Response<Full<Bytes>>;

fn page(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(Full::new(body.into()));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    page.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}

fn json(status: StatusCode, value: &impl Serialize) -> Page {
    match sonic_rs::to_vec(value) {
        Ok(text) => page(status, JSON, text),
        Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
    }
}

impl Pages {
    pub(super) fn new(shards: Vec<ShardHandle>, node: Arc<NodeFacts>) -> Pages {
        let meter = CpuMeter::new(corelane_sys::clock::mono_ns(), corelane_sys::kernel::process_cpu_ns());
        Pages { shards: Shards::new(shards), node, meter }
    }

    pub(super) async fn answer<B>(&self, request: &Request<B>) -> Page {
        match request.uri().path() {
            "/" => page(StatusCode::OK, TEXT, INDEX),
            "/metrics" => self.metrics(request).await,
            "/health" => self.health().await,
            "/connections" => self.connections(request.uri().query()).await,
            _ => page(StatusCode::NOT_FOUND, TEXT, INDEX),
        }
    }

    async fn metrics<B>(&self, request: &Request<B>) -> Page {
        let shards = self.shards.ask(SCRAPE_PATIENCE, ShardNumbers::collect).await;
        let (now_ns, cpu_ns) = (corelane_sys::clock::mono_ns(), corelane_sys::kernel::process_cpu_ns());
        let process = Process {
            uptime_ns: now_ns.saturating_sub(self.node.started_ns),
            cpu_ns,
            cpu: self.meter.used(now_ns, cpu_ns),
            // Reading a file of /proc: this thread may.
            memory_bytes: corelane_sys::kernel::rss_bytes().ok(),
            kernel: self.node.kernel,
        };
        let accepted = request.headers().get_all(ACCEPT).iter();
        let wants_open = accepted.filter_map(|value| value.to_str().ok()).any(metrics::is_openmetrics);
        match metrics::text(Scrape { shards, process }, wants_open) {
            Ok((content_type, text)) => page(StatusCode::OK, content_type, text),
            Err(_) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the numbers could not be written\n"),
        }
    }

    async fn health(&self) -> Page {
        let shards = self.shards.ask(HEALTH_PATIENCE, |_| ()).await;
        let silent: Vec<u16> =
            shards.into_iter().filter(|(_, said)| said.is_none()).map(|(id, _)| id).collect();
        if silent.is_empty() {
            return page(StatusCode::OK, TEXT, "ok\n");
        }
        let names: Vec<String> = silent.iter().map(ToString::to_string).collect();
        let text = format!("silent shards: {}\n", names.join(", "));
        page(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
    }

    async fn connections(&self, query: Option<&str>) -> Page {
        let limit = match limit_of(query) {
            Ok(limit) => limit,
            Err(text) => return page(StatusCode::BAD_REQUEST, TEXT, text),
        };
        let ask = move |shard: &corelane_exec::Shard| {
            let (open, list) = measure::connections(shard, limit);
            let (clients, facts) = numbers::clients(shard, limit - list.len());
            (open + clients, list, facts)
        };
        let shards = self.shards.ask(SCRAPE_PATIENCE, ask).await;
        let mut view =
            ConnectionsView { open: 0, listed: 0, limit, silent: Vec::new(), connections: Vec::new() };
        for (shard, said) in shards {
            match said {
                Some((open, list, facts)) => {
                    view.open += open;
                    let room = limit - view.connections.len();
                    let http = list.iter().map(|info| Connection::of(shard, info));
                    let resp = facts.iter().map(|facts| Connection::of_client(shard, facts));
                    view.connections.extend(http.chain(resp).take(room));
                }
                None => view.silent.push(shard),
            }
        }
        view.listed = view.connections.len();
        json(StatusCode::OK, &view)
    }
}

/// `limit` of a query; other keys are no concern of ours.
fn limit_of(query: Option<&str>) -> Result<usize, String> {
    let mut limits = query.unwrap_or("").split('&').filter_map(|pair| pair.strip_prefix("limit="));
    match (limits.next(), limits.next()) {
        (None, _) => Ok(LISTED),
        (Some(text), None) => match text.parse() {
            Ok(limit) if limit <= LISTED_MAX => Ok(limit),
            _ => Err(format!("limit={text}: write a number from 0 to {LISTED_MAX}\n")),
        },
        (Some(_), Some(_)) => Err("limit is there twice\n".to_owned()),
    }
}

#[derive(Serialize)]
struct Connection {
    shard: u16,
    protocol: &'static str,
    /// Within its shard and protocol.
    id: u64,
    peer: Option<String>,
    state: &'static str,
    age_s: f64,
    idle_s: f64,
    /// Not counted for Redis clients.
    requests: Option<u64>,
    bytes_in: u64,
    bytes_out: u64,
}

impl Connection {
    fn of_client(shard: u16, facts: &Facts) -> Connection {
        let state = match (facts.closing, facts.waiting) {
            (true, _) => "closing",
            (false, true) => "waiting",
            (false, false) => "open",
        };
        Connection {
            shard,
            protocol: "resp",
            id: facts.id,
            peer: facts.peer.map(|peer| peer.to_string()),
            state,
            age_s: crate::observe::seconds(facts.age_ns),
            idle_s: crate::observe::seconds(facts.idle_ns),
            requests: None,
            bytes_in: facts.bytes_in,
            bytes_out: facts.bytes_out,
        }
    }

    fn of(shard: u16, info: &ConnInfo) -> Connection {
        Connection {
            shard,
            protocol: "http1",
            id: info.id,
            peer: info.peer.map(|peer| peer.to_string()),
            state: info.state,
            age_s: crate::observe::seconds(info.age_ns),
            idle_s: crate::observe::seconds(info.idle_ns),
            requests: Some(info.requests),
            bytes_in: info.bytes_in,
            bytes_out: info.bytes_out,
        }
    }
}

#[derive(Serialize)]
struct ConnectionsView {
    /// On the shards that answered.
    open: usize,
    listed: usize,
    limit: usize,
    silent: Vec<u16>,
    connections: Vec<Connection>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_within_bounds_given_once() {
        assert_eq!(limit_of(None), Ok(LISTED));
        assert_eq!(limit_of(Some("")), Ok(LISTED));
        assert_eq!(limit_of(Some("x=1&limit=7")), Ok(7));
        assert_eq!(limit_of(Some("limit=1000")), Ok(LISTED_MAX));
        for wrong in ["limit=1001", "limit=-1", "limit=", "limit=ten", "limit=1&limit=2"] {
            assert!(limit_of(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
