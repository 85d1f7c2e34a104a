//! An application behind real connections, over the simulated kernel: what the harness leaves out.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use corelane_base::{Limits, ListenerId, ShardId};
use corelane_exec::{Runtime, sleep, spawn};
use corelane_http::{App, OwnedRequest, Reject, Request, Response, body_channel, websocket_accept};
use corelane_net::{Http1, Http1Config};
use corelane_pools::{PoolConfig, Pools};
use corelane_sim::{Peer, Sim, SimConfig, SimKernel, World};

struct Rig {
    runtime: Runtime<SimKernel>,
    world: World,
    peer: Peer,
    listener: ListenerId,
}

impl Rig {
    fn new<S: 'static>(app: App<S>) -> Rig {
        let limits = Limits::default();
        let (kernel, world) = Sim::new(SimConfig::of(&limits));
        let listener = world.add_listener();
        let pools = Pools::new(&PoolConfig::default()).unwrap();
        let mut runtime = Runtime::new(ShardId(0), limits, pools, kernel, None);
        runtime.within(|shard| {
            let http = Http1::start(shard, app, Http1Config { server: None, ..Http1Config::default() });
            http.listen(shard, listener);
        });
        let peer = world.connect(listener);
        let mut rig = Rig { runtime, world, peer, listener };
        rig.turns(4);
        rig
    }

    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.runtime.turn(false).unwrap();
            self.world.advance(Duration::from_micros(10));
        }
    }

    /// What comes back for these bytes.
    fn exchange(&mut self, request: &str) -> String {
        self.peer.write(request.as_bytes());
        self.turns(20);
        String::from_utf8(self.peer.take()).unwrap()
    }
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or(answer)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[test]
fn inline_answers_follow_one_another_on_one_connection() {
    let mut rig =
        Rig::new(App::new(()).get("/a", |_| "first").get("/b/{x}", |r| r.param("x").map(|x| x.into_owned())));
    let both = rig.exchange("GET /a HTTP/1.1\r\nHost: t\r\n\r\nGET /b/second HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(both.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{both}");
    assert!(both.find("first").unwrap() < both.find("second").unwrap());
    let head = rig.exchange("HEAD /a HTTP/1.1\r\nHost: t\r\n\r\n");
    assert!(head.contains("Content-Length: 5\r\n") && body(&head).is_empty(), "{head}");
    let none = rig.exchange("OPTIONS /a HTTP/1.1\r\nHost: t\r\n\r\n");
    assert!(status(&none) == "204" && none.contains("allow: GET, HEAD, OPTIONS\r\n"), "{none}");
    assert!(!none.contains("Content-Length"), "{none}");
    assert_eq!(status(&rig.exchange("GET /none HTTP/1.1\r\nHost: t\r\n\r\n")), "404");
    assert!(!rig.peer.is_over());
}

#[test]
fn a_body_reaches_its_handler_piece_by_piece() {
    async fn measure(mut request: OwnedRequest<()>) -> Result<String, Reject> {
        let announced = request.body_length();
        let text = request.text(64).await?;
        Ok(format!("{announced:?} {text}"))
    }
    let mut rig = Rig::new(App::new(()).post_async("/m", measure));
    let nothing = rig.exchange("POST /m HTTP/1.1\r\nHost: t\r\nContent-Length: 6\r\n\r\nabc");
    assert_eq!(nothing, "");
    assert_eq!(body(&rig.exchange("def")), "Some(6) abcdef");
    let chunked =
        "POST /m HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
    assert_eq!(body(&rig.exchange(chunked)), "None abcd");
    assert_eq!(body(&rig.exchange("POST /m HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n")), "Some(0) ");
    let large =
        rig.exchange(&format!("POST /m HTTP/1.1\r\nHost: t\r\nContent-Length: 65\r\n\r\n{}", "x".repeat(65)));
    assert_eq!((status(&large), body(&large)), ("413", "the request body is larger than 64 bytes"));
}

#[test]
fn async_handlers_may_wait_for_their_shard_and_stream() {
    let app = App::new(())
        .get_async("/slow", async |_: OwnedRequest<()>| {
            sleep(Duration::from_micros(50)).await;
            "slept"
        })
        .get("/stream", |_| {
            let (mut sender, stream) = body_channel(4);
            let task = spawn(async move {
                for piece in ["one ", "two ", "three"] {
                    if sender.send(piece).await.is_err() {
                        return;
                    }
                }
                sender.finish();
            });
            task.unwrap().detach();
            Response::stream("text/plain", None, stream)
        });
    let mut rig = Rig::new(app);
    assert_eq!(
        body(&rig.exchange("GET /stream HTTP/1.1\r\nHost: t\r\n\r\n")),
        "4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n"
    );
    let slow = rig.exchange("GET /slow HTTP/1.1\r\nHost: t\r\n\r\n");
    rig.world.advance(Duration::from_millis(10));
    rig.turns(20);
    let late = String::from_utf8(rig.peer.take()).unwrap();
    assert_eq!(body(&(slow + &late)), "slept");
}

#[test]
fn a_panic_costs_one_request_of_either_kind() {
    let app = App::new(())
        .get("/now", |_: &Request<'_, ()>| -> &'static str { panic!("now") })
        .get_async("/later", async |_: OwnedRequest<()>| -> &'static str { panic!("later") })
        .get("/fine", |_| "fine");
    let mut rig = Rig::new(app);
    for path in ["/now", "/later"] {
        let answer = rig.exchange(&format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n"));
        assert_eq!(status(&answer), "500");
        assert!(answer.contains("Connection: close"), "{answer}");
        rig.peer = rig.world.connect(rig.listener);
        rig.turns(4);
        assert_eq!(body(&rig.exchange("GET /fine HTTP/1.1\r\nHost: t\r\n\r\n")), "fine");
    }
}

#[test]
fn an_accepted_websocket_belongs_to_its_function() {
    let app = App::new(()).get("/ws", |request| -> Result<Response, Response> {
        Ok(websocket_accept(request)?.respond(|stream| {
            let echo = spawn(async move {
                while let Ok(bytes) = stream.read().await {
                    if bytes.is_empty() || stream.write_all(bytes).await.is_err() {
                        return;
                    }
                }
            });
            echo.unwrap().detach();
        }))
    });
    let mut rig = Rig::new(app);
    let answer = rig.exchange(
        "GET /ws HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert_eq!(status(&answer), "101", "{answer}");
    assert!(answer.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
    assert_eq!(rig.exchange("GET /ws HTTP/1.1\r\n\r\n"), "GET /ws HTTP/1.1\r\n\r\n");
}
