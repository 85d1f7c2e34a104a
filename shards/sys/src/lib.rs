//! Corelane floor 1: the system calls that are not io_uring.
