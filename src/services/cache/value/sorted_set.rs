//! SortedSet: its members, and what can be done with them.
//!
//! Not here: commands (`command`).

/// The members of one key.
#[derive(Clone, Debug, Default)]
pub struct SortedSet {
    members: Vec<Box<[u8]>>,
}

impl SortedSet {
    /// Bytes it holds.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.members.iter().map(|one| one.len() + size_of::<Box<[u8]>>()).sum::<usize>()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}
