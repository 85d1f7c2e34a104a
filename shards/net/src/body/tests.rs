//! Bodies in both directions, polled by hand.
#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::*;
use crate::notice::{Key, Notices};

/// A waker that counts.
#[derive(Default)]
struct Wakes(AtomicU32);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Wakes {
    fn count(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn poll_with<F: Future>(future: Pin<&mut F>, wakes: &Arc<Wakes>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(wakes))))
}

/// What is ready at once.
fn now<F: Future>(future: F) -> F::Output {
    match poll(pin!(future)) {
        Poll::Ready(out) => out,
        Poll::Pending => panic!("it waits"),
    }
}

fn signal() -> (Signal, Rc<Notices>) {
    let list = Rc::new(Notices::default());
    (Signal { list: Rc::clone(&list), key: Key { index: 3, generation: 1 } }, list)
}

/// Whether the signal rang since the last call.
fn rang(list: &Notices) -> bool {
    let mut keys = Vec::new();
    list.swap(&mut keys);
    !keys.is_empty()
}

fn pair(length: Option<u64>) -> (BodyFeed, Body, Rc<Notices>) {
    let (signal, list) = signal();
    let (feed, body) = Body::pair(length, signal);
    (feed, body, list)
}

// ----- what a request brings

#[test]
fn a_complete_body_is_one_chunk_and_the_end() {
    let mut body = Body::complete(b"whole");
    assert_eq!(body.length(), Some(5));
    assert_eq!(now(body.chunk()).unwrap().unwrap(), "whole");
    assert_eq!(now(body.chunk()), Ok(None));
    assert_eq!(now(body.chunk()), Ok(None));
    assert_eq!(now(Body::complete(b"").chunk()), Ok(None), "never an empty chunk");
}

#[test]
fn a_chunk_is_all_that_has_come() {
    let (feed, mut body, _) = pair(None);
    feed.push(b"one ");
    feed.push(b"two");
    assert_eq!(now(body.chunk()).unwrap().unwrap(), "one two");
    feed.push(b"three");
    feed.end();
    assert_eq!(now(body.chunk()).unwrap().unwrap(), "three");
    assert_eq!(now(body.chunk()), Ok(None));
}

#[test]
fn a_reader_that_waits_is_woken_by_bytes_by_the_end_and_by_a_break() {
    for case in 0..3 {
        let (feed, mut body, _) = pair(None);
        let wakes = Arc::new(Wakes::default());
        let mut chunk = pin!(body.chunk());
        assert!(poll_with(chunk.as_mut(), &wakes).is_pending());
        assert_eq!(wakes.count(), 0);
        match case {
            0 => feed.push(b"bytes"),
            1 => feed.end(),
            _ => feed.break_off(),
        }
        assert_eq!(wakes.count(), 1, "case {case}");
        let out = poll(chunk.as_mut());
        match case {
            0 => assert_eq!(out, Poll::Ready(Ok(Some(Bytes::from_static(b"bytes"))))),
            1 => assert_eq!(out, Poll::Ready(Ok(None))),
            _ => assert_eq!(out, Poll::Ready(Err(BodyError::Broken))),
        }
    }
}

#[test]
fn what_came_before_a_break_is_read_first() {
    let (feed, mut body, _) = pair(Some(100));
    feed.push(b"some");
    drop(feed); // the connection is gone
    assert_eq!(now(body.chunk()).unwrap().unwrap(), "some");
    assert_eq!(now(body.chunk()), Err(BodyError::Broken));
    assert_eq!(now(body.collect(1_000)), Err(BodyError::Broken));
}

#[test]
fn a_body_that_ended_is_not_broken_by_its_connection() {
    let (feed, mut body, _) = pair(None);
    feed.push(b"all");
    feed.end();
    drop(feed);
    assert_eq!(now(body.collect(3)).unwrap(), "all");
}

#[test]
fn a_body_that_broke_does_not_end_well_later() {
    let (feed, mut body, _) = pair(None);
    feed.break_off();
    feed.end();
    assert_eq!(now(body.chunk()), Err(BodyError::Broken));
}

#[test]
fn the_first_wait_asks_for_the_body_once() {
    let (feed, mut body, list) = pair(Some(10));
    assert!(!feed.is_wanted());
    let mut chunk = pin!(body.chunk());
    assert!(poll(chunk.as_mut()).is_pending());
    assert!(feed.is_wanted());
    assert!(rang(&list), "the connection may hold back its 100 Continue");
    assert!(poll(chunk.as_mut()).is_pending());
    assert!(!rang(&list));
}

#[test]
fn taking_bytes_tells_the_connection_that_there_is_room() {
    let (feed, mut body, list) = pair(Some(10));
    feed.push(b"12345");
    assert_eq!(feed.waiting(), 5);
    assert!(!rang(&list));
    now(body.chunk()).unwrap();
    assert_eq!(feed.waiting(), 0);
    assert!(rang(&list));
    assert!(!feed.is_wanted(), "it did not have to wait");
    feed.push(b"67890");
    feed.end();
    now(body.chunk()).unwrap();
    assert!(!rang(&list), "nothing more is to come");
}

