//! COMMAND: what there is to say of commands, from their specs.
//!
//! Places of keys are also given as key specifications; their flags say no more than whether the command reads or
//! writes. Arguments are not described, nor are versions since the first one.
//!
//! Not here: the specs (`data`, `connection`).

use corelane_proto_resp::Command;

use super::spec::{Categories, Flags, Keys, Spec};
use super::{Reply, Unfit, all, find_in, lookup, parse, wrong_arity};
use crate::services::cache::glob;

/// Runs COMMAND and its subcommands. The number of arguments was looked at by
/// [`super::find`].
pub fn command_reply(command: &Command<'_>, reply: &mut Reply) {
    let Some(own) = command.get(1) else { return infos(reply, all().map(Some)) };
    match () {
        () if parse::is(own, "count") => reply.count(all().count()),
        () if parse::is(own, "info") && command.len() == 2 => infos(reply, all().map(Some)),
        () if parse::is(own, "info") => infos(reply, command.iter().skip(2).map(named)),
        () if parse::is(own, "docs") => docs(reply, command),
        () if parse::is(own, "list") => list(reply, command),
        () if parse::is(own, "getkeys") => keys_of(reply, command),
        () => help(reply, "COMMAND", lookup(b"command").map_or(&[], |spec| spec.subcommands)),
    }
}

/// The reply of HELP of a command that has subcommands.
pub fn help(reply: &mut Reply, name: &str, subcommands: &[Spec]) {
    reply.array(1 + 2 * subcommands.len());
    let mut line = |text: String| reply.write().simple(text.as_bytes());
    line(format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for spec in subcommands {
        let more = if spec.takes(2) && spec.arity > 0 { "" } else { " ..." };
        line(format!("{}{more}", spec.own_name().to_ascii_uppercase()));
        line(format!("    {}", spec.summary));
    }
}

/// The command, or with a `|` in it the subcommand, of this name.
fn named(name: &[u8]) -> Option<&'static Spec> {
    let Some(bar) = memchr::memchr(b'|', name) else { return lookup(name) };
    let container = lookup(&name[..bar])?;
    container.subcommands.iter().find(|spec| parse::is(&name[bar + 1..], spec.own_name()))
}

fn infos(reply: &mut Reply, specs: impl Iterator<Item = Option<&'static Spec>>) {
    let (begun, mut count) = (reply.array_later(), 0);
    for spec in specs {
        match spec {
            Some(spec) => info(reply, spec),
            None => reply.null(),
        }
        count += 1;
    }
    reply.end_array(begun, count);
}

/// Where the first key is, the last one and how far they are apart, as the older clients know it.
fn places(keys: Keys) -> (i64, i64, i64) {
    match keys {
        Keys::None => (0, 0, 0),
        Keys::Range { first, last, step } => (number(first), last as i64, number(step)),
        Keys::Counted { also: 0, .. } => (0, 0, 0),
        Keys::Counted { also, .. } => (number(also), number(also), 1),
    }
}

