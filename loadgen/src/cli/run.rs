//! `loadgen URL`.
use super::Exit;
use super::args::RunArgs;
use super::progress::Progress;
use super::settings;
use super::signals::Asked;
use crate::engine::{self, Part};
use crate::units;

pub(crate) fn run(args: &RunArgs, command: &str) -> Result<Exit, String> {
    let url = args.url.as_deref().ok_or("no URL")?;
    let settings = settings::settings(url, &args.traffic, &args.http, &args.others, &args.host)?;
    let asked = Asked::listen()?;
    let mut progress = Progress::new(&settings, asked, args.output.quiet, "");
    let run = engine::run(&settings, Part::WHOLE, command, &mut progress).map_err(|e| e.to_string())?;
    progress.end();
    println!("rate {} counts {:?}", run.rate(), run.total.counts);
    for p in [50.0, 90.0, 99.0, 99.9, 100.0] {
        let f = |l: &crate::record::Latency| l.percentile(p).map(units::value).unwrap_or_default();
        println!("p{p} resp {} serv {} lag {} own {}", f(&run.total.response), f(&run.total.service), f(&run.total.send_lag), f(&run.total.own_lag));
    }
    println!("{:?} {:?} cpu/req {:?}", run.workers, run.host, run.cpu_per_request_ns());
    for e in run.total.errors.iter() { println!("{e:?}"); }
    Ok(Exit::Done)
}
