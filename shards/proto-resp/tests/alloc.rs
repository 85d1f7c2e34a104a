//! What reading commands and writing replies allocates: nothing, once a connection has seen as much.
//!
//! An allocator that counts, per thread.
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use corelane_proto_resp::{Limits, Parser, Step, Version, Writer};

struct Counting;

thread_local! {
    // Per thread: the test harness allocates on others.
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system allocator as it came; the counter allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Reads `wire` cut at `cut` and answers each command. Returns the allocations.
fn answer(parser: &mut Parser, wire: &[u8], cut: usize, out: &mut Vec<u8>) -> usize {
    let limits = Limits::default();
    let before = COUNT.get();
    let mut consumed = 0;
    for end in [cut, wire.len()] {
        let mut unread = &wire[consumed..end];
        while let Step::Command(command) = parser.poll(&limits, &mut unread) {
            let mut writer = Writer::new(out, Version::Resp3);
            writer.map(command.len());
            for argument in &command {
                writer.bulk(argument);
                writer.double(0.1);
            }
            writer.integer(-7);
            writer.null();
        }
        consumed = end - unread.len();
    }
    assert_eq!(consumed, wire.len());
    COUNT.get() - before
}

#[test]
fn a_warm_connection_allocates_nothing_for_any_form_of_command() {
    let many = format!("*1000\r\n{}", "$1\r\nx\r\n".repeat(1000));
    let wire =
        ["*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "SET k v\r\n", "SET k \"a b\" 'c'\r\n", "\r\n*0\r\n", &many]
            .concat();
    let (mut parser, mut out) = (Parser::new(), Vec::with_capacity(1 << 20));
    let cold = answer(&mut parser, wire.as_bytes(), wire.len() / 2, &mut out);
    assert!(cold > 0, "the counter counts");
    for cut in 0..60 {
        out.clear();
        assert_eq!(answer(&mut parser, wire.as_bytes(), cut, &mut out), 0, "cut at {cut}");
    }
}
