//! How many requests each shard of a Corelane node answered, where the server is one and says so.
//!
//! A node lists its shards at `GET /api/performance`. It is asked once before and once after the measured
//! window, on a connection of its own. Any other server says 404 or something else, and nothing is known.
//!
//! The little HTTP here is for one answer of one kind of server: a status of 200 and a length. The client
//! that requests are made with is `http1`.
//!
//! Not here: what uneven numbers mean (`verdict`).

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use corelane_sys::clock::mono_ns;
use serde::Deserialize;

use super::is_nested_within;

/// For everything, from connecting to the last byte. A node gives its shards a second, and is asked when
/// idle.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes of an answer, its head included. A shard takes 1 KiB: enough for a thousand of them.
const ANSWER_LEN_MAX: usize = 1 << 20;

/// Shards of one node. A node has at most one for each CPU.
const SHARDS_MAX: usize = 8192;

/// Brackets within brackets: a node writes 4.
const DEPTH_MAX: u32 = 16;

#[derive(Deserialize)]
struct Performance {
    silent: Vec<u64>,
    shards: Vec<Shard>,
}

#[derive(Deserialize)]
struct Shard {
    shard: u64,
    responses: u64,
}

/// The answers that each shard gave since it started, in the order of the shards, from the text of
/// `/api/performance`. None if it is something else, or a shard was silent: numbers with a hole show nothing.
pub fn shard_requests(json: &str) -> Option<Vec<u64>> {
    if !is_nested_within(json, DEPTH_MAX) {
        return None;
    }
    let mut found: Performance = sonic_rs::from_str(json).ok()?;
    found.shards.sort_unstable_by_key(|shard| shard.shard);
    let in_order = found.shards.iter().zip(0..).all(|(shard, index)| shard.shard == index);
    let is_whole = in_order && found.silent.is_empty() && (1..=SHARDS_MAX).contains(&found.shards.len());
    is_whole.then(|| found.shards.iter().map(|shard| shard.responses).collect())
}

