//! Whether a history of one key is linearizable: all its operations can be put into one order that explains every
//! reply, and in which no operation comes before one that had returned before it was called.
//!
//! The search is that of Wing and Gong, "Testing and verifying concurrent objects", JPDC 1993: from a state, try every
//! operation that may come next. With Lowe, "Testing for linearizability", CCPE 2017, it remembers which sets of
//! operations with which state were a dead end. Keys are checked one by one: a history of several objects is
//! linearizable if that of each is (Herlihy and Wing, "Linearizability", TOPLAS 1990, theorem 1).
//!
//! Not here: who makes histories (`resp_linear`).

use std::collections::HashSet;
use std::fmt;

use crate::resp::{Value, shown};

/// What a key holds: nothing, or bytes.
type State = Option<Vec<u8>>;

/// What was asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    Get,
    Set(Vec<u8>),
    /// `SET key value NX`.
    SetNew(Vec<u8>),
    /// `SET key value GET`.
    Swap(Vec<u8>),
    GetDel,
    Append(Vec<u8>),
    Incr,
    Del,
}

impl Action {
    /// The command on a key.
    pub(crate) fn command(&self, key: &[u8]) -> Vec<Vec<u8>> {
        let words: &[&[u8]] = match self {
            Action::Get => &[b"GET", key],
            Action::Set(value) => &[b"SET", key, value],
            Action::SetNew(value) => &[b"SET", key, value, b"NX"],
            Action::Swap(value) => &[b"SET", key, value, b"GET"],
            Action::GetDel => &[b"GETDEL", key],
            Action::Append(more) => &[b"APPEND", key, more],
            Action::Incr => &[b"INCR", key],
            Action::Del => &[b"DEL", key],
        };
        words.iter().map(|word| word.to_vec()).collect()
    }

    /// The reply in a state, and the state behind it: all that is known of the server.
    fn apply(&self, state: &State) -> (Value, State) {
        let told = |state: &State| state.as_ref().map_or(Value::NullBulk, Value::bulk);
        match self {
            Action::Get => (told(state), state.clone()),
            Action::Set(value) => (Value::ok(), Some(value.clone())),
            Action::SetNew(value) => match state {
                None => (Value::ok(), Some(value.clone())),
                Some(_) => (Value::NullBulk, state.clone()),
            },
            Action::Swap(value) => (told(state), Some(value.clone())),
            Action::GetDel => (told(state), None),
            Action::Append(more) => {
                let all = [&state.clone().unwrap_or_default()[..], more].concat();
                (Value::Int(i64::try_from(all.len()).unwrap_or(i64::MAX)), Some(all))
            }
            Action::Incr => {
                let number = state
                    .as_ref()
                    .map_or(Some(0), |text| std::str::from_utf8(text).ok()?.parse::<i64>().ok());
                match number.and_then(|number| number.checked_add(1)) {
                    Some(number) => (Value::Int(number), Some(number.to_string().into_bytes())),
                    None => {
                        let text = b"ERR value is not an integer or out of range";
                        (Value::Error(text.to_vec()), state.clone())
                    }
                }
            }
            Action::Del => (Value::Int(state.is_some().into()), None),
        }
    }
}

/// One operation of a history.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    /// Whose it was.
    pub(crate) client: usize,
    pub(crate) action: Action,
    /// When it was called, and when the reply was there. `None`: it never was, and nobody knows whether it happened.
    pub(crate) called: u64,
    pub(crate) returned: Option<(u64, Value)>,
    /// The operation that the same client called before, on this key: it comes first, even if both were under way.
    pub(crate) after: Option<usize>,
}

/// A history that no order explains, cut where that is known first.
#[derive(Debug)]
pub(crate) struct Violation(Vec<Op>);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for op in &self.0 {
            let words: Vec<_> = op.action.command(b"key").iter().map(|word| shown(word)).collect();
            match &op.returned {
                Some((at, reply)) => {
                    writeln!(
                        f,
                        "{:>12} {at:>12}  {}> {} -> {reply:?}",
                        op.called,
                        op.client,
                        words.join(" ")
                    )?;
                }
                None => writeln!(f, "{:>12} {:>12}  {}> {}", op.called, "", op.client, words.join(" "))?,
            }
        }
        Ok(())
    }
}

