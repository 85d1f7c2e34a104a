//! Wakes of shards that nothing but the wake ends the sleep of.
//!
//! The control thread of a server looks after its shards and asks an idle one something four times a second:
//! a wake that was lost would show as nothing but a late answer. These shards have no control thread. They
//! sleep for ever.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::task::{Poll, Waker};
use std::thread;

use corelane::glommio::channels::local_channel;
use corelane::glommio::timer::sleep as glommio_sleep;
use corelane::{Limits, Shard, ShardId, TcpStream, mesh, sleep, spawn};
use corelane_exec::host::{self, Kind};
use corelane_exec::{Runtime, Seat, current, seats};
use corelane_pools::{PoolConfig, Pools};
use corelane_uring::{Features, Ring, RingConfig};
use crossbeam_channel::{Receiver, bounded};

use crate::{HOUR, detach, ends, ms};

/// Runs a shard on a thread of its own until it is stopped.
fn run<Fut: Future<Output = ()> + 'static>(
    id: u16,
    seat: Seat,
    task: impl FnOnce() -> Fut + Send + 'static,
) -> Receiver<()> {
    let (done, is_done) = bounded(1);
    thread::spawn(move || {
        let limits = Limits { connections_max: 16, descriptors_headroom: 16, ..Limits::default() };
        let kind = Kind::glommio(None, &limits).unwrap();
        let main = move |mut host: host::Host| async move {
            let pools = Pools::new(&PoolConfig::default()).unwrap();
            let ring = Ring::new(&RingConfig {
                entries: limits.submission_entries,
                completion_entries: limits.completion_entries,
                recv_buffers: limits.recv_buffers,
                recv_buffer_bytes: limits.recv_buffer_bytes,
                descriptors: 32,
                without: Features::NONE,
            });
            let mut runtime = Runtime::on_mesh(ShardId(id), limits, pools, ring.unwrap(), None, seat);
            runtime.within(|shard| shard.spawn(task()).unwrap().detach());
            host.run(&mut runtime).await.unwrap();
        };
        host::run(&kind, main).unwrap();
        done.send(()).unwrap();
    });
    is_done
}

/// Runs a task on a shard that has no others, to its end.
#[track_caller]
fn alone<Fut: Future<Output = ()> + 'static>(task: impl FnOnce() -> Fut + Send + 'static) {
    let seat = seats(1, &Limits::default()).pop().unwrap();
    ends(&run(0, seat, || async move {
        task().await;
        current().stop();
    }));
}

#[test]
fn deadlines_of_the_shard_end_its_sleep() {
    alone(|| async {
        for n in 0..20 {
            sleep(ms(n % 4)).await;
        }
    });
}

#[test]
fn a_nearer_deadline_ends_a_sleep_for_a_farther_one() {
    alone(|| async {
        let far = spawn(sleep(HOUR)).unwrap();
        for n in [40, 20, 1, 30] {
            // The shard goes to sleep for an hour, is woken by glommio, and has a nearer deadline then.
            glommio_sleep(ms(5)).await;
            sleep(ms(n)).await;
        }
        drop(far);
    });
}

#[test]
fn timers_and_channels_of_glommio_end_the_sleep_of_the_shard() {
    alone(|| async {
        let (sender, receiver) = local_channel::new_bounded(1);
        detach(async move {
            for n in 0..20 {
                glommio_sleep(ms(n % 4)).await;
                sender.send(n).await.unwrap();
            }
        });
        for n in 0..20 {
            assert_eq!(receiver.recv().await, Some(n));
            glommio_sleep(ms(3 - n % 4)).await;
        }
    });
}

thread_local! {
    /// What a message to the shard of this thread wakes.
    static WAITS: Cell<Option<Waker>> = const { Cell::new(None) };
}

/// Waits for a message that wakes it.
async fn message() {
    let mut is_asked = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_asked, true) {
            return Poll::Ready(());
        }
        WAITS.set(Some(cx.waker().clone()));
        Poll::Pending
    })
    .await;
}

fn wake(_: &Shard) {
    WAITS.take().unwrap().wake();
}

#[test]
fn messages_end_the_sleep_of_the_shard_from_its_own_thread_and_others() {
    alone(|| async {
        for n in 0..20 {
            let handle = current().handle();
            let time = ms(2 + n % 4);
            if n.is_multiple_of(2) {
                detach(async move {
                    glommio_sleep(time).await;
                    handle.send(wake).unwrap();
                });
            } else {
                thread::spawn(move || {
                    thread::sleep(time);
                    handle.send(wake).unwrap();
                });
            }
            message().await;
        }
    });
}

#[test]
fn what_a_socket_receives_ends_the_sleep_of_the_shard() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut byte = [0];
        while stream.read(&mut byte).unwrap() == 1 {
            thread::sleep(ms(u64::from(byte[0])));
            stream.write_all(&byte).unwrap();
        }
    });
    alone(move || async move {
        let stream = TcpStream::connect(addr).await.unwrap();
        for n in 0..20 {
            stream.write_all(vec![n % 5]).await.unwrap();
            assert_eq!(&stream.read().await.unwrap()[..], [n % 5]);
        }
    });
    peer.join().unwrap();
}

#[test]
fn calls_end_the_sleep_of_both_shards() {
    let mut seats = seats(2, &Limits::default());
    let second = seats.pop().unwrap();
    let answers = run(1, second, || async {});
    let asks = run(0, seats.pop().unwrap(), || async {
        for n in 0..20 {
            // Both sleep meanwhile.
            glommio_sleep(ms(2 + n % 4)).await;
            assert_eq!(mesh().with(ShardId(1), |_| mesh().here()).await, Ok(ShardId(1)));
            let back = mesh().run(ShardId(1), |_| async {
                glommio_sleep(ms(2)).await;
                mesh().with(ShardId(0), |_| mesh().here()).await
            });
            assert_eq!(back.await, Ok(Ok(ShardId(0))));
        }
        mesh().with(ShardId(1), |shard| shard.stop()).await.unwrap();
        current().stop();
    });
    ends(&asks);
    ends(&answers);
}
