//! Corelane side by side with its peers: what a run found, and how it is shown.

#![allow(dead_code, reason = "the runner that makes the report is not in this branch")]

mod html;
pub(crate) mod model;
