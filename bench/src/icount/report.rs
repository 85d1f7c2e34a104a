//! Figures beside those of the baseline: a table, and what is wrong.
//!
//! Not here: how figures come about (`mod.rs`), exact comparison (`figure`).

use super::baseline::Baseline;
use super::figure::{Figure, Percent};
use crate::ab::summary::align;

/// How a figure stands to the baseline.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// Within what is allowed.
    Same,
    /// Higher than allowed: a failure.
    Rose,
    /// As much lower: worth a new baseline, no failure.
    Fell,
    /// The baseline has no such case: a failure.
    New,
    /// There is no such case any more: a failure.
    Gone,
}

/// One line of the table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Row {
    pub(super) case: String,
    pub(super) now: Option<Figure>,
    pub(super) base: Option<Figure>,
    pub(super) verdict: Verdict,
}

/// Compares what was measured with the baseline. `whole` says that all cases were: then entries of the baseline
/// that are no case are rows, too.
pub(super) fn compare(
    measured: &[(&str, Figure)],
    baseline: &Baseline,
    whole: bool,
    rise: Percent,
) -> Vec<Row> {
    let mut rows: Vec<Row> = measured
        .iter()
        .map(|&(case, now)| {
            let base = baseline.figures.get(case).copied();
            let verdict = match base {
                None => Verdict::New,
                Some(base) if now.rose(base, rise) => Verdict::Rose,
                Some(base) if now.fell(base, rise) => Verdict::Fell,
                Some(_) => Verdict::Same,
            };
            Row { case: case.to_owned(), now: Some(now), base, verdict }
        })
        .collect();
    if whole {
        let gone = baseline.figures.iter().filter(|(name, _)| !measured.iter().any(|(case, _)| case == name));
        rows.extend(gone.map(|(name, base)| Row {
            case: name.clone(),
            now: None,
            base: Some(*base),
            verdict: Verdict::Gone,
        }));
    }
    rows
}

/// The table. `spreads` are those of several runs, in the order of the rows.
pub(super) fn table(rows: &[Row], spreads: &[String]) -> String {
    let mut lines = vec![["case", "instructions", "baseline", "change", "spread", ""].map(str::to_owned)];
    lines.extend(rows.iter().enumerate().map(|(at, row)| {
        let text =
            |figure: Option<Figure>| figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string());
        let change = match (row.now, row.base) {
            (Some(now), Some(base)) => now.change(base),
            _ => "-".to_owned(),
        };
        let remark = match row.verdict {
            Verdict::Same => "",
            Verdict::Rose => "ROSE",
            Verdict::Fell => "fell",
            Verdict::New => "NEW",
            Verdict::Gone => "GONE",
        };
        let spread = spreads.get(at).map_or("-", String::as_str);
        [&row.case, &text(row.now), &text(row.base), &change, spread, remark].map(str::to_owned)
    }));
    if spreads.is_empty() {
        let lines: Vec<[String; 5]> = lines.into_iter().map(|[a, b, c, d, _, e]| [a, b, c, d, e]).collect();
        return trimmed(&align(&lines));
    }
    trimmed(&align(&lines))
}

/// Without the spaces that an empty last column leaves.
fn trimmed(text: &str) -> String {
    text.lines().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::baseline::Environment;
    use super::*;

    fn baseline(figures: &[(&str, &str)]) -> Baseline {
        let text = String::new;
        let environment = Environment {
            rustc: text(),
            target: text(),
            profile: text(),
            cpu: text(),
            libc: text(),
            valgrind: text(),
        };
        let figures = figures.iter().map(|(name, figure)| ((*name).to_owned(), figure.parse().unwrap()));
        Baseline { environment, figures: figures.collect() }
    }

    fn rows(measured: &[(&str, &str)], whole: bool) -> Vec<(String, Verdict)> {
        let base = baseline(&[("a/a", "100.0"), ("b/b", "50.0"), ("c/c", "10.0")]);
        let measured: Vec<_> =
            measured.iter().map(|(name, figure)| (*name, figure.parse().unwrap())).collect();
        let rows = compare(&measured, &base, whole, "3%".parse().unwrap());
        rows.into_iter().map(|row| (row.case, row.verdict)).collect()
    }

    #[test]
    fn a_rise_a_fall_and_neither_are_told_apart() {
        let rows = rows(&[("a/a", "103.1"), ("b/b", "48.4"), ("c/c", "10.3")], true);
        assert_eq!(
            rows.iter().map(|row| row.1).collect::<Vec<_>>(),
            [Verdict::Rose, Verdict::Fell, Verdict::Same]
        );
    }

    #[test]
    fn a_case_without_a_baseline_and_a_baseline_without_a_case_are_both_named() {
        let rows = rows(&[("a/a", "100.0"), ("b/b", "50.0"), ("d/d", "1.0")], true);
        let named = |verdict| {
            let found: Vec<&str> =
                rows.iter().filter(|row| row.1 == verdict).map(|row| row.0.as_str()).collect();
            found.join(" ")
        };
        assert_eq!((named(Verdict::New), named(Verdict::Gone)), ("d/d".to_owned(), "c/c".to_owned()));
    }

    #[test]
    fn where_only_some_cases_were_chosen_the_others_are_not_missed() {
        assert_eq!(rows(&[("a/a", "100.0")], false), [("a/a".to_owned(), Verdict::Same)]);
    }

    #[test]
    fn the_table_says_what_is_worth_a_look_and_ends_no_line_in_spaces() {
        let base = baseline(&[("a/a", "100.0"), ("b/gone", "50.0")]);
        let measured = [("a/a", "104.0".parse().unwrap()), ("c/new", "1.5".parse().unwrap())];
        let rows = compare(&measured, &base, true, "3%".parse().unwrap());
        let expected = "\
            case    instructions  baseline  change\n\
            a/a            104.0     100.0   +4.0%  ROSE\n\
            c/new            1.5         -       -   NEW\n\
            b/gone             -      50.0       -  GONE\n";
        assert_eq!(table(&rows, &[]), expected);
        let spreads = ["0.00%".to_owned(), "0.61%".to_owned()];
        assert!(table(&rows, &spreads).contains("a/a            104.0     100.0   +4.0%   0.00%  ROSE\n"));
    }
}
