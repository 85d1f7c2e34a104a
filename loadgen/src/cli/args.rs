//! The words of the command line, as clap reads them. Parsing decides nothing: `settings` makes a plan of them.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::units;

const ABOUT: &str = "Sends load to a server and says how it coped, and how far the numbers can be trusted.";

const AFTER: &str = "\
Examples:
  loadgen http://127.0.0.1:8080/plaintext                 as fast as 64 connections can
  loadgen --rate 50k http://127.0.0.1:8080/plaintext      50,000 requests a second, whatever the answers
  loadgen --rate 5k --slo p99=5ms,errors=0.1% --html report.html http://HOST/
  loadgen knee --slo p99=5ms http://HOST/                 the highest rate that meets it
  loadgen ab --a http://HOST:8080/ --b http://HOST:8081/  is B different from A?
  loadgen redis://127.0.0.1:6379 --gets 90% --keys 1M --zipf 0.99 --pipeline 16

Exit codes: 0 done; 1 the --slo was missed; 2 could not run, or the measurement is invalid.
docs/LOADGEN.md says what each number means and how it can mislead.";

#[derive(Debug, Parser)]
#[command(
    name = "loadgen",
    version,
    about = ABOUT,
    after_help = AFTER,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    max_term_width = 110
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Find the highest rate at which a server meets an objective.
    Knee(Box<KneeArgs>),
    /// Compare saved results, with intervals of confidence.
    Compare(CompareArgs),
    /// Measure two servers in turn (A B A B ...) and compare them.
    Ab(Box<AbArgs>),
    /// Wait for a controller (`loadgen --agents`) and send load with it.
    Agent(AgentArgs),
    /// Measure the noise floor of this host with the built-in null server.
    Calibrate(Box<CalibrateArgs>),
    /// Serve with the built-in null server: the least a server can do.
    Null(NullArgs),
}

/// A value parser of `units` for clap.
fn by<T>(parse: fn(&str) -> Result<T, String>) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| parse(text)
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// http://HOST[:PORT]/PATH, tcp://HOST:PORT (echo) or redis://HOST[:PORT].
    #[arg(value_name = "URL", required = true)]
    pub(crate) url: Option<String>,
    #[command(flatten)]
    pub(crate) traffic: TrafficArgs,
    #[command(flatten)]
    pub(crate) http: HttpArgs,
    #[command(flatten)]
    pub(crate) others: OtherArgs,
    #[command(flatten)]
    pub(crate) host: HostArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Load")]
pub(crate) struct TrafficArgs {
    /// Connections, all threads together.
    #[arg(
        short, long, value_name = "N", default_value = "64", allow_negative_numbers = true,
        value_parser = by(units::parse_count)
    )]
    pub(crate) connections: u64,
    /// Requests under way on one connection at most.
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    pub(crate) pipeline: u32,
    /// How long to measure.
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = by(units::parse_duration))]
    pub(crate) duration: u64,
    /// The same load before, not measured [default: 1s, and none with a trace].
    #[arg(long, value_name = "TIME", value_parser = by(units::parse_duration))]
    pub(crate) warmup: Option<u64>,
    /// Open loop: send as many a second, whatever the answers (50k, 1.5M). Without it: closed loop, each connection
    /// asks again as soon as it was answered.
    #[arg(
        short, long, value_name = "RATE", allow_negative_numbers = true,
        value_parser = by(units::parse_rate)
    )]
    pub(crate) rate: Option<f64>,
    /// Open loop with a rate over time: 1k@10s,1k-50k@30s; the last rate goes on.
    #[arg(long, value_name = "STAGES", conflicts_with = "rate")]
    pub(crate) stages: Option<String>,
    /// When requests come in an open loop: constant, poisson, burst:N, trace:FILE.
    #[arg(long, value_name = "KIND", default_value = "constant")]
    pub(crate) arrivals: String,
    /// Begin gently over this time: the rate rises from 0, or connections begin one after another.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = by(units::parse_duration))]
    pub(crate) ramp: u64,
    /// Closed loop: think for this long between an answer and the next request; exp:TIME is exponential.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["rate", "stages"])]
    pub(crate) think: Option<String>,
    /// Close and reopen a connection after this many requests; connect times are reported apart.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) requests_per_connection: u64,
    /// Give an answer, or a connect, up after this.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = by(units::parse_duration))]
    pub(crate) timeout: u64,
    /// Wait for answers after the end [default: as --timeout].
    #[arg(long, value_name = "TIME", value_parser = by(units::parse_duration))]
    pub(crate) drain: Option<u64>,
    /// Of every random number: the same seed sends the same requests at the same times.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "HTTP requests")]
