//! A shard inside a glommio executor: what handlers, tasks of glommio's and their shard may expect of each
//! other.
//!
//! # Rules
//! 1. Nodes are of the glommio host, whatever `TEST_HOST` says.
//! 2. Here a wake that is lost costs a quarter of a second at most, as the control thread asks idle shards
//!    then; that none is lost is tested without one (`alone`).
//!
//! Not here: what both hosts do alike (`scripts/test --host glommio` runs every other test on this one).

#![cfg(feature = "glommio")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "glommio/alone.rs"]
mod alone;
mod common;
#[path = "glommio/files.rs"]
mod files;

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use common::client::get;
use common::{Client, Node, PATIENCE, pattern, until};
use corelane::glommio::channels::local_channel::{self, LocalReceiver};
use corelane::glommio::io::DmaFile;
use corelane::glommio::timer::sleep as glommio_sleep;
use corelane::glommio::{self, Latency, Shares};
use corelane::{
    App, HookError, Limits, OwnedRequest, Server, Shard, ShardHost, ShardId, mesh, sleep, spawn, timeout,
};
use crossbeam_channel::bounded;

/// Longer than anything waits here.
const HOUR: Duration = Duration::from_secs(3_600);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn server() -> Server {
    common::server().host(ShardHost::Glommio)
}

fn number<S: 'static>(request: &OwnedRequest<S>) -> u64 {
    request.param("n").and_then(|n| n.parse().ok()).unwrap()
}

/// Starts a task of glommio that nobody waits for.
fn detach(task: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(task).detach();
}

/// One that wants all of the CPU, in a queue with a tenth of the shard's shares. Counts its turns.
fn detach_busy(count: impl Fn() + 'static) {
    let queue = glommio::executor().create_task_queue(Shares::Static(100), Latency::NotImportant, "busy");
    let busy = async move {
        loop {
            count();
            glommio::executor().yield_if_needed().await;
        }
    };
    glommio::spawn_local_into(busy, queue).unwrap().detach();
}

/// Starts a task on a shard that says when it is done.
fn start<Fut: Future<Output = ()> + 'static>(
    node: &Node,
    shard: usize,
    make: impl FnOnce() -> Fut + Send + 'static,
) -> crossbeam_channel::Receiver<()> {
    let (done, is_done) = bounded(1);
    let run = move |_: &Shard| {
        let task = async move {
            make().await;
            done.send(()).unwrap();
        };
        spawn(task).unwrap().detach();
    };
    node.ask(shard, run);
    is_done
}

#[track_caller]
fn ends(is_done: &crossbeam_channel::Receiver<()>) {
    is_done.recv_timeout(PATIENCE).expect("the task came to its end");
}

/// A directory with a file of the pattern.
fn directory_with_file(len: usize) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    std::fs::write(&path, pattern(len)).unwrap();
    (directory, path)
}

/// Descriptors of this process that are open on a file.
fn descriptors_of(path: &Path) -> usize {
    let path = path.canonicalize().unwrap();
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    open.filter(|fd| fd.as_ref().is_ok_and(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == path)))
        .count()
}

#[test]
fn handlers_wait_for_timers_of_glommio() {
    let node = Node::serving(server(), || {
        App::new(()).get_async("/sleep/{n}", |request: OwnedRequest<()>| async move {
            glommio_sleep(ms(number(&request))).await;
            "slept"
        })
    });
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(node.addr)).collect();
    for n in [0, 1, 30] {
        for client in &mut clients {
            client.send(get(&format!("/sleep/{n}")));
        }
        for client in &mut clients {
            assert_eq!(client.answer().text(), "slept");
        }
    }
    drop(clients);
    node.comes_to_rest();
}

#[test]
fn handlers_read_files_by_dma() {
    let len = 300_001;
    let (_directory, path) = directory_with_file(len);
    let served = path.clone();
    let node = Node::serving(server(), move || {
        let path = served.clone();
        App::new(()).get_async("/file", move |_: OwnedRequest<()>| {
            let path = path.clone();
            async move {
                let file = DmaFile::open(&path).await.unwrap();
                let length = usize::try_from(file.file_size().await.unwrap()).unwrap();
                let bytes = file.read_at(0, length).await.unwrap().to_vec();
                file.close().await.unwrap();
                bytes
            }
        })
    });
    let mut client = Client::connect(node.addr);
    for _ in 0..20 {
        assert!(client.get("/file").body == pattern(len), "all of it, as it is");
    }
    assert_eq!(descriptors_of(&path), 0);
}

