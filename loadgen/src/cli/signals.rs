//! Ctrl-C: the first ends the window and drains, the second ends at once, the third is the system's own.
//!
//! Not here: what an order does (`engine`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::engine::Order;

/// How often we were asked to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked(Arc<AtomicU8>);

impl Asked {
    /// Listens from now on.
    ///
    /// # Errors
    /// Where no handler can be set.
    pub(crate) fn listen() -> Result<Asked, String> {
        let asked = Asked::default();
        let count = Arc::clone(&asked.0);
        let mut signals =
            Signals::new([SIGINT, SIGTERM]).map_err(|error| format!("cannot take signals: {error}"))?;
        let body = move || {
            for signal in signals.forever() {
                if count.fetch_add(1, Ordering::AcqRel) >= 2 {
                    drop(signal_hook::low_level::emulate_default_handler(signal));
                }
            }
        };
        let named = std::thread::Builder::new().name("signals".into());
        named.spawn(body).map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(asked)
    }

    /// What a run is to do.
    pub(crate) fn order(&self) -> Order {
        match self.0.load(Ordering::Acquire) {
            0 => Order::GoOn,
            1 => Order::Stop,
            _ => Order::Abandon,
        }
    }

    /// Whether nothing more is to be begun.
    pub(crate) fn any(&self) -> bool {
        self.order() != Order::GoOn
    }
}
