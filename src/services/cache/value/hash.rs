//! Hash: fields with their values.
//!
//! A small one is a flat block of fields and values ([`super::block`]), a larger one a table ([`super::table`]), which
//! it stays: at most 128 fields, all of them and their values at most 64 bytes.
//!
//! # Rules
//! 1. Fields are in the order they were set in, but that one that goes may leave its place to the last one.
//! 2. No change of one field takes longer the more there are, but for the one that makes the table of a block: 128
//!    fields.
//!
//! Not here: commands (`command`).

use super::block::{Block, ITEM_LEN_MAX, ITEMS_MAX, Items};
use super::pack;
use super::small::Small;
use super::table::{RECORDS_MAX, Record, Records, Table};

/// Fields up to which Redis says `listpack`: its default of `hash-max-listpack-entries`.
const LISTPACK_FIELDS_MAX: usize = 512;

/// The fields of one key.
#[derive(Clone, Debug, Default)]
pub struct Hash {
    form: Form,
    /// Whether Redis would have made a hash table of it by now.
    outgrown: bool,
}

#[derive(Clone, Debug)]
enum Form {
    /// A field, its value, a field, its value, ...
    Block(Block),
    Table(Box<Table<Pair>>),
}

impl Default for Form {
    fn default() -> Form {
        Form::Block(Block::default())
    }
}

/// A field and its value: the length of the field (seven bits a byte, the lowest first), the field, the value.
#[derive(Clone, Debug)]
struct Pair(Small);

impl Pair {
    fn new(field: &[u8], value: &[u8]) -> Pair {
        let (len, used) = pack::length(field.len());
        Pair(Small::new(&[&len[..used], field, value]))
    }

    #[inline]
    fn parts(&self) -> (&[u8], &[u8]) {
        let mut rest = self.0.bytes();
        pack::take(&mut rest).map_or((&[], &[]), |field| (field, rest))
    }
}

impl Record for Pair {
    #[inline]
    fn name(&self) -> &[u8] {
        self.parts().0
    }

    fn block_bytes(&self) -> usize {
        self.0.block_bytes()
    }
}

impl Hash {
    /// Fields it can have.
    pub const FIELDS_MAX: usize = RECORDS_MAX;