/// Where a start hook's task of glommio puts what handlers wait for.
type Inbox = RefCell<Option<Rc<LocalReceiver<u64>>>>;

#[test]
fn a_task_of_glommio_wakes_a_handler_while_the_shard_sleeps() {
    let node = Node::serving(server(), || {
        App::new(Inbox::default())
            .on_start(|inbox: Rc<Inbox>| async move {
                let (sender, receiver) = local_channel::new_bounded(1);
                inbox.replace(Some(Rc::new(receiver)));
                detach(async move {
                    for n in 0.. {
                        // Long enough for the shard to have gone to sleep over the request.
                        glommio_sleep(ms(3 + n % 20)).await;
                        if sender.send(n).await.is_err() {
                            return;
                        }
                    }
                });
                Ok::<_, HookError>(())
            })
            .get_async("/next", |request: OwnedRequest<Inbox>| async move {
                let inbox = request.state().borrow().clone().unwrap();
                inbox.recv().await.unwrap().to_string()
            })
    });
    let mut client = Client::connect(node.addr);
    for n in 0..50 {
        assert_eq!(client.get("/next").text(), n.to_string());
    }
}

#[test]
fn a_message_from_a_task_of_glommio_ends_the_sleep_of_its_shard() {
    let node = Node::serving(server(), || App::new(()));
    for n in 0..20 {
        let (done, is_done) = bounded(1);
        node.ask(0, move |shard| {
            let handle = shard.handle();
            detach(async move {
                glommio_sleep(ms(5 + n)).await;
                handle.send(move |_| done.send(()).unwrap()).unwrap();
            });
        });
        ends(&is_done);
    }
}

#[test]
fn a_timeout_ends_a_wait_for_glommio_that_never_ends() {
    let node = Node::serving(server(), || {
        App::new(()).get_async("/{n}", |request: OwnedRequest<()>| async move {
            let (_sender, receiver) = local_channel::new_bounded::<()>(1);
            let never = async {
                match number(&request) {
                    0 => glommio_sleep(HOUR).await,
                    1 => drop(receiver.recv().await),
                    _ => glommio::spawn_local(pending()).await,
                }
            };
            if timeout(ms(20), never).await.is_err() { "late" } else { "ended" }
        })
    });
    let mut client = Client::connect(node.addr);
    for n in 0..9 {
        assert_eq!(client.get(&format!("/{}", n % 3)).text(), "late");
    }
}

/// Counts up when it is made and down when it is dropped.
struct Under(Arc<AtomicU64>);

