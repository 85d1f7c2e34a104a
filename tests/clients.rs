//! Clients that others wrote, against every route of the node: each request is answered, and answered 2xx.
//!
//! The figures they print are not looked at: speed is measured in `bench`.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use common::process::run;
use common::{Node, pattern, tool};

/// Each tool runs for a second or less; this is for a busy host.
const AT_MOST: Duration = Duration::from_secs(40);

/// What the node itself serves, so that the tools meet what users meet.
fn node() -> Node {
    Node::serving(common::server(), corelane::node::app)
}

/// A file of this test, removed when dropped.
struct File(PathBuf);

impl File {
    fn new(name: &str, bytes: &[u8]) -> File {
        let path = std::env::temp_dir().join(format!("corelane-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        File(path)
    }

    fn name(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Runs a tool; gives what it printed, and fails if it did.
#[track_caller]
fn said(command: &mut Command) -> String {
    let output = run(command, AT_MOST);
    let both = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&both).into_owned();
    assert!(output.status.success(), "{command:?} ended with {}:\n{text}", output.status);
    text
}

/// The number in front of or behind `label`, in the first line that has it: the first word that is one.
fn number(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains(label))?;
    line.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').find_map(|word| word.parse().ok())
}

#[test]
fn curl_gets_every_route_over_one_connection() {
    let Some(mut curl) = tool("curl") else { return };
    let node = node();
    let url = |path: &str| format!("http://{}{path}", node.addr);
    curl.args(["-sS", "-m", "20", "-w", "[%{http_code} %{num_connects}]"]);
    curl.args([url("/health"), url("/plaintext"), url("/json")]);
    let text = said(&mut curl);
    assert_eq!(text, "ok\n[200 1]Hello, World![200 0]{\"message\":\"Hello, World!\"}[200 0]");

    let body = File::new("curl", &pattern(1 << 20));
    for more in [&[][..], &["-H", "Transfer-Encoding: chunked"], &["-0"], &["-H", "Expect:"]] {
        let Some(mut curl) = tool("curl") else { return };
        curl.args(["-sS", "-f", "-m", "20"]).args(more);
        curl.args(["--data-binary", &format!("@{}", body.name()), &url("/echo")]);
        let output = run(&mut curl, AT_MOST);
        assert!(output.status.success(), "{more:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout == pattern(1 << 20), "{more:?}: 1 MiB came back");
    }
    node.comes_to_rest();
}

#[track_caller]
fn wrk_is_content(arguments: &[&str]) {
    let Some(mut wrk) = tool("wrk") else { return };
    let text = said(wrk.args(["-t1", "-c32", "-d1s", "--timeout", "10s"]).args(arguments));
    assert!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "{arguments:?}:\n{text}");
    assert!(number(&text, "requests in").unwrap() > 100, "{text}");
}

#[test]
fn wrk_gets_an_answer_to_every_request() {
    let node = node();
    let url = |path: &str| format!("http://{}{path}", node.addr);
    wrk_is_content(&[&url("/plaintext")]);
    wrk_is_content(&[&url("/json")]);
    let post = File::new(
        "post.lua",
        b"wrk.method = 'POST'\nwrk.body = string.rep('x', 2000)\nwrk.headers['Content-Type'] = 'text/plain'\n\
          function response(status, headers, body)\n\
          if body ~= wrk.body then error('another body') end\nend\n",
    );
    wrk_is_content(&["-s", post.name(), &url("/echo")]);
    node.comes_to_rest();
}

#[test]
fn wrk_gets_an_answer_to_every_pipelined_request() {
    let node = node();
    let pipeline = File::new(
        "pipeline.lua",
        b"init = function(args)\nlocal all = {}\nfor n = 1, 16 do all[n] = wrk.format() end\n\
          request_bytes = table.concat(all)\nend\nrequest = function() return request_bytes end\n",
    );
    for path in ["/plaintext", "/json"] {
        wrk_is_content(&["-s", pipeline.name(), &format!("http://{}{path}", node.addr)]);
    }
    node.comes_to_rest();
}

#[test]
fn h2load_gets_an_answer_to_every_request() {
    let node = node();
    let body = File::new("h2load", &pattern(3_000));
    for (path, more) in [
        ("/plaintext", &["-m1"][..]),
        ("/plaintext", &["-m8"]),
        ("/json", &["-m4"]),
        ("/echo", &["-d", body.name()]),
    ] {
        let Some(mut h2load) = tool("h2load") else { return };
        h2load.args(["--h1", "-n3000", "-c30", "-t1"]).args(more);
        let text = said(h2load.arg(format!("http://{}{path}", node.addr)));
        let requests = text.lines().find(|line| line.starts_with("requests:")).unwrap();
        assert_eq!(
            requests,
            "requests: 3000 total, 3000 started, 3000 done, 3000 succeeded, 0 failed, 0 errored, 0 timeout",
            "{path} {more:?}"
        );
        assert!(text.contains("status codes: 3000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{path} {more:?}:\n{text}");
    }
    node.comes_to_rest();
}

#[test]
fn ab_gets_an_answer_to_every_request() {
    let node = node();
    let body = File::new("ab", &pattern(3_000));
    for path in ["/plaintext", "/json", "/echo"] {
        for keep in [true, false] {
            let Some(mut ab) = tool("ab") else { return };
            ab.args(["-q", "-n2000", "-c20", "-s20"]);
            if keep {
                ab.arg("-k");
            }
            if path == "/echo" {
                ab.args(["-p", body.name(), "-T", "application/octet-stream"]);
            }
            let text = said(ab.arg(format!("http://{}{path}", node.addr)));
            assert_eq!(number(&text, "Complete requests:"), Some(2_000), "{text}");
            assert_eq!(number(&text, "Failed requests:"), Some(0), "{path} keep: {keep}\n{text}");
            assert!(!text.contains("Non-2xx") && !text.contains("Write errors"), "{text}");
            if keep {
                assert_eq!(number(&text, "Keep-Alive requests:"), Some(2_000), "{path}\n{text}");
            }
        }
    }
    node.comes_to_rest();
}

#[test]
fn hey_gets_an_answer_to_every_request() {
    let node = node();
    let body = File::new("hey", &pattern(3_000));
    for (path, more) in [
        ("/plaintext", &[][..]),
        ("/plaintext", &["-disable-keepalive"]),
        ("/json", &[]),
        ("/echo", &["-m", "POST", "-D", body.name()]),
    ] {
        let Some(mut hey) = tool("hey") else { return };
        let text =
            said(hey.args(["-n", "2000", "-c", "20"]).args(more).arg(format!("http://{}{path}", node.addr)));
        let answers: Vec<&str> = text.lines().filter(|line| line.trim_end().ends_with("responses")).collect();
        assert_eq!(answers.len(), 1, "{path} {more:?}:\n{text}");
        assert!(answers[0].trim().starts_with("[200]\t2000"), "{path} {more:?}:\n{text}");
        assert!(!text.contains("Error distribution"), "{path} {more:?}:\n{text}");
    }
    node.comes_to_rest();
}
