//! HTTP/1.1 over real sockets, in raw bytes: what a client sees.
//!
//! Not here: the grammar case by case (`proto-h1`), time and faults in every order (`net`, on the simulator),
//! clients that are slow on purpose (`slow.rs`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::client::{get, post, post_chunked};
use common::{Answer, Client, Cut, Node, pattern, tool};
use corelane::Limits;
use corelane_base::rng::Rng;

#[test]
fn one_connection_is_kept_for_many_requests() {
    let node = Node::new();
    let mut client = Client::connect(node.addr);
    for n in 0..200 {
        let answer = client.get(&format!("/token/{n}"));
        assert_eq!((answer.status, answer.text()), (200, n.to_string().as_str()));
        assert_eq!(answer.field("connection"), None);
        assert_eq!(answer.field("server"), Some("corelane"));
        assert!(answer.field("date").is_some_and(|date| date.len() == 29 && date.ends_with(" GMT")));
    }
    client.is_silent();
    drop(client);
    node.comes_to_rest();
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let node = Node::new();
    let mut client = Client::connect(node.addr);
    for count in [16, 1_000] {
        // Every seventh is async, and must not be overtaken.
        let path = |n: usize| if n % 7 == 3 { "/slow/0".to_owned() } else { format!("/token/{count}-{n}") };
        let burst: Vec<u8> = (0..count).flat_map(|n| get(&path(n))).collect();
        client.send(burst);
        for n in 0..count {
            let answer = client.answer();
            assert_eq!(answer.status, 200);
            let expected = if n % 7 == 3 { "slow".to_owned() } else { format!("{count}-{n}") };
            assert_eq!(answer.text(), expected);
        }
        client.is_silent();
    }
    drop(client);
    node.comes_to_rest();
}

#[test]
fn requests_that_come_byte_by_byte_are_understood() {
    let node = Node::new();
    let mut client = Client::connect(node.addr);
    let mut all = get("/token/drop");
    all.extend(post("/echo", b"by length"));
    all.extend(post_chunked("/echo", b"in chunks of three", 3));
    let mut expected = ["drop", "by length", "in chunks of three"].iter();
    let mut ends: Vec<usize> = Vec::new();
    let lengths = [get("/token/drop").len(), post("/echo", b"by length").len()];
    ends.extend([lengths[0], lengths[0] + lengths[1], all.len()]);
    for (at, byte) in all.iter().enumerate() {
        client.send([*byte]);
        // A pause now and then, so that bytes do arrive alone whatever the kernel gathers.
        if at % 16 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        if ends.contains(&(at + 1)) {
            assert_eq!(client.answer().text(), *expected.next().unwrap());
        }
    }
    client.is_silent();
}

#[test]
fn large_pipelined_answers_arrive_whole_at_a_client_that_reads_late() {
    let node = Node::new();
    let mut client = Client::connect(node.addr);
    // 96 answers of up to 200 KB are 10 MB: many times `output_high_water`, and more than sockets hold.
    let sizes: Vec<usize> = (0..96).map(|n| [70_000, 1, 200_000, 4_096, 4_097, 65_536][n % 6]).collect();
    let burst: Vec<u8> = sizes.iter().flat_map(|size| get(&format!("/big/{size}"))).collect();
    client.send(burst);
    thread::sleep(Duration::from_millis(200));
    for size in sizes {
        let answer = client.answer();
        assert_eq!(answer.status, 200);
        assert!(answer.body == pattern(size), "the answer of {size} bytes came whole");
    }
    client.is_silent();
    drop(client);
    node.comes_to_rest();
}

#[test]
fn bodies_up_to_the_limit_come_back_unchanged() {
    let node = Node::new();
    let mut client = Client::connect(node.addr);
    for len in [0, 1, 4_095, 4_096, 4_097, 64 << 10, 1 << 20] {
        let body = pattern(len);
        assert!(client.post("/echo", &body).body == body, "{len} bytes by length");
        for chunk in [1 << 20, 10_000, 4_096].into_iter().chain((len <= 4_097).then_some(1)) {
            client.send(post_chunked("/echo", &body, chunk));
            let answer = client.answer();
            assert_eq!(answer.status, 200);
            assert!(answer.body == body, "{len} bytes in chunks of {chunk}");
        }
    }
    client.is_silent();
    drop(client);
    node.comes_to_rest();
}

