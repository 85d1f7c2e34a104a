//! Hooks: order, and what a failure does.

#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::rc::Rc;

use crate::harness::TestServer;
use crate::{App, HookError};

type Trace = RefCell<Vec<String>>;

#[test]
fn hooks_run_in_order_and_once() {
    let app = App::new(Trace::default())
        .on_start(async |state: Rc<Trace>| {
            state.borrow_mut().push("first".into());
            Ok::<_, HookError>(())
        })
        .on_start(async |state: Rc<Trace>| {
            state.borrow_mut().push("second".into());
            Ok::<_, HookError>(())
        })
        .on_drain(async |state: Rc<Trace>| state.borrow_mut().push("drained".into()));
    let state = Rc::clone(app.state());
    let server = TestServer::new(app);
    assert_eq!(state.take(), ["first", "second"]);
    server.drain();
    server.drain();
    assert_eq!(state.take(), ["drained"]);
}

#[test]
#[should_panic(expected = "no database")]
fn a_failed_start_hook_stops_the_start() {
    TestServer::new(App::new(()).on_start(async |_| Err::<(), HookError>("no database".into())));
}