impl Under {
    fn way(count: &Arc<AtomicU64>) -> Under {
        count.fetch_add(1, Ordering::SeqCst);
        Under(Arc::clone(count))
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn a_client_that_leaves_ends_a_handler_with_a_read_under_way() {
    let (_directory, path) = directory_with_file(4 << 20);
    let reading = Arc::new(AtomicU64::new(0));
    let (served, seen) = (path.clone(), Arc::clone(&reading));
    let node = Node::serving(server(), move || {
        let (path, seen) = (served.clone(), Arc::clone(&seen));
        App::new(())
            .get_async("/read", move |_: OwnedRequest<()>| {
                let (path, seen) = (path.clone(), Arc::clone(&seen));
                async move {
                    let file = DmaFile::open(&path).await.unwrap();
                    let _under_way = Under::way(&seen);
                    while file.read_at(0, 4 << 20).await.unwrap().len() == 4 << 20 {}
                    "it has become shorter"
                }
            })
            .get("/", |_| "here")
    });
    for _ in 0..5 {
        let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(node.addr)).collect();
        for client in &mut clients {
            client.send(get("/read"));
        }
        until("all of them read", || reading.load(Ordering::SeqCst) == 4);
        drop(clients);
        until("none of them reads", || reading.load(Ordering::SeqCst) == 0);
        assert_eq!(Client::connect(node.addr).get("/").text(), "here");
    }
    until("the files are closed", || descriptors_of(&path) == 0);
    node.comes_to_rest();
}

#[test]
fn shards_that_slept_call_each_other_both_ways() {
    let node = Node::serving(server().cpus(vec![0, 1]), || {
        App::new(()).get_async("/", |_: OwnedRequest<()>| async {
            let mesh = mesh();
            let mut sum = 0;
            for to in mesh.all() {
                sum += mesh.with(to, move |_| u64::from(to.0) + 1).await.unwrap();
            }
            sum.to_string()
        })
    });
    for n in 0..20 {
        // Both are asleep by now, or about to be.
        thread::sleep(ms(n));
        for (from, to) in [(0, ShardId(1)), (1, ShardId(0))] {
            let call = start(&node, from, move || async move {
                assert_eq!(mesh().with(to, |_| mesh().here()).await, Ok(to));
                // One that waits there, by a timer of glommio, and comes back to a shard that sleeps.
                let run = mesh().run(to, |_| async {
                    glommio_sleep(ms(2)).await;
                    mesh().here()
                });
                assert_eq!(run.await, Ok(to));
            });
            ends(&call);
        }
        assert_eq!(Client::connect(node.addr).get("/").text(), "3");
    }
    node.comes_to_rest();
}

#[test]
fn a_busy_queue_and_requests_leave_each_other_their_share() {
    let node = Node::serving(server(), || {
        App::new(Cell::new(0_u64))
            .on_start(|count: Rc<Cell<u64>>| async move {
                detach_busy(move || count.set(count.get() + 1));
                Ok::<_, HookError>(())
            })
            .get("/count", |request| request.state().get().to_string())
            .get_async("/slow", |_: OwnedRequest<Cell<u64>>| async {
                sleep(ms(1)).await;
                glommio_sleep(ms(1)).await;
                "slow"
            })
    });
    let addr = node.addr;
    let count = |client: &mut Client| client.get("/count").text().parse::<u64>().unwrap();
    let all = (0..4).map(|_| {
        thread::spawn(move || {
            let mut client = Client::connect(addr);
            let before = count(&mut client);
            for n in 0..200 {
                if n % 4 == 0 {
                    assert_eq!(client.get("/slow").text(), "slow");
                } else {
                    count(&mut client);
                }
            }
            assert!(count(&mut client) > before, "the busy one had a share as well");
        })
    });
    for one in all.collect::<Vec<_>>() {
        one.join().unwrap();
    }
}

#[test]
fn a_shard_that_is_never_idle_gives_way_to_tasks_of_glommio() {
    let node = Node::serving(server(), || {
        App::new(Cell::new(0_u64))
            .on_start(|count: Rc<Cell<u64>>| async move {
                // It is ready again each time it was looked at: the shard has no turn without work.
                let restless = poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    Poll::<()>::Pending
                });
                spawn(restless)?.detach();
                detach(async move {
                    loop {
                        glommio_sleep(ms(1)).await;
                        count.set(count.get() + 1);
                    }
                });
                Ok::<_, HookError>(())
            })
            .get("/count", |request| request.state().get().to_string())
    });
    let mut client = Client::connect(node.addr);
    until("glommio's timers go on", || client.get("/count").text().parse::<u64>().unwrap() >= 100);
}

#[test]
fn a_panic_in_a_handler_costs_its_request_and_nothing_of_glommio() {
    let node = Node::serving(server(), || {
        App::new(Cell::new(0_u64))
            .on_start(|count: Rc<Cell<u64>>| async move {
                detach(async move {
                    loop {
                        glommio_sleep(ms(1)).await;
                        count.set(count.get() + 1);
                    }
                });
                Ok::<_, HookError>(())
            })
            .get("/count", |request| request.state().get().to_string())
            .get_async("/panic", |_: OwnedRequest<Cell<u64>>| async {
                glommio_sleep(ms(1)).await;
                if true {
                    panic!("asked to");
                }
                "never"
            })
    });
    let mut good = Client::connect(node.addr);
    let count = |good: &mut Client| good.get("/count").text().parse::<u64>().unwrap();
    for _ in 0..20 {
        let before = count(&mut good);
        let mut client = Client::connect(node.addr);
        assert_eq!(client.get("/panic").status, 500);
        until("glommio's task goes on", || count(&mut good) > before);
    }
    drop(good);
    node.comes_to_rest();
}

