//! Sorted set: members in the order of their scores.
//!
//! Members are in a slab; a table finds them by name; an order of blocks finds them by rank, score or name. The order is
//! three levels of short arrays: groups of blocks of members. A search is binary on each level; a rank costs a step for
//! each group before it and each block of one group, which for a million members are some 250. Sets of up to
//! [`PLAIN_MAX`] members have no table: they are looked through.
//!
//! The order is by score, then by the bytes of the member. A score is never NaN.
//!
//! Not here: commands (`command`).

use std::cmp::Ordering;

use hashbrown::HashTable;

use super::pack;

/// Members of the largest set without a table.
const PLAIN_MAX: usize = 128;
/// Members of a block, and blocks of a group, at most; at half of it two that are next to each other become one.
const BLOCK_MAX: usize = 128;
const GROUP_MAX: usize = 128;
/// Longest member of a set that is called `listpack`, and most members: Redis' defaults.
const LISTPACK_LEN_MAX: usize = 64;
const LISTPACK_MAX: usize = 128;

#[derive(Clone, Debug)]
struct Node {
    score: f64,
    member: Box<[u8]>,
}

#[derive(Clone, Debug, Default)]
struct Block(Vec<u32>);

#[derive(Clone, Debug, Default)]
struct Group {
    blocks: Vec<Block>,
    count: usize,
}

/// What became of a member that was put in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Put {
    /// It is new.
    Added,
    /// It has another score now.
    Changed,
    /// It had that score.
    Same,
}

/// The members of one key.
#[derive(Clone, Debug, Default)]
pub struct SortedSet {
    nodes: Vec<Option<Node>>,
    free: Vec<u32>,
    table: Option<Box<(ahash::RandomState, HashTable<u32>)>>,
    groups: Vec<Group>,
    len: usize,
    /// Bytes of members, as the allocator takes them.
    member_bytes: usize,
    /// Bytes of all blocks.
    block_bytes: usize,
    /// It was too large for a listpack once.
    is_large: bool,
}

/// A place in the order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Place {
    group: usize,
    block: usize,
    at: usize,
}

fn allocated(len: usize) -> usize {
    super::small::allocated(len)
}

/// By score, then by name.
fn compare(a: (f64, &[u8]), b: (f64, &[u8])) -> Ordering {
    a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal).then_with(|| a.1.cmp(b.1))
}

impl SortedSet {
    /// An empty one that keeps -0 as it is, as the result of a calculation does until it is kept.
    pub fn exact() -> SortedSet {
        SortedSet { is_large: true, ..SortedSet::default() }
    }

    /// As it is kept at a key: in the form of its size.
    #[must_use]
    pub fn kept(self) -> SortedSet {
        if self.len > LISTPACK_MAX || self.iter_from(0).any(|(member, _)| member.len() > LISTPACK_LEN_MAX) {
            return self;
        }
        let mut kept = SortedSet::default();
        for (member, score) in self.iter_from(0) {
            kept.put(member, score);
        }
        kept
    }

    /// Bytes it holds.
    pub fn bytes(&self) -> usize {
        let table = self.table.as_ref().map_or(0, |table| 64 + table.1.capacity() * 5);
        size_of::<Self>()
            + self.nodes.capacity() * size_of::<Option<Node>>()
            + self.free.capacity() * size_of::<u32>()
            + self.groups.capacity() * size_of::<Group>()
            + self.member_bytes
            + self.block_bytes
            + table
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The name of its form in `OBJECT ENCODING`, as Redis has it by its defaults.
    pub fn encoding(&self) -> &'static str {
        if self.is_large { "skiplist" } else { "listpack" }
    }

    fn node(&self, id: u32) -> (f64, &[u8]) {
        match self.nodes.get(id as usize) {
            Some(Some(node)) => (node.score, &node.member),
            _ => unreachable!("what is in the order is in the slab"),
        }
    }

