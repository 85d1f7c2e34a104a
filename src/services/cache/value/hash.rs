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

    /// Appends all of it, to be read by `decode`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for one in &self.fields {
            out.extend_from_slice(&(one.len() as u64).to_le_bytes());
            out.extend_from_slice(one);
        }
    }

    /// What `encode` made these bytes of.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut fields = Vec::new();
        while let Some((len, rest)) = bytes.split_first_chunk() {
            let (one, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
            fields.push(one.into());
            bytes = rest;
        }
        bytes.is_empty().then_some(Self { fields })
    }
}
