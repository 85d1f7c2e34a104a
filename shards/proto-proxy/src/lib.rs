//! Corelane floor 1: the PROXY protocol, versions 1 and 2, sans-IO.
