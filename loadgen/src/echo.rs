//! Echo: messages of a fixed size that come back as they went.
//!
//! A message begins with the number of its request, eight bytes in little-endian order, so that an answer to
//! another request is told from the right one. Behind it come bytes that are the same for all. One shorter
//! than eight bytes has no number, and all are the same.
//!
//! # Rules
//! 1. A connection keeps an offset and nothing else: what came is compared as it comes, with slices of what
//!    went.
//! 2. At the first byte that differs the answer is wrong and the connection of no further use: where the next
//!    message begins is unknown.
//!
//! Not here: connections (`worker`).

use bytes::Bytes;

use crate::draw::Draws;
use crate::protocol::{Answer, Protocol};
use crate::record::ErrorKind;

/// Longest message, bytes: 16 MiB.
pub const LEN_MAX: u32 = 16 << 20;

/// Bytes of a number.
const NUMBER_LEN: usize = size_of::<u64>();

/// The salt of the bytes of a message.
const SALT_BYTES: u64 = 0x6563_686f_0001;

/// The messages of a run, and the judge of what comes back. A clone shares their bytes.
#[derive(Clone, Debug)]
pub struct Echo {
    /// What is the same for all: behind the number if there is one, else everything.
    same: Bytes,
    /// Bytes of the number.
    number_len: usize,
}

/// Bytes of a message that came back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offset(u32);

impl Echo {
    /// Messages of `len` bytes. What they have in common is drawn from `seed`.
    ///
    /// # Errors
    /// If `len` is not from 1 to [`LEN_MAX`].
    pub fn new(len: u32, seed: u64) -> Result<Echo, String> {
        if !(1..=LEN_MAX).contains(&len) {
            return Err(format!("a message of {len} bytes cannot work: set it to 1 to {LEN_MAX} (16 MiB)"));
        }
        let len = len as usize;
        let number_len = if len < NUMBER_LEN { 0 } else { NUMBER_LEN };
        let words = Draws::new(seed, SALT_BYTES);
        let mut same: Vec<u8> = Vec::with_capacity(len + NUMBER_LEN);
        let mut number = 0;
        while same.len() < len - number_len {
            same.extend_from_slice(&words.at(number).to_le_bytes());
            number += 1;
        }
        same.truncate(len - number_len);
        Ok(Echo { same: same.into(), number_len })
    }

    fn len(&self) -> usize {
        self.number_len + self.same.len()
    }
}

impl Protocol for Echo {
    type Conn = Offset;
    /// Its number.
    type Ask = u64;

    fn constant(&self) -> Option<(Bytes, u64)> {
        (self.number_len == 0).then(|| (self.same.clone(), 0))
    }

    #[inline]
    fn write(&mut self, number: u64, out: &mut Vec<u8>) -> u64 {
        out.reserve(self.len());
        out.extend_from_slice(&number.to_le_bytes()[..self.number_len]);
        out.extend_from_slice(&self.same);
        number
    }

    #[inline]
    fn kind(&self, _: u64) -> usize {
        0
    }

    #[inline]
    fn read(&self, conn: &mut Offset, bytes: &mut &[u8], ask: u64) -> Result<Option<Answer>, ErrorKind> {
        let number = ask.to_le_bytes();
        let start = conn.0 as usize;
        let mut at = start;
        let mut is_same = true;
        if at < self.number_len {
            let piece = take(bytes, self.number_len - at);
            is_same = *piece == number[at..at + piece.len()];
            at += piece.len();
        }
        if is_same && at >= self.number_len {
            let from = at - self.number_len;
            let piece = take(bytes, self.same.len() - from);
            is_same = *piece == self.same[from..from + piece.len()];
            at += piece.len();
        }
        if !is_same {
            return Ok(Some(Answer { error: Some(ErrorKind::WrongAnswer), close: true }));
        }
        if at < self.len() {
            // At most what was taken more than before, and below the length, which is one.
            conn.0 += u32::try_from(at - start).unwrap_or(0);
            return Ok(None);
        }
        conn.0 = 0;
        Ok(Some(Answer { error: None, close: false }))
    }

    /// No message ends with the connection.
    fn end(&self, _: &mut Offset, _: u64) -> Option<Answer> {
        None
    }

    fn is_within(&self, conn: &Offset) -> bool {
        conn.0 > 0
    }
}

