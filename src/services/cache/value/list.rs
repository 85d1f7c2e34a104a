//! List: its elements, and what can be done with them.
//!
//! Not here: commands (`command`).

/// The elements of one key.
#[derive(Clone, Debug, Default)]
pub struct List {
    elements: Vec<Box<[u8]>>,
}

impl List {
    /// Bytes it holds.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.elements.iter().map(|one| one.len() + size_of::<Box<[u8]>>()).sum::<usize>()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }
}
