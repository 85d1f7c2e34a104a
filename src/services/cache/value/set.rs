//! Set: different members.
//!
//! Up to 512 members that are all integers are kept as such ([`super::ints`]); up to 128 members of at most 64 bytes as
//! a flat block ([`super::block`]); others as a table ([`super::table`]). It never goes back to an earlier form.
//!
//! # Rules
//! 1. Integers are in order, other members in the order they came in, but that one that goes may leave its place to the
//!    last one.
//! 2. No change of one member takes longer the more there are, but for the one that makes the table of a block or of
//!    integers: 512 members.
//!
//! Not here: commands (`command`).

use super::block::{Block, ITEM_LEN_MAX, ITEMS_MAX, Items};
use super::ints::{self, INTS_MAX, Ints};
use super::pack;
use super::small::Small;
use super::table::{RECORDS_MAX, Record, Records, Table};

/// Members of a block: as many as a hash has fields in one.
const BLOCK_MEMBERS_MAX: usize = ITEMS_MAX / 2;

/// What an encoded set begins with.
const ENCODED_TEXTS: u8 = 0;
const ENCODED_INTS: u8 = 1;

/// The members of one key.
#[derive(Clone, Debug, Default)]
pub struct Set {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Ints(Ints),
    Block(Block),
    Table(Box<Table<Text>>),
}

impl Default for Form {
    fn default() -> Form {
        Form::Ints(Ints::default())
    }
}

#[derive(Clone, Debug)]
struct Text(Small);

impl Record for Text {
    #[inline]
    fn name(&self) -> &[u8] {
        self.0.bytes()
    }

    fn block_bytes(&self) -> usize {
        self.0.block_bytes()
    }
}

/// A member: its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a>(MemberOf<'a>);

#[derive(Clone, Copy, Debug)]
enum MemberOf<'a> {
    Bytes(&'a [u8]),
    /// The decimal of an integer: the last bytes.
    Int([u8; 20], u8),
}

impl Member<'_> {
    fn of(value: i64) -> Member<'static> {
        let (mut text, mut at, mut rest) = ([0; 20], 20, value.unsigned_abs());
        loop {
            at -= 1;
            text[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if value < 0 {
            at -= 1;
            text[at] = b'-';
        }
        Member(MemberOf::Int(text, u8::try_from(at).unwrap_or(0)))
    }
}

impl std::ops::Deref for Member<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            MemberOf::Bytes(bytes) => bytes,
            MemberOf::Int(text, at) => &text[usize::from(*at)..],
        }
    }
}

impl Set {
    /// Members it can have.
    pub const MEMBERS_MAX: usize = RECORDS_MAX;