pub(crate) struct HttpArgs {
    /// Method [default: GET, or POST with --body].
    #[arg(short = 'X', long, value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// A header field, `Name: value`; several times for several.
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    pub(crate) headers: Vec<String>,
    /// A body: text, or @FILE.
    #[arg(short, long, value_name = "BODY")]
    pub(crate) body: Option<String>,
    /// Fill in {{counter}}, {{random:1..9}}, {{hex:8}}, {{uuid}}, {{choice:a|b}} in path, headers and body.
    #[arg(long)]
    pub(crate) template: bool,
    /// Several weighted requests from a TOML file ([[request]] with weight, name, method, path, headers, body, template).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["method", "body"])]
    pub(crate) requests: Option<PathBuf>,
    /// Take any other status than these for an error [default: all below 400 are good].
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    pub(crate) expect_status: Vec<u16>,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "RESP and echo")]
pub(crate) struct OtherArgs {
    /// redis://: share of GET among GET and SET.
    #[arg(long, value_name = "SHARE", default_value = "90%", value_parser = by(units::parse_part))]
    pub(crate) gets: f64,
    /// redis://: distinct keys.
    #[arg(long, value_name = "N", default_value = "100k", value_parser = by(units::parse_count))]
    pub(crate) keys: u64,
    /// redis://: exponent of a zipf distribution over the keys; 0 is uniform.
    #[arg(long, value_name = "S", default_value_t = 0.0, allow_negative_numbers = true)]
    pub(crate) zipf: f64,
    /// Bytes of a value (redis://) or a message (tcp://).
    #[arg(long, value_name = "BYTES", default_value = "32", value_parser = by(units::parse_size))]
    pub(crate) size: u64,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "This host")]
pub(crate) struct HostArgs {
    /// Worker threads, each with a ring of its own [default: half of the CPUs for a target on this host, all but
    /// one else, and never more than connections].
    #[arg(short, long, value_name = "N")]
    pub(crate) threads: Option<u32>,
    /// CPUs to pin them to, one each (2-5,8) [default: the last ones this process may use].
    #[arg(long, value_name = "LIST")]
    pub(crate) cpus: Option<String>,
    /// Do not pin threads.
    #[arg(long, conflicts_with = "cpus")]
    pub(crate) no_pin: bool,
    /// Addresses to connect from, in turn: 127.0.0.1-127.0.0.8 gives eight times the ports.
    #[arg(long, value_name = "ADDRS")]
    pub(crate) source: Option<String>,
    /// Never sleep: the least delay of our own, at the price of a whole CPU for each thread.
    #[arg(long)]
    pub(crate) busy_poll: bool,
    /// Send together with these agents (HOST:PORT,...), and merge what they measured.
    #[arg(long, value_name = "ADDRS", value_delimiter = ',')]
    pub(crate) agents: Vec<String>,
    /// The secret of the agents.
    #[arg(long, value_name = "FILE", requires = "agents")]
    pub(crate) token_file: Option<PathBuf>,
}

impl HostArgs {
    /// Agents take part in plain runs only.
    ///
    /// # Errors
    /// Where some are named.
    pub(crate) fn refuse_agents(&self, command: &str) -> Result<(), String> {
        if self.agents.is_empty() {
            return Ok(());
        }
        Err(format!("loadgen {command} knows no --agents: use them with `loadgen --agents ... URL`"))
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    Always,
    Never,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Objective: p99=5ms,errors=0.1%,rate=50k; missed is exit code 1.
    #[arg(long, value_name = "TERMS")]
    pub(crate) slo: Option<String>,
    /// Percentiles of the report.
    #[arg(long, value_name = "LIST", default_value = "50,75,90,95,99,99.9,99.99")]
    pub(crate) percentiles: String,
    /// Measure this many times in a row, for `loadgen compare`.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) repeat: u32,
    /// The whole result; - is standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// A report with plots, one file, no network needed.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Percentiles of response times, for HdrHistogram plotters.
    #[arg(long, value_name = "FILE")]
    pub(crate) hgrm: Option<PathBuf>,
    /// Histograms of every slice of time (HdrHistogram log, V2).
    #[arg(long, value_name = "FILE")]
    pub(crate) hlog: Option<PathBuf>,
    /// A row for every slice of time.
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// No progress; only the report.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Colours.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: When,
}

#[derive(Args, Debug)]
pub(crate) struct KneeArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// The rate to begin with.
    #[arg(
        long, value_name = "RATE", default_value = "1k", allow_negative_numbers = true,
        value_parser = by(units::parse_rate)
    )]
    pub(crate) start: f64,
    /// The highest rate to try.
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, value_parser = by(units::parse_rate))]
    pub(crate) max: Option<f64>,
    /// How close to come to the knee.
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = by(units::parse_share))]
    pub(crate) resolution: f64,
}

