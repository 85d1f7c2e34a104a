//! `loadgen compare`: results from files.
//!
//! Not here: the statistics (`compare`).

use super::args::{CompareArgs, CompareHow, When};
use super::{Exit, output};
use crate::compare::{self, Comparison, Options};

/// Options of the comparison as the command line has them.
pub(crate) fn options(how: &CompareHow) -> Options {
    Options { threshold: how.threshold, force: how.force, ..Options::default() }
}

/// The table of every comparison, one after the other.
pub(crate) fn tables(all: &[Comparison], color: When) -> String {
    let look = output::look(color, Vec::new());
    all.iter().map(|one| compare::text(one, look.width, look.color)).collect::<Vec<_>>().join("\n")
}

/// # Errors
/// Files that cannot be read, and runs that cannot be compared.
pub(crate) fn run(args: &CompareArgs) -> Result<Exit, String> {
    let sides = compare::read_sides(&args.files)?;
    let all = compare::compare_all(&sides, &options(&args.how)).map_err(|refused| refused.to_string())?;
    output::print(&tables(&all, When::Auto))?;
    let worse = all.iter().any(Comparison::is_worse);
    Ok(if worse && args.how.fail_if_worse { Exit::Missed } else { Exit::Done })
}
