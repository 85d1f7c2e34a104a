//! A value that is never shown.
//!
//! Not here: comparing it with what a client sent (the admin listener, in constant time).

use std::fmt;

/// Text that neither debug output nor a printed configuration shows. Empty is none.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// Takes `text` as a secret.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text, to be sent to whom it is for. Never into a message.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `given` is it. Takes a time that depends on the lengths only.
    pub fn is(&self, given: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let mut differs = u8::from(given.len() != own.len());
        for (at, wanted) in own.iter().enumerate() {
            differs |= std::hint::black_box(given.get(at).copied().unwrap_or(!wanted) ^ wanted);
        }
        differs == 0
    }

    /// The text itself; not for messages.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "(none)" } else { "(set)" })
    }
}