#[test]
fn a_body_over_the_limit_is_answered_413_and_the_answer_can_be_read() {
    let node = Node::new();
    let over = pattern((1 << 20) + 1);

    // Announced: refused on the head, whatever follows.
    let mut client = Client::connect(node.addr);
    client.send(format!("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n", over.len()));
    let answer = client.answer();
    assert_eq!(answer.status, 413);
    assert!(answer.closes());
    client.ends();

    // In chunks, sent to the end: the client reads only afterwards.
    for chunk in [over.len(), 10_000] {
        let mut client = Client::connect(node.addr);
        client.send(post_chunked("/echo", &over, chunk));
        let answer = client.answer();
        assert_eq!(answer.status, 413, "chunks of {chunk}");
        assert!(answer.closes());
        client.ends();
    }

    // Announced and sent to the end by a client that does not look up.
    let mut client = Client::connect(node.addr);
    client.send(post("/echo", &over));
    assert_eq!(client.answer().status, 413);
    client.ends();
    node.comes_to_rest();
}

#[test]
fn head_has_the_fields_of_get_and_no_body() {
    let node = Node::new();
    let mut client = Client::connect(node.addr);
    for path in ["/plaintext", "/big/100000", "/sized/5000"] {
        let got = client.get(path);
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: t\r\n\r\n"));
        let head = client.answer_without_body();
        assert_eq!(head.status, 200);
        assert_eq!(head.field("content-length"), got.field("content-length"), "{path}");
        assert_eq!(head.field("content-type"), got.field("content-type"), "{path}");
        client.is_silent();
    }
    client.send("HEAD /nowhere HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(client.answer_without_body().status, 404);
    assert_eq!(client.get("/plaintext").status, 200);
    drop(client);
    node.comes_to_rest();
}

#[test]
fn options_names_the_methods_of_a_path_and_of_the_server() {
    let node = Node::new();
    let mut client = Client::connect(node.addr);
    for (target, methods) in [
        ("/echo", &["POST", "OPTIONS"][..]),
        ("/plaintext", &["GET", "HEAD", "OPTIONS"]),
        ("/token/any", &["GET", "HEAD", "OPTIONS"]),
        ("*", &["GET", "HEAD", "POST", "PUT", "OPTIONS"]),
    ] {
        client.send(format!("OPTIONS {target} HTTP/1.1\r\nHost: t\r\n\r\n"));
        let answer = client.answer();
        assert_eq!(answer.status, 204, "{target}");
        assert_eq!(sorted(answer.field("allow").unwrap()), sorted(&methods.join(", ")), "{target}");
    }
    client.is_silent();
}

fn sorted(list: &str) -> Vec<&str> {
    let mut names: Vec<&str> = list.split(',').map(str::trim).collect();
    names.sort_unstable();
    names
}

#[test]
fn what_an_application_cannot_answer_leaves_the_connection_open() {
    let node = Node::new();
    let mut client = Client::connect(node.addr);
    assert_eq!(client.get("/nowhere").status, 404);
    client.send("GET /echo HTTP/1.1\r\nHost: t\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.status, 405);
    assert_eq!(sorted(answer.field("allow").unwrap()), ["OPTIONS", "POST"]);
    for method in ["BREW", "TRACE", "get"] {
        client.send(format!("{method} /plaintext HTTP/1.1\r\nHost: t\r\n\r\n"));
        assert_eq!(client.answer().status, 501, "{method}");
    }
    assert_eq!(client.get("/plaintext").status, 200);
    client.is_silent();
}

/// What is wrong, the bytes, and the status of the refusal.
fn refusals() -> Vec<(&'static str, Vec<u8>, u16)> {
    let head = |line: &str, fields: &str| format!("{line}\r\nHost: t\r\n{fields}\r\n").into_bytes();
    let many: String = (0..101).map(|n| format!("X-{n}: 1\r\n")).collect();
    vec![
        ("another major version", head("GET / HTTP/2.0", ""), 505),
        ("a preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 505),
        ("no version", b"GET /\r\n\r\n".to_vec(), 400),
        ("a long line", head(&format!("GET /{} HTTP/1.1", "x".repeat(20 << 10)), ""), 414),
        ("a long line without end", format!("GET /{}", "x".repeat(20 << 10)).into_bytes(), 414),
        ("a large head", head("GET / HTTP/1.1", &format!("X: {}\r\n", "x".repeat(40 << 10))), 431),
        ("many fields", head("GET / HTTP/1.1", &many), 431),
        ("another expectation", head("GET / HTTP/1.1", "Expect: 200-ok\r\n"), 417),
        ("an unknown coding", head("POST /echo HTTP/1.1", "Transfer-Encoding: gzip, chunked\r\n"), 501),
        ("chunked not last", head("POST /echo HTTP/1.1", "Transfer-Encoding: chunked, gzip\r\n"), 400),
        (
            "length and coding",
            head("POST /echo HTTP/1.1", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
            400,
        ),
        ("two lengths", head("POST /echo HTTP/1.1", "Content-Length: 3\r\nContent-Length: 3\r\n"), 400),
        ("a signed length", head("POST /echo HTTP/1.1", "Content-Length: +3\r\n"), 400),
        ("no host", b"GET / HTTP/1.1\r\n\r\n".to_vec(), 400),
        ("two hosts", head("GET / HTTP/1.1", "Host: u\r\n"), 400),
        ("a bare line feed", b"GET / HTTP/1.1\nHost: t\n\n".to_vec(), 400),
        ("a folded field", head("GET / HTTP/1.1", "X: 1\r\n 2\r\n"), 400),
        ("space before a colon", head("GET / HTTP/1.1", "X : 1\r\n"), 400),
        ("a handshake of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), 400),
        (
            "a bad chunk size",
            [head("POST /echo HTTP/1.1", "Transfer-Encoding: chunked\r\n"), b"0x3\r\nabc\r\n".to_vec()]
                .concat(),
            400,
        ),
        ("a host for a tunnel", b"CONNECT t:80 HTTP/1.1\r\nHost: t:80\r\n\r\n".to_vec(), 501),
    ]
}

#[test]
fn what_cannot_be_understood_is_refused_with_its_status_and_a_close() {
    let node = Node::new();
    for (what, bytes, status) in refusals() {
        let mut client = Client::connect(node.addr);
        client.send(&bytes);
        let answer = client.answer();
        assert_eq!(answer.status, status, "{what}:\n{}", answer.head);
        if status == 501 && bytes.starts_with(b"CONNECT") {
            continue; // understood, and answered by the application
        }
        assert!(answer.closes(), "{what}");
        assert!(!answer.body.is_empty(), "{what}: a reason is given");
        client.ends();
    }
    node.comes_to_rest();
}

#[test]
fn nothing_behind_a_refused_request_is_served() {
    static SERVED: AtomicU64 = AtomicU64::new(0);
    let node = Node::serving(common::server(), || {
        common::app().get("/count", |_| {
            SERVED.fetch_add(1, Ordering::Relaxed);
            "counted"
        })
    });
    for (what, bytes, status) in refusals() {
        if status == 501 && bytes.starts_with(b"CONNECT") {
            continue;
        }
        let mut client = Client::connect(node.addr);
        client.send(&bytes);
        client.try_send(get("/count").repeat(10));
        assert_eq!(client.answer().status, status, "{what}");
        client.ends();
    }
    node.comes_to_rest();
    assert_eq!(SERVED.load(Ordering::Relaxed), 0);
}

#[test]
fn a_client_that_goes_on_sending_after_a_refusal_still_reads_the_whole_answer() {
    let node = Node::new();
    for round in 0..20 {
        let mut client = Client::connect(node.addr);
        client.send("GET / HTTP/1.1\r\nHost: t\r\nBad Field: 1\r\n\r\n");
        // Garbage while the answer is on its way and after it: closing at once would reset it.
        let garbage = vec![b'x'; 16 << 10];
        let until = Instant::now() + Duration::from_millis(5 * round);
        let mut sent = 0;
        loop {
            assert!(client.try_send(&garbage), "the connection was cut after {sent} bytes of garbage");
            sent += garbage.len();
            if Instant::now() >= until {
                break;
            }
        }
        let answer = client.answer();
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains("field"), "{}", answer.text());
        client.ends();
    }
    node.comes_to_rest();
}

#[test]
fn a_refusal_comes_behind_the_answers_to_what_went_before() {
    let node = Node::new();
    let mut client = Client::connect(node.addr);
    let mut burst = get("/token/first");
    burst.extend(get("/slow/50"));
    burst.extend(post("/echo", b"third"));
    burst.extend(b"nonsense\r\n\r\n");
    burst.extend(get("/token/never"));
    client.send(burst);
    for expected in ["first", "slow", "third"] {
        assert_eq!(client.answer().text(), expected);
    }
    assert_eq!(client.answer().status, 400);
    client.ends();
}

#[test]
fn a_head_or_body_that_never_ends_is_answered_408() {
    let limits = Limits {
        head_time: Duration::from_millis(300),
        body_time: Duration::from_millis(300),
        idle_time: Duration::from_millis(1_500),
        ..common::limits()
    };
    let node = Node::of(common::server().limits(limits));
    let parts: [&[u8]; 4] = [
        b"G",
        b"GET / HTTP/1.1\r\nHost: t\r\n",
        b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\n12345",
        b"POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
    ];
    for part in parts {
        let start = Instant::now();
        let mut client = Client::connect(node.addr);
        client.send(part);
        let answer = client.answer();
        assert_eq!(answer.status, 408, "{:?}", common::client::lossy(part));
        assert!(answer.closes());
        assert!(start.elapsed() >= Duration::from_millis(290), "not early");
        client.ends();
    }
    // Drops of a head that keep coming do not extend its time.
    let mut client = Client::connect(node.addr);
    client.send("GET / HTTP/1.1\r\nHost: t\r\n");
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(250) {
        client.send("X: 1\r\n");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(client.answer().status, 408);
    // One that is idle is closed without a word.
    let mut idle = Client::connect(node.addr);
    assert_eq!(idle.get("/plaintext").status, 200);
    idle.ends();
    drop((client, idle));
    node.comes_to_rest();
}

#[test]
fn a_client_that_asks_for_close_gets_it_after_its_answer() {
    let node = Node::new();
    for path in ["/plaintext", "/slow/20", "/stream/100000", "/big/300000"] {
        let mut client = Client::connect(node.addr);
        // One behind it is not served.
        let last = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").into_bytes();
        client.send([last, get("/token/never")].concat());
        let answer = client.answer();
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.closes(), "{path}");
        client.ends();
    }
    node.comes_to_rest();
}

#[test]
fn a_client_that_ended_its_side_still_gets_its_answers() {
    let node = Node::new();
    let mut client = Client::connect(node.addr);
    let mut burst = get("/token/one");
    burst.extend(get("/slow/50"));
    burst.extend(post("/echo", b"three"));
    burst.extend(get("/big/500000"));
    burst.extend(get("/stream/100000"));
    client.send(burst);
    client.finish();
    assert_eq!(client.answer().text(), "one");
    assert_eq!(client.answer().text(), "slow");
    assert_eq!(client.answer().text(), "three");
    assert!(client.answer().body == pattern(500_000));
    assert!(client.answer().body == pattern(100_000));
    client.ends();

    for part in [&b"GET / HT"[..], b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\n12345"] {
        let mut client = Client::connect(node.addr);
        client.send(part);
        client.finish();
        let answer = client.answer();
        assert_eq!(answer.status, 400, "{:?}", common::client::lossy(part));
        client.ends();
    }
    let mut client = Client::connect(node.addr);
    client.finish();
    client.ends();
    drop(client);
    node.comes_to_rest();
}

#[test]
fn a_body_is_asked_for_with_100_continue_only_when_it_is_wanted() {
    let node = Node::new();
    let expecting = |path: &str, len: usize| {
        format!("POST {path} HTTP/1.1\r\nHost: t\r\nContent-Length: {len}\r\nExpect: 100-continue\r\n\r\n")
    };
    let mut client = Client::connect(node.addr);
    for _ in 0..3 {
        client.send(expecting("/echo", 5));
        assert_eq!(client.answer().head, "HTTP/1.1 100 Continue");
        client.is_silent();
        client.send("hello");
        let answer = client.answer();
        assert_eq!((answer.status, answer.text()), (200, "hello"));
    }
    // A client that does not wait gets one final answer, with or without a 100 before it.
    client.send(expecting("/echo", 5) + "hello");
    let mut answer = client.answer();
    if answer.status == 100 {
        answer = client.answer();
    }
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    client.is_silent();

    // A handler that takes no body, a path that is not there, a body that is too long: the final answer at once.
    for (path, len, status) in [("/ignore", 5, 200), ("/nowhere", 5, 404), ("/echo", 2 << 20, 413)] {
        let mut client = Client::connect(node.addr);
        client.send(expecting(path, len));
        let answer = client.answer();
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.closes(), "{path}: nobody knows whether the body comes");
        client.ends();
    }
    drop(client);
    node.comes_to_rest();
}

#[test]
fn curl_sends_its_body_after_100_continue() {
    let Some(mut curl) = tool("curl") else { return };
    let node = Node::new();
    let body = pattern(600_000);
    let file = std::env::temp_dir().join(format!("corelane-http1-{}", std::process::id()));
    std::fs::write(&file, &body).unwrap();
    let data = format!("@{}", file.display());
    curl.args(["-sv", "-m", "20", "-H", "Expect: 100-continue", "--expect100-timeout", "15"]);
    curl.args(["--data-binary", &data, &format!("http://{}/echo", node.addr)]);
    let start = Instant::now();
    let output = common::process::run(&mut curl, common::PATIENCE);
    drop(std::fs::remove_file(&file));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("< HTTP/1.1 100 Continue") && said.contains("< HTTP/1.1 200 OK"), "{said}");
    assert!(output.stdout == body, "the body came back whole");
    assert!(start.elapsed() < Duration::from_secs(14), "it did not wait in vain");
}

#[test]
fn http_1_0_closes_unless_asked_to_keep_the_connection() {
    let node = Node::new();
    let mut client = Client::connect(node.addr);
    client.send("GET /plaintext HTTP/1.0\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.text()), (200, "Hello, World!"));
    client.ends();

    let mut client = Client::connect(node.addr);
    for _ in 0..3 {
        client.send("GET /plaintext HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let answer = client.answer();
        assert_eq!(answer.field("connection").map(str::to_lowercase).as_deref(), Some("keep-alive"));
        client.is_silent();
    }
    // A body of unknown length ends with the connection: 1.0 knows no chunks.
    client.send("GET /stream/100000 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.field("transfer-encoding"), None);
    assert!(answer.body == pattern(100_000));
    drop(client);
    node.comes_to_rest();
}

#[test]
fn an_upgraded_connection_belongs_to_its_new_owner() {
    let node = Node::new();
    let upgrade = "GET /upgrade HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    let mut client = Client::connect(node.addr);
    assert_eq!(client.get("/token/before").status, 200);
    // What comes with the request, or before the answer, is the new owner's, and no request.
    client.send(upgrade.to_owned() + "GET /token/x HTTP/1.1\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.status, 101);
    assert_eq!(answer.field("upgrade"), Some("echo"));
    assert_eq!(answer.field("connection").map(str::to_lowercase).as_deref(), Some("upgrade"));
    assert_eq!(client.take(25), b"GET /token/x HTTP/1.1\r\n\r\n");
    let body = pattern(3 << 20);
    let mut writer = client.stream().try_clone().unwrap();
    let sent = body.clone();
    let sender = thread::spawn(move || writer.write_all(&sent).unwrap());
    assert!(client.take(body.len()) == body, "3 MiB came back whole");
    sender.join().unwrap();
    client.is_silent();
    client.finish();
    client.ends();
    drop(client);
    node.comes_to_rest();
}

#[test]
fn a_request_for_an_upgrade_nobody_asked_for_is_an_error() {
    let node = Node::new();
    let mut client = Client::connect(node.addr);
    client.send(get("/upgrade"));
    let answer = client.answer();
    assert_eq!(answer.status, 500, "the handler switched protocols unasked");
    client.ends();
}

#[test]
fn a_node_serves_ipv6_where_the_host_has_it() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: needs IPv6");
        return;
    }
    let server = corelane::Server::new("[::1]:0".parse().unwrap());
    let node = Node::of(server.pin(false).signals(false).limits(common::limits()).host(common::node::host()));
    let mut client = Client::connect(node.addr);
    assert_eq!(client.get("/plaintext").status, 200);
}

#[test]
fn streamed_answers_arrive_whole_and_leave_the_connection_open() {
    let node = Node::new();
    let mut client = Client::connect(node.addr);
    for len in [0, 1, 10_000, 50_001, 2_000_000] {
        let answer = client.get(&format!("/stream/{len}"));
        assert_eq!(answer.field("transfer-encoding"), Some("chunked"));
        assert!(answer.body == pattern(len), "{len} bytes in chunks");
        let answer = client.get(&format!("/sized/{len}"));
        assert_eq!(answer.field("content-length"), Some(len.to_string().as_str()));
        assert!(answer.body == pattern(len), "{len} bytes by length");
    }
    client.is_silent();
    drop(client);
    node.comes_to_rest();
}

#[test]
fn a_streamed_answer_that_ends_early_is_cut_so_that_the_client_can_tell() {
    let node = Node::new();
    for path in ["/short", "/cut"] {
        let mut client = Client::connect(node.addr);
        client.send(get(path));
        assert!(matches!(client.next(false), Err(Cut::Partial(..))), "{path}");
    }
    node.comes_to_rest();
}

#[test]
fn a_body_is_relayed_while_it_comes() {
    let node = Node::new();
    let mut client = Client::connect(node.addr);
    client.send("POST /relay HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("5\r\nhello\r\n");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(client.take(1));
    }
    assert!(head.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", common::client::lossy(&head));
    assert_eq!(client.take(10), b"5\r\nhello\r\n");
    client.send("6\r\n world\r\n0\r\n\r\n");
    assert_eq!(client.take(16), b"6\r\n world\r\n0\r\n\r\n");
    // Both directions at once, with more than the buffers on the way hold.
    let body = pattern(1 << 20);
    let mut writer = client.stream().try_clone().unwrap();
    let sent = post_chunked("/relay", &body, 30_000);
    let sender = thread::spawn(move || writer.write_all(&sent).unwrap());
    assert!(client.answer().body == body);
    sender.join().unwrap();
    client.is_silent();
    drop(client);
    node.comes_to_rest();
}

#[test]
fn a_large_answer_to_a_slow_reader_is_complete() {
    let node = Node::new();
    let mut client = Client::connect(node.addr);
    for path in ["/constant", "/big/8388608", "/stream/8388608"] {
        client.send(get(path));
        // 8 MiB in bites with pauses: the server meets a full socket again and again.
        let mut all = Vec::new();
        let mut bite = vec![0; 256 << 10];
        let mut other = client.stream().try_clone().unwrap();
        while all.len() < 4 << 20 {
            let n = other.read(&mut bite).unwrap();
            all.extend_from_slice(&bite[..n]);
            thread::sleep(Duration::from_millis(5));
        }
        client.put_back(&all);
        let answer = client.answer();
        assert_eq!(answer.status, 200);
        assert!(answer.body == pattern(8 << 20), "{path}");
    }
    client.is_silent();
    drop(client);
    node.comes_to_rest();
}

#[test]
fn clients_that_vanish_in_the_middle_of_anything_leave_nothing_behind() {
    let node = Node::new();
    let mut rng = Rng::new(11);
    let mut whole = get("/slow/5");
    whole.extend(post_chunked("/echo", &pattern(20_000), 3_000));
    whole.extend(get("/stream/2000000"));
    whole.extend(post("/relay", &pattern(50_000)));
    for _ in 0..300 {
        let mut client = Client::connect(node.addr);
        let upto = rng.index(whole.len() + 1);
        client.try_send(&whole[..upto]);
        match rng.below(4) {
            0 => thread::sleep(Duration::from_millis(rng.below(8))),
            1 => drop(client.stream().shutdown(Shutdown::Both)),
            2 => drop(client.next(false)),
            _ => {}
        }
    }
    node.comes_to_rest();
    assert_eq!(Client::connect(node.addr).get("/plaintext").status, 200);
}

/// What one of many connections is asked.
fn token(rng: &mut Rng) -> String {
    format!("{:016x}", rng.next_u64())
}

#[test]
fn two_thousand_connections_get_their_own_answers_and_nobody_elses() {
    const THREADS: u64 = 4;
    const CONNECTIONS: usize = 500;
    const REQUESTS: usize = 5_000;
    let node = Node::new();
    let addr = node.addr;
    let clients = (0..THREADS).map(|n| {
        thread::spawn(move || {
            let mut rng = Rng::new(n);
            let mut all: Vec<Client> = (0..CONNECTIONS).map(|_| Client::connect(addr)).collect();
            let mut answered = 0;
            while answered < REQUESTS {
                // Some ask, by path and by body; then all of these read.
                let mut asked = Vec::new();
                for (at, client) in all.iter_mut().enumerate() {
                    let token = token(&mut rng);
                    match rng.below(8) {
                        0..3 => client.send(get(&format!("/token/{token}"))),
                        3..6 => client.send(post("/echo", token.as_bytes())),
                        6 => continue,
                        _ => {
                            // Gone with half a request, or without a look at the answer.
                            let request = post("/echo", token.as_bytes());
                            let upto =
                                if rng.chance(1, 2) { rng.index(request.len()) } else { request.len() };
                            client.send(&request[..upto]);
                            *client = Client::connect(addr);
                            continue;
                        }
                    }
                    asked.push((at, token));
                }
                for (at, token) in asked {
                    let answer: Answer = all[at].answer();
                    assert_eq!((answer.status, answer.text()), (200, token.as_str()));
                    answered += 1;
                }
            }
            for client in &mut all {
                client.is_silent();
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.join().unwrap();
    }
    node.comes_to_rest();
}
