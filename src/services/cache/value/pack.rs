//! Byte strings behind their lengths, as values that are written down have them.
//!
//! A length is in seven bits a byte, the lowest first, the highest bit set in all bytes but the last.
//!
//! Not here: which strings, and checksums (`codec`).

/// Bytes of the longest length.
const LENGTH_LEN_MAX: usize = 10;

/// The bytes of a length, and how many of them there are.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "seven bits of it")]
pub(super) fn length(mut len: usize) -> ([u8; LENGTH_LEN_MAX], usize) {
    let (mut bytes, mut used) = ([0; LENGTH_LEN_MAX], 0);
    loop {
        bytes[used] = len as u8 & 0x7f;
        len >>= 7;
        used += 1;
        if len == 0 {
            return (bytes, used);
        }
        bytes[used - 1] |= 0x80;
    }
}

/// Appends `bytes` behind their length.
pub(super) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    let (len, used) = length(bytes.len());
    out.extend_from_slice(&len[..used]);
    out.extend_from_slice(bytes);
}

/// The bytes at the start of `rest`, which is moved behind them; `None` if there are no such.
#[inline]
pub(super) fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (mut len, mut shift) = (0_usize, 0);
    loop {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        if shift >= usize::BITS {
            return None;
        }
        len |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let (bytes, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_back_and_what_is_cut_off_does_not() {
        let mut out = Vec::new();
        for len in [0, 1, 127, 128, 20_000] {
            put(&mut out, &vec![b'x'; len]);
        }
        let mut rest = &out[..];
        for len in [0, 1, 127, 128, 20_000] {
            assert_eq!(take(&mut rest).map(<[u8]>::len), Some(len));
        }
        assert_eq!(take(&mut rest), None);
        assert_eq!(take(&mut &out[out.len() - 20_003..][..20_002]), None);
        assert_eq!(take(&mut &[0xff; 20][..]), None);
    }
}
