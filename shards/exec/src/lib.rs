//! Corelane floor 4: the shard, its turn loop, tasks, timers and mailbox.
