//! A key with its hash: what chooses its shard and its place.
//!
//! Not here: which shard that is (`route`), the table.

/// A key and the hash of all its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// [`KeyHasher::hash`] of them.
    pub hash: u64,
}

/// Hashes keys under a secret drawn at the start, so that nobody outside can choose keys that collide. All shards of
/// a node use clones of one.
#[derive(Clone, Debug)]
pub struct KeyHasher(ahash::RandomState);

impl KeyHasher {
    /// Under a secret drawn now.
    pub fn random() -> KeyHasher {
        KeyHasher(ahash::RandomState::new())
    }

    /// Under this secret: for tests that must repeat.
    pub fn seeded(seed: u64) -> KeyHasher {
        KeyHasher(ahash::RandomState::with_seeds(seed, !seed, seed.rotate_left(17), 0x9e37_79b9_7f4a_7c15))
    }

    /// The hash of all of `bytes`.
    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        self.0.hash_one(bytes)
    }

    /// `bytes` as a key.
    #[inline]
    pub fn key<'a>(&self, bytes: &'a [u8]) -> Key<'a> {
        Key { bytes, hash: self.hash(bytes) }
    }

    /// The hash that chooses the shard of `key`: of its hash tag where it has one, so that keys with the same tag are together.
    #[inline]
    pub fn owner_hash(&self, key: Key<'_>) -> u64 {
        let tag = hash_tag(key.bytes);
        if tag.len() == key.bytes.len() { key.hash } else { self.hash(tag) }
    }
}

/// The part of `key` that chooses its shard: what is between the first `{` and the first `}` behind it, if that is
/// anything (Redis cluster specification, "Hash tags"), else all of it.
#[inline]
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = memchr::memchr(b'{', key) else { return key };
    match memchr::memchr(b'}', &key[open + 1..]) {
        None | Some(0) => key,
        Some(len) => &key[open + 1..open + 1 + len],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_tag_that_is_not_empty_chooses() {
        for (key, tag) in [
            ("plain", "plain"),
            ("{user1000}.following", "user1000"),
            ("foo{}{bar}", "foo{}{bar}"),
            ("foo{{bar}}zap", "{bar"),
            ("foo{bar}{zap}", "bar"),
            ("foo{bar", "foo{bar"),
        ] {
            assert_eq!(hash_tag(key.as_bytes()), tag.as_bytes(), "{key}");
        }
    }
}
