//! Steps: what is done next, on both servers alike. Plain data, so that any part of a run can be repeated.
//!
//! Not here: what to choose (`generate`), what it means (`run`).

use std::fmt;

use crate::resp::shown;

/// A command and its arguments.
pub(crate) type Cmd = Vec<Vec<u8>>;

/// One step. `client` is a connection by its number.
#[derive(Clone)]
pub(crate) enum Step {
    /// One command.
    One { client: usize, cmd: Cmd },
    /// Several in one write.
    Burst { client: usize, cmds: Vec<Cmd> },
    /// Several clients write a burst each before any reply is read. Their keys are their own.
    Storm { bursts: Vec<(usize, Vec<Cmd>)> },
    /// A command that may wait for others to push.
    Block { client: usize, cmd: Cmd },
    /// A command that chooses among members by chance.
    Pick { client: usize, cmd: Cmd },
    /// An iteration from start to end. The cursor is the argument that is `0`, at this place.
    Scan { client: usize, cmd: Cmd, cursor: usize },
    /// By lexicographical order, which needs all scores of this key to be one.
    Lex { client: usize, cmd: Cmd, key: Vec<u8> },
    /// Commands that give keys a short life, and a wait for its end. `@` is the present time and `ms`.
    Expire { client: usize, cmds: Vec<Cmd>, ms: u64 },
    /// (P)(UN)SUBSCRIBE.
    Subscribe { client: usize, cmd: Cmd },
    /// Bytes that are no array of strings.
    Raw { client: usize, bytes: Vec<u8> },
    /// The client closes, and another one takes its place.
    Reconnect { client: usize },
    /// All keys with all they hold are held against each other.
    Compare,
}

/// The name of a command in capitals.
pub(crate) fn name(cmd: &Cmd) -> String {
    cmd.first().map(|name| String::from_utf8_lossy(name).to_ascii_uppercase()).unwrap_or_default()
}

/// A command of words.
pub(crate) fn words(text: &str) -> Cmd {
    text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// As one would type it.
pub(crate) fn typed(cmd: &Cmd) -> String {
    let plain = |arg: &Vec<u8>| {
        let is_plain = !arg.is_empty() && arg.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'"');
        if is_plain { shown(arg) } else { format!("\"{}\"", shown(arg)) }
    };
    cmd.iter().map(plain).collect::<Vec<_>>().join(" ")
}

impl Step {
    /// The commands in it.
    pub(crate) fn cmds(&self) -> Vec<&Cmd> {
        match self {
            Step::One { cmd, .. }
            | Step::Block { cmd, .. }
            | Step::Pick { cmd, .. }
            | Step::Scan { cmd, .. }
            | Step::Lex { cmd, .. }
            | Step::Subscribe { cmd, .. } => vec![cmd],
            Step::Burst { cmds, .. } | Step::Expire { cmds, .. } => cmds.iter().collect(),
            Step::Storm { bursts } => bursts.iter().flat_map(|(_, cmds)| cmds).collect(),
            Step::Raw { .. } | Step::Reconnect { .. } | Step::Compare => Vec::new(),
        }
    }

    /// Whether it has to do with one of these keys: an argument is one, or it has no keys to tell.
    pub(crate) fn touches(&self, keys: &[Vec<u8>]) -> bool {
        let cmds = self.cmds();
        cmds.is_empty() || cmds.iter().any(|cmd| cmd.len() < 2 || cmd.iter().any(|arg| keys.contains(arg)))
    }

    /// The same with fewer commands, if it has several: those that `keep` wants, by their number.
    pub(crate) fn thinned(&self, keep: impl Fn(usize) -> bool) -> Step {
        let thin = |cmds: &[Cmd]| {
            cmds.iter().enumerate().filter(|(at, _)| keep(*at)).map(|(_, cmd)| cmd.clone()).collect()
        };
        match self {
            Step::Burst { client, cmds } => Step::Burst { client: *client, cmds: thin(cmds) },
            Step::Expire { client, cmds, ms } => Step::Expire { client: *client, cmds: thin(cmds), ms: *ms },
            other => other.clone(),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let many = |cmds: &[Cmd]| cmds.iter().map(typed).collect::<Vec<_>>().join(" ; ");
        match self {
            Step::One { client, cmd } | Step::Pick { client, cmd } | Step::Scan { client, cmd, .. } => {
                write!(f, "{client}> {}", typed(cmd))
            }
            Step::Lex { client, cmd, .. } | Step::Subscribe { client, cmd } => {
                write!(f, "{client}> {}", typed(cmd))
            }
            Step::Block { client, cmd } => write!(f, "{client}> {} (may wait)", typed(cmd)),
            Step::Burst { client, cmds } => write!(f, "{client}> {}", many(cmds)),
            Step::Storm { bursts } => {
                for (index, (client, cmds)) in bursts.iter().enumerate() {
                    write!(f, "{}{client}> {}", if index > 0 { " || " } else { "" }, many(cmds))?;
                }
                Ok(())
            }
            Step::Expire { client, cmds, ms } => write!(f, "{client}> {} (and wait {ms} ms)", many(cmds)),
            Step::Raw { client, bytes } => write!(f, "{client}> raw \"{}\"", shown(bytes)),
            Step::Reconnect { client } => write!(f, "{client}> closes and connects again"),
            Step::Compare => f.write_str("all keys are compared"),
        }
    }
}
