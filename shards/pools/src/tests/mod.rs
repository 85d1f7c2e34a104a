//! Tests across the modules of the crate.
#![allow(clippy::unwrap_used)]

use crate::*;

#[test]
fn a_buffer_comes_back_to_the_top_of_its_tier() {
    let pools = Pools::new(&PoolConfig::default()).unwrap();
    let mut buf = pools.get(100).unwrap();
    assert_eq!(buf.put(b"hello"), 5);
    assert_eq!(&*buf, b"hello");
    let at = buf.as_ptr();
    drop(buf);
    assert_eq!(pools.get(1024).unwrap().as_ptr(), at);
    assert_eq!(pools.stats().tiers[0].hits, 2);
    assert_eq!(pools.stats().lent(), 0);
}
