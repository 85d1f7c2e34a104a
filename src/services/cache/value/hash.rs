//! Hash: its fields, and what can be done with them.
//!
//! Not here: commands (`command`).

/// The fields of one key.
#[derive(Clone, Debug, Default)]
pub struct Hash {
    fields: Vec<Box<[u8]>>,
}

impl Hash {
    /// Bytes it holds.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.fields.iter().map(|one| one.len() + size_of::<Box<[u8]>>()).sum::<usize>()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}
