//! Request bodies: how they are read, and how they are refused.

#![allow(clippy::unwrap_used)]

use crate::harness::TestServer;
use crate::tests::echo;
use crate::{App, Json, OwnedRequest, Reject};

#[derive(serde::Deserialize, serde::Serialize)]
struct Point {
    x: i32,
    y: Option<i32>,
}

#[test]
fn json_is_read_or_refused_with_the_reason() {
    async fn double(mut request: OwnedRequest<()>) -> Result<Json<Point>, Reject> {
        let point: Point = request.json(64).await?;
        Ok(Json(Point { x: point.x * 2, y: point.y }))
    }
    let server = TestServer::new(App::new(()).post_async("/", double));
    let answer = server.post("/").json(&Point { x: 4, y: None }).send();
    assert_eq!((answer.status, answer.json::<Point>().x), (200, 8));
    assert_eq!(answer.header("content-type"), Some("application/json"));

    let send = |kind: Option<&'static str>, body: &str| {
        let request = server.post("/").body(body);
        let answer = match kind {
            Some(kind) => request.header("content-type", kind).send(),
            None => request.send(),
        };
        (answer.status, answer.text().to_string())
    };
    assert_eq!(send(None, "{}").0, 415);
    assert_eq!(send(Some("text/plain"), "{}").0, 415);
    assert_eq!(send(Some("application/vnd.a+json; v=1"), r#"{"x":1}"#).0, 200);
    let (status, text) = send(Some("application/json"), r#"{"y":1}"#);
    assert_eq!(status, 400);
    assert!(text.contains("missing field `x`") && text.contains("line 1"), "{text}");
    for bad in ["", "{", r#"{"x":1}}"#, r#"{"x":"1"}"#, "[1", "nul", "{\"x\":1,\"\u{1}\":2}"] {
        assert_eq!(send(Some("application/json"), bad).0, 400, "{bad}");
    }
    let (status, text) = send(Some("application/json"), &format!(r#"{{"x":1{}}}"#, " ".repeat(64)));
    assert_eq!((status, text.as_str()), (413, "the request body is larger than 64 bytes"));
    // exactly the maximum is taken
    let exact = format!(r#"{{"x":1{}}}"#, " ".repeat(64 - 7));
    assert_eq!((exact.len(), send(Some("application/json"), &exact).0), (64, 200));
}

#[test]
fn deeply_nested_json_is_refused_and_not_recursed_into() {
    #[derive(serde::Deserialize)]
    struct Tree(#[allow(dead_code)] Vec<Tree>);
    async fn grow(mut request: OwnedRequest<()>) -> Result<(), Reject> {
        request.json::<Tree>(1 << 20).await.map(drop)
    }
    async fn skip(mut request: OwnedRequest<()>) -> Result<(), Reject> {
        request.json::<serde::de::IgnoredAny>(1 << 20).await.map(drop)
    }
    let server = TestServer::new(App::new(()).post_async("/grow", grow).post_async("/skip", skip));
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let send = |path, body: &str| {
        server.post(path).header("content-type", "application/json").body(body).send().status
    };
    assert_eq!(send("/grow", &nested(100)), 204);
    assert_eq!(send("/grow", &nested(200_000)), 400);
    assert_eq!(send("/grow", &"[".repeat(400_000)), 400);
    assert_eq!(send("/skip", &nested(100)), 204);
    assert_eq!(send("/skip", &nested(200_000)), 400);
    assert_eq!(send("/skip", &"[".repeat(400_000)), 400);
}

#[test]
fn bodies_are_collected_up_to_a_maximum_and_checked_for_utf8() {
    let server = TestServer::new(App::new(()).post_async("/text", echo).post_async(
        "/whole",
        async |mut request: OwnedRequest<()>| {
            let announced = request.body_length();
            let mut seen = 0;
            while let Some(chunk) = request.chunk().await.map_err(Reject::from)? {
                seen += chunk.len();
            }
            assert_eq!(request.take_body().length(), announced);
            assert_eq!(request.take_body().length(), Some(0));
            Ok::<_, Reject>(format!("{announced:?} {seen}"))
        },
    ));
    assert_eq!(server.post("/text").body(&[b'a'; 16]).send().status, 200);
    assert_eq!(server.post("/text").body(&[b'a'; 17]).send().status, 413);
    assert_eq!(server.post("/text").body(&[0xff]).send().status, 400);
    assert_eq!(server.post("/text").send().text(), "");
    assert_eq!(server.post("/whole").body("abcd").send().text(), "Some(4) 4");
    assert_eq!(server.post("/whole").send().text(), "Some(0) 0");
}
