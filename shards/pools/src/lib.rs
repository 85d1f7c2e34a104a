//! Corelane floor 2: fixed memory pools of one shard.