    /// Bytes it holds, with those of the allocator.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.form {
                Form::Ints(ints) => ints.block_bytes(),
                Form::Block(block) => block.block_bytes(),
                Form::Table(table) => table.bytes(),
            }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Ints(ints) => ints.count(),
            Form::Block(block) => block.count(),
            Form::Table(table) => table.count(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The form that Redis 7.0 would have for it, by its default settings, in the words of `OBJECT ENCODING`. It has
    /// none but these two.
    pub fn encoding(&self) -> &'static str {
        match &self.form {
            Form::Ints(_) => "intset",
            Form::Block(_) | Form::Table(_) => "hashtable",
        }
    }

    /// Whether it has this member.
    pub fn contains(&self, member: &[u8]) -> bool {
        match &self.form {
            Form::Ints(ints) => ints::parse(member).is_some_and(|value| ints.contains(value)),
            Form::Block(block) => block.find(member, 1).is_some(),
            Form::Table(table) => table.find(member).is_ok(),
        }
    }

    /// Puts a member in; false if it is there, or if there are [`Set::MEMBERS_MAX`].
    pub fn insert(&mut self, member: &[u8]) -> bool {
        match &mut self.form {
            Form::Ints(ints) => {
                let value = ints::parse(member);
                match value {
                    Some(value) if ints.contains(value) => return false,
                    Some(value) if ints.count() < INTS_MAX => return ints.insert(value),
                    _ => self.leave_ints(member),
                }
                self.insert(member)
            }
            Form::Block(block) => {
                if block.find(member, 1).is_some() {
                    return false;
                }
                if member.len() > ITEM_LEN_MAX || block.count() >= BLOCK_MEMBERS_MAX {
                    self.form =
                        Form::Table(Box::new(table_of(block.items().map(MemberOf::Bytes).map(Member))));
                    return self.insert(member);
                }
                block.push(member);
                true
            }
            Form::Table(table) => match table.find(member) {
                Ok(_) => false,
                Err(hash) => {
                    let before = table.count();
                    table.push(hash, Text(Small::new(&[member])));
                    table.count() > before
                }
            },
        }
    }

    /// Takes the form that the integers and `next` need.
    fn leave_ints(&mut self, next: &[u8]) {
        let is_small = self.len() < BLOCK_MEMBERS_MAX && next.len() <= ITEM_LEN_MAX;
        if is_small {
            let mut block = Block::default();
            self.iter().for_each(|member| block.push(&member));
            self.form = Form::Block(block);
        } else {
            self.form = Form::Table(Box::new(table_of(self.iter())));
        }
    }

    /// Takes a member out; false if it is not there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.form {
            Form::Ints(ints) => ints::parse(member).is_some_and(|value| ints.remove(value)),
            Form::Block(block) => {
                let found = block.find(member, 1);
                found.inspect(|at| block.remove(*at, 1)).is_some()
            }
            Form::Table(table) => table.find(member).is_ok_and(|number| table.take(number).is_some()),
        }
    }

    /// Keeps only the members that `keep` wants. In time proportional to their number.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8]) -> bool) {
        if let Form::Table(table) = &mut self.form {
            return table.retain(|text| keep(text.name()));
        }
        let gone: Vec<Vec<u8>> =
            self.iter().filter(|member| !keep(member)).map(|member| member.to_vec()).collect();
        gone.iter().for_each(|member| {
            self.remove(member);
        });
    }

    /// The member with this number, below [`Set::len`]. Numbers change with every change.
    ///
    /// In constant time, or in that of a block of at most 8 KiB.
    pub fn nth(&self, number: usize) -> Option<Member<'_>> {
        if number >= self.len() {
            return None;
        }
        Some(match &self.form {
            Form::Ints(ints) => Member::of(ints.get(number)),
            Form::Block(block) => Member(MemberOf::Bytes(block.item(block.nth(number)).0)),
            Form::Table(table) => Member(MemberOf::Bytes(table.get(number).name())),
        })
    }

    /// All members.
    pub fn iter(&self) -> Members<'_> {
        Members(match &self.form {
            Form::Ints(ints) => MembersOf::Ints(ints, 0),
            Form::Block(block) => MembersOf::Block(block.items()),
            Form::Table(table) => MembersOf::Table(table.iter()),
        })
    }

    /// Looks at about `count` members from `cursor` on, 0 at first, and gives the next cursor, 0 at the end. A member that
    /// is there from the first call to the last is seen at least once. A small set is seen at once.
    pub fn scan(&self, cursor: u64, count: usize, mut see: impl FnMut(&[u8])) -> u64 {
        match &self.form {
            Form::Ints(_) | Form::Block(_) => {
                self.iter().for_each(|member| see(&member));
                0
            }
            Form::Table(table) => table.scan(cursor, count, |text| see(text.name())),
        }
    }

    /// All of it in pieces, for whoever removes a large one without a stall: each piece that is taken frees at most some
    /// 1,000 members, in some 100 us. What is not taken is freed when the pieces are dropped.
    pub fn pieces(self) -> impl Iterator<Item = ()> + Send + 'static {
        let table = match self.form {
            Form::Table(table) => Some(table.pieces()),
            Form::Ints(_) | Form::Block(_) => None,
        };
        table.into_iter().flatten()
    }

    /// Appends all of it: integers as they are kept, or members in order, each behind its length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.form {
            Form::Ints(ints) => {
                out.push(ENCODED_INTS);
                ints.encode(out);
            }
            Form::Block(_) | Form::Table(_) => {
                out.push(ENCODED_TEXTS);
                self.iter().for_each(|member| pack::put(out, &member));
            }
        }
    }

    /// What was encoded so. Anything else is `None`, and so is nothing at all.
    ///
    /// Takes at most some 20 bytes of memory for each byte of `bytes`: so much for the shortest members.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (form, mut rest) = bytes.split_first()?;
        match *form {
            ENCODED_INTS => Ints::decode(rest).map(|ints| Set { form: Form::Ints(ints) }),
            ENCODED_TEXTS => {
                let mut set = Set::default();
                while !rest.is_empty() {
                    if !set.insert(pack::take(&mut rest)?) {
                        return None;
                    }
                }
                (!set.is_empty()).then_some(set)
            }
            _ => None,
        }
    }
}

fn table_of<'a>(members: impl Iterator<Item = Member<'a>>) -> Table<Text> {
    let mut table = Table::new();
    for member in members {
        if let Err(hash) = table.find(&member) {
            table.push(hash, Text(Small::new(&[&member])));
        }
    }
    table
}

/// Members.
#[derive(Clone, Debug)]
pub struct Members<'a>(MembersOf<'a>);

#[derive(Clone, Debug)]
enum MembersOf<'a> {
    Ints(&'a Ints, usize),
    Block(Items<'a>),
    Table(Records<'a, Text>),
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    #[inline]
    fn next(&mut self) -> Option<Member<'a>> {
        match &mut self.0 {
            MembersOf::Ints(ints, number) => {
                let value = (*number < ints.count()).then(|| ints.get(*number))?;
                *number += 1;
                Some(Member::of(value))
            }
            MembersOf::Block(items) => items.next().map(MemberOf::Bytes).map(Member),
            MembersOf::Table(records) => records.next().map(|text| Member(MemberOf::Bytes(text.name()))),
        }
    }
}

#[cfg(test)]
mod tests;
