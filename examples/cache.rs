//! Short links: a cache that handlers and Redis clients share, spread over all shards.
//!
//! `cargo run --release --example cache` (an address as its one argument, if you like), then
//! `curl -d https://example.com/a/long/way http://127.0.0.1:8080/links`, which answers `/1`, and
//! `curl -i http://127.0.0.1:8080/1`. A link is kept for a day. `redis-cli -p 6380 KEYS '*'` sees the same keys.
//!
//! Whichever connection a request comes by, its key is read on the shard that owns it: at once where that is the own
//! one, by one message where it is another. With the memory full, what is used least goes.

use std::net::SocketAddr;
use std::time::Duration;

use corelane::cache::{Condition, SetOptions, SetOutcome};
use corelane::{
    App, Cache, CacheConfig, CacheError, Listen, OwnedRequest, Redirect, Reject, Server, StartError,
};

const LINK_BYTES_MAX: u64 = 2_000;

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn add(mut request: OwnedRequest<Cache>) -> Result<(u16, String), Reject> {
    let to = request.text(LINK_BYTES_MAX).await?;
    if !to.starts_with("https://") || to.contains(char::is_control) {
        return Err(Reject::new(400, "write an address that begins with https://"));
    }
    let cache = request.state();
    loop {
        let number = cache.increment("links", 1).await?;
        let options = SetOptions::new().ttl(DAY).only_if(Condition::Absent);
        // A number that is there already was counted before the counter went, for want of memory.
        if cache.set(key(&number.to_string()), to.clone(), options).await? != SetOutcome::Unmet {
            return Ok((201, format!("/{number}\n")));
        }
    }
}

async fn go(request: OwnedRequest<Cache>) -> Result<Option<Redirect>, CacheError> {
    let Some(number) = request.param("number") else { return Ok(None) };
    let to = request.state().get(key(&number)).await?;
    Ok(to.map(|to| Redirect::temporary(String::from_utf8_lossy(&to).into_owned())))
}

fn key(number: &str) -> String {
    format!("link:{number}")
}

fn main() -> Result<(), StartError> {
    let mut listen: SocketAddr = ([127, 0, 0, 1], 8080).into();
    if let Some(word) = std::env::args().nth(1) {
        let Ok(addr) = word.parse() else {
            eprintln!("{word} is no address: cache [ADDR:PORT]");
            std::process::exit(2);
        };
        listen = addr;
    }
    let cache = Cache::new(CacheConfig { memory_max: 64 << 20, ..CacheConfig::default() });
    let server = Server::new(listen).cache(cache.clone());
    let redis = Listen::Tcp(([127, 0, 0, 1], 6380).into());
    let running = server
        .resp(redis)
        .start(move |_shard| App::new(cache.clone()).post_async("/links", add).get_async("/{number}", go))?;
    for line in running.describe() {
        eprintln!("{line}");
    }
    eprintln!("listening on http://{}", running.addr());
    running.wait()
}
