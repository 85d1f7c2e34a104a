//! Corelane floor 5: listeners, connections and the protocols they speak.
#![forbid(unsafe_code)]