#[test]
fn a_drain_ends_over_tasks_of_glommio_that_are_left() {
    let (_directory, path) = directory_with_file(1 << 20);
    let started = Arc::new(AtomicU64::new(0));
    let (served, count) = (path.clone(), Arc::clone(&started));
    let node = Node::serving(server().cpus(vec![0, 1]), move || {
        let (path, count) = (served.clone(), Arc::clone(&count));
        App::new(())
            .on_start(move |_| async move {
                detach(glommio_sleep(HOUR));
                let (opened, is_open) = local_channel::new_bounded(1);
                detach(async move {
                    let file = DmaFile::open(&path).await.unwrap();
                    opened.send(()).await.unwrap();
                    while file.read_at(0, 1 << 20).await.unwrap().len() == 1 << 20 {}
                });
                is_open.recv().await.ok_or("the file is not open")?;
                detach_busy(|| ());
                count.fetch_add(1, Ordering::SeqCst);
                Ok::<_, HookError>(())
            })
            .get("/", |_| "here")
    });
    assert_eq!(started.load(Ordering::SeqCst), 2);
    assert_eq!(Client::connect(node.addr).get("/").text(), "here");
    ends_with(node);
}

/// Drains, and does not wait for ever.
#[track_caller]
fn ends_with(node: Node) {
    let (done, is_done) = bounded(1);
    let drains = thread::spawn(move || {
        node.drain();
        done.send(()).unwrap();
    });
    ends(&is_done);
    drains.join().unwrap();
}

type Held = RefCell<Option<glommio::Task<()>>>;

#[test]
fn a_drain_hook_ends_a_task_of_glommio_and_closes_its_file() {
    let (_directory, path) = directory_with_file(1 << 20);
    let left = Arc::new(AtomicU64::new(0));
    let (served, seen) = (path.clone(), Arc::clone(&left));
    let node = Node::serving(server(), move || {
        let (path, seen) = (served.clone(), Arc::clone(&seen));
        App::new(Held::default())
            .on_start(move |held: Rc<Held>| async move {
                let under_way = Under::way(&seen);
                let file = DmaFile::open(&path).await.map_err(|error| error.to_string())?;
                let task = async move {
                    let _under_way = under_way;
                    while file.read_at(0, 1 << 20).await.unwrap().len() == 1 << 20 {}
                };
                held.replace(Some(glommio::spawn_local(task)));
                Ok::<_, HookError>(())
            })
            .on_drain(|held| async move {
                let task = held.take().unwrap();
                assert_eq!(task.cancel().await, None);
            })
    });
    assert_eq!((left.load(Ordering::SeqCst), descriptors_of(&path)), (1, 1));
    ends_with(node);
    assert_eq!((left.load(Ordering::SeqCst), descriptors_of(&path)), (0, 0));
}

#[test]
fn a_shard_sleeps_and_wakes_by_timers_of_both_sides() {
    let node = Node::serving(server(), || {
        App::new(()).get_async("/{n}", |request: OwnedRequest<()>| async move {
            let n = number(&request);
            for at in 0..60 {
                let time = Duration::from_micros((at * 397 + n * 211) % 2_500);
                if (at + n).is_multiple_of(2) {
                    sleep(time).await;
                } else {
                    glommio_sleep(time).await;
                }
            }
            n.to_string()
        })
    });
    let parks = node.ask(0, parks_of);
    let mut clients: Vec<Client> = (0..6).map(|_| Client::connect(node.addr)).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(get(&format!("/{n}")));
    }
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.answer().text(), n.to_string());
    }
    assert!(node.ask(0, parks_of) > parks + 20, "it slept in between");
    drop(clients);
    node.comes_to_rest();
}

/// How often a shard went to sleep.
fn parks_of(shard: &Shard) -> u64 {
    shard.stats.parks.get()
}

#[test]
fn a_nearer_deadline_goes_before_one_that_the_shard_already_sleeps_for() {
    let limits = Limits { handler_time: HOUR, ..common::limits() };
    let node = Node::serving(server().limits(limits), || {
        App::new(()).get_async("/{n}", |request: OwnedRequest<()>| async move {
            // Of the shard, which has one timer of glommio's for all of them.
            sleep(ms(number(&request))).await;
            "slept"
        })
    });
    let mut far = Client::connect(node.addr);
    far.send(get("/3000000"));
    let mut near = Client::connect(node.addr);
    for n in [40, 20, 0, 30] {
        thread::sleep(ms(5));
        assert_eq!(near.get(&format!("/{n}")).text(), "slept");
    }
    far.is_silent();
}
