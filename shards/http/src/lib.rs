//! Corelane floor 6: the application side of HTTP.
//!
//! An [`App`] is what one shard serves: state, routes, handlers, middleware. Reading order: [`app`] (the way
//! of a request), `route` and `literal` (from a path to a handler), [`request`] and [`owned`] (what handlers
//! see), [`forwarded`] (whom they come from), [`answer`] and [`json`] (what they give back and read), [`middleware`], [`upgrade`].
//!
//! ```
//! use corelane_http::App;
//! let app = App::new(()).get("/", |_| "hello");
//! # let _ = app;
//! ```
//!
//! Not here: sockets, deadlines, framing (`corelane-net`).
#![forbid(unsafe_code)]

pub mod answer;
pub mod app;
pub mod forwarded;
mod head;
pub mod json;
mod literal;
pub mod middleware;
pub mod owned;
mod percent;
pub mod request;
mod route;
pub mod upgrade;

#[cfg(any(test, feature = "harness"))]
pub mod harness;
#[cfg(test)]
mod tests;

pub use answer::{Html, IntoResponse, Json, Redirect, Reject, Status};
pub use app::{App, DrainHook, HookError, StartHook};
pub use corelane_net::body::{Body, BodyError, BodySender, BodyStream, body_channel};
pub use corelane_net::h1::{Method, Version};
pub use corelane_net::message::{Response, ResponseBody};
pub use corelane_net::service::{Answer, Incoming, Service};
pub use forwarded::{Client, How, Proto, Trust};
pub use head::Fields;
pub use ipnet::IpNet;
pub use middleware::{Cors, Log, Middleware, SetHeader};
pub use owned::OwnedRequest;
pub use request::Request;
pub use route::RouteError;
pub use upgrade::{WebSocketAccept, websocket_accept};
