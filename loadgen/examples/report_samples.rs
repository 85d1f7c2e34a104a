//! Writes every report of three runs that were never made, to look at them: `cargo run -p loadgen --example
//! report_samples -- DIRECTORY [RATE]`. RATE is requests a second (20000).
//!
//! Not a measurement of anything.

use std::path::Path;

use loadgen::report::{self, sample, text::TextOptions};

fn main() {
    if let Err(error) = write_all() {
        eprintln!("report_samples: {error}");
        std::process::exit(2);
    }
}

fn write_all() -> Result<(), String> {
    let mut words = std::env::args().skip(1);
    let dir = words.next().ok_or("give a directory to write to")?;
    let rate = match words.next() {
        Some(word) => word.parse().map_err(|error| format!("{word} is no rate: {error}; give a number"))?,
        None => 20_000.0,
    };
    std::fs::create_dir_all(&dir).map_err(|error| format!("{dir}: {error}"))?;
    let runs = [
        ("calm", sample::calm(rate)),
        ("stalled", sample::stalled(rate)),
        ("failing", sample::failing(rate)),
    ];
    for (name, run) in runs {
        let outcomes = sample::outcomes(name == "failing");
        let write = |ending: &str, bytes: &[u8]| {
            report::write_file(&Path::new(&dir).join(format!("{name}{ending}")), bytes)
        };
        for (ending, width, height, color, unicode) in [
            (".80x24.txt", 80, Some(24), false, true),
            (".80x24.color.txt", 80, Some(24), true, true),
            (".160x50.txt", 160, Some(50), false, true),
            (".160x50.color.txt", 160, Some(50), true, true),
            (".44.txt", 44, None, false, true),
            (".ascii.txt", 80, None, false, false),
        ] {
            let options = TextOptions { width, height, color, unicode, ..TextOptions::default() };
            write(ending, report::text::render(&run, &outcomes, &options).as_bytes())?;
        }
        write(".html", report::html::render(&run, &outcomes, &report::PERCENTILES).as_bytes())?;
        write(".csv", report::csv::render(&run).as_bytes())?;
        write(".hgrm", report::hdr::hgrm(&run.total.response).as_bytes())?;
        write(".hlog", report::hdr::hlog(&run)?.as_bytes())?;
        write(".json", report::json::render(&[(run, outcomes)], &report::PERCENTILES)?.as_bytes())?;
    }
    Ok(())
}
