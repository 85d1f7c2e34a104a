//! The file of figures that runs are compared with: `bench/icount.toml`.
//!
//! # Rules
//! 1. Entries stand in the order of their names, so that a change of one figure is a change of one line.
//! 2. Figures are only comparable where [`Environment`] is the same: it is written with them.
//!
//! Not here: the comparison (`report`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use memchr::memmem;
use serde::Deserialize;

use super::figure::Figure;

/// What figures depend on besides this repository. Another machine of the same kind has the same.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Environment {
    /// What compiled this program: `1.95.0 (59807616e 2026-04-14)`.
    pub(super) rustc: String,
    /// For what, with the CPU features beyond the usual: `x86_64-linux-gnu`.
    pub(super) target: String,
    /// `release`, or `dev`.
    pub(super) profile: String,
    /// What valgrind presents to programs: libraries choose code by it.
    pub(super) cpu: String,
    /// The C library: its `memcpy` and `malloc` are counted, too.
    pub(super) libc: String,
    /// `valgrind-3.19.0`.
    pub(super) valgrind: String,
}

impl Environment {
    /// Of this process, with what its children saw.
    pub(super) fn here(cpu: String, valgrind: String) -> Environment {
        Environment {
            rustc: rustc(),
            target: target(),
            profile: profile().to_owned(),
            cpu,
            libc: libc(),
            valgrind,
        }
    }

    /// What differs from `other`: `rustc: 1.95.0, here 1.96.0`.
    pub(super) fn differences(&self, here: &Environment) -> Vec<String> {
        let pairs = [
            ("rustc", &self.rustc, &here.rustc),
            ("target", &self.target, &here.target),
            ("profile", &self.profile, &here.profile),
            ("cpu", &self.cpu, &here.cpu),
            ("libc", &self.libc, &here.libc),
            ("valgrind", &self.valgrind, &here.valgrind),
        ];
        let differ = pairs.into_iter().filter(|(_, own, other)| own != other);
        differ.map(|(name, own, other)| format!("{name}: `{own}`, here `{other}`")).collect()
    }
}

/// How this program was built.
pub(super) fn profile() -> &'static str {
    if cfg!(debug_assertions) { "dev" } else { "release" }
}

const UNKNOWN: &str = "unknown";

/// The compiler names itself in every program (section `.comment`).
fn rustc() -> String {
    let bytes = std::env::current_exe().and_then(fs::read).unwrap_or_default();
    named_compiler(&bytes).unwrap_or_else(|| UNKNOWN.to_owned())
}

/// What stands behind the first `rustc version ` that a number follows, to its closing bracket.
fn named_compiler(program: &[u8]) -> Option<String> {
    const MARK: &[u8] = b"rustc version ";
    memmem::find_iter(program, MARK).find_map(|at| {
        let rest = &program[at + MARK.len()..];
        let rest = &rest[..rest.len().min(80)];
        let end = rest.iter().position(|&b| b == b')' || b == 0)?;
        let text = std::str::from_utf8(&rest[..=end]).ok()?.trim_end_matches('\0');
        text.starts_with(|c: char| c.is_ascii_digit()).then(|| text.to_owned())
    })
}

/// Architecture, system, C library, and CPU features that the compiler was told to use.
fn target() -> String {
    let libc = if cfg!(target_env = "gnu") { "gnu" } else { "other" };
    let mut text = format!("{}-{}-{libc}", std::env::consts::ARCH, std::env::consts::OS);
    for (name, on) in [
        ("sse4.2", cfg!(target_feature = "sse4.2")),
        ("avx2", cfg!(target_feature = "avx2")),
        ("bmi2", cfg!(target_feature = "bmi2")),
    ] {
        if on {
            text.push('+');
            text.push_str(name);
        }
    }
    text
}

/// `glibc 2.36`, asked of getconf(1).
fn libc() -> String {
    match Command::new("getconf").arg("GNU_LIBC_VERSION").output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => UNKNOWN.to_owned(),
    }
}

/// The CPU as this process sees it: under valgrind, what that presents.
pub(super) fn cpu() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        let mut text = "x86-64".to_owned();
        for (name, on) in [
            ("sse4.2", std::is_x86_feature_detected!("sse4.2")),
            ("avx2", std::is_x86_feature_detected!("avx2")),
            ("bmi2", std::is_x86_feature_detected!("bmi2")),
            ("avx512f", std::is_x86_feature_detected!("avx512f")),
        ] {
            if on {
                text.push(' ');
                text.push_str(name);
            }
        }
        text
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::env::consts::ARCH.to_owned()
}

/// Figures by case, with what they were measured on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Baseline {
    pub(super) environment: Environment,
    /// By case.
    pub(super) figures: BTreeMap<String, Figure>,
}

/// The file as it stands.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    environment: Environment,
    instructions: BTreeMap<String, f64>,
}

const HEADER: &str = "\
# Instructions of one operation of each case of `bench icount`, counted by callgrind in a release build.
#
# scripts/check fails where one is more than 3 % higher than here. Not edited by hand. Where a rise is intended, or
# after a fall:
#   cargo run --release -p bench -- icount --update
# and the commit says why. What each case does: cargo run -p bench -- icount --list
";

