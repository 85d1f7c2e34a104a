//! One measurement after another: a run, held against the noise floor and judged.
//!
//! Not here: which runs (the subcommands), the judgement itself (`verdict`).

use std::path::{Path, PathBuf};

use super::agents;
use super::progress::{Progress, tell};
use super::signals::Asked;
use crate::engine::{self, Part};
use crate::floor::{self, Store};
use crate::model::{Run, Settings};
use crate::verdict::{self, Bounds};

/// What runs of one command have in common.
pub(crate) struct Session {
    pub(crate) asked: Asked,
    command: String,
    quiet: bool,
    floors: Option<Store>,
}

/// Where noise floors are kept; none without a home.
pub(crate) fn floor_dir() -> Option<PathBuf> {
    floor::directory(std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME"))
}

impl Session {
    /// # Errors
    /// Where signals cannot be taken.
    pub(crate) fn new(command: &str, quiet: bool) -> Result<Session, String> {
        let floors = floor_dir().map(|dir| Store::load(&dir));
        if let Some(warning) = floors.as_ref().and_then(Store::warning) {
            tell(&format!("loadgen: {warning}"));
        }
        Ok(Session { asked: Asked::listen()?, command: command.to_owned(), quiet, floors })
    }

    /// Measures once. `label` stands before every line of progress.
    ///
    /// # Errors
    /// Why nothing was measured.
    pub(crate) fn measure(&self, settings: &Settings, label: &str) -> Result<Run, String> {
        let mut progress = Progress::new(settings, self.asked.clone(), self.quiet, label);
        let outcome = engine::run(settings, Part::WHOLE, &self.command, &mut progress);
        progress.end();
        outcome.map(|run| self.judged(run)).map_err(|error| error.to_string())
    }

    /// Measures once with agents: what they found wrong is part of the verdict.
    ///
    /// # Errors
    /// Which of them could not.
    pub(crate) fn measure_with(
        &self,
        agents: &[String],
        token_file: Option<&Path>,
        settings: &Settings,
        label: &str,
    ) -> Result<Run, String> {
        let mut progress = Progress::new(settings, self.asked.clone(), self.quiet, label);
        let asked = &self.asked;
        let outcome = agents::control(agents, token_file, settings, &self.command, &mut progress, asked);
        progress.end();
        outcome
    }

    /// A run with its floor and its verdict.
    pub(crate) fn judged(&self, mut run: Run) -> Run {
        run.floor = self.floors.as_ref().and_then(|store| store.find(&run.settings, &run.provenance));
        run.verdict = verdict::judge(&run, &Bounds::default());
        run
    }
}
