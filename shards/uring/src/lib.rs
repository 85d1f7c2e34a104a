//! Corelane floor 3: io_uring as the production kernel of a shard.
