//! Corelane floor 1: bounded single-producer single-consumer rings between shards, and who wakes whom.
