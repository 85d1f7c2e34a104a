//! The pages under `docs/` name what is there: files, links, crates with their floors, names in the code.
//!
//! Not here: limits and counters (`tidy`), keys of the configuration (`config`).

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const MAP: &str = "docs/ARCHITECTURE.md";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files below a directory, from the root, whose names end so.
fn below(dir: &str, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![root().join(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.to_str().is_some_and(|path| path.ends_with(end)) {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Line numbers and texts of `code` spans outside of fenced blocks.
fn spans(page: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut found = Vec::new();
    for (index, line) in page.lines().enumerate() {
        fenced ^= line.starts_with("```");
        if !fenced {
            found.extend(line.split('`').skip(1).step_by(2).map(|span| (index + 1, span)));
        }
    }
    found
}

/// What a span must be a path to: the text has a slash, or the ending of a file.
fn is_path(span: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let file = [".rs", ".md", ".toml"].iter().any(|end| span.ends_with(end));
    span.chars().all(part) && !span.starts_with('/') && (span.contains('/') || file)
}

fn pages() -> Vec<PathBuf> {
    let mut pages = below("docs", ".md");
    pages.push("README.md".into());
    pages
}

#[test]
fn every_path_that_the_map_and_the_decisions_name_exists() {
    let mut missing = Vec::new();
    let mut seen = 0;
    for page in below("docs/decisions", ".md").into_iter().chain([MAP.into()]) {
        for (line, span) in spans(&read(&page)) {
            if is_path(span) {
                seen += 1;
                if !root().join(span).exists() {
                    missing.push(format!("{}:{line}: `{span}`", page.display()));
                }
            }
        }
    }
    assert!(seen > 40, "only {seen} paths found: the pages have changed their form");
    assert!(missing.is_empty(), "no such file:\n{}", missing.join("\n"));
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let mut broken = Vec::new();
    let mut seen = 0;
    for page in pages() {
        let text = read(&page);
        for (index, line) in text.lines().enumerate() {
            for after in line.split("](").skip(1) {
                let target = after.split([')', '#']).next().unwrap_or_default();
                if target.is_empty() || target.contains("://") {
                    continue;
                }
                seen += 1;
                if !root().join(&page).parent().unwrap().join(target).exists() {
                    broken.push(format!("{}:{}: {target}", page.display(), index + 1));
                }
            }
        }
    }
    assert!(seen > 10, "only {seen} links found");
    assert!(broken.is_empty(), "links to nowhere:\n{}", broken.join("\n"));
}

#[test]
fn every_name_on_the_map_is_in_the_code() {
    let dirs = ["shards", "src", "bench/src", "loadgen/src"];
    let sources: Vec<String> = dirs.iter().flat_map(|dir| below(dir, ".rs")).map(read).collect();
    let known = |name: &str| {
        let edge = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        sources.iter().any(|text| {
            text.match_indices(name).any(|(at, _)| {
                edge(text[..at].chars().next_back()) && edge(text[at + name.len()..].chars().next())
            })
        })
    };
    let page = read(MAP);
    let names = spans(&page).into_iter().filter(|(_, span)| {
        let part = |c: char| c.is_ascii_alphanumeric() || "_:".contains(c);
        span.chars().all(part) && span.len() > 2
    });
    let unknown: Vec<String> = names
        .filter(|(_, span)| !known(span.rsplit("::").next().unwrap_or(span)))
        .map(|(line, span)| format!("{MAP}:{line}: `{span}`"))
        .collect();
    assert!(unknown.is_empty(), "not in the code:\n{}", unknown.join("\n"));
}

#[test]
fn the_table_of_floors_has_every_crate_and_what_it_uses() {
    // What the manifests say: floor, and the crates below that are normal, unconditional dependencies.
    let mut real = BTreeMap::new();
    for entry in fs::read_dir(root().join("shards")).unwrap().map(Result::unwrap) {
        let manifest = entry.path().join("Cargo.toml");
        if !manifest.exists() {
            continue;
        }
        let manifest: toml::Table = read(manifest).parse().unwrap();
        let floor = manifest["package"]["metadata"]["floor"]["level"].as_integer().unwrap();
        let uses = manifest.get("dependencies").and_then(toml::Value::as_table).into_iter().flatten();
        let mut uses: Vec<String> =
            uses.filter_map(|(name, _)| Some(name.strip_prefix("corelane-")?.to_owned())).collect();
        uses.sort();
        real.insert(entry.file_name().into_string().unwrap(), (floor, uses));
    }
    let page = read(MAP);
    let mut told = BTreeMap::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ["", floor, name, _, uses, ""] = cells[..]
            && let Some(name) = name.strip_prefix("`shards/").and_then(|name| name.strip_suffix('`'))
        {
            let mut uses: Vec<String> =
                uses.split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect();
            uses.sort();
            told.insert(name.to_owned(), (floor.parse::<i64>().unwrap(), uses));
        }
    }
    assert_eq!(told, real, "left what {MAP} says, right what the manifests do");
}

#[test]
fn every_decision_is_listed_and_says_context_choice_and_price() {
    let list = read("docs/decisions/README.md");
    let pages = below("docs/decisions", ".md");
    let decisions: Vec<_> = pages.iter().filter(|page| !page.ends_with("README.md")).collect();
    assert!(decisions.len() >= 8);
    for (index, page) in decisions.into_iter().enumerate() {
        let (name, text) = (page.file_name().unwrap().to_str().unwrap(), read(page));
        let number = format!("{:04}", index + 1);
        assert!(name.starts_with(&number), "{name}: numbers have no gap, this one is {number}");
        assert!(text.starts_with(&format!("# {number}: ")), "{name}: the title");
        assert!(list.contains(&format!("[{number}]({name})")), "{name} is not listed");
        let parts: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(parts, ["Context", "Choice", "Price"], "{name}");
        assert!(text.lines().count() <= 45, "{name} is longer than a page");
    }
}
