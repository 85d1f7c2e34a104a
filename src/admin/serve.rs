//! Connections of the admin interface: one request each, bounded in every direction.
//!
//! Not here: what is answered (`pages`), who may ask (`access`).

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::LocalSet;

use super::access::{self, Refusal};
use super::pages::Pages;
use super::{CONNECTION_TIME, CONNECTIONS_MAX, HEAD_TIME};
use crate::config::Secret;

/// Rest after an accept that failed (no descriptors), so that it is not tried in a loop.
const RETRY: Duration = Duration::from_millis(100);

/// Bytes of a request's head. The least that hyper takes.
const HEAD_BYTES: usize = 8192;

/// Fields of a request's head.
const FIELDS_MAX: usize = 64;

/// Serves until `stopped` resolves, which it also does when its other end is dropped.
pub(super) fn run(
    listener: TcpListener,
    token: Secret,
    pages: Pages,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let accepting = accept(listener, Rc::new(token), Rc::new(pages));
        either(accepting, stopped).await;
        Ok(())
    })
    // What is open ends with the set of tasks.
}

/// Waits for the first of two that ends.
async fn either(a: impl Future, b: impl Future) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    std::future::poll_fn(|cx| {
        if a.as_mut().poll(cx).is_ready() || b.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}

async fn accept(listener: tokio::net::TcpListener, token: Rc<Secret>, pages: Rc<Pages>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // A place first: without one, newcomers wait in the listen queue.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (token, pages) = (Rc::clone(&token), Rc::clone(&pages));
                tokio::task::spawn_local(async move {
                    connection(stream, &token, &pages).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the admin interface cannot accept");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, token: &Secret, pages: &Pages) {
    let service = service_fn(|request| async {
        let response = answer(request, token, pages).await;
        Ok::<_, Infallible>(response)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .max_headers(FIELDS_MAX)
        .keep_alive(false)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIME, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an admin client ended early"),
        Err(_) => tracing::debug!("an admin client was too slow"),
    }
}

async fn answer(request: Request<Incoming>, token: &Secret, pages: &Pages) -> Response<Full<Bytes>> {
    match access::check(&request, token) {
        Ok(()) => pages.answer(&request).await,
        Err(refusal) => {
            let mut response = Response::new(Full::from(refusal.text()));
            *response.status_mut() = refusal.status();
            let fields = response.headers_mut();
            fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            match refusal {
                Refusal::Method => fields.insert(ALLOW, HeaderValue::from_static("GET, HEAD")),
                Refusal::Token => fields.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
                Refusal::Host => None,
            };
            response
        }
    }
}