    fn find(&self, member: &[u8]) -> Option<u32> {
        match &self.table {
            Some(table) => table.1.find(table.0.hash_one(member), |&id| self.node(id).1 == member).copied(),
            None => self.ids_from(0).find(|&id| self.node(id).1 == member),
        }
    }

    /// The score of a member.
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        self.find(member).map(|id| self.node(id).0)
    }

    // ---- the order

    /// How many come before the first that `before` is false for; it must be true for all before that one.
    pub fn partition(&self, mut before: impl FnMut(f64, &[u8]) -> bool) -> usize {
        self.rank_of(self.place_of(&mut before))
    }

    fn place_of(&self, before: &mut impl FnMut(f64, &[u8]) -> bool) -> Place {
        let mut is_before = |id: Option<&u32>| {
            id.is_some_and(|&id| {
                let (score, member) = self.node(id);
                before(score, member)
            })
        };
        let group = self
            .groups
            .partition_point(|group| is_before(group.blocks.last().and_then(|block| block.0.last())));
        let Some(found) = self.groups.get(group) else { return Place { group, block: 0, at: 0 } };
        let block = found.blocks.partition_point(|block| is_before(block.0.last()));
        let at = found.blocks.get(block).map_or(0, |block| block.0.partition_point(|id| is_before(Some(id))));
        Place { group, block, at }
    }

    fn rank_of(&self, place: Place) -> usize {
        let groups: usize = self.groups[..place.group].iter().map(|group| group.count).sum();
        let blocks: usize = self
            .groups
            .get(place.group)
            .map_or(0, |group| group.blocks[..place.block].iter().map(|block| block.0.len()).sum());
        groups + blocks + place.at
    }

    fn place_at(&self, rank: usize) -> Option<Place> {
        let mut left = rank;
        for (n, group) in self.groups.iter().enumerate() {
            if left >= group.count {
                left -= group.count;
                continue;
            }
            for (m, block) in group.blocks.iter().enumerate() {
                if left < block.0.len() {
                    return Some(Place { group: n, block: m, at: left });
                }
                left -= block.0.len();
            }
        }
        None
    }

    fn order_in(&mut self, id: u32) {
        let (score, member) = self.node(id);
        let mut place = self.place_of(&mut |s, m| compare((s, m), (score, member)) == Ordering::Less);
        if place.group == self.groups.len() {
            // Behind the last: into the last block.
            match self.groups.last() {
                None => {
                    self.groups.push(Group { blocks: vec![Block::default()], count: 0 });
                    place = Place { group: 0, block: 0, at: 0 };
                }
                Some(last) => {
                    let block = last.blocks.len() - 1;
                    place = Place { group: self.groups.len() - 1, block, at: last.blocks[block].0.len() };
                }
            }
        }
        let group = &mut self.groups[place.group];
        group.count += 1;
        let block = &mut group.blocks[place.block].0;
        let before = block.capacity();
        block.insert(place.at, id);
        self.block_bytes += (block.capacity() - before) * size_of::<u32>();
        if block.len() <= BLOCK_MAX {
            return;
        }
        let half = block.split_off(block.len() / 2);
        self.block_bytes += half.capacity() * size_of::<u32>() + size_of::<Block>();
        group.blocks.insert(place.block + 1, Block(half));
        if group.blocks.len() > GROUP_MAX {
            let blocks = group.blocks.split_off(group.blocks.len() / 2);
            let count = blocks.iter().map(|block| block.0.len()).sum();
            group.count -= count;
            self.groups.insert(place.group + 1, Group { blocks, count });
        }
    }

    fn order_out(&mut self, place: Place) -> u32 {
        let group = &mut self.groups[place.group];
        group.count -= 1;
        let id = group.blocks[place.block].0.remove(place.at);
        let is_empty = group.blocks[place.block].0.is_empty();
        let next = place.block + 1;
        let merges = group
            .blocks
            .get(next)
            .is_some_and(|next| group.blocks[place.block].0.len() + next.0.len() <= BLOCK_MAX / 2);
        if is_empty || merges {
            let gone = group.blocks.remove(place.block);
            self.block_bytes -= gone.0.capacity() * size_of::<u32>();
            self.block_bytes = self.block_bytes.saturating_sub(size_of::<Block>());
            if merges && !is_empty {
                let into = &mut group.blocks[place.block].0;
                let before = into.capacity();
                into.splice(0..0, gone.0);
                self.block_bytes += (into.capacity() - before) * size_of::<u32>();
            }
            if group.blocks.is_empty() {
                self.groups.remove(place.group);
            }
        }
        id
    }

    fn place_of_node(&self, id: u32) -> Place {
        let (score, member) = self.node(id);
        self.place_of(&mut |s, m| compare((s, m), (score, member)) == Ordering::Less)
    }

    fn ids_from(&self, rank: usize) -> impl Iterator<Item = u32> {
        let place = self.place_at(rank);
        let (group, block, at) =
            place.map_or((self.groups.len(), 0, 0), |place| (place.group, place.block, place.at));
        self.groups[group..]
            .iter()
            .flat_map(|group| &group.blocks)
            .skip(block)
            .flat_map(|block| &block.0)
            .skip(at)
            .copied()
    }

    fn ids_back_from(&self, rank: usize) -> impl Iterator<Item = u32> {
        let place = self.place_at(rank);
        let end = place.map_or(0, |place| place.group + 1);
        let (blocks, members) = place.map_or((0, 0), |place| {
            let group = &self.groups[place.group];
            (group.blocks.len() - 1 - place.block, group.blocks[place.block].0.len() - 1 - place.at)
        });
        self.groups[..end]
            .iter()
            .rev()
            .flat_map(|group| group.blocks.iter().rev())
            .skip(blocks)
            .flat_map(|block| block.0.iter().rev())
            .skip(members)
            .copied()
    }

    // ---- changing

    /// Gives `member` this score, which is not NaN.
    pub fn put(&mut self, member: &[u8], score: f64) -> Put {
        debug_assert!(!score.is_nan());
        self.is_large |=
            member.len() > LISTPACK_LEN_MAX || self.len >= LISTPACK_MAX && self.find(member).is_none();
        // As in Redis: a listpack keeps -0 as the integer 0.
        let score = if self.is_large { score } else { score + 0.0 };
        if let Some(id) = self.find(member) {
            if self.node(id).0 == score {
                return Put::Same;
            }
            self.order_out(self.place_of_node(id));
            if let Some(Some(node)) = self.nodes.get_mut(id as usize) {
                node.score = score;
            }
            self.order_in(id);
            return Put::Changed;
        }
        let node = Some(Node { score, member: member.into() });
        let id = match self.free.pop() {
            Some(id) => {
                self.nodes[id as usize] = node;
                id
            }
            None => {
                self.nodes.push(node);
                // 2^32 members would take more than any maximum of a shard.
                u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.member_bytes += allocated(member.len());
        self.len += 1;
        self.order_in(id);
        self.table_in(id);
        Put::Added
    }

    fn table_in(&mut self, id: u32) {
        if self.table.is_none() && self.len > PLAIN_MAX {
            let state = ahash::RandomState::new();
            let mut table = HashTable::with_capacity(2 * self.len);
            for id in self.ids_from(0) {
                table.insert_unique(state.hash_one(self.node(id).1), id, |&id| {
                    state.hash_one(self.node(id).1)
                });
            }
            self.table = Some(Box::new((state, table)));
            return;
        }
        let Some(mut table) = self.table.take() else { return };
        let (state, places) = &mut *table;
        let hash = state.hash_one(self.node(id).1);
        places.insert_unique(hash, id, |&id| state.hash_one(self.node(id).1));
        self.table = Some(table);
    }

    /// Removes a member; its score.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let id = self.find(member)?;
        self.order_out(self.place_of_node(id));
        self.forget(id).map(|node| node.score)
    }

    /// Takes the member at `rank` out.
    pub fn take(&mut self, rank: usize) -> Option<(Box<[u8]>, f64)> {
        let place = self.place_at(rank)?;
        let id = self.order_out(place);
        self.forget(id).map(|node| (node.member, node.score))
    }

    fn forget(&mut self, id: u32) -> Option<Node> {
        if let Some(mut table) = self.table.take() {
            let hash = table.0.hash_one(self.node(id).1);
            if let Ok(found) = table.1.find_entry(hash, |&one| one == id) {
                found.remove();
            }
            self.table = Some(table);
        }
        let node = self.nodes[id as usize].take()?;
        self.free.push(id);
        self.member_bytes -= allocated(node.member.len());
        self.len -= 1;
        if self.len == 0 {
            *self = SortedSet::default();
        }
        Some(node)
    }

    // ---- looking

    /// Where a member is: how many come before it.
    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        let id = self.find(member)?;
        Some(self.rank_of(self.place_of_node(id)))
    }

    /// The members from a rank on.
    pub fn iter_from(&self, rank: usize) -> impl Iterator<Item = (&[u8], f64)> {
        self.ids_from(rank).map(|id| {
            let (score, member) = self.node(id);
            (member, score)
        })
    }

    /// The members from a rank on, backwards.
    pub fn iter_back_from(&self, rank: usize) -> impl Iterator<Item = (&[u8], f64)> {
        self.ids_back_from(rank).map(|id| {
            let (score, member) = self.node(id);
            (member, score)
        })
    }

    /// The member at a rank.
    pub fn at(&self, rank: usize) -> Option<(&[u8], f64)> {
        self.iter_from(rank).next()
    }

    /// Looks at about `count` members from `cursor` on, and gives the next cursor, 0 at the end. A member that is there
    /// from the first call to the last is seen: it keeps its place, whatever its score.
    pub fn scan(&self, cursor: u64, count: usize, mut see: impl FnMut(&[u8], f64)) -> u64 {
        let from = usize::try_from(cursor).unwrap_or(usize::MAX).min(self.nodes.len());
        let (mut at, mut left) = (from, count.max(1));
        // A small set is given whole, as in Redis.
        if !self.is_large {
            left = usize::MAX;
        }
        while at < self.nodes.len() && left > 0 {
            if let Some(node) = &self.nodes[at] {
                see(&node.member, node.score);
            }
            left -= 1;
            at += 1;
        }
        if at >= self.nodes.len() { 0 } else { at as u64 }
    }

    /// Appends all of it, to be read by `decode`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for (member, score) in self.iter_from(0) {
            pack::put(out, member);
            out.extend_from_slice(&score.to_le_bytes());
        }
    }

    /// What `encode` made these bytes of.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut set = SortedSet::default();
        while !bytes.is_empty() {
            let member = pack::take(&mut bytes)?;
            let (score, rest) = bytes.split_first_chunk()?;
            let score = f64::from_le_bytes(*score);
            if score.is_nan() || set.put(member, score) != Put::Added {
                return None;
            }
            bytes = rest;
        }
        // A key with nothing in it is none.
        (!set.is_empty()).then_some(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_base::Rng;
    use std::collections::BTreeMap;

    #[test]
    fn no_bytes_are_no_set() {
        assert!(SortedSet::decode(b"").is_none());
    }

    fn recount(set: &SortedSet) -> (usize, usize, usize) {
        let members = set.nodes.iter().flatten().map(|node| allocated(node.member.len())).sum();
        let blocks = set.groups.iter().flat_map(|group| &group.blocks).count();
        (set.nodes.iter().flatten().count(), members, blocks)
    }

    fn check(set: &SortedSet, plain: &BTreeMap<Vec<u8>, f64>) {
        let mut sorted: Vec<(&[u8], f64)> =
            plain.iter().map(|(member, score)| (member.as_slice(), *score)).collect();
        sorted.sort_by(|a, b| compare((a.1, a.0), (b.1, b.0)));
        assert!(set.iter_from(0).eq(sorted.iter().copied()));
        let from = sorted.len() / 3;
        assert!(set.iter_from(from).eq(sorted[from..].iter().copied()));
        if !sorted.is_empty() {
            assert!(set.iter_back_from(from).eq(sorted[..=from].iter().rev().copied()));
        }
        for (rank, (member, score)) in sorted.iter().enumerate().step_by(7) {
            assert_eq!(set.rank(member), Some(rank));
            assert_eq!(set.score(member), Some(*score));
            assert_eq!(set.at(rank), Some((*member, *score)));
            assert_eq!(set.partition(|s, m| compare((s, m), (*score, member)) == Ordering::Less), rank);
        }
        let (count, members, _) = recount(set);
        assert_eq!((set.len(), set.len(), set.member_bytes), (sorted.len(), count, members));
        assert!(
            set.groups
                .iter()
                .all(|group| group.count > 0 && group.blocks.iter().all(|block| !block.0.is_empty()))
        );
    }

    #[test]
    fn random_operations_agree_with_a_plain_map() {
        for seed in 0..12 {
            let mut rng = Rng::new(seed);
            let names = if seed % 2 == 0 { 60 } else { 40_000 };
            let (mut set, mut plain) = (SortedSet::default(), BTreeMap::new());
            for step in 0..8_000 {
                let member = format!("m{}", rng.below(names)).into_bytes();
                match rng.below(if step < 5_000 { 8 } else { 20 }) {
                    0..=5 => {
                        let score = rng.below(50) as f64 / 4.0;
                        let wanted = match plain.insert(member.clone(), score) {
                            None => Put::Added,
                            Some(old) if old == score => Put::Same,
                            Some(_) => Put::Changed,
                        };
                        assert_eq!(set.put(&member, score), wanted);
                    }
                    6 => assert_eq!(set.remove(&member), plain.remove(&member)),
                    _ if !plain.is_empty() => {
                        let rank = rng.index(plain.len());
                        let (member, score) = set.take(rank).unwrap();
                        assert_eq!(plain.remove(&*member), Some(score));
                    }
                    _ => {}
                }
                if step % 500 == 0 {
                    check(&set, &plain);
                }
            }
            check(&set, &plain);
            let mut bytes = Vec::new();
            set.encode(&mut bytes);
            match SortedSet::decode(&bytes) {
                Some(again) => check(&again, &plain),
                None => assert!(plain.is_empty()),
            }
            while let Some((member, _)) = set.take(0) {
                plain.remove(&*member);
            }
            assert!(plain.is_empty() && set.is_empty() && set.bytes() < 300);
        }
    }

    #[test]
    fn any_bytes_are_a_set_or_none_and_never_a_panic() {
        let mut rng = Rng::new(2);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..rng.index(60)).map(|_| u8::try_from(rng.below(256)).unwrap()).collect();
            let _ = SortedSet::decode(&bytes);
        }
    }

    #[test]
    fn a_scan_sees_all_members_that_stay_while_others_come_and_go_and_scores_change() {
        let mut set = SortedSet::default();
        for n in 0..1_000 {
            set.put(format!("stays{n}").as_bytes(), f64::from(n));
        }
        let (mut rng, mut cursor, mut seen) = (Rng::new(3), 0, std::collections::BTreeSet::new());
        loop {
            cursor = set.scan(cursor, 10, |member, _| {
                seen.insert(member.to_vec());
            });
            if cursor == 0 {
                break;
            }
            for _ in 0..10 {
                let other = format!("other{}", rng.below(500));
                if set.remove(other.as_bytes()).is_none() {
                    set.put(other.as_bytes(), 1.0);
                }
                set.put(format!("stays{}", rng.below(1_000)).as_bytes(), rng.below(1_000) as f64);
            }
        }
        assert!((0..1_000).all(|n| seen.contains(format!("stays{n}").as_bytes())));
    }
}
