//! Common: what the table tests share. Each input is fed whole, bytewise and cut once at every byte.
#![allow(dead_code, unreachable_pub)]

use corelane_proto_h1::check::{Policy, Trace, drive};
use corelane_proto_h1::{Limits, Why};

/// The trace of `input` under `policy`, after every way of cutting it gave the same.
pub fn trace_with(input: &[u8], limits: &Limits, policy: Policy) -> Trace {
    let whole = drive(input, &[], limits, policy);
    let bytewise: Vec<usize> = (1..input.len()).collect();
    let agree = |cuts: &[usize]| {
        let split = drive(input, cuts, limits, policy);
        if policy.eof || whole.rejected().is_none() || split.rejected().is_some() {
            assert_eq!(whole.events, split.events, "cut at {cuts:?} of {:?}", String::from_utf8_lossy(input));
            assert_eq!(whole.sent, split.sent);
        }
    };
    if input.len() <= 4_000 {
        agree(&bytewise);
        for cut in bytewise {
            agree(&[cut]);
        }
    } else {
        agree(&(1..input.len() / 701).map(|i| i * 701).collect::<Vec<_>>());
    }
    whole
}

/// The same with the default limits, reading each body before the answer.
pub fn trace(input: &str) -> Trace {
    trace_with(input.as_bytes(), &Limits::default(), Policy { eof: true, ..Policy::default() })
}

/// Why `input` is refused as soon as all of it is there, without the end of the connection.
pub fn refused_while_open(input: &[u8]) -> Option<Why> {
    drive(input, &[], &Limits::default(), Policy::default()).rejected()
}

/// Latin-1 bytes of a string, so that tables can name any byte.
pub fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}