    /// Bytes it holds, with those of the allocator.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.form {
                Form::Block(block) => block.block_bytes(),
                Form::Table(table) => table.bytes(),
            }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Block(block) => block.count() / 2,
            Form::Table(table) => table.count(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The form that Redis 7.0 would have for it, by its default settings, in the words of `OBJECT ENCODING`.
    pub fn encoding(&self) -> &'static str {
        if self.outgrown { "hashtable" } else { "listpack" }
    }

    /// The value of a field.
    #[inline]
    pub fn get(&self, field: &[u8]) -> Option<&[u8]> {
        match &self.form {
            Form::Block(block) => block.find(field, 2).map(|at| block.item(block.item(at).1).0),
            Form::Table(table) => table.find(field).ok().map(|number| table.get(number).parts().1),
        }
    }

    /// Whether there is such a field.
    pub fn contains(&self, field: &[u8]) -> bool {
        self.get(field).is_some()
    }

    /// Sets a field; true if it is new. With [`Hash::FIELDS_MAX`] fields a new one is not set.
    pub fn insert(&mut self, field: &[u8], value: &[u8]) -> bool {
        let is_long = field.len().max(value.len()) > ITEM_LEN_MAX;
        if let Form::Block(block) = &mut self.form {
            let found = block.find(field, 2);
            if !is_long && (found.is_some() || block.count() < ITEMS_MAX) {
                match found {
                    Some(at) => block.replace(block.item(at).1, value),
                    None => {
                        block.push(field);
                        block.push(value);
                    }
                }
                return found.is_none();
            }
            self.form = Form::Table(Box::new(table_of(block)));
        }
        let Form::Table(table) = &mut self.form else { return false };
        let found = table.find(field);
        match found {
            Ok(number) => table.replace(number, Pair::new(field, value)),
            Err(hash) => table.push(hash, Pair::new(field, value)),
        }
        self.outgrown |= is_long || table.count() > LISTPACK_FIELDS_MAX;
        found.is_err()
    }

    /// Takes a field out; false if there is none such.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match &mut self.form {
            Form::Block(block) => {
                let found = block.find(field, 2);
                found.inspect(|at| block.remove(*at, 2)).is_some()
            }
            Form::Table(table) => table.find(field).is_ok_and(|number| table.take(number).is_some()),
        }
    }

    /// The field with this number, below [`Hash::len`], and its value. Numbers change with every change.
    ///
    /// In constant time, or in that of a block of at most 16 KiB.
    pub fn nth(&self, number: usize) -> Option<(&[u8], &[u8])> {
        if number >= self.len() {
            return None;
        }
        Some(match &self.form {
            Form::Block(block) => {
                let (field, next) = block.item(block.nth(2 * number));
                (field, block.item(next).0)
            }
            Form::Table(table) => table.get(number).parts(),
        })
    }

    /// All fields with their values.
    pub fn iter(&self) -> Fields<'_> {
        Fields(match &self.form {
            Form::Block(block) => FieldsOf::Block(block.items()),
            Form::Table(table) => FieldsOf::Table(table.iter()),
        })
    }

    /// Looks at about `count` fields from `cursor` on, 0 at first, and gives the next cursor, 0 at the end. A field that
    /// is there from the first call to the last is seen at least once. A small hash is seen at once.
    pub fn scan(&self, cursor: u64, count: usize, mut see: impl FnMut(&[u8], &[u8])) -> u64 {
        match &self.form {
            Form::Block(_) => {
                self.iter().for_each(|(field, value)| see(field, value));
                0
            }
            Form::Table(table) => table.scan(cursor, count, |pair| {
                let (field, value) = pair.parts();
                see(field, value);
            }),
        }
    }

    /// All of it in pieces, for whoever removes a large one without a stall: each piece that is taken frees at most some
    /// 1,000 fields, in some 100 us. What is not taken is freed when the pieces are dropped.
    pub fn pieces(self) -> impl Iterator<Item = ()> + Send + 'static {
        let table = match self.form {
            Form::Table(table) => Some(table.pieces()),
            Form::Block(_) => None,
        };
        table.into_iter().flatten()
    }

    /// Appends all of it: its fields and values in order, each behind its length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for (field, value) in self.iter() {
            pack::put(out, field);
            pack::put(out, value);
        }
    }

    /// What was encoded so. Anything else is `None`, and so is nothing at all.
    ///
    /// Takes at most some 20 bytes of memory for each byte of `bytes`: so much for the shortest fields without values.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (mut hash, mut rest) = (Hash::default(), bytes);
        while !rest.is_empty() {
            let (field, value) = (pack::take(&mut rest)?, pack::take(&mut rest)?);
            if !hash.insert(field, value) {
                return None;
            }
        }
        (!hash.is_empty()).then_some(hash)
    }
}

fn table_of(block: &Block) -> Table<Pair> {
    let (mut table, mut items) = (Table::new(), block.items());
    while let (Some(field), Some(value)) = (items.next(), items.next()) {
        if let Err(hash) = table.find(field) {
            table.push(hash, Pair::new(field, value));
        }
    }
    table
}

/// Fields with their values.
#[derive(Clone, Debug)]
pub struct Fields<'a>(FieldsOf<'a>);

#[derive(Clone, Debug)]
enum FieldsOf<'a> {
    Block(Items<'a>),
    Table(Records<'a, Pair>),
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        match &mut self.0 {
            FieldsOf::Block(items) => items.next().zip(items.next()),
            FieldsOf::Table(records) => records.next().map(Pair::parts),
        }
    }
}

#[cfg(test)]
mod tests;