/// Checks the history of one key, which holds nothing at first.
///
/// # Errors
/// The shortest beginning of the history that no order explains.
pub(crate) fn check(history: &[Op]) -> Result<(), Violation> {
    if is_linearizable(history) {
        return Ok(());
    }
    // The moments of returns; beyond the right one nothing is needed.
    let mut moments: Vec<u64> = history.iter().filter_map(|op| Some(op.returned.as_ref()?.0)).collect();
    moments.sort_unstable();
    let wrong = moments.partition_point(|&moment| is_linearizable(&until(history, moment)));
    let moment = moments.get(wrong).copied().unwrap_or(u64::MAX);
    let mut ops = until(history, moment);
    ops.sort_by_key(|op| op.called);
    Err(Violation(ops))
}

/// The history as it was known at a moment.
fn until(history: &[Op], moment: u64) -> Vec<Op> {
    let known = |op: &Op| {
        let returned = op.returned.clone().filter(|(at, _)| *at <= moment);
        Op { returned, ..op.clone() }
    };
    // What was called later goes; it has no place in `after` of what stays.
    let mut places = vec![None; history.len()];
    let mut ops = Vec::new();
    for (at, op) in history.iter().enumerate().filter(|(_, op)| op.called <= moment) {
        places[at] = Some(ops.len());
        ops.push(known(op));
    }
    for op in &mut ops {
        op.after = op.after.and_then(|after| places[after]);
    }
    ops
}

/// Which operations have their place already.
#[derive(Clone, Eq, Hash, PartialEq)]
struct Placed(Vec<u64>);

impl Placed {
    fn has(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }

    fn with(&self, at: usize) -> Placed {
        let mut placed = self.clone();
        placed.0[at / 64] |= 1 << (at % 64);
        placed
    }
}

