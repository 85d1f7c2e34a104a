//! Command: the arguments of one command, as slices of the bytes it came in.
//!
//! Not here: finding them (`parser`, `inline`).

use core::ops::Index;

/// Where one argument is, from the first byte of what its [`Command`] borrows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

impl Span {
    /// The argument from `start` to `end`. Both are below the maximum of a command, which is a `u32`.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the parser refuses commands that a u32 cannot measure"
    )]
    pub(crate) fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end);
        debug_assert!(u32::try_from(end).is_ok());
        Self { start: start as u32, len: (end - start) as u32 }
    }

    #[inline]
    fn of<'p>(&self, bytes: &'p [u8]) -> &'p [u8] {
        let start = self.start as usize;
        &bytes[start..start + self.len as usize]
    }
}

/// One command: its name and what follows, at least one argument in all.
///
/// Lives until the next poll. It copies nothing: arguments are slices of the input or, for an inline command
/// with quotes, of what the parser made of it.
#[derive(Clone, Copy, Debug)]
pub struct Command<'p> {
    pub(crate) bytes: &'p [u8],
    pub(crate) spans: &'p [Span],
    pub(crate) is_inline: bool,
}

impl<'p> Command<'p> {
    /// How many arguments, the name among them. At least 1.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a command is never empty")]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// The first argument, as it was sent: any bytes, also none.
    #[inline]
    pub fn name(&self) -> &'p [u8] {
        self.spans.first().map_or(&[], |span| span.of(self.bytes))
    }

    /// Argument `index`; 0 is the name. An argument that was detached has no bytes here.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'p [u8]> {
        self.spans.get(index).map(|span| span.of(self.bytes))
    }

    /// All arguments, from the name on.
    #[inline]
    pub fn iter(&self) -> Args<'p> {
        Args { bytes: self.bytes, spans: self.spans.iter() }
    }

    /// Whether it came as a line of words instead of an array of strings.
    #[inline]
    pub fn is_inline(&self) -> bool {
        self.is_inline
    }
}

impl Index<usize> for Command<'_> {
    type Output = [u8];

    /// Argument `index`.
    ///
    /// # Panics
    /// Beyond the last one: check [`Command::len`] first.
    #[inline]
    fn index(&self, index: usize) -> &[u8] {
        self.spans[index].of(self.bytes)
    }
}

impl<'p> IntoIterator for &Command<'p> {
    type Item = &'p [u8];
    type IntoIter = Args<'p>;

    #[inline]
    fn into_iter(self) -> Args<'p> {
        self.iter()
    }
}

/// The arguments of a command in order.
#[derive(Clone, Debug)]
pub struct Args<'p> {
    bytes: &'p [u8],
    spans: core::slice::Iter<'p, Span>,
}

impl<'p> Iterator for Args<'p> {
    type Item = &'p [u8];

    #[inline]
    fn next(&mut self) -> Option<&'p [u8]> {
        self.spans.next().map(|span| span.of(self.bytes))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.spans.size_hint()
    }
}

impl ExactSizeIterator for Args<'_> {}