fn number(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn info(reply: &mut Reply, spec: &'static Spec) {
    let (first, last, step) = places(spec.keys);
    reply.array(10);
    reply.bulk(spec.name.as_bytes());
    reply.integer(i64::from(spec.arity));
    let flags = Flags::NAMES.iter().enumerate().filter(|(n, _)| spec.flags.0 >> n & 1 == 1);
    words(reply, flags.map(|(_, name)| (*name).to_owned()));
    [first, last, step].into_iter().for_each(|value| reply.integer(value));
    let categories = Categories::NAMES.iter().enumerate().filter(|(n, _)| spec.categories.0 >> n & 1 == 1);
    words(reply, categories.map(|(_, name)| format!("@{name}")));
    words(reply, std::iter::empty());
    key_specs(reply, spec);
    reply.write().set(spec.subcommands.len());
    spec.subcommands.iter().for_each(|spec| info(reply, spec));
}

/// A set of words that are replied as they are, not as strings.
fn words(reply: &mut Reply, words: impl Iterator<Item = String>) {
    let (begun, mut count) = (reply.array_later(), 0);
    for word in words {
        reply.write().simple(word.as_bytes());
        count += 1;
    }
    reply.end_set(begun, count);
}

fn key_specs(reply: &mut Reply, spec: &Spec) {
    let flags: &[&str] = match () {
        () if spec.flags.has(Flags::WRITE) => &["RW"],
        () => &["RO", "access"],
    };
    let pair = |reply: &mut Reply, name: &str, value: i64| {
        reply.bulk(name.as_bytes());
        reply.integer(value);
    };
    let one = |reply: &mut Reply, index: usize, find: &dyn Fn(&mut Reply)| {
        reply.write().map(3);
        reply.bulk(b"flags");
        words(reply, flags.iter().map(|flag| (*flag).to_owned()));
        reply.bulk(b"begin_search");
        reply.write().map(2);
        reply.bulk(b"type");
        reply.bulk(b"index");
        reply.bulk(b"spec");
        reply.write().map(1);
        pair(reply, "index", number(index));
        reply.bulk(b"find_keys");
        reply.write().map(2);
        reply.bulk(b"type");
        find(reply);
    };
    let range = |reply: &mut Reply, last: i64, step: usize| {
        reply.bulk(b"range");
        reply.bulk(b"spec");
        reply.write().map(3);
        pair(reply, "lastkey", last);
        pair(reply, "keystep", number(step));
        pair(reply, "limit", 0);
    };
    match spec.keys {
        Keys::None => reply.write().set(0),
        Keys::Range { first, last, step } => {
            // Counted from the first key, if not from the end.
            let last = if last < 0 { last as i64 } else { last as i64 - number(first) };
            reply.write().set(1);
            one(reply, first, &|reply| range(reply, last, step));
        }
        Keys::Counted { count, also } => {
            reply.write().set(1 + usize::from(also != 0));
            if also != 0 {
                one(reply, also, &|reply| range(reply, 0, 1));
            }
            one(reply, count, &|reply| {
                reply.bulk(b"keynum");
                reply.bulk(b"spec");
                reply.write().map(3);
                pair(reply, "keynumidx", 0);
                pair(reply, "firstkey", 1);
                pair(reply, "keystep", 1);
            });
        }
    }
}

fn docs(reply: &mut Reply, command: &Command<'_>) {
    let asked: Vec<&'static Spec> = match command.len() {
        2 => all().collect(),
        _ => command.iter().skip(2).filter_map(named).collect(),
    };
    reply.write().map(asked.len());
    asked.into_iter().for_each(|spec| doc(reply, spec));
}

fn doc(reply: &mut Reply, spec: &Spec) {
    let has_more = !spec.subcommands.is_empty();
    reply.bulk(spec.name.as_bytes());
    reply.write().map(4 + usize::from(has_more));
    let facts = [
        ("summary", spec.summary),
        ("since", spec.since),
        ("group", spec.group),
        ("complexity", spec.complexity),
    ];
    for (name, value) in facts {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    if has_more {
        reply.bulk(b"subcommands");
        reply.write().map(spec.subcommands.len());
        spec.subcommands.iter().for_each(|spec| doc(reply, spec));
    }
}

/// All commands and, behind each, its subcommands.
fn each() -> impl Iterator<Item = &'static Spec> {
    all().flat_map(|spec| std::iter::once(spec).chain(spec.subcommands))
}

fn list(reply: &mut Reply, command: &Command<'_>) {
    let takes: Box<dyn Fn(&Spec) -> bool> = match (command.get(2), command.get(3), command.get(4)) {
        (None, ..) => Box::new(|_| true),
        (Some(word), Some(kind), Some(value)) if parse::is(word, "filterby") && command.len() == 5 => {
            if parse::is(kind, "pattern") {
                Box::new(move |spec| glob::matches_any_case(value, spec.name.as_bytes()))
            } else if parse::is(kind, "aclcat") {
                let found = Categories::NAMES.iter().position(|name| parse::is(value, name));
                Box::new(move |spec| found.is_some_and(|n| spec.categories.0 >> n & 1 == 1))
            } else if parse::is(kind, "module") {
                Box::new(|_| false)
            } else {
                return reply.error(parse::SYNTAX);
            }
        }
        _ => return reply.error(parse::SYNTAX),
    };
    let (begun, mut count) = (reply.array_later(), 0);
    for spec in each().filter(|spec| takes(spec)) {
        reply.bulk(spec.name.as_bytes());
        count += 1;
    }
    reply.end_array(begun, count);
}

fn keys_of(reply: &mut Reply, command: &Command<'_>) {
    if command.len() < 3 {
        return wrong_arity(reply, "command|getkeys");
    }
    let spec = match find_in(&command[2], command.get(3), command.len() - 2) {
        Ok(spec) => spec,
        Err(Unfit::Arity(_)) => return reply.error("ERR Invalid number of arguments specified for command"),
        Err(_) => return reply.error("ERR Invalid command specified"),
    };
    if matches!(spec.keys, Keys::None) {
        return reply.error("ERR The command has no key arguments");
    }
    let mut places = Vec::new();
    spec.keys.find_in(command.len() - 2, |at| command.get(at + 2), &mut places);
    if places.is_empty() {
        return reply.error("ERR Invalid arguments specified for command");
    }
    reply.array(places.len());
    places.iter().for_each(|at| reply.bulk(&command[at + 2]));
}

#[cfg(test)]
mod tests {
    use corelane_proto_resp::{Limits, Parser, Step, Version};

