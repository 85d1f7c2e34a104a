//! The files of `sysctl/`, of which `scripts/tune` makes settings: what of them this host does not have.
//!
//! A block for each key: comments `# FIELD: TEXT`, then `key = value`. `rule` is `equal`, `at_least` or `at_most`, and
//! the latter two compare number by number, so that a better value is never a drift.
//!
//! Not here: setting anything (`scripts/tune`).

/// What a server's host should have.
pub(super) const SERVER: &str = include_str!("../../sysctl/10-server.conf");

/// How a value is compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bound {
    /// The same.
    Equal,
    /// Each number as large, or larger; a range of ports as wide.
    AtLeast,
    /// Each number as small, or smaller.
    AtMost,
}

/// One key of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SysctlRule {
    /// Like `net.core.somaxconn`.
    pub key: String,
    /// What it should be.
    pub value: String,
    /// How that is compared.
    pub bound: Bound,
    /// What it does for us.
    pub why: String,
    /// When it hurts.
    pub harm: String,
    /// A condition of the host; without it always.
    pub when: Option<String>,
}

/// A key that is not as it should be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Drift {
    /// What should be.
    pub rule: SysctlRule,
    /// What is.
    pub now: String,
}

/// The keys of a file, in its order. A block that lacks `rule`, `why` or `harm`, or whose value is none, is left out.
pub fn parse(text: &str) -> Vec<SysctlRule> {
    let mut found = Vec::new();
    let mut fields: Vec<(&str, &str)> = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        if let Some(comment) = line.strip_prefix('#') {
            fields.extend(comment.trim().split_once(':').map(|(name, text)| (name.trim(), text.trim())));
        } else if let Some((key, value)) = line.split_once('=') {
            found.extend(rule_of(key.trim(), value.trim(), &fields));
            fields.clear();
        } else if line.is_empty() {
            fields.clear();
        }
    }
    found
}

fn rule_of(key: &str, value: &str, fields: &[(&str, &str)]) -> Option<SysctlRule> {
    let joined = |name: &str| {
        let texts: Vec<&str> =
            fields.iter().filter(|(known, _)| *known == name).map(|(_, text)| *text).collect();
        (!texts.is_empty()).then(|| texts.join(" "))
    };
    let bound = match joined("rule")?.as_str() {
        "equal" => Bound::Equal,
        "at_least" => Bound::AtLeast,
        "at_most" => Bound::AtMost,
        _ => return None,
    };
    let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    (is_key && !value.is_empty()).then_some(())?;
    Some(SysctlRule {
        key: key.to_owned(),
        value: value.to_owned(),
        bound,
        why: joined("why")?,
        harm: joined("harm")?,
        when: joined("when"),
    })
}

impl SysctlRule {
    /// Whether `now` is as good as it should be. What is no list of as many numbers must be equal.
    pub fn is_met_by(&self, now: &str) -> bool {
        let numbers = |text: &str| {
            text.split_whitespace().map(|word| word.parse::<i128>().ok()).collect::<Option<Vec<_>>>()
        };
        let (wanted, had) = (numbers(&self.value), numbers(now));
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let (Some(wanted), Some(had)) = (wanted, had) else { return words(&self.value) == words(now) };
        if wanted.len() != had.len() {
            return false;
        }
        if let ([first, last], [had_first, had_last], Bound::AtLeast) = (&wanted[..], &had[..], self.bound)
            && self.key.ends_with("port_range")
        {
            return had_last - had_first >= last - first;
        }
        wanted.iter().zip(&had).all(|(wanted, had)| match self.bound {
            Bound::Equal => had == wanted,
            Bound::AtLeast => had >= wanted,
            Bound::AtMost => had <= wanted,
        })
    }
}

/// Whether a condition of a file holds. One that is not known does not: rule 1 of the doctor.
pub(super) fn holds(when: Option<&str>, is_numa: bool, has_fast_card: bool) -> bool {
    match when {
        None => true,
        Some("numa") => is_numa,
        Some("nic_25g") => has_fast_card,
        Some(_) => false,
    }
}