#[derive(Args, Debug)]
pub(crate) struct CompareArgs {
    /// Results: the first is the base. Several files of one side are joined by commas.
    #[arg(value_name = "FILE", required = true, num_args = 2..)]
    pub(crate) files: Vec<String>,
    #[command(flatten)]
    pub(crate) how: CompareHow,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct CompareHow {
    /// Compare although something speaks against it, and say so.
    #[arg(long)]
    pub(crate) force: bool,
    /// Call a difference one only beyond this share.
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = by(units::parse_share))]
    pub(crate) threshold: f64,
    /// Exit with 1 when a metric is worse.
    #[arg(long)]
    pub(crate) fail_if_worse: bool,
}

#[derive(Args, Debug)]
pub(crate) struct AbArgs {
    /// A: a URL, or a command that serves on 127.0.0.1:{port} (and may run on CPU {cpu}).
    #[arg(long, value_name = "URL|COMMAND")]
    pub(crate) a: String,
    /// B, likewise.
    #[arg(long, value_name = "URL|COMMAND")]
    pub(crate) b: String,
    /// What is asked of a command's server.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:{port}/")]
    pub(crate) target: String,
    /// Measurements of each.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) rounds: u32,
    /// The CPU of a command's server.
    #[arg(long, value_name = "CPU", default_value_t = 0)]
    pub(crate) server_cpu: usize,
    #[command(flatten)]
    pub(crate) how: CompareHow,
    #[command(flatten)]
    pub(crate) traffic: TrafficArgs,
    #[command(flatten)]
    pub(crate) http: HttpArgs,
    #[command(flatten)]
    pub(crate) others: OtherArgs,
    #[command(flatten)]
    pub(crate) host: HostArgs,
    /// The comparison and all results; - is standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// No progress; only the comparison.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Colours.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: When,
}

#[derive(Args, Debug)]
pub(crate) struct AgentArgs {
    /// Where to wait for the controller.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    pub(crate) listen: SocketAddr,
    /// A file with the secret that the controller must know; needed on any address but loopback.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// CPUs for its threads [default: the last ones it may use].
    #[arg(long, value_name = "LIST")]
    pub(crate) cpus: Option<String>,
    /// Do not pin threads.
    #[arg(long, conflicts_with = "cpus")]
    pub(crate) no_pin: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CalibrateArgs {
    #[command(flatten)]
    pub(crate) traffic: TrafficArgs,
    #[command(flatten)]
    pub(crate) others: OtherArgs,
    #[command(flatten)]
    pub(crate) host: HostArgs,
    /// Calibrate the traffic given by the other options alone, not the usual set.
    #[arg(long)]
    pub(crate) only: bool,
    /// The protocol: http, tcp or redis.
    #[arg(long, value_name = "SCHEME", default_value = "http")]
    pub(crate) scheme: String,
    /// The CPU of the null server [default: one that no worker has].
    #[arg(long, value_name = "CPU")]
    pub(crate) server_cpu: Option<usize>,
}

#[derive(Args, Debug)]
pub(crate) struct NullArgs {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    pub(crate) listen: SocketAddr,
    /// Pin it to this CPU.
    #[arg(long, value_name = "CPU")]
    pub(crate) cpu: Option<usize>,
    /// The protocol: http, tcp or redis.
    #[arg(long, value_name = "SCHEME", default_value = "http")]
    pub(crate) scheme: String,
    /// Bytes of an HTTP body [default: 13], or of an echoed message [default: 32].
    #[arg(long, value_name = "BYTES", value_parser = by(units::parse_size))]
    pub(crate) size: Option<u64>,
}
