//! What was expected, what was measured, how far off it is, and whether that is within bounds.
//!
//! Not here: where the figures come from.

use loadgen::record::Value;
use loadgen::units;

/// The figures of one experiment.
pub(crate) struct Table {
    rows: Vec<[String; 5]>,
    notes: Vec<String>,
    is_good: bool,
}

impl Table {
    pub(crate) fn new() -> Table {
        let head = ["", "expected", "measured", "off by", "bound"].map(str::to_owned);
        Table { rows: vec![head], notes: Vec::new(), is_good: true }
    }

    fn row(&mut self, what: &str, figures: [String; 4], is_good: bool) {
        let [expected, measured, off, bound] = figures;
        let bound = format!("{bound}{}", if is_good { "" } else { "  OUT OF BOUNDS" });
        self.rows.push([what.to_owned(), expected, measured, off, bound]);
        self.is_good &= is_good;
    }

    /// A duration that is to be within a `share` (0 to 1) of what was computed. A lower bound never is.
    pub(crate) fn near(&mut self, what: &str, expected_ns: u64, measured: Option<Value>, share: f64) {
        let Some(value) = measured else {
            let figures = [units::duration(expected_ns), "nothing".into(), "-".into(), within(share)];
            return self.row(what, figures, false);
        };
        let off = off_by(expected_ns as f64, value.ns() as f64);
        let is_good = off.abs() <= share && !value.is_bound();
        self.row(
            what,
            [units::duration(expected_ns), units::value(value), signed(off), within(share)],
            is_good,
        );
    }

    /// A lower bound that is to be this one, within a `share`.
    pub(crate) fn near_bound(&mut self, what: &str, expected_ns: u64, measured: Option<Value>, share: f64) {
        let seen = measured.map_or("nothing".into(), units::value);
        let off = measured.map_or(f64::NAN, |value| off_by(expected_ns as f64, value.ns() as f64));
        let is_good = off.abs() <= share && measured.is_some_and(Value::is_bound);
        let expected = units::value(Value::AtLeast(expected_ns));
        self.row(what, [expected, seen, signed(off), within(share)], is_good);
    }

    /// A rate, a second, within a `share`.
    pub(crate) fn near_rate(&mut self, what: &str, expected: f64, measured: f64, share: f64) {
        let off = off_by(expected, measured);
        let figures = [format!("{expected:.0}/s"), format!("{measured:.1}/s"), signed(off), within(share)];
        self.row(what, figures, off.abs() <= share);
    }

    /// A duration that is to be no longer than `most_ns`.
    pub(crate) fn at_most(&mut self, what: &str, most_ns: u64, measured: Option<Value>) {
        let seen = measured.map_or("nothing".into(), units::value);
        let is_good = measured.is_some_and(|value| value.ns() <= most_ns && !value.is_bound());
        let most = format!("<= {}", units::duration(most_ns));
        self.row(what, [most.clone(), seen, "-".into(), most], is_good);
    }

    /// A count that is to be just this.
    pub(crate) fn same(&mut self, what: &str, expected: u64, measured: u64) {
        let off = i128::from(measured) - i128::from(expected);
        let figures = [expected.to_string(), measured.to_string(), format!("{off:+}"), "exact".into()];
        self.row(what, figures, expected == measured);
    }

    /// Something that is so or not.
    pub(crate) fn fact(&mut self, what: &str, expected: &str, measured: &str, is_good: bool) {
        self.row(what, [expected.into(), measured.into(), "-".into(), "exact".into()], is_good);
    }

    /// A line below the table. Nothing is judged by it.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Prints it. Whether all is within bounds.
    pub(crate) fn print(&self, name: &str) -> bool {
        let width = |at: usize| self.rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
        let (a, b, c, d) = (width(0), width(1), width(2), width(3));
        println!("\n{name}: {}", if self.is_good { "true" } else { "NOT WITHIN BOUNDS" });
        for [what, expected, measured, off, bound] in &self.rows {
            println!("  {what:<a$}  {expected:>b$}  {measured:>c$}  {off:>d$}  {bound}");
        }
        self.notes.iter().for_each(|note| println!("    {note}"));
        self.is_good
    }
}

fn off_by(expected: f64, measured: f64) -> f64 {
    measured / expected - 1.0
}

fn signed(off: f64) -> String {
    if off.is_finite() { format!("{:+.2} %", off * 100.0) } else { "-".into() }
}

fn within(share: f64) -> String {
    format!("{} %", (share * 1e4).round() / 100.0)
}
