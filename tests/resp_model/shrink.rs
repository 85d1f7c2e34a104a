//! From a run that ended in a mismatch to the shortest part of it that still does.
//!
//! First all steps that have nothing to do with the keys of the mismatch go, then halves, quarters and so on down to
//! single steps, as in Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", IEEE TSE 2002; at
//! last single commands of bursts. Every try is a whole run on emptied servers; the time for all is bounded.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::grammar::all_keys;
use super::run::{Mismatch, Run};
use super::step::Step;

/// For all tries together.
const TIME_MAX: Duration = Duration::from_secs(30);

/// For a reply that does not come: shorter than in a first run, for a try may have many.
const PATIENCE: Duration = Duration::from_secs(1);

/// The shortest part found, and how it ends.
pub(crate) struct Shrunk {
    pub(crate) steps: Vec<Step>,
    pub(crate) found: Mismatch,
}

impl Shrunk {
    /// Of a run, the steps that have to do with the keys of the mismatch.
    pub(crate) fn about(&self, steps: &[Step]) -> Vec<Step> {
        let keys = keys_of(&self.found);
        steps.iter().filter(|step| step.touches(&keys)).cloned().collect()
    }
}

/// The keys that the commands of a mismatch name.
fn keys_of(found: &Mismatch) -> Vec<Vec<u8>> {
    let known = all_keys();
    let is_key = |arg: &[u8]| {
        let owned = |key: &Vec<u8>| arg.starts_with(&[&key[..], b"~"].concat());
        known.iter().any(|key| key == arg || owned(key))
    };
    found.cmds.iter().flatten().filter(|arg| is_key(arg)).cloned().collect()
}

/// How a run of these steps ends; `None` where both servers agree.
fn try_steps(addrs: [SocketAddr; 2], steps: &[Step]) -> Option<Mismatch> {
    let mut run = match Run::begin(addrs, PATIENCE) {
        Ok(run) => run,
        Err(found) => return Some(found),
    };
    steps.iter().find_map(|step| run.step(step).err())
}

/// Makes `steps`, the last of which is where `found` showed, shorter.
pub(crate) fn shrink(addrs: [SocketAddr; 2], steps: &[Step], found: Mismatch) -> Shrunk {
    let deadline = Instant::now() + TIME_MAX;
    let mut best = Shrunk { steps: steps.to_vec(), found };
    let about = best.about(steps);
    keep_if(addrs, about, &mut best);
    let mut size = best.steps.len().div_ceil(2);
    while size > 0 && Instant::now() < deadline {
        let mut start = 0;
        while start < best.steps.len() && Instant::now() < deadline {
            let end = (start + size).min(best.steps.len());
            let rest = [&best.steps[..start], &best.steps[end..]].concat();
            if !keep_if(addrs, rest, &mut best) {
                start += size;
            }
        }
        size /= 2;
    }
    thin(addrs, &mut best, deadline);
    best
}

/// Takes single commands out of bursts.
fn thin(addrs: [SocketAddr; 2], best: &mut Shrunk, deadline: Instant) {
    let mut at = 0;
    while at < best.steps.len() {
        let mut cmd = 0;
        while cmd < best.steps[at].cmds().len() && Instant::now() < deadline {
            let mut steps = best.steps.clone();
            steps[at] = best.steps[at].thinned(|number| number != cmd);
            let is_less = steps[at].cmds().len() < best.steps[at].cmds().len();
            if !is_less || !keep_if(addrs, steps, best) {
                cmd += 1;
            }
        }
        at += 1;
    }
}

fn keep_if(addrs: [SocketAddr; 2], steps: Vec<Step>, best: &mut Shrunk) -> bool {
    match try_steps(addrs, &steps) {
        Some(found) => {
            *best = Shrunk { steps, found };
            true
        }
        None => false,
    }
}
