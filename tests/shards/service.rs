//! A node in a process of its own whose handlers say where they are, hold their shard, or ask another one.
//!
//! The process is this test program again, told by a variable to be the service of one test.

use std::process::Command;
use std::time::{Duration, Instant};

use corelane::{Accept, App, CallError, OwnedRequest, Request, ShardId, mesh, sleep};

use crate::common::{self, Client, Process};

/// How many shards the service has, in the process that is one.
const CHILD: &str = "CORELANE_TEST_SHARDS";

/// The service for the test of this name; it has said that it listens.
pub(crate) fn start(test: &str, shards: u16) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]).env(CHILD, shards.to_string());
    Process::start(&mut command)
}

/// True in the process that is the service, once it has drained.
pub(crate) fn has_been() -> bool {
    let Ok(shards) = std::env::var(CHILD) else { return false };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let server = common::server().signals(true).shards(shards.parse().unwrap()).accept(Accept::Balanced);
    let running = server.start(|_| app()).unwrap();
    eprintln!("listening on {}", running.addr());
    running.wait().unwrap();
    true
}

/// What a handler says before it holds its shard.
pub(crate) const HOLDS: &str = "a handler holds its shard";

pub(crate) fn app() -> App<()> {
    App::new(())
        .get("/where", |_| mesh().here().0.to_string())
        .get_async("/call/{n}", call)
        .get("/block/{n}", |request| {
            eprintln!("{HOLDS}");
            std::thread::sleep(milliseconds(request));
            "done"
        })
        .get("/spin/{n}", |request| {
            eprintln!("{HOLDS}");
            spin(milliseconds(request));
            "done"
        })
        .get_async("/task/{n}", holding_task)
}

fn number(request: &Request<'_, ()>) -> u16 {
    request.param("n").and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn milliseconds(request: &Request<'_, ()>) -> Duration {
    Duration::from_millis(number(request).into())
}

fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

async fn holding_task(request: OwnedRequest<()>) -> &'static str {
    let time = milliseconds(&request.view());
    sleep(Duration::from_millis(1)).await;
    eprintln!("{HOLDS}");
    spin(time);
    "done"
}

/// Asks another shard, chosen by the number: one in two answers inside its turn, the others by a task that sleeps.
async fn call(request: OwnedRequest<()>) -> Result<String, CallError> {
    let (n, mesh) = (number(&request.view()), mesh());
    let (here, shards) = (mesh.here().0, u16::try_from(mesh.shards()).unwrap());
    let to = ShardId((here + 1 + n % (shards - 1)) % shards);
    let there = if n.is_multiple_of(2) {
        mesh.with(to, |shard| shard.id()).await?
    } else {
        let later = |_: &_| async {
            sleep(Duration::from_millis(3)).await;
            corelane::mesh().here()
        };
        mesh.run(to, later).await?
    };
    assert_eq!(there, to);
    Ok(format!("{n} from {here} to {}", there.0))
}

/// The shard a connection is on.
#[track_caller]
pub(crate) fn shard_of(client: &mut Client) -> usize {
    client.get("/where").text().parse().unwrap()
}
