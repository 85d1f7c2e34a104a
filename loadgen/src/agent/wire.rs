//! What agent and controller say to each other: JSON behind its length in four bytes, little end first.
//!
//! # Rules
//! 1. Each side says how long a message it takes may be before it reads one: [`FIRST_LEN_MAX`] of a stranger,
//!    [`RESULT_LEN_MAX`] where a result is due, [`MESSAGE_LEN_MAX`] otherwise. Memory grows with the bytes
//!    that came, never with a length that was claimed.
//! 2. A result with more slices than were asked for is not built.
//!
//! Not here: sockets (`server`, `controller`), the order of messages (there, too).

use serde::{Deserialize, Serialize};
use sonic_rs::LazyValue;

use super::Token;
use crate::compare::{first_line, parse_run};
use crate::model::{Run, Settings, Slice};

/// A greeting: a version, a schema and a token of at most a kilobyte.
pub const FIRST_LEN_MAX: usize = 4 << 10;
/// A plan with a body of 200 KB, or a slice.
pub const MESSAGE_LEN_MAX: usize = 1 << 20;
/// A run of 10,000 slices.
pub const RESULT_LEN_MAX: usize = 256 << 20;
/// Characters of a failure that are printed.
const TEXT_LEN_MAX: usize = 1_000;
/// Bytes of the length in front of a message.
const PREFIX_LEN: usize = 4;

/// One message.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// Controller: who I am.
    Hello {
        /// Of loadgen; must be the same on both sides.
        version: String,
        /// Of results; must be the same on both sides.
        schema: u32,
        /// What lets it in, where one is needed.
        token: Option<Token>,
    },
    /// Agent: come in.
    Welcome {
        /// Of loadgen.
        version: String,
        /// Of results.
        schema: u32,
        /// Which host it is, see `Provenance::host_id`.
        host_id: String,
        /// CPUs it may use.
        cpus: usize,
    },
    /// Controller: what time is it?
    Ping {
        /// Comes back in the answer.
        id: u64,
    },
    /// Agent: this.
    Pong {
        /// Of the question.
        id: u64,
        /// Its monotonic clock.
        clock_ns: u64,
    },
    /// Controller: do this, then.
    Plan {
        /// Of the whole run.
        settings: Box<Settings>,
        /// Which part, from 0.
        dealt_index: u64,
        /// Of how many.
        dealt_of: u64,
        /// When its traffic begins, on the agent's clock.
        start_at_ns: u64,
    },
    /// Agent: I will.
    Ready,
    /// Agent: a slice is over. For display; one may be left out.
    Progress {
        /// Without its weighted requests.
        slice: Box<Slice>,
    },
    /// Agent: it is done.
    #[serde(skip_deserializing)] // read by `decode`, with a bound on its slices
    Done {
        /// What this agent measured.
        run: Box<Run>,
    },
    /// Either: it is over, and why.
    Failed {
        /// One line.
        text: String,
    },
    /// Controller: end it now, and give me what you have.
    Stop,
}

impl Message {
    /// What it is called in errors. Says nothing of its content.
    pub fn name(&self) -> &'static str {
        match self {
            Message::Hello { .. } => "hello",
            Message::Welcome { .. } => "welcome",
            Message::Ping { .. } => "ping",
            Message::Pong { .. } => "pong",
            Message::Plan { .. } => "plan",
            Message::Ready => "ready",
            Message::Progress { .. } => "progress",
            Message::Done { .. } => "done",
            Message::Failed { .. } => "failed",
            Message::Stop => "stop",
        }
    }

    /// The bytes of a message, length first.
    ///
    /// # Errors
    /// It is longer than the other side takes ([`RESULT_LEN_MAX`] for a result, [`MESSAGE_LEN_MAX`]
    /// otherwise).
    pub fn encode(&self) -> Result<Vec<u8>, String> {
        let is_result = matches!(self, Message::Done { .. });
        let max = if is_result { RESULT_LEN_MAX } else { MESSAGE_LEN_MAX };
        let text = sonic_rs::to_string(self).map_err(|error| first_line(&error))?;
        let len = u32::try_from(text.len()).ok().filter(|_| text.len() <= max);
        let Some(len) = len else {
            return Err(format!("a {} of {} bytes: {max} can be sent", self.name(), text.len()));
        };
        let mut bytes = Vec::with_capacity(PREFIX_LEN + text.len());
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
        Ok(bytes)
    }

    /// The message in `bytes`, without their length. A result may have `slices_max` slices.
    ///
    /// # Errors
    /// It is no message.
    pub fn decode(bytes: &[u8], slices_max: usize) -> Result<Message, String> {
        #[derive(Deserialize)]
        struct Result_<'a> {
            #[serde(borrow)]
            done: Done<'a>,
        }
        #[derive(Deserialize)]
        struct Done<'a> {
            #[serde(borrow)]
            run: LazyValue<'a>,
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "a message that is not UTF-8".to_owned())?;
        if text.starts_with("{\"done\":") {
            let result: Result_<'_> = sonic_rs::from_str(text).map_err(|error| first_line(&error))?;
            let run = parse_run(result.done.run.as_raw_str(), slices_max)?;
            return Ok(Message::Done { run: Box::new(run) });
        }
        match sonic_rs::from_str(text).map_err(|error| first_line(&error))? {
            Message::Failed { text } => Ok(Message::Failed { text: printable(&text) }),
            message => Ok(message),
        }
    }
}

/// A text of the other side as one line without control characters, shortened.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_LEN_MAX).collect()
}

/// Bytes as they come, cut into messages.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    /// Takes what was received.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, once all of it is here.
    ///
    /// # Errors
    /// It is longer than `len_max`, or is no message. Nothing after it can be understood.
    pub fn next(&mut self, len_max: usize, slices_max: usize) -> Result<Option<Message>, String> {
        let Some(prefix) = self.bytes.first_chunk::<PREFIX_LEN>() else { return Ok(None) };
        let len = u32::from_le_bytes(*prefix) as usize;
        if len > len_max {
            return Err(format!(
                "a message of {len} bytes, and {len_max} are taken: this is not loadgen speaking"
            ));
        }
        let Some(body) = self.bytes.get(PREFIX_LEN..PREFIX_LEN + len) else { return Ok(None) };
        let message = Message::decode(body, slices_max).map_err(|error| format!("not a message: {error}"))?;
        self.bytes.drain(..PREFIX_LEN + len);
        if self.bytes.is_empty() && self.bytes.capacity() > MESSAGE_LEN_MAX {
            self.bytes = Vec::new();
        }
        Ok(Some(message))
    }
}