fn is_linearizable(history: &[Op]) -> bool {
    let start = (Placed(vec![0; history.len().div_ceil(64)]), None);
    let mut seen: HashSet<(Placed, State)> = HashSet::new();
    let mut open = vec![start];
    while let Some((placed, state)) = open.pop() {
        let left = || (0..history.len()).filter(|&at| !placed.has(at));
        // Whatever was called behind the first return among the rest comes behind that one.
        let first_return = left().filter_map(|at| Some(history[at].returned.as_ref()?.0)).min();
        let Some(first_return) = first_return else { return true };
        for at in left() {
            let op = &history[at];
            if op.called > first_return || op.after.is_some_and(|after| !placed.has(after)) {
                continue;
            }
            let (reply, next) = op.action.apply(&state);
            if op.returned.as_ref().is_none_or(|(_, seen)| *seen == reply) {
                let next = (placed.with(at), next);
                if seen.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use corelane_base::rng::Rng;

    use super::*;

    fn op(client: usize, action: Action, called: u64, returned: u64, reply: Value) -> Op {
        Op { client, action, called, returned: Some((returned, reply)), after: None }
    }

    fn set(text: &str) -> Action {
        Action::Set(text.as_bytes().to_vec())
    }

    #[test]
    fn a_read_of_what_was_overwritten_before_it_began_is_found() {
        let stale = [
            op(0, set("a"), 0, 1, Value::ok()),
            op(0, set("b"), 2, 3, Value::ok()),
            op(1, Action::Get, 4, 5, Value::bulk("a")),
        ];
        let violation = check(&stale).unwrap_err();
        assert_eq!(violation.0.len(), 3, "{violation}");
        let mut overlapping = stale.to_vec();
        overlapping[1].returned = Some((5, Value::ok()));
        assert!(check(&overlapping).is_ok(), "while it is overwritten, either may be read");
    }

    #[test]
    fn two_that_both_made_the_key_are_found() {
        let new = |client, called| op(client, Action::SetNew(vec![b'0']), called, called + 10, Value::ok());
        assert!(check(&[new(0, 0), new(1, 5)]).is_err());
        let gone = op(2, Action::GetDel, 1, 14, Value::bulk("0"));
        assert!(check(&[new(0, 0), new(1, 5), gone]).is_ok(), "one came between them and deleted it");
    }

    #[test]
    fn a_lost_increment_is_found_and_an_old_value_that_comes_back() {
        let incr = |client, called, reply| op(client, Action::Incr, called, called + 10, Value::Int(reply));
        assert!(check(&[incr(0, 0, 1), incr(1, 5, 1)]).is_err());
        assert!(check(&[incr(0, 0, 2), incr(1, 5, 1)]).is_ok());
        let get = |called, text: &str| op(2, Action::Get, called, called + 1, Value::bulk(text));
        let both = [op(0, set("a"), 0, 100, Value::ok()), op(1, set("b"), 0, 100, Value::ok())];
        let once = [&both[..], &[get(10, "a"), get(20, "b")]].concat();
        assert!(check(&once).is_ok());
        let back = [&once[..], &[get(30, "a")]].concat();
        assert!(check(&back).is_err());
    }

    #[test]
    fn what_never_returned_may_have_happened_or_not_but_not_both() {
        let lost = Op { client: 0, action: set("a"), called: 0, returned: None, after: None };
        let get = |called, reply| op(1, Action::Get, called, called + 1, reply);
        assert!(check(&[lost.clone(), get(5, Value::NullBulk)]).is_ok());
        assert!(check(&[lost.clone(), get(5, Value::bulk("a"))]).is_ok());
        assert!(check(&[lost.clone(), get(5, Value::NullBulk), get(9, Value::bulk("a"))]).is_ok());
        assert!(check(&[lost, get(5, Value::bulk("a")), get(9, Value::NullBulk)]).is_err());
    }

    #[test]
    fn a_pipeline_that_was_answered_out_of_its_order_is_found() {
        let mut ops = [op(0, set("a"), 0, 10, Value::ok()), op(0, Action::Get, 0, 11, Value::NullBulk)];
        assert!(check(&ops).is_ok(), "as two clients");
        ops[1].after = Some(0);
        assert!(check(&ops).is_err());
    }

    #[test]
    fn the_violation_is_cut_where_it_is_known_first() {
        let mut ops = vec![op(0, set("a"), 0, 1, Value::ok()), op(1, Action::Get, 2, 3, Value::bulk("x"))];
        ops.extend((2..40).map(|n| op(0, set("b"), n * 10, n * 10 + 1, Value::ok())));
        assert_eq!(check(&ops).unwrap_err().0.len(), 2);
    }

    /// All orders, without cleverness.
    fn by_brute_force(history: &[Op], placed: u32, state: &State) -> bool {
        let left = || (0..history.len()).filter(|at| placed >> at & 1 == 0);
        if left().all(|at| history[at].returned.is_none()) {
            return true;
        }
        left().any(|at| {
            let op = &history[at];
            let may_come = left().all(|other| {
                let other = &history[other];
                other.returned.as_ref().is_none_or(|(returned, _)| *returned >= op.called)
            });
            let (reply, next) = op.action.apply(state);
            let explains = op.returned.as_ref().is_none_or(|(_, seen)| *seen == reply);
            may_come && explains && by_brute_force(history, placed | 1 << at, &next)
        })
    }

    #[test]
    fn small_histories_are_judged_as_by_trying_all_orders() {
        let mut rng = Rng::new(3);
        let (mut good, mut bad) = (0, 0);
        for _ in 0..3_000 {
            let mut ops = Vec::new();
            for client in 0..2 + rng.index(5) {
                let action = match rng.below(7) {
                    0 => Action::Get,
                    1 => set("1"),
                    2 => Action::SetNew(vec![b'2']),
                    3 => Action::GetDel,
                    4 => Action::Incr,
                    5 => Action::Append(vec![b'3']),
                    _ => Action::Swap(vec![b'4']),
                };
                // A reply of some state, likely or not.
                let state = [None, Some(b"1".to_vec()), Some(b"2".to_vec()), Some(b"13".to_vec())];
                let (reply, _) = action.apply(&state[rng.index(4)]);
                let called = rng.below(20);
                let returned = rng.chance(9, 10).then(|| (called + 1 + rng.below(12), reply));
                ops.push(Op { client, action, called, returned, after: None });
            }
            let expected = by_brute_force(&ops, 0, &None);
            assert_eq!(is_linearizable(&ops), expected, "{ops:?}");
            if expected { good += 1 } else { bad += 1 }
        }
        assert!(good > 200 && bad > 200, "{good} good, {bad} bad");
    }
}