/// Up to `len` bytes off the front.
#[inline]
fn take<'a>(bytes: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (piece, rest) = bytes.split_at(len.min(bytes.len()));
    *bytes = rest;
    piece
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const GOOD: Answer = Answer { error: None, close: false };
    const WRONG: Answer = Answer { error: Some(ErrorKind::WrongAnswer), close: true };

    fn message(echo: &mut Echo, number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        assert_eq!(echo.write(number, &mut out), number);
        out
    }

    /// Feeds pieces that end at `cuts`; the answers to 0, 1, 2, and so on.
    fn drive(echo: &Echo, bytes: &[u8], cuts: &[usize]) -> Vec<Answer> {
        let (mut conn, mut answers, mut start) = (Offset::default(), Vec::new(), 0);
        for end in cuts.iter().copied().chain([bytes.len()]) {
            let mut piece = &bytes[start..end];
            start = end;
            while !piece.is_empty() {
                match echo.read(&mut conn, &mut piece, answers.len() as u64).unwrap() {
                    Some(answer) => {
                        answers.push(answer);
                        if answer.close {
                            return answers;
                        }
                    }
                    None => assert!(piece.is_empty() && echo.is_within(&conn)),
                }
            }
        }
        answers
    }

    #[test]
    fn a_message_begins_with_its_number_and_goes_on_alike() {
        for len in [8, 9, 64, 1000] {
            let mut echo = Echo::new(len, 3).unwrap();
            let (one, other) = (message(&mut echo, 1), message(&mut echo, 0x0102_0304_0506_0708));
            assert_eq!((one.len(), other.len()), (len as usize, len as usize));
            assert_eq!(one[..8], [1, 0, 0, 0, 0, 0, 0, 0]);
            assert_eq!(other[..8], [8, 7, 6, 5, 4, 3, 2, 1]);
            assert_eq!(one[8..], other[8..]);
            assert!(echo.constant().is_none());
        }
        let (mut one, mut other) = (Echo::new(64, 3).unwrap(), Echo::new(64, 4).unwrap());
        assert_ne!(message(&mut one, 1), message(&mut other, 1));
    }

    #[test]
    fn a_message_without_room_for_a_number_is_constant() {
        for len in 1..8 {
            let mut echo = Echo::new(len, 3).unwrap();
            let (bytes, _) = echo.constant().unwrap();
            assert_eq!(bytes.len(), len as usize);
            assert_eq!(message(&mut echo, 77), bytes);
            assert_eq!(drive(&echo, &bytes, &[]), [GOOD]);
        }
    }

    #[test]
    fn answers_are_taken_at_all_splits() {
        for len in [1, 3, 7, 8, 9, 20] {
            let mut echo = Echo::new(len, 3).unwrap();
            let bytes: Vec<u8> = (0..3).flat_map(|number| message(&mut echo, number)).collect();
            assert_eq!(drive(&echo, &bytes, &[]), [GOOD; 3]);
            assert_eq!(drive(&echo, &bytes, &(1..bytes.len()).collect::<Vec<_>>()), [GOOD; 3]);
            for cut in 1..bytes.len() {
                for next in cut..bytes.len() {
                    assert_eq!(drive(&echo, &bytes, &[cut, next]), [GOOD; 3], "{len}: {cut}, {next}");
                }
            }
        }
    }

    #[test]
    fn any_byte_that_differs_is_a_wrong_answer_at_all_splits() {
        for len in [1, 7, 8, 20] {
            let mut echo = Echo::new(len, 3).unwrap();
            let good = message(&mut echo, 0);
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 0x10;
                for cut in 0..bad.len() {
                    assert_eq!(drive(&echo, &bad, &[cut]), [WRONG], "{len}: {at}, {cut}");
                }
                // It is known before the message is whole.
                assert_eq!(drive(&echo, &bad[..=at], &[]), [WRONG]);
            }
        }
    }

    #[test]
    fn the_answer_to_another_request_is_wrong() {
        let mut echo = Echo::new(32, 3).unwrap();
        let swapped = [message(&mut echo, 1), message(&mut echo, 0)].concat();
        assert_eq!(drive(&echo, &swapped, &[]), [WRONG]);
    }

    #[test]
    fn a_length_past_its_bounds_is_refused() {
        assert_eq!(Echo::new(LEN_MAX, 1).unwrap().len(), LEN_MAX as usize);
        assert_eq!(Echo::new(1, 1).unwrap().len(), 1);
        for len in [0, LEN_MAX + 1] {
            let error = Echo::new(len, 1).unwrap_err();
            assert!(error.contains(&format!("a message of {len} bytes")), "{error}");
            assert!(error.contains("1 to 16777216"), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 200, failure_persistence: None, ..ProptestConfig::default()
        })]

        #[test]
        fn arbitrary_bytes_end_at_the_first_that_differs(
            bytes in vec(0_u8..3, 1..40),
            cut in 0_usize..40,
            len in 1_u32..20,
        ) {
            let mut echo = Echo::new(len, 3).unwrap();
            let wanted: Vec<u8> = (0..40).flat_map(|number| message(&mut echo, number)).collect();
            let same = bytes.iter().zip(&wanted).take_while(|(a, b)| a == b).count();
            let mut answers = vec![GOOD; same / len as usize];
            if same < bytes.len() {
                answers.push(WRONG);
            }
            prop_assert_eq!(drive(&echo, &bytes, &[cut.min(bytes.len())]), answers);
        }
    }
}
