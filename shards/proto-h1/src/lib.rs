//! Corelane floor 1: the HTTP/1.1 machine, sans-IO.
#![forbid(unsafe_code)]
