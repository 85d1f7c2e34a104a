//! Corelane floor 0: ids, limits and the seam between a shard and its kernel.
#![forbid(unsafe_code)]
