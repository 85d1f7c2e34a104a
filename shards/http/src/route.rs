//! Routes: from method and path to a handler, and to `Allow` where there is none.
//!
//! # Rules
//! 1. The path is matched as sent: not decoded, `//`, `.` and `..` not resolved (RFC 3986, 6.2 makes
//!    normalisation a choice; two readers of one path are how access checks are passed by). `/a%2Fb` is one
//!    segment. `/a` and `/a/` are two paths.
//! 2. A literal path beats every pattern; among patterns the more specific wins (`matchit`).
//! 3. GET's handler answers HEAD where no HEAD route matches (RFC 9110, 9.3.2).
//! 4. Each method has its own patterns, so `GET /users/{id}` and `POST /users/{name}` do not conflict.
//!
//! Not here: what is called and with what (`app`).

use std::fmt;

use corelane_net::h1::Method;
use matchit::{InsertError, Params, Router};

use crate::literal::{Literals, NONE};

/// A method that routes may name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verb {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
}

/// How many [`Verb`]s there are.
pub(crate) const VERBS: usize = 7;

pub(crate) const ALL: [Verb; VERBS] =
    [Verb::Get, Verb::Head, Verb::Post, Verb::Put, Verb::Delete, Verb::Options, Verb::Patch];

impl Verb {
    /// `None` for what is never routed: TRACE (it would mirror credentials), CONNECT (not a proxy), others.
    #[inline]
    pub(crate) fn of(method: Method<'_>) -> Option<Verb> {
        match method {
            Method::Get => Some(Verb::Get),
            Method::Head => Some(Verb::Head),
            Method::Post => Some(Verb::Post),
            Method::Put => Some(Verb::Put),
            Method::Delete => Some(Verb::Delete),
            Method::Options => Some(Verb::Options),
            Method::Patch => Some(Verb::Patch),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Head => "HEAD",
            Verb::Post => "POST",
            Verb::Put => "PUT",
            Verb::Delete => "DELETE",
            Verb::Options => "OPTIONS",
            Verb::Patch => "PATCH",
        }
    }
}

/// A set of methods: what `Allow` lists.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct VerbSet(u8);

impl VerbSet {
    pub(crate) fn insert(&mut self, verb: Verb) {
        self.0 |= 1 << verb as u8;
    }

    pub(crate) fn contains(self, verb: Verb) -> bool {
        self.0 & 1 << verb as u8 != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// As `Allow` lists it. Allocates once.
    pub(crate) fn list(self) -> String {
        let mut list = String::with_capacity("GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH".len());
        for verb in ALL.into_iter().filter(|verb| self.contains(*verb)) {
            let separator = if list.is_empty() { "" } else { ", " };
            list.extend([separator, verb.name()]);
        }
        list
    }

    /// With what is answered without a route of its own: HEAD beside GET, OPTIONS beside anything.
    fn completed(mut self) -> VerbSet {
        if self.contains(Verb::Get) {
            self.insert(Verb::Head);
        }
        if !self.is_empty() {
            self.insert(Verb::Options);
        }
        self
    }
}

/// Why a route was not taken. Shown at start; a request cannot cause it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RouteError {
    /// The same method already has a route that would match the same paths.
    Conflict {
        /// Method and pattern of the new route.
        new: String,
        /// Method and pattern of the one that stands.
        existing: String,
    },
    /// The pattern cannot be one.
    Malformed {
        /// Method and pattern.
        route: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// TRACE, CONNECT or a method this server does not know.
    Method {
        /// Method and pattern.
        route: String,
    },
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteError::Conflict { new, existing } => {
                write!(f, "route `{new}` conflicts with route `{existing}`")
            }
            RouteError::Malformed { route, why } => write!(f, "route `{route}`: {why}"),
            RouteError::Method { route } => write!(
                f,
                "route `{route}`: only GET, HEAD, POST, PUT, DELETE, OPTIONS and PATCH can have routes"
            ),
        }
    }
}

impl std::error::Error for RouteError {}

/// What a path leads to.
#[derive(Debug)]
pub(crate) enum Found<'t, 'p> {
    /// The route with this index, and its parameters.
    Route(u32, Params<'t, 'p>),
    /// The path is known, the method is not among these.
    OtherMethods(VerbSet),
    Nothing,
}

#[derive(Default)]
pub(crate) struct Routes {
    literals: Literals,
    patterns: [Router<u32>; VERBS],
    /// Verbs that have patterns.
    patterned: VerbSet,
    /// Verbs of all routes.
    used: VerbSet,
}