    use super::*;

    fn said(line: &str, version: Version) -> String {
        let wire = format!("{line}\r\n");
        let (mut parser, limits, mut unread) = (Parser::new(), Limits::default(), wire.as_bytes());
        let Step::Command(command) = parser.poll(&limits, &mut unread) else { panic!("this is no command") };
        let mut reply = Reply::new(version);
        match super::super::find(&command) {
            Ok(_) => command_reply(&command, &mut reply),
            Err(unfit) => unfit.reply(&command, &mut reply),
        }
        String::from_utf8(reply.to_vec()).expect("text")
    }

    #[test]
    fn info_has_the_shape_of_redis_in_both_protocols() {
        assert_eq!(
            said("command info GET nosuch", Version::Resp2),
            "*2\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n*3\r\n+@read\r\n\
             +@string\r\n+@fast\r\n*0\r\n*1\r\n*6\r\n$5\r\nflags\r\n*2\r\n+RO\r\n+access\r\n$12\r\nbegin_search\r\n*4\r\n\
             $4\r\ntype\r\n$5\r\nindex\r\n$4\r\nspec\r\n*2\r\n$5\r\nindex\r\n:1\r\n$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n\
             $5\r\nrange\r\n$4\r\nspec\r\n*6\r\n$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n*0\r\n\
             $-1\r\n"
        );
        assert_eq!(
            said("command info object|help", Version::Resp3),
            "*1\r\n*10\r\n$11\r\nobject|help\r\n:2\r\n~2\r\n+loading\r\n+stale\r\n:0\r\n:0\r\n:0\r\n~2\r\n+@keyspace\r\n\
             +@slow\r\n~0\r\n~0\r\n~0\r\n"
        );
    }

    #[test]
    fn docs_are_a_map_of_maps() {
        let text = said("command docs time nosuch", Version::Resp3);
        assert!(text.starts_with("%1\r\n$4\r\ntime\r\n%4\r\n$7\r\nsummary\r\n$"), "{text}");
        assert!(said("command docs object", Version::Resp2).contains("$11\r\nsubcommands\r\n*10\r\n"));
        for spec in each() {
            let texts = [spec.summary, spec.since, spec.group, spec.complexity];
            assert!(texts.iter().all(|text| !text.is_empty()), "{}", spec.name);
        }
    }

    #[test]
    fn names_are_listed_by_pattern_and_by_category() {
        assert_eq!(said("command list filterby pattern TI*", Version::Resp2), "*1\r\n$4\r\ntime\r\n");
        assert_eq!(
            said("command list filterby pattern object|f*", Version::Resp2),
            "*1\r\n$11\r\nobject|freq\r\n"
        );
        assert!(said("command list filterby aclcat bitmap", Version::Resp2).contains("bitop"));
        assert_eq!(said("command list filterby aclcat nosuch", Version::Resp2), "*0\r\n");
        assert_eq!(said("command list filterby module json", Version::Resp2), "*0\r\n");
        assert_eq!(said("command list filterby", Version::Resp2), "-ERR syntax error\r\n");
        assert_eq!(said("command count", Version::Resp2), format!(":{}\r\n", all().count()));
    }

    #[test]
    fn keys_of_a_command_are_found_without_running_it() {
        for (line, wanted) in [
            ("mset a 1 b 2", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
            ("object freq a", "*1\r\n$1\r\na\r\n"),
            ("object nosuch a", "-ERR Invalid command specified\r\n"),
            ("nosuch a", "-ERR Invalid command specified\r\n"),
            ("set a", "-ERR Invalid number of arguments specified for command\r\n"),
            ("ping a", "-ERR The command has no key arguments\r\n"),
            ("ping", "-ERR wrong number of arguments for 'command|getkeys' command\r\n"),
        ] {
            assert_eq!(said(&format!("command getkeys {line}"), Version::Resp2), wanted, "{line}");
        }
    }

    #[test]
    fn what_is_no_command_is_said_in_the_words_of_redis() {
        for (line, wanted) in [
            ("nosuch a b", "-ERR unknown command 'nosuch', with args beginning with: 'a' 'b' \r\n"),
            ("object nosuch", "-ERR unknown subcommand 'nosuch'. Try OBJECT HELP.\r\n"),
            ("object", "-ERR wrong number of arguments for 'object' command\r\n"),
            ("object freq", "-ERR wrong number of arguments for 'object|freq' command\r\n"),
        ] {
            assert_eq!(said(line, Version::Resp2), wanted);
        }
        let long = "x".repeat(300);
        let cut = &long[..128];
        let wanted = format!("-ERR unknown command '{cut}', with args beginning with: '{cut}' \r\n");
        assert_eq!(said(&format!("{long} {long} {long}"), Version::Resp2), wanted);
    }
}
