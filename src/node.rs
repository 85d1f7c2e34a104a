//! What the node serves when nothing else is configured: enough to see that it works, and to measure it.
//!
//! Not here: services (they come as sections of the configuration).

use corelane_http::{App, IntoResponse, Json, OwnedRequest, Response};
use serde::Serialize;

use crate::services::cache::Cache;

/// The answer of `GET /json`.
#[derive(Serialize)]
struct Message {
    message: &'static str,
}

async fn echo(mut request: OwnedRequest<()>) -> Response {
    let content_type =
        request.header("content-type").unwrap_or("application/octet-stream").as_bytes().to_vec();
    match request.collect(u64::MAX).await {
        Ok(bytes) => Response { body: corelane_http::ResponseBody::Bytes(bytes), ..Response::status(200) }
            .header("content-type", content_type),
        Err(error) => error.into_response(),
    }
}

/// As [`app`], with the strings of `cache` under `/cache/`.
pub fn app_with(cache: &Cache) -> App<()> {
    crate::services::cache::http::routes(app(), cache)
}

/// `GET /health`, `GET /plaintext`, `GET /json`, `POST /echo`, `GET /api/info`, `GET /api/performance`.
pub fn app() -> App<()> {
    let app = App::new(())
        .get("/health", |_| Response::text("ok\n"))
        .get("/plaintext", |_| PLAINTEXT)
        .get("/json", |_| Json(Message { message: "Hello, World!" }))
        .post_async("/echo", echo);
    crate::observe::routes(app)
}

/// Made once: a constant response costs nothing to build.
const PLAINTEXT: Response = Response {
    status: 200,
    content_type: Some("text/plain"),
    headers: Vec::new(),
    body: corelane_http::ResponseBody::Static(b"Hello, World!"),
    close: false,
};
