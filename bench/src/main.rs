//! Corelane measurements.
fn main() {}
