//! Node: SHUTDOWN and DEBUG, which are about the process.
//!
//! Not here: the drain (`boot`), what else is about the node (`server`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use corelane_proto_resp::Command;

use super::Resp;
use super::client::State;
use super::dispatch::Then;
use crate::services::cache::command::{Reply, Spec, parse};

/// Seconds that DEBUG SLEEP may take.
const SLEEP_S_MAX: f64 = 60.0;

/// Asks the node to drain; false where it cannot be asked.
type Ask = Arc<dyn Fn() -> bool + Send + Sync>;

/// A way to ask the node to drain and end, if there is one.
#[derive(Clone, Default)]
pub struct Shutdown(Option<Ask>);

impl Shutdown {
    /// By `ask`, which says whether it was heard. It must not wait.
    pub fn by(ask: impl Fn() -> bool + Send + Sync + 'static) -> Shutdown {
        Shutdown(Some(Arc::new(ask)))
    }

    fn ask(&self) -> bool {
        self.0.as_ref().is_some_and(|ask| ask())
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Shutdown" } else { "Shutdown(none)" })
    }
}

impl Resp {
    /// SHUTDOWN: drains the node as SIGTERM does. Its options change nothing: what is saved then is said by the
    /// configuration.
    pub(super) fn shutdown(&self, state: &State, command: &Command<'_>, reply: &mut Reply) -> Then {
        let mut given = [false; 5];
        for word in command.iter().skip(1) {
            let names = ["nosave", "save", "now", "force", "abort"];
            let Some(at) = names.iter().position(|name| parse::is(word, name)) else {
                reply.error(parse::SYNTAX);
                return Then::Next;
            };
            given[at] = true;
        }
        let [nosave, save, now, force, abort] = given;
        if nosave && save || abort && (nosave || save || now || force) {
            reply.error(parse::SYNTAX);
            return Then::Next;
        }
        if abort {
            // A drain is not stopped any more, and takes no commands.
            reply.error("ERR No shutdown in progress.");
            return Then::Next;
        }
        tracing::warn!(client = state.id, "SHUTDOWN: the node drains");
        if self.settings.shutdown.ask() {
            return Then::Close;
        }
        reply.error("ERR Errors trying to SHUTDOWN. Check logs.");
        Then::Next
    }

    /// DEBUG: SLEEP, where the configuration allows it.
    pub(super) fn debug(&self, spec: &'static Spec, command: &Command<'_>, reply: &mut Reply) -> Then {
        if !self.settings.debug {
            // The words that clients look for, with our key.
            reply.error(
                "ERR DEBUG command not allowed. If resp.debug_commands is set to true in the configuration file, you \
                 can run it after a restart of the server.",
            );
            return Then::Next;
        }
        if !parse::is(&command[1], "sleep") || command.len() != 3 {
            reply.error_about(
                "ERR unknown subcommand or wrong number of arguments for '",
                &command[1],
                "'. DEBUG SLEEP seconds is all there is.",
            );
            return Then::Next;
        }
        let Some(seconds) = parse::float(&command[2]).filter(|seconds| (0.0..=SLEEP_S_MAX).contains(seconds))
        else {
            reply.error(format_args!("ERR DEBUG SLEEP takes 0 to {SLEEP_S_MAX} seconds"));
            return Then::Next;
        };
        let began = corelane_sys::clock::mono_ns();
        // The whole shard stands still: that is what it is for.
        std::thread::sleep(Duration::from_secs_f64(seconds));
        let ns = corelane_sys::clock::mono_ns().saturating_sub(began);
        self.here.slow.ran(spec, command, ns, (began, self.here.unix_ms_at(began)));
        reply.ok();
        Then::Next
    }
}
