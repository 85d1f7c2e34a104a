//! Corelane floor 6: the application side of HTTP.
#![forbid(unsafe_code)]