impl Baseline {
    /// Reads a file that [`Baseline::write`] wrote.
    ///
    /// # Errors
    /// Where the file cannot be read, or is none.
    pub(super) fn read(path: &Path) -> Result<Baseline, String> {
        let text = fs::read_to_string(path).map_err(|error| {
            format!("the baseline {}: {error}; `icount --update` makes one", path.display())
        })?;
        Baseline::parse(&text).map_err(|error| format!("the baseline {}: {error}", path.display()))
    }

    fn parse(text: &str) -> Result<Baseline, String> {
        let File { environment, instructions } = toml::from_str(text).map_err(|error| error.to_string())?;
        let figure = |(name, value): (String, f64)| {
            // The shortest text that reads back the same: what is written with one decimal, has one.
            let figure = format!("{value:?}").parse().map_err(|error| format!("{name}: {error}"))?;
            Ok((name, figure))
        };
        let figures = instructions.into_iter().map(figure).collect::<Result<_, String>>()?;
        Ok(Baseline { environment, figures })
    }

    fn text(&self) -> String {
        let environment = &self.environment;
        let mut text = HEADER.to_owned();
        text.push_str("\n[environment]\n");
        for (name, value) in [
            ("rustc", &environment.rustc),
            ("target", &environment.target),
            ("profile", &environment.profile),
            ("cpu", &environment.cpu),
            ("libc", &environment.libc),
            ("valgrind", &environment.valgrind),
        ] {
            text.push_str(&format!("{name} = {}\n", toml::Value::String(value.clone())));
        }
        text.push_str("\n[instructions]\n");
        for (name, figure) in &self.figures {
            text.push_str(&format!("\"{name}\" = {figure}\n"));
        }
        text
    }

    /// Writes the file: a whole new one, or none.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(super) fn write(&self, path: &Path) -> Result<(), String> {
        let wrong = |error: std::io::Error| format!("the baseline {}: {error}", path.display());
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new().permissions(mode()).tempfile_in(folder).map_err(wrong)?;
        std::io::Write::write_all(&mut file, self.text().as_bytes()).map_err(wrong)?;
        file.persist(path).map_err(|error| wrong(error.error))?;
        Ok(())
    }
}

/// Of a file that everybody may read, as the umask allows.
fn mode() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o644)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn sample() -> Baseline {
        let environment = Environment {
            rustc: "1.95.0 (59807616e 2026-04-14)".to_owned(),
            target: "x86_64-linux-gnu".to_owned(),
            profile: "release".to_owned(),
            cpu: "x86-64 avx2 \"quoted\"".to_owned(),
            libc: "glibc 2.36".to_owned(),
            valgrind: "valgrind-3.19.0".to_owned(),
        };
        let figures = ["pool/small", "h1/parse-get", "mesh/call"].iter().zip(["21.0", "412.3", "1500.5"]);
        let figures = figures.map(|(name, figure)| ((*name).to_owned(), figure.parse().unwrap())).collect();
        Baseline { environment, figures }
    }

    #[test]
    fn a_baseline_reads_back_as_it_was_written() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("icount.toml");
        sample().write(&path).unwrap();
        let back = Baseline::read(&path).unwrap();
        assert_eq!(back, sample());
        back.write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), sample().text(), "and again to the byte");
    }

    #[test]
    fn a_figure_that_is_none_is_named_with_its_case() {
        for (wrong, why) in [("412.34", "`412.34`"), ("-1.0", "`-1.0`"), ("\"lots\"", "lots")] {
            let error = Baseline::parse(&sample().text().replace("412.3", wrong)).unwrap_err();
            assert!(error.contains("h1/parse-get") && error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_missing_file_says_how_to_make_one() {
        let error = Baseline::read(Path::new("/nowhere/icount.toml")).unwrap_err();
        assert!(error.contains("/nowhere/icount.toml") && error.contains("--update"), "{error}");
    }

    #[test]
    fn each_part_of_the_environment_that_differs_is_named() {
        let own = sample().environment;
        assert!(own.differences(&own).is_empty());
        let here =
            Environment { rustc: "1.96.0".to_owned(), valgrind: "valgrind-4".to_owned(), ..own.clone() };
        let differences = own.differences(&here);
        assert_eq!(differences.len(), 2);
        assert_eq!(differences[0], "rustc: `1.95.0 (59807616e 2026-04-14)`, here `1.96.0`");
        assert!(differences[1].starts_with("valgrind:"));
    }

    #[test]
    fn the_compiler_is_what_follows_a_number_and_not_our_own_text() {
        let program =
            b"..rustc version \0..rustc version of..\0rustc version 1.95.0 (59807616e 2026-04-14)\0GCC";
        assert_eq!(named_compiler(program).as_deref(), Some("1.95.0 (59807616e 2026-04-14)"));
        assert_eq!(named_compiler(b"nothing of the kind"), None);
        assert!(rustc().starts_with("1."), "{}", rustc());
    }
}
