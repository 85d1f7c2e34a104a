//! wrk as the client: its script, its command line and what it prints.
//!
//! wrk is closed-loop: each connection waits for its answers before it asks again, so its latencies
//! are those of a saturated system, not of a schedule. It reconnects without a word when a server
//! closes, and calls only a status of 400 and above bad. Tried with wrk 4.1.
//!
//! Not here: where it runs (`process`).

use std::io::Write;
use std::process::Command;

use tempfile::NamedTempFile;

use super::plan::Scenario;

/// Seconds wrk waits for an answer before it counts a timeout.
const TIMEOUT_S: u32 = 4;

/// What one wrk run reported.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    /// Answers counted.
    pub(crate) requests: u64,
    /// Answers per second, as wrk computed it.
    pub(crate) requests_per_s: f64,
    /// Median latency.
    pub(crate) latency_us_p50: f64,
    /// 99th percentile of latency.
    pub(crate) latency_us_p99: f64,
    /// What wrk prints as "Non-2xx or 3xx responses".
    pub(crate) bad_answers: u64,
    /// Connect, read, write and timeout errors together.
    pub(crate) socket_errors: u64,
}

/// Writes the script that makes wrk send `depth` requests at once. The file goes with the value.
pub(crate) fn pipeline_script(depth: u32) -> std::io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix("bench-pipeline").suffix(".lua").tempfile()?;
    writeln!(
        file,
        "local batch\n\
         function init(args)\n\
         \x20  local one = wrk.format()\n\
         \x20  batch = string.rep(one, {depth})\n\
         end\n\
         function request() return batch end"
    )?;
    file.flush()?;
    Ok(file)
}

/// One thread, one scenario, `secs` seconds.
pub(crate) fn command(scenario: Scenario, script: Option<&NamedTempFile>, secs: u32, url: &str) -> Command {
    let mut command = Command::new("wrk");
    command.args(["--threads", "1", "--latency"]);
    command.args(["--connections", &scenario.connections.to_string()]);
    command.args(["--duration", &format!("{secs}s"), "--timeout", &format!("{TIMEOUT_S}s")]);
    if let Some(script) = script {
        command.arg("--script").arg(script.path());
    }
    command.arg(url);
    command
}

/// Reads what wrk printed with `--latency`.
///
/// # Errors
/// The name of the figure that is missing or unreadable.
pub(crate) fn parse(output: &str) -> Result<Report, String> {
    let mut requests = None;
    let mut requests_per_s = None;
    let (mut p50, mut p99) = (None, None);
    let (mut bad_answers, mut socket_errors) = (0, 0);
    for line in output.lines().map(str::trim) {
        if let Some((count, _)) = line.split_once(" requests in ") {
            requests = count.parse().ok();
        } else if let Some(rate) = line.strip_prefix("Requests/sec:") {
            requests_per_s = rate.trim().parse().ok();
        } else if let Some(latency) = line.strip_prefix("50%") {
            p50 = micros(latency.trim());
        } else if let Some(latency) = line.strip_prefix("99%") {
            p99 = micros(latency.trim());
        } else if let Some(count) = line.strip_prefix("Non-2xx or 3xx responses:") {
            bad_answers = count.trim().parse().map_err(|_| missing("bad answers", output))?;
        } else if let Some(counts) = line.strip_prefix("Socket errors:") {
            // "connect 0, read 1, write 0, timeout 2"
            let numbers = counts.split(',').map(|part| part.split_whitespace().last()?.parse::<u64>().ok());
            socket_errors = numbers.sum::<Option<u64>>().ok_or_else(|| missing("socket errors", output))?;
        }
    }
    Ok(Report {
        requests: requests.ok_or_else(|| missing("requests", output))?,
        requests_per_s: requests_per_s.ok_or_else(|| missing("Requests/sec", output))?,
        latency_us_p50: p50.ok_or_else(|| missing("50%", output))?,
        latency_us_p99: p99.ok_or_else(|| missing("99%", output))?,
        bad_answers,
        socket_errors,
    })
}

fn missing(what: &str, output: &str) -> String {
    format!("wrk printed no readable \"{what}\":\n{output}")
}

/// Reads a wrk duration such as `636.00us` as microseconds.
fn micros(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| c != '.' && !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "m" => 60e6,
        "h" => 3600e6,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * scale)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const OUTPUT: &str = "\
Running 4s test @ http://127.0.0.1:8080/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   354.89us  182.13us   3.41ms   68.77%
    Req/Sec   180.12k     2.11k  185.30k    75.00%
  Latency Distribution
     50%  349.00us
     75%  420.00us
     90%    0.98ms
     99%    1.24ms
  720480 requests in 4.00s, 87.95MB read
Requests/sec: 180120.00
Transfer/sec:     21.98MB
";

    #[test]
    fn a_clean_report_is_read_whole() {
        let report = parse(OUTPUT).unwrap();
        let expected = Report {
            requests: 720_480,
            requests_per_s: 180_120.0,
            latency_us_p50: 349.0,
            latency_us_p99: 1240.0,
            bad_answers: 0,
            socket_errors: 0,
        };
        assert_eq!(report, expected);
    }

    #[test]
    fn errors_are_summed_and_bad_answers_counted() {
        let trouble =
            "  Socket errors: connect 1, read 20, write 300, timeout 4000\n  Non-2xx or 3xx responses: 7\n";
        let report = parse(&OUTPUT.replace("Requests/sec", &format!("{trouble}Requests/sec"))).unwrap();
        assert_eq!((report.socket_errors, report.bad_answers), (4321, 7));
    }

    #[test]
    fn a_missing_figure_is_an_error_that_names_it() {
        for (line, name) in [("99%", "99%"), (" requests in ", "requests"), ("Requests/sec", "Requests/sec")]
        {
            let error = parse(&OUTPUT.replace(line, "?")).unwrap_err();
            assert!(error.contains(&format!("\"{name}\"")), "{error}");
        }
    }

    #[test]
    fn durations_of_every_unit_become_microseconds() {
        let read = ["1.50us", "2.00ms", "1.25s", "2.00m", "1.00h"].map(|text| micros(text).unwrap());
        assert_eq!(read, [1.5, 2e3, 1.25e6, 120e6, 3600e6]);
        assert_eq!(micros("1.5"), None);
        assert_eq!(micros("us"), None);
    }

    #[test]
    fn the_pipeline_script_repeats_the_request_as_often_as_asked() {
        let script = pipeline_script(16).unwrap();
        let text = std::fs::read_to_string(script.path()).unwrap();
        assert!(text.contains("string.rep(one, 16)"));
    }
}
