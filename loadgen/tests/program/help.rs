//! What the program says of itself.

use crate::common::run;

const SUBCOMMANDS: [&str; 6] = ["knee", "compare", "ab", "agent", "calibrate", "null"];

#[test]
fn help_of_every_subcommand_fits_a_terminal() {
    for command in [None].into_iter().chain(SUBCOMMANDS.map(Some)) {
        for flag in ["-h", "--help"] {
            let words: Vec<&str> = command.into_iter().chain([flag]).collect();
            let ran = run(&words);
            assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{words:?}");
            let widest = ran.out.lines().max_by_key(|line| line.chars().count()).unwrap();
            assert!(widest.chars().count() <= 110, "{words:?}: {widest}");
            assert!(ran.out.contains("Usage: loadgen"), "{words:?}: {}", ran.out);
        }
    }
}

#[test]
fn help_names_every_subcommand_exit_code_and_scheme() {
    let help = run(&["--help"]).out;
    for command in SUBCOMMANDS {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
    }
    let codes = help.split("Exit codes:").nth(1).expect("it speaks of exit codes");
    for code in ["0 done", "1 the --slo was missed", "2 could not run"] {
        assert!(codes.contains(code), "{code}: {codes}");
    }
    for scheme in ["http://", "tcp://", "redis://"] {
        assert!(help.contains(scheme), "{scheme}");
    }
}

#[test]
fn version_is_one_line_on_standard_output() {
    let ran = run(&["--version"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert_eq!(ran.out, concat!("loadgen ", env!("CARGO_PKG_VERSION"), "\n"));
}