impl Routes {
    /// Adds one route. Unchanged when it fails.
    pub(crate) fn insert(&mut self, verb: Verb, pattern: &str, route: u32) -> Result<(), RouteError> {
        let name = || format!("{} {pattern}", verb.name());
        let malformed = |why| Err(RouteError::Malformed { route: name(), why });
        if let Some(why) = defect(pattern) {
            return malformed(why);
        }
        if !pattern.contains(['{', '}']) {
            return match self.literals.insert(verb, pattern, route) {
                Ok(()) => {
                    self.used.insert(verb);
                    Ok(())
                }
                Err(_) => Err(RouteError::Conflict { new: name(), existing: name() }),
            };
        }
        match self.patterns[verb as usize].insert(pattern, route) {
            Ok(()) => {
                self.patterned.insert(verb);
                self.used.insert(verb);
                Ok(())
            }
            Err(InsertError::Conflict { with }) => {
                Err(RouteError::Conflict { new: name(), existing: format!("{} {with}", verb.name()) })
            }
            Err(InsertError::InvalidParamSegment) => malformed("a segment can hold one parameter only"),
            Err(InsertError::InvalidCatchAll) => malformed("`{*rest}` must be the whole last segment"),
            Err(_) => malformed(
                "a parameter is written `{name}`, with a name and both braces; a literal brace is written twice",
            ),
        }
    }

    /// The handler of a literal path. One hash and one comparison.
    #[inline]
    pub(crate) fn literal(&self, verb: Verb, path: &[u8]) -> Option<u32> {
        let entry = self.literals.get(path)?;
        let mut route = entry.routes[verb as usize];
        if route == NONE && verb == Verb::Head {
            route = entry.routes[Verb::Get as usize];
        }
        (route != NONE).then_some(route)
    }

    /// The handler of a path that is not literal for `verb`, or which methods the path has.
    ///
    /// One walk of the method's tree. Nothing is allocated for up to three parameters.
    pub(crate) fn pattern<'t, 'p>(&'t self, verb: Verb, path: &'p str) -> Found<'t, 'p> {
        let tries: &[Verb] = match verb {
            Verb::Head => &[Verb::Head, Verb::Get],
            _ => &[verb],
        };
        for verb in tries.iter().filter(|verb| self.patterned.contains(**verb)) {
            if let Ok(found) = self.patterns[*verb as usize].at(path) {
                return Found::Route(*found.value, found.params);
            }
        }
        let allowed = self.allowed(path);
        if allowed.is_empty() { Found::Nothing } else { Found::OtherMethods(allowed) }
    }

    /// Methods that `path` answers, OPTIONS included; empty when no route matches it.
    pub(crate) fn allowed(&self, path: &str) -> VerbSet {
        let mut set = VerbSet::default();
        let literal = self.literals.get(path.as_bytes());
        for verb in ALL {
            let is_literal = literal.is_some_and(|entry| entry.routes[verb as usize] != NONE);
            if is_literal || (self.patterned.contains(verb) && self.patterns[verb as usize].at(path).is_ok())
            {
                set.insert(verb);
            }
        }
        set.completed()
    }

    /// Methods of the whole application: the answer to `OPTIONS *`.
    pub(crate) fn allowed_anywhere(&self) -> VerbSet {
        let mut set = self.used;
        set.insert(Verb::Options);
        set.completed()
    }
}

/// What no pattern may have, before `matchit` sees it.
fn defect(pattern: &str) -> Option<&'static str> {
    if !pattern.starts_with('/') {
        return Some("a path starts with `/`");
    }
    if pattern.contains(['?', '#']) {
        return Some("a path ends before `?` and `#`; use `query_param` for the query");
    }
    // Paths arrive as RFC 3986 writes them; a route with any other byte could never match.
    let is_path_byte = |b: u8| b.is_ascii_graphic() && !b"\"<>\\^`|".contains(&b);
    if !pattern.bytes().all(is_path_byte) {
        return Some("a path is matched as sent: write spaces and non-ASCII characters percent-encoded");
    }
    let mut names: Vec<&str> = Vec::new();
    for part in pattern.split('{').skip(1) {
        let Some((name, _)) = part.split_once('}') else { continue };
        if names.contains(&name) {
            return Some("two parameters have the same name");
        }
        names.push(name);
    }
    None
}

#[cfg(test)]
mod tests;
