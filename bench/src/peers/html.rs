//! The page.

use super::model::Report;

/// The page of `report`.
pub(crate) fn page(report: &Report) -> String {
    format!("<!doctype html><title>peers</title><p>{} rows</p>\n", report.rows.len())
}