#[test]
fn a_reader_that_left_is_noticed_and_what_comes_is_dropped() {
    let (feed, body, list) = pair(None);
    feed.push(b"unread");
    assert!(!feed.reader_gone());
    drop(body);
    assert!(feed.reader_gone());
    assert!(rang(&list));
    assert_eq!(feed.waiting(), 0);
    feed.push(b"for nobody");
    assert_eq!(feed.waiting(), 0);
    feed.end();
    assert!(!rang(&list));
}

#[test]
fn collect_takes_exactly_max_bytes_and_not_one_more() {
    for pieces in [&[&b"1234"[..]][..], &[b"12", b"34"], &[b"1", b"2", b"3", b"4"]] {
        let (feed, mut body, _) = pair(None);
        let mut collect = pin!(body.collect(4));
        for piece in pieces {
            assert!(poll(collect.as_mut()).is_pending());
            feed.push(piece);
        }
        assert!(poll(collect.as_mut()).is_pending(), "one more byte could come");
        feed.end();
        assert_eq!(poll(collect.as_mut()), Poll::Ready(Ok(Bytes::from_static(b"1234"))), "{pieces:?}");
    }
    for pieces in [&[&b"12345"[..]][..], &[b"1234", b"5"]] {
        let (feed, mut body, _) = pair(None);
        let mut collect = pin!(body.collect(4));
        assert!(poll(collect.as_mut()).is_pending());
        let mut out = Poll::Pending;
        for piece in pieces {
            feed.push(piece);
            out = poll(collect.as_mut());
        }
        assert_eq!(out, Poll::Ready(Err(BodyError::TooLarge { max: 4 })), "{pieces:?}");
    }
}

#[test]
fn a_length_past_max_is_refused_before_a_byte_is_waited_for() {
    let (feed, mut body, _) = pair(Some(5));
    assert_eq!(now(body.collect(4)), Err(BodyError::TooLarge { max: 4 }));
    assert!(!feed.is_wanted(), "a client that waits for 100 Continue need not send it");
    let (feed, mut body, list) = pair(Some(4));
    feed.push(b"1234");
    assert_eq!(now(body.collect(4)).unwrap(), "1234", "complete by its length: the end is not waited for");
    assert!(rang(&list), "the connection may have stopped in front of the end");
}

#[test]
fn who_collects_is_woken_by_the_end_and_not_by_each_piece() {
    let (feed, mut body, list) = pair(Some(9));
    feed.push(b"one");
    let wakes = Arc::new(Wakes::default());
    let mut all = pin!(body.collect(9));
    assert!(poll_with(all.as_mut(), &wakes).is_pending());
    assert!(rang(&list), "the connection may have stopped for what waited");
    feed.push(b"two");
    feed.push(b"six");
    assert_eq!(wakes.count(), 0);
    feed.end();
    assert_eq!(wakes.count(), 1);
    assert_eq!(poll_with(all.as_mut(), &wakes), Poll::Ready(Ok(Bytes::from_static(b"onetwosix"))));
}

#[test]
fn what_is_collected_does_not_stop_the_connection_until_it_is_too_much() {
    let (feed, mut body, _list) = pair(None);
    feed.push(b"12345");
    assert!(feed.is_full(5) && !feed.is_full(6));
    let wakes = Arc::new(Wakes::default());
    {
        let mut all = pin!(body.collect(7));
        assert!(poll_with(all.as_mut(), &wakes).is_pending());
        assert!(!feed.is_full(5));
        feed.push(b"67");
        assert!(!feed.is_full(5));
        assert_eq!(wakes.count(), 0);
        feed.push(b"8");
        assert!(feed.is_full(5));
        assert_eq!(wakes.count(), 1);
        assert_eq!(poll_with(all.as_mut(), &wakes), Poll::Ready(Err(BodyError::TooLarge { max: 7 })));
    }
    // Given up, it is read piece by piece under the old bound.
    assert!(feed.is_full(5));
    {
        let mut all = pin!(body.collect(100));
        assert!(poll_with(all.as_mut(), &wakes).is_pending());
        assert!(!feed.is_full(5));
    }
    assert!(feed.is_full(5), "nobody collects any more");
    assert_eq!(now(body.chunk()), Ok(Some(Bytes::from_static(b"12345678"))));
}

#[test]
fn a_body_of_nothing_collects_to_nothing() {
    assert_eq!(now(Body::complete(b"").collect(0)).unwrap(), "");
    let (feed, mut body, _) = pair(None);
    feed.end();
    assert_eq!(now(body.collect(0)).unwrap(), "");
}

#[test]
fn errors_say_what_happened() {
    assert!(BodyError::TooLarge { max: 7 }.to_string().contains("7 bytes"));
    assert!(BodyError::Broken.to_string().contains("before it was complete"));
    assert!(Disconnected.to_string().contains("gone"));
}

// ----- what a response streams

fn take(stream: &mut BodyStream) -> String {
    match stream.take() {
        Piece::Bytes(bytes) => String::from_utf8(bytes.as_slice().to_vec()).unwrap(),
        other => format!("{other:?}"),
    }
}

