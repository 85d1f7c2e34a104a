//! The application that most tests talk to: every way to answer, each under a path of its own.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use corelane::{
    App, IntoResponse, OwnedRequest, Request, Response, ResponseBody, TcpStream, body_channel, sleep, spawn,
};

/// Bytes whose value tells their place, so that one that is lost, doubled or moved shows.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at + at / 251) % 251).unwrap_or(0)).collect()
}

fn number<S>(request: &Request<'_, S>) -> usize {
    request.param("n").and_then(|n| n.parse().ok()).unwrap_or(0)
}

async fn echo(mut request: OwnedRequest<()>) -> Response {
    match request.collect(u64::MAX).await {
        Ok(bytes) => Response::bytes("application/octet-stream", bytes),
        Err(error) => error.into_response(),
    }
}

/// Sends back each piece as it comes, chunked.
async fn relay(mut request: OwnedRequest<()>) -> Response {
    let (mut out, stream) = body_channel(64 << 10);
    let task = spawn(async move {
        while let Ok(piece) = request.chunk().await {
            let Some(piece) = piece else { return out.finish() };
            if out.send(piece).await.is_err() {
                return;
            }
        }
    });
    if let Ok(task) = task {
        task.detach();
    }
    Response::stream("application/octet-stream", None, stream)
}

/// `len` bytes of the pattern in pieces of 10,000, announced as `length`; `ends` without is a cut.
fn streamed(len: usize, length: Option<u64>, ends: bool) -> Response {
    let (mut out, stream) = body_channel(32 << 10);
    let task = spawn(async move {
        let all = first(len);
        let mut from = 0;
        while from < len {
            let to = (from + 10_000).min(len);
            if out.send(all.slice(from..to)).await.is_err() {
                return;
            }
            from = to;
        }
        if ends {
            out.finish();
        }
    });
    if let Ok(task) = task {
        task.detach();
    }
    Response::stream("application/octet-stream", length, stream)
}

/// After the 101: what comes goes back.
async fn echo_stream(stream: TcpStream) {
    while let Ok(bytes) = stream.read().await {
        if bytes.is_empty() || stream.write_all(bytes).await.is_err() {
            break;
        }
    }
}

fn upgrade(_: &Request<'_, ()>) -> Response {
    Response::upgrade("echo", |stream| {
        if let Ok(task) = spawn(echo_stream(stream)) {
            task.detach();
        }
    })
}

/// The number of the path from every shard, added up: each is asked, the own one as well.
async fn across(request: OwnedRequest<()>) -> Result<String, corelane::CallError> {
    let n = number(&request.view());
    let mesh = corelane::mesh();
    let mut sum = 0;
    for to in mesh.all() {
        sum += mesh.with(to, move |_| n).await?;
    }
    Ok(sum.to_string())
}

/// Every way to answer.
pub(crate) fn app() -> App<()> {
    LazyLock::force(&EIGHT_MIB);
    App::new(())
        .get("/", |_| "hello")
        .get("/plaintext", |_| "Hello, World!")
        .get("/token/{token}", |request| request.param("token").map(std::borrow::Cow::into_owned))
        .get_async("/across/{n}", across)
        .get("/big/{n}", |request| first(number(request)))
        .get("/constant", |_| constant())
        .get("/stream/{n}", |request| streamed(number(request), None, true))
        .get("/sized/{n}", |request| streamed(number(request), Some(number(request) as u64), true))
        .get("/short", |_| streamed(50_000, Some(60_000), true))
        .get("/cut", |_| streamed(50_000, None, false))
        .get_async("/slow/{n}", |request: OwnedRequest<()>| async move {
            sleep(Duration::from_millis(number(&request.view()) as u64)).await;
            "slow"
        })
        .post_async("/echo", echo)
        .post_async("/relay", relay)
        .post("/ignore", |_| "ignored")
        .put("/put", |_| "put")
        .get("/upgrade", upgrade)
        .get("/panic", |_| -> &'static str { panic!("asked to") })
        .get_async("/panic-later", |_: OwnedRequest<()>| async {
            sleep(Duration::from_millis(1)).await;
            if true {
                panic!("asked to, later");
            }
            "never"
        })
}

/// 8 MiB of the pattern, made once: these handlers must not keep their shard busy.
static EIGHT_MIB: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(pattern(8 << 20)));

/// The first of it, at most 8 MiB.
fn first(len: usize) -> Bytes {
    EIGHT_MIB.slice(..len)
}

/// All of it, as bytes that were always there.
fn constant() -> Response {
    let bytes: &'static Bytes = &EIGHT_MIB;
    Response { body: ResponseBody::Static(bytes), ..Response::status(200) }
}
