//! Corelane floor 3: a deterministic kernel for tests.
#![forbid(unsafe_code)]
