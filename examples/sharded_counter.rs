//! Counters that every shard owns a part of: any connection reaches any of them by a call to its owner.
//!
//! `cargo run --release --example sharded_counter` (an address as its one argument, if you like), then
//! `curl -d '' http://127.0.0.1:8080/count/oak` a few times, `curl http://127.0.0.1:8080/count/oak`, and
//! `curl http://127.0.0.1:8080/shards` to see where the counters are.
//!
//! A connection belongs to the shard that accepted it, a counter to the shard that `owner` names: the state is
//! never locked and never shared, the request goes to it. Where both are the same shard, nothing goes anywhere.
//! A shard that cannot be asked in time is answered 503 (`CallError`). Counters are gone with the node, and the
//! next start spreads names otherwise.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write;
use std::net::SocketAddr;

use corelane::{App, OwnedRequest, Reject, Server, Sharded, StartError, mesh};

/// Different counters of one shard. A client must not fill the memory: past it, new ones are refused.
const COUNTERS_MAX: usize = 100_000;

/// The counters of one shard.
type Counters = RefCell<HashMap<String, u64>>;

type State = Sharded<Counters>;

async fn add(request: OwnedRequest<State>) -> Result<String, Reject> {
    let name = name_of(&request)?;
    let counters = request.state();
    let counted = counters.on(counters.owner(&name), move |counters: &Counters| {
        let mut counters = counters.borrow_mut();
        if !counters.contains_key(&name) && counters.len() >= COUNTERS_MAX {
            return None;
        }
        let count = counters.entry(name).or_insert(0);
        *count += 1;
        Some(*count)
    });
    match counted.await? {
        Some(count) => Ok(format!("{count}\n")),
        None => Err(Reject::new(507, "there are too many counters")),
    }
}

async fn read(request: OwnedRequest<State>) -> Result<Option<String>, Reject> {
    let name = name_of(&request)?;
    let counters = request.state();
    let count = counters.on(counters.owner(&name), move |counters| counters.borrow().get(&name).copied());
    Ok(count.await?.map(|count| format!("{count}\n")))
}

async fn shards(request: OwnedRequest<State>) -> String {
    let here = mesh().here();
    let mut text = format!("this connection is on shard {}\n", here.0);
    let sizes = request.state().each(|counters| counters.borrow().len()).await;
    for (shard, size) in sizes.into_iter().enumerate() {
        let line = size.map_or_else(|error| error.to_string(), |size| format!("{size} counters"));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "shard {shard}: {line}");
    }
    text
}

fn name_of(request: &OwnedRequest<State>) -> Result<String, Reject> {
    Ok(request.param("name").ok_or(Reject::new(400, "the name is not text"))?.into_owned())
}

fn main() -> Result<(), StartError> {
    let mut listen: SocketAddr = ([127, 0, 0, 1], 8080).into();
    if let Some(word) = std::env::args().nth(1) {
        let Ok(addr) = word.parse() else {
            eprintln!("{word} is no address: sharded_counter [ADDR:PORT]");
            std::process::exit(2);
        };
        listen = addr;
    }
    let counters: State = Sharded::new(|_shard| Counters::default());
    let running = Server::new(listen).start(move |_shard| {
        App::new(counters.clone())
            .post_async("/count/{name}", add)
            .get_async("/count/{name}", read)
            .get_async("/shards", shards)
    })?;
    for line in running.describe() {
        eprintln!("{line}");
    }
    eprintln!("listening on http://{}", running.addr());
    running.wait()
}
