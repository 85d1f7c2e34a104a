//! Each bound, exactly on it and one past it.

use super::super::answer::{CHUNK_LINE_LEN_MAX, INTERIM_MAX, TRAILER_LEN_MAX};
use super::super::check::{Last, drive, machine};
use super::super::head::{FIELDS_MAX, HEAD_LEN_MAX};
use super::super::known::Hint;
use super::*;

/// Whether `bytes` are one whole answer, the same in one piece and in pieces of 1000; else they must be
/// garbage.
fn is_taken(bytes: &[u8]) -> bool {
    let machine = machine(&[], 1);
    let whole = drive(&machine, bytes, &[], 0);
    let cuts: Vec<usize> = (1..).map(|i| i * 1000).take_while(|&cut| cut < bytes.len()).collect();
    assert_eq!(drive(&machine, bytes, &cuts, 0), whole);
    match whole.last {
        Last::Open(false, None) => assert_eq!(whole.answers.len(), 1),
        last => assert_eq!(last, Last::Failed(ErrorKind::Garbage)),
    }
    !whole.answers.is_empty()
}

/// A head of `len` bytes, with a field per line of at most `line` bytes.
fn head_of(len: usize, line: usize) -> Vec<u8> {
    let mut head = b"HTTP/1.1 204 x\r\n".to_vec();
    while head.len() + 2 < len {
        let left = len - 2 - head.len();
        // What is left must be a field too, which takes 4 bytes.
        let this = if left <= line { left } else { line.min(left - 4) };
        head.extend_from_slice(b"x:");
        head.resize(head.len() + this - 4, b'y');
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[test]
fn a_head_of_64_kib_is_read_and_one_byte_more_is_garbage() {
    for line in [HEAD_LEN_MAX, 1000] {
        assert_eq!(head_of(HEAD_LEN_MAX, line).len(), HEAD_LEN_MAX);
        assert!(is_taken(&head_of(HEAD_LEN_MAX, line)));
        assert!(!is_taken(&head_of(HEAD_LEN_MAX + 1, line)));
    }
}

#[test]
fn a_head_that_never_ends_is_garbage_at_64_kib() {
    for filler in [&b"x"[..], b"x:\r\n"] {
        let head = [b"HTTP/1.1 200 x\r\nx:", &filler.repeat(HEAD_LEN_MAX)[..]].concat();
        let machine = machine(&[], 1);
        let one_less = drive(&machine, &head[..HEAD_LEN_MAX - 1], &[], 0).last;
        if filler.len() == 1 {
            assert_eq!(one_less, Last::Open(true, None));
        }
        assert_eq!(drive(&machine, &head[..HEAD_LEN_MAX], &[], 0).last, Last::Failed(ErrorKind::Garbage));
    }
}

#[test]
fn a_head_of_256_fields_is_read_and_one_more_is_garbage() {
    let head = |fields: u16| {
        let field = b"Content-Length: 0\r\n".repeat(usize::from(fields));
        [b"HTTP/1.1 200 OK\r\n", &field[..], b"\r\n"].concat()
    };
    assert!(is_taken(&head(FIELDS_MAX)));
    assert!(!is_taken(&head(FIELDS_MAX + 1)));
}

#[test]
fn sixteen_interim_answers_are_skipped_and_one_more_is_garbage() {
    let answer = |interims: u8| {
        let interim = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(usize::from(interims));
        [&interim[..], b"HTTP/1.1 204 No Content\r\n\r\n"].concat()
    };
    assert!(is_taken(&answer(INTERIM_MAX)));
    assert!(!is_taken(&answer(INTERIM_MAX + 1)));
    // They are counted for each answer.
    let twice = answer(INTERIM_MAX).repeat(2);
    assert_eq!(drive(&machine(&[], 1), &twice, &[], 0).answers.len(), 2);
}

/// A chunked answer with this in the line of the only chunk, and these trailers.
fn chunked(extension: &[u8], trailers: &[u8]) -> Vec<u8> {
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    [head, &b"1"[..], extension, b"\r\nx\r\n0\r\n", trailers, b"\r\n"].concat()
}

#[test]
fn a_chunk_line_of_4_kib_is_read_and_one_byte_more_is_garbage() {
    let extension = |len: usize| [b";", &b"e".repeat(len - 4)[..]].concat();
    assert!(is_taken(&chunked(&extension(CHUNK_LINE_LEN_MAX), b"")));
    assert!(!is_taken(&chunked(&extension(CHUNK_LINE_LEN_MAX + 1), b"")));
}

#[test]
fn trailers_of_16_kib_are_read_and_one_byte_more_is_garbage() {
    let trailers = |len: usize| [b"x:", &b"y".repeat(len - 6)[..], b"\r\n"].concat();
    assert!(is_taken(&chunked(b"", &trailers(TRAILER_LEN_MAX))));
    assert!(!is_taken(&chunked(b"", &trailers(TRAILER_LEN_MAX + 1))));
    let fields = |count: u16| b"x:\r\n".repeat(usize::from(count));
    assert!(is_taken(&chunked(b"", &fields(FIELDS_MAX))));
    assert!(!is_taken(&chunked(b"", &fields(FIELDS_MAX + 1))));
}

#[test]
fn a_head_of_1_kib_is_remembered_and_a_longer_one_is_read_each_time() {
    for (len, is_kept) in [(50, true), (1024, true), (1025, false)] {
        let machine = machine(&[], 1);
        let head = head_of(len, 500);
        let trace = drive(&machine, &head.repeat(3), &[], 0);
        assert_eq!((trace.answers.len(), trace.last), (3, Last::Open(false, None)));
        let known = machine.memory.get(0, &mut Hint::default(), &head.repeat(2));
        assert_eq!(known.map(|(len, _)| len), is_kept.then_some(len));
        assert!(machine.memory.get(0, &mut Hint::default(), &head[..len - 1]).is_none());
        assert!(machine.memory.get(1, &mut Hint::default(), &head).is_none());
    }
}

#[test]
fn four_heads_of_a_kind_are_remembered_and_the_fifth_replaces_the_oldest() {
    let machine = machine(&[], 1);
    let heads: Vec<Vec<u8>> = (0..5).map(|more| head_of(50 + more, 500)).collect();
    drive(&machine, &heads.concat(), &[], 0);
    let is_kept = |head: &Vec<u8>| machine.memory.get(0, &mut Hint::default(), head).is_some();
    assert_eq!(heads.iter().map(is_kept).collect::<Vec<_>>(), [false, true, true, true, true]);
}

#[test]
fn answers_behind_interim_ones_push_no_head_out_of_memory() {
    let machine = machine(&[], 1);
    let head = head_of(50, 500);
    drive(&machine, &head, &[], 0);
    let behind_interim = [b"HTTP/1.1 103 Early Hints\r\n\r\n", &head_of(60, 500)[..]].concat();
    assert_eq!(drive(&machine, &behind_interim.repeat(5), &[], 0).answers.len(), 5);
    assert!(machine.memory.get(0, &mut Hint::default(), &head).is_some());
}

#[test]
fn kinds_beyond_the_eighth_share_the_memory_of_the_others() {
    let requests: Vec<RequestSpec> = (0..9).map(|_| spec("GET", "/")).collect();
    let machine = Http1::new(&requests, "t", 0, &[], false).unwrap();
    let slots: Vec<u8> = machine.requests.iter().map(|request| request.ask.slot).collect();
    assert_eq!(slots, [0, 1, 2, 3, 4, 5, 6, 7, 0]);
    let kinds: Vec<usize> = machine.requests.iter().map(|request| machine.kind(request.ask)).collect();
    assert_eq!(kinds, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn more_than_65536_requests_are_refused() {
    let mut requests = vec![spec("GET", "/"); KINDS_MAX];
    let machine = Http1::new(&requests, "t", 0, &[], false).unwrap();
    assert_eq!(machine.kind(machine.requests[KINDS_MAX - 1].ask), KINDS_MAX - 1);
    requests.push(spec("GET", "/"));
    assert!(Http1::new(&requests, "t", 0, &[], false).unwrap_err().contains("at most 65536"));
}

#[test]
fn what_was_held_of_a_long_line_is_given_back() {
    let machine = machine(&[], 1);
    let ask = super::super::check::ask(0, 0);
    let mut conn = Conn::default();
    let head = head_of(HEAD_LEN_MAX, HEAD_LEN_MAX);
    assert_eq!(machine.read(&mut conn, &mut &head[..60_000], ask), Ok(None));
    assert!(conn.held_capacity() > 50_000);
    assert!(machine.read(&mut conn, &mut &head[60_000..], ask).unwrap().is_some());
    assert!(conn.held_capacity() <= 256);
}