/// What each shard answered between two looks; empty if either is missing, they are not of the same number of
/// shards, or one went backwards (the server was started anew).
pub fn shards_since(before: Option<&[u64]>, after: Option<&[u64]>) -> Vec<u64> {
    match (before, after) {
        (Some(before), Some(after)) if before.len() == after.len() => {
            let each = after.iter().zip(before).map(|(after, before)| after.checked_sub(*before));
            each.collect::<Option<_>>().unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// Asks the server at `addr` for [`shard_requests`]; `host` is what it is called. Blocks for a second at
/// most, and takes one request of the server's time. None if it does not answer so, or in time.
pub fn ask_shards(addr: SocketAddr, host: &str) -> Option<Vec<u64>> {
    let until_ns = mono_ns().saturating_add(u64::try_from(PATIENCE.as_nanos()).ok()?);
    let left = || {
        let left_ns = until_ns.checked_sub(mono_ns()).filter(|&ns| ns > 0)?;
        Some(Duration::from_nanos(left_ns))
    };
    if host.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
        return None;
    }
    // An IPv6 address has brackets there (RFC 9110, 7.2).
    let brackets = if host.contains(':') { ("[", "]") } else { ("", "") };
    let request = format!(
        "GET /api/performance HTTP/1.1\r\nhost: {}{host}{}:{}\r\nconnection: close\r\n\r\n",
        brackets.0,
        brackets.1,
        addr.port()
    );
    let mut stream = TcpStream::connect_timeout(&addr, left()?).ok()?;
    stream.set_write_timeout(Some(left()?)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        match parse(&answer) {
            Parsed::Whole(body) => return shard_requests(body),
            Parsed::Bad => return None,
            Parsed::More => {}
        }
        // A server that drips is asked no longer for it: what is left shrinks.
        stream.set_read_timeout(Some(left()?)).ok()?;
        match stream.read(&mut piece).ok()? {
            0 => return None,
            count => answer.extend_from_slice(&piece[..count]),
        }
    }
}

enum Parsed<'a> {
    More,
    Whole(&'a str),
    Bad,
}

/// What a node answers: status 200, and a body with its length in the head (RFC 9112, 6.2).
fn parse(answer: &[u8]) -> Parsed<'_> {
    if answer.len() > ANSWER_LEN_MAX {
        return Parsed::Bad;
    }
    let Some(head_len) = memchr::memmem::find(answer, b"\r\n\r\n") else { return Parsed::More };
    let body = &answer[head_len + 4..];
    let Ok(head) = std::str::from_utf8(&answer[..head_len]) else { return Parsed::Bad };
    let mut lines = head.split("\r\n");
    let is_ok = lines.next().is_some_and(|line| line.starts_with("HTTP/1.1 200"));
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    match length {
        Some(length) if is_ok && length <= ANSWER_LEN_MAX => match body.get(..length) {
            Some(body) => std::str::from_utf8(body).map_or(Parsed::Bad, Parsed::Whole),
            None => Parsed::More,
        },
        _ => Parsed::Bad,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::TcpListener;

    use super::*;

    /// As a node writes it, shortened: unknown fields are skipped.
    fn node(shards: &[(u64, u64)], silent: &str) -> String {
        let shard = |(shard, responses): &(u64, u64)| {
            format!(
                r#"{{"shard":{shard},"cpu":1.5,"requests":9,"responses":{responses},"lanes":[{{"to":1}}]}}"#
            )
        };
        let shards: Vec<String> = shards.iter().map(shard).collect();
        format!(r#"{{"cpu":99.5,"memory_mb":null,"silent":{silent},"shards":[{}]}}"#, shards.join(","))
    }

    #[test]
    fn answers_come_in_the_order_of_the_shards() {
        assert_eq!(shard_requests(&node(&[(1, 7), (0, 5)], "[]")), Some(vec![5, 7]));
    }

    #[test]
    fn an_answer_with_a_hole_or_of_another_kind_is_none() {
        assert_eq!(shard_requests(&node(&[(0, 5)], "[1]")), None, "one was silent");
        assert_eq!(shard_requests(&node(&[(0, 5), (2, 5)], "[]")), None, "one is not there");
        assert_eq!(shard_requests(&node(&[(0, 5), (0, 5)], "[]")), None, "one is twice there");
        assert_eq!(shard_requests(&node(&[], "[]")), None);
        let negative = node(&[(0, 5)], "[]").replace("\"responses\":5", "\"responses\":-5");
        for text in ["", "{}", "null", "[]", "{\"shards\":1,\"silent\":[]}", &negative] {
            assert_eq!(shard_requests(text), None, "{text}");
        }
    }

    #[test]
    fn as_many_shards_as_the_bound_are_taken_and_one_more_is_not() {
        let all = |count: u64| (0..count).map(|shard| (shard, 1)).collect::<Vec<_>>();
        let most = SHARDS_MAX as u64;
        assert_eq!(shard_requests(&node(&all(most), "[]")).map(|all| all.len()), Some(SHARDS_MAX));
        assert_eq!(shard_requests(&node(&all(most + 1), "[]")), None);
    }

    #[test]
    fn nesting_without_end_is_refused_and_not_followed() {
        for open in ["[", "{\"a\":"] {
            let deep = open.repeat(ANSWER_LEN_MAX / open.len());
            for text in [deep.clone(), format!("{{\"x\":{deep}"), format!("{{\"shards\":{deep}")] {
                assert_eq!(shard_requests(&text), None);
            }
        }
    }

    #[test]
    fn the_difference_needs_both_looks_at_the_same_shards() {
        assert_eq!(shards_since(Some(&[5, 7]), Some(&[15, 7])), [10, 0]);
        assert_eq!(shards_since(Some(&[5, 7]), Some(&[15, 6])), [0; 0], "started anew");
        assert_eq!(shards_since(Some(&[5]), Some(&[15, 7])), [0; 0]);
        assert_eq!(shards_since(None, Some(&[1])), [0; 0]);
        assert_eq!(shards_since(Some(&[1]), None), [0; 0]);
    }

    /// A server for one connection: it reads a request, says `answer`, closes. Gives what it read.
    fn serve(answer: Vec<u8>) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut piece = [0; 512];
            while !request.ends_with(b"\r\n\r\n") {
                let count = stream.read(&mut piece).unwrap();
                assert_ne!(count, 0);
                request.extend_from_slice(&piece[..count]);
            }
            // The client may have seen enough and left.
            let _ = stream.write_all(&answer);
            String::from_utf8(request).unwrap()
        });
        (addr, served)
    }

    fn ok(body: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    #[test]
    fn a_node_is_asked_by_name_and_its_answer_is_read() {
        let (addr, served) = serve(ok(&node(&[(0, 5), (1, 6)], "[]")));
        assert_eq!(ask_shards(addr, "::1"), Some(vec![5, 6]));
        let request = served.join().unwrap();
        assert!(request.starts_with("GET /api/performance HTTP/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("\r\nhost: [::1]:{}\r\n", addr.port())), "{request}");
    }

    #[test]
    fn servers_that_say_something_else_are_unknown() {
        let body = node(&[(0, 5)], "[]");
        let text = String::from_utf8(ok(&body)).unwrap();
        for answer in [
            text.replace("200 OK", "404 Not Found"),
            text.replace("Content-Length", "x"),
            text.replace("HTTP/1.1", "HTTP/2"),
            text[..text.len() - 1].to_owned(),
            "-ERR unknown command\r\n".to_owned(),
            String::new(),
        ] {
            let (addr, served) = serve(answer.clone().into_bytes());
            assert_eq!(ask_shards(addr, "x"), None, "{answer}");
            served.join().unwrap();
        }
        let (addr, served) = serve(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n\xff".to_vec());
        assert_eq!(ask_shards(addr, "x"), None, "no text");
        served.join().unwrap();
    }

    #[test]
    fn an_answer_may_have_as_many_bytes_as_its_bound_and_no_more() {
        let head = |length: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        let of = |length: usize, len: usize| {
            let mut answer = head(length).into_bytes();
            answer.resize(len, b'x');
            answer
        };
        let body_len = ANSWER_LEN_MAX - head(1_000_000).len();
        assert!(
            matches!(parse(&of(body_len, ANSWER_LEN_MAX)), Parsed::Whole(body) if body.len() == body_len)
        );
        assert!(matches!(parse(&of(body_len, ANSWER_LEN_MAX - 1)), Parsed::More));
        assert!(matches!(parse(&of(body_len + 1, ANSWER_LEN_MAX + 1)), Parsed::Bad));
        assert!(matches!(parse(&of(ANSWER_LEN_MAX + 1, 100)), Parsed::Bad), "it is not waited for");
        assert!(matches!(parse(&vec![b'x'; ANSWER_LEN_MAX]), Parsed::More), "a head without end");
        assert!(matches!(parse(&vec![b'x'; ANSWER_LEN_MAX + 1]), Parsed::Bad));
    }

    #[test]
    fn nobody_there_and_names_that_would_break_the_head_are_none() {
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(ask_shards(addr, "x"), None);
        for host in ["a\r\nb: c", "a b", "a\0"] {
            assert_eq!(ask_shards(addr, host), None);
        }
    }
}