#[test]
fn pieces_come_out_in_order_and_then_the_end() {
    let (mut sender, mut stream) = body_channel(100);
    assert_eq!(take(&mut stream), "Later");
    now(sender.send("one")).unwrap();
    now(sender.send("two")).unwrap();
    assert_eq!(take(&mut stream), "one");
    assert_eq!(take(&mut stream), "two");
    assert_eq!(take(&mut stream), "Later");
    now(sender.send("three")).unwrap();
    sender.finish();
    assert_eq!(take(&mut stream), "three");
    assert_eq!(take(&mut stream), "End");
    assert_eq!(take(&mut stream), "End");
}

#[test]
fn a_sender_that_is_dropped_without_finish_aborts_after_what_it_sent() {
    let (mut sender, mut stream) = body_channel(100);
    now(sender.send("half a")).unwrap();
    drop(sender);
    assert_eq!(take(&mut stream), "half a");
    assert_eq!(take(&mut stream), "Aborted");
}

#[test]
fn an_empty_piece_is_no_piece() {
    let (mut sender, mut stream) = body_channel(100);
    now(sender.send("")).unwrap();
    assert_eq!(take(&mut stream), "Later", "an empty chunk would end a chunked body");
}

#[test]
fn a_sender_waits_at_bytes_max_and_is_woken_below_it() {
    let (mut sender, mut stream) = body_channel(4);
    now(sender.send("123")).unwrap();
    now(sender.send("456")).unwrap(); // one piece may pass it
    let wakes = Arc::new(Wakes::default());
    {
        let mut third = pin!(sender.send("789"));
        assert!(poll_with(third.as_mut(), &wakes).is_pending());
        assert_eq!(wakes.count(), 0);
        assert_eq!(take(&mut stream), "123");
        assert_eq!(wakes.count(), 1, "three bytes are below four");
        assert_eq!(poll(third.as_mut()), Poll::Ready(Ok(())));
    }
    assert_eq!(take(&mut stream), "456");
    assert_eq!(take(&mut stream), "789");
    assert_eq!(wakes.count(), 1);
}

#[test]
fn a_sender_stays_asleep_while_the_channel_is_still_full() {
    let (mut sender, mut stream) = body_channel(4);
    now(sender.send("1")).unwrap();
    now(sender.send("234567")).unwrap();
    let wakes = Arc::new(Wakes::default());
    let mut third = pin!(sender.send("8"));
    assert!(poll_with(third.as_mut(), &wakes).is_pending());
    assert_eq!(take(&mut stream), "1");
    assert_eq!(wakes.count(), 0, "six bytes wait still");
    assert_eq!(take(&mut stream), "234567");
    assert_eq!(wakes.count(), 1);
}

#[test]
fn a_channel_of_no_bytes_holds_one_piece() {
    let (mut sender, mut stream) = body_channel(0);
    now(sender.send("first")).unwrap();
    assert!(poll(pin!(sender.send("second"))).is_pending());
    assert_eq!(take(&mut stream), "first");
    assert_eq!(take(&mut stream), "Later", "a send that was dropped sent nothing");
    now(sender.send("third")).unwrap();
    assert_eq!(take(&mut stream), "third");
}

#[test]
fn a_reader_that_left_fails_the_send_that_waits_and_those_that_come() {
    let (mut sender, stream) = body_channel(1);
    now(sender.send("x")).unwrap();
    let wakes = Arc::new(Wakes::default());
    {
        let mut waiting = pin!(sender.send("y"));
        assert!(poll_with(waiting.as_mut(), &wakes).is_pending());
        drop(stream);
        assert_eq!(wakes.count(), 1);
        assert_eq!(poll(waiting.as_mut()), Poll::Ready(Err(Disconnected)));
    }
    assert_eq!(now(sender.send("z")), Err(Disconnected));
    assert_eq!(now(sender.send("")), Err(Disconnected));
}

#[test]
fn the_connection_is_told_of_pieces_of_the_end_and_of_an_abort() {
    for finish in [true, false] {
        let (mut sender, mut stream) = body_channel(100);
        let (signal, list) = signal();
        now(sender.send("before it was attached")).unwrap();
        stream.attach(signal);
        assert!(!rang(&list));
        now(sender.send("x")).unwrap();
        assert!(rang(&list));
        now(sender.send("")).unwrap();
        assert!(!rang(&list), "nothing changed");
        if finish {
            sender.finish();
        } else {
            drop(sender);
        }
        assert!(rang(&list));
        assert_eq!(take(&mut stream), "before it was attached");
        assert_eq!(take(&mut stream), "x");
        assert_eq!(take(&mut stream), if finish { "End" } else { "Aborted" });
    }
}

#[test]
fn a_reader_that_left_is_not_told_any_more() {
    let (sender, mut stream) = body_channel(100);
    let (signal, list) = signal();
    stream.attach(signal);
    drop(stream);
    drop(sender);
    assert!(!rang(&list), "its connection has gone on to something else");
}
