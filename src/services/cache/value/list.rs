//! List: elements in order, packed into chunks.
//!
//! A chunk is one block of at most [`CHUNK_MAX`] bytes (one element that is longer has one of its own): each element is
//! its length, its bytes, and how long both are, so that a chunk is read from either end. A short element costs two
//! bytes more than it has. Both ends cost O(1); the middle costs a step for each chunk before it and the bytes of one.
//!
//! The idea of a list of packed blocks is that of Redis' quicklist; the form is not.
//!
//! Not here: commands (`command`).

use std::collections::VecDeque;

/// Bytes of a full chunk.
const CHUNK_MAX: usize = 4096;
/// Bytes of a new one: it doubles until it is full.
const CHUNK_MIN: usize = 64;
/// Bytes of the longest length.
const LEN_LEN_MAX: usize = 10;

/// One block. Elements are in `data[start..]`.
#[derive(Clone, Debug, Default)]
struct Chunk {
    data: Vec<u8>,
    start: usize,
    count: usize,
}

fn len_len(mut value: usize) -> usize {
    let mut len = 1;
    while value >= 0x80 {
        value >>= 7;
        len += 1;
    }
    len
}

/// Seven bits a byte, the low ones first (LEB128); the other way round where it is read backwards.
fn put_len(value: usize, backwards: bool, put: &mut impl FnMut(u8)) {
    let mut bytes = [0; LEN_LEN_MAX];
    let (mut rest, mut n) = (value, 0);
    loop {
        #[expect(clippy::cast_possible_truncation, reason = "seven bits")]
        let low = (rest & 0x7f) as u8;
        rest >>= 7;
        bytes[n] = if rest > 0 { low | 0x80 } else { low };
        n += 1;
        if rest == 0 {
            break;
        }
    }
    if backwards {
        bytes[..n].iter().rev().for_each(|byte| put(*byte))
    } else {
        bytes[..n].iter().for_each(|byte| put(*byte))
    }
}

/// A length and its own bytes.
fn take_len(mut next: impl FnMut() -> Option<u8>) -> Option<(usize, usize)> {
    let (mut value, mut n) = (0_usize, 0);
    loop {
        let byte = next()?;
        if n == LEN_LEN_MAX - 1 {
            return None;
        }
        value |= usize::from(byte & 0x7f) << (7 * n);
        n += 1;
        if byte & 0x80 == 0 {
            return Some((value, n));
        }
    }
}

/// Bytes of an element in a chunk.
fn packed_len(len: usize) -> usize {
    let front = len_len(len) + len;
    front + len_len(front)
}

impl Chunk {
    fn len(&self) -> usize {
        self.data.len() - self.start
    }

    fn takes(&self, len: usize) -> bool {
        self.count == 0 || self.len() + packed_len(len) <= CHUNK_MAX
    }

    fn append(&mut self, element: &[u8]) {
        let data = &mut self.data;
        put_len(element.len(), false, &mut |byte| data.push(byte));
        data.extend_from_slice(element);
        put_len(len_len(element.len()) + element.len(), true, &mut |byte| data.push(byte));
        self.count += 1;
    }

    fn push_back(&mut self, element: &[u8]) {
        self.data.reserve(packed_len(element.len()).max(CHUNK_MIN.saturating_sub(self.data.capacity())));
        self.append(element);
    }

    fn push_front(&mut self, element: &[u8]) {
        let need = packed_len(element.len());
        if self.start < need {
            // As much room in front as there are elements: each byte is moved a bounded number of times on average.
            let room = need + self.len().clamp(CHUNK_MIN, CHUNK_MAX);
            let mut data = Vec::with_capacity(room + self.len());
            data.resize(room, 0);
            data.extend_from_slice(&self.data[self.start..]);
            (self.data, self.start) = (data, room);
        }
        let begin = self.start - need;
        let mut packed = Chunk::default();
        packed.data.reserve(need);
        packed.append(element);
        self.data[begin..self.start].copy_from_slice(&packed.data);
        self.start = begin;
        self.count += 1;
    }

    /// The element at `at`, and where the next one is.
    fn read(&self, at: usize) -> Option<(&[u8], usize)> {
        let mut bytes = self.data.get(at..)?.iter();
        let (len, header) = take_len(|| bytes.next().copied())?;
        let begin = at + header;
        let element = self.data.get(begin..begin.checked_add(len)?)?;
        Some((element, begin + len + len_len(header + len)))
    }

    /// The element before `end`, and where it is.
    fn read_back(&self, end: usize) -> Option<(&[u8], usize)> {
        let mut bytes = self.data.get(self.start..end)?.iter().rev();
        let (front, trailer) = take_len(|| bytes.next().copied())?;
        let at = end.checked_sub(trailer)?.checked_sub(front)?;
        Some((self.read(at)?.0, at))
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = self.start;
        std::iter::from_fn(move || {
            let (element, next) = self.read(at)?;
            at = next;
            Some(element)
        })
    }

    fn iter_back(&self) -> impl Iterator<Item = &[u8]> {
        let mut end = self.data.len();
        std::iter::from_fn(move || {
            let (element, at) = self.read_back(end)?;
            end = at;
            Some(element)
        })
    }

    fn pop_front(&mut self) -> Option<Vec<u8>> {
        let (element, next) = self.read(self.start)?;
        let element = element.to_vec();
        self.start = next;
        self.count -= 1;
        Some(element)
    }

    fn pop_back(&mut self) -> Option<Vec<u8>> {
        let (element, at) = self.read_back(self.data.len())?;
        let element = element.to_vec();
        self.data.truncate(at);
        self.count -= 1;
        Some(element)
    }

    fn held(&self) -> usize {
        size_of::<Chunk>() + self.data.capacity()
    }
}

/// One end of a list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The head: LEFT.
    Front,
    /// The tail: RIGHT.
    Back,
}

/// The elements of one key.
#[derive(Clone, Debug, Default)]
pub struct List {
    chunks: VecDeque<Chunk>,
    len: usize,
    held: usize,
}

impl List {
    /// Bytes it holds.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.held
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The name of its form in `OBJECT ENCODING`, as Redis 7.0 has it for every list.
    pub fn encoding(&self) -> &'static str {
        "quicklist"
    }

    /// Changes a chunk, and counts what it holds anew.
    fn change<R>(&mut self, at: usize, change: impl FnOnce(&mut Chunk) -> R) -> R {
        let chunk = &mut self.chunks[at];
        let (held, count) = (chunk.held(), chunk.count);
        let made = change(chunk);
        self.held = self.held - held + chunk.held();
        self.len = self.len - count + chunk.count;
        if chunk.count == 0 {
            self.held -= chunk.held();
            self.chunks.remove(at);
        }
        made
    }

    fn add_chunk(&mut self, at: usize, chunk: Chunk) {
        self.held += chunk.held();
        self.len += chunk.count;
        self.chunks.insert(at, chunk);
    }

    /// Puts an element at an end.
    pub fn push(&mut self, end: End, element: &[u8]) {
        match end {
            End::Back => {
                if !self.chunks.back().is_some_and(|chunk| chunk.takes(element.len())) {
                    self.add_chunk(self.chunks.len(), Chunk::default());
                }
                self.change(self.chunks.len() - 1, |chunk| chunk.push_back(element));
            }
            End::Front => {
                if !self.chunks.front().is_some_and(|chunk| chunk.takes(element.len())) {
                    self.add_chunk(0, Chunk::default());
                }
                self.change(0, |chunk| chunk.push_front(element));
            }
        }
    }

    /// Takes an element from an end.
    pub fn pop(&mut self, end: End) -> Option<Vec<u8>> {
        let last = self.chunks.len().checked_sub(1)?;
        match end {
            End::Front => self.change(0, Chunk::pop_front),
            End::Back => self.change(last, Chunk::pop_back),
        }
    }

    /// The chunk of element `index`, and how many elements of it come before.
    fn locate(&self, index: usize) -> Option<(usize, usize)> {
        if index >= self.len {
            return None;
        }
        if index < self.len / 2 {
            let mut before = index;
            for (at, chunk) in self.chunks.iter().enumerate() {
                if before < chunk.count {
                    return Some((at, before));
                }
                before -= chunk.count;
            }
        } else {
            let mut end = self.len;
            for (at, chunk) in self.chunks.iter().enumerate().rev() {
                end -= chunk.count;
                if index >= end {
                    return Some((at, index - end));
                }
            }
        }
        None
    }

    /// Element `index`, from the front.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let (at, n) = self.locate(index)?;
        let chunk = &self.chunks[at];
        if n < chunk.count / 2 { chunk.iter().nth(n) } else { chunk.iter_back().nth(chunk.count - 1 - n) }
    }

    /// The elements from `from` on.
    pub fn iter_from(&self, from: usize) -> impl Iterator<Item = &[u8]> {
        let (at, n) = self.locate(from).unwrap_or((self.chunks.len(), 0));
        self.chunks.range(at..).flat_map(Chunk::iter).skip(n)
    }

    /// All elements, the last one first.
    pub fn iter_back(&self) -> impl Iterator<Item = &[u8]> {
        self.chunks.iter().rev().flat_map(Chunk::iter_back)
    }

    /// Writes the elements of the chunks from `at` to `end` anew, as `elements` gives them.
    fn rebuild<'e>(&mut self, at: usize, end: usize, elements: impl Iterator<Item = &'e [u8]>) {
        let mut made: Vec<Chunk> = Vec::new();
        for element in elements {
            if !made.last().is_some_and(|chunk| chunk.takes(element.len())) {
                made.push(Chunk::default());
            }
            if let Some(chunk) = made.last_mut() {
                chunk.push_back(element);
            }
        }
        for chunk in self.chunks.drain(at..end) {
            self.held -= chunk.held();
            self.len -= chunk.count;
        }
        for (n, chunk) in made.into_iter().enumerate() {
            self.add_chunk(at + n, chunk);
        }
    }

    /// Replaces element `index`; false if there is none.
    pub fn set(&mut self, index: usize, element: &[u8]) -> bool {
        let Some((at, n)) = self.locate(index) else { return false };
        let old = self.chunks[at].clone();
        self.rebuild(at, at + 1, old.iter().enumerate().map(|(m, one)| if m == n { element } else { one }));
        true
    }

    /// Puts an element before element `index`; one past the last is the end.
    pub fn insert(&mut self, index: usize, element: &[u8]) {
        let Some((at, n)) = self.locate(index) else { return self.push(End::Back, element) };
        let old = self.chunks[at].clone();
        let with = old.iter().take(n).chain(std::iter::once(element)).chain(old.iter().skip(n));
        self.rebuild(at, at + 1, with);
    }

    /// Removes elements equal to `element`: at most `max` of them, counted from an end; how many it was.
    pub fn remove(&mut self, end: End, max: usize, element: &[u8]) -> usize {
        let mut removed = 0;
        let mut at = if end == End::Front { 0 } else { self.chunks.len() };
        loop {
            if end == End::Back {
                match at.checked_sub(1) {
                    Some(before) => at = before,
                    None => break,
                }
            } else if at >= self.chunks.len() {
                break;
            }
            if removed == max {
                break;
            }
            let found = self.chunks[at].iter().filter(|one| *one == element).count();
            let mut advance = 1;
            if found > 0 {
                let gone = found.min(max - removed);
                // From the back, those that stay come first.
                let spared = if end == End::Front { 0 } else { found - gone };
                let old = self.chunks[at].clone();
                let mut seen = 0;
                let before = self.chunks.len();
                self.rebuild(
                    at,
                    at + 1,
                    old.iter().filter(|one| {
                        let is_equal = *one == element;
                        seen += usize::from(is_equal);
                        !(is_equal && seen > spared && seen <= spared + gone)
                    }),
                );
                removed += gone;
                advance = usize::from(self.chunks.len() == before);
            }
            if end == End::Front {
                at += advance;
            }
        }
        removed
    }

    /// Keeps `count` elements from `from` on.
    pub fn trim(&mut self, from: usize, count: usize) {
        let end = from.saturating_add(count).min(self.len);
        self.drop_front(from.min(self.len));
        self.drop_back(self.len - (end.saturating_sub(from)).min(self.len));
    }

    fn drop_front(&mut self, mut count: usize) {
        while count > 0 {
            let Some(chunk) = self.chunks.front() else { return };
            if chunk.count <= count {
                count -= chunk.count;
                self.held -= chunk.held();
                self.len -= chunk.count;
                self.chunks.pop_front();
            } else {
                self.change(0, |chunk| (0..count).for_each(|_| drop(chunk.pop_front())));
                return;
            }
        }
    }

    fn drop_back(&mut self, mut count: usize) {
        while count > 0 {
            let Some(chunk) = self.chunks.back() else { return };
            if chunk.count <= count {
                count -= chunk.count;
                self.held -= chunk.held();
                self.len -= chunk.count;
                self.chunks.pop_back();
            } else {
                self.change(self.chunks.len() - 1, |chunk| (0..count).for_each(|_| drop(chunk.pop_back())));
                return;
            }
        }
    }

    /// Appends all of it, to be read by `decode`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for element in self.iter_from(0) {
            put_len(element.len(), false, &mut |byte| out.push(byte));
            out.extend_from_slice(element);
        }
    }

    /// What `encode` made these bytes of.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (mut list, mut at) = (List::default(), 0);
        while at < bytes.len() {
            let mut rest = bytes[at..].iter();
            let (len, header) = take_len(|| rest.next().copied())?;
            let begin = at + header;
            let end = begin.checked_add(len)?;
            list.push(End::Back, bytes.get(begin..end)?);
            at = end;
        }
        // A key with nothing in it is none.
        (!list.is_empty()).then_some(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_base::Rng;

    #[test]
    fn no_bytes_are_no_list() {
        assert!(List::decode(b"").is_none());
    }

    fn element(rng: &mut Rng) -> Vec<u8> {
        let len = match rng.below(40) {
            0 => rng.index(9_000),
            1..=4 => rng.index(300),
            _ => rng.index(6),
        };
        vec![b'a' + u8::try_from(rng.below(3)).unwrap(); len]
    }

    fn recount(list: &List) -> usize {
        list.chunks.iter().map(Chunk::held).sum()
    }

    #[test]
    fn random_operations_agree_with_a_plain_deque() {
        for seed in 0..30 {
            let mut rng = Rng::new(seed);
            let (mut list, mut plain) = (List::default(), VecDeque::<Vec<u8>>::new());
            for _ in 0..600 {
                let one = element(&mut rng);
                match rng.below(12) {
                    0..=2 => {
                        list.push(End::Back, &one);
                        plain.push_back(one);
                    }
                    3..=5 => {
                        list.push(End::Front, &one);
                        plain.push_front(one);
                    }
                    6 => assert_eq!(list.pop(End::Front), plain.pop_front()),
                    7 => assert_eq!(list.pop(End::Back), plain.pop_back()),
                    8 => {
                        let at = rng.index(plain.len() + 1);
                        list.insert(at, &one);
                        plain.insert(at, one);
                    }
                    9 => {
                        let at = rng.index(plain.len() + 2);
                        assert_eq!(list.set(at, &one), at < plain.len());
                        if let Some(place) = plain.get_mut(at) {
                            *place = one;
                        }
                    }
                    10 => {
                        let max = rng.index(5);
                        let end = if rng.chance(1, 2) { End::Front } else { End::Back };
                        let mut wanted = 0;
                        while wanted < max {
                            let found = match end {
                                End::Front => plain.iter().position(|x| *x == one),
                                End::Back => plain.iter().rposition(|x| *x == one),
                            };
                            let Some(at) = found else { break };
                            plain.remove(at);
                            wanted += 1;
                        }
                        assert_eq!(list.remove(end, max, &one), wanted);
                    }
                    _ if rng.chance(1, 8) => {
                        let (from, count) = (rng.index(plain.len() + 3), rng.index(plain.len() + 3));
                        list.trim(from, count);
                        plain = plain.into_iter().skip(from).take(count).collect();
                    }
                    _ => {
                        let at = rng.index(plain.len() + 1);
                        assert_eq!(list.get(at), plain.get(at).map(Vec::as_slice));
                    }
                }
                assert_eq!((list.len(), list.held), (plain.len(), recount(&list)), "{seed}");
            }
            assert!(list.iter_from(0).eq(plain.iter().map(Vec::as_slice)));
            assert!(list.iter_back().eq(plain.iter().rev().map(Vec::as_slice)));
            let from = plain.len() / 3;
            assert!(list.iter_from(from).eq(plain.iter().skip(from).map(Vec::as_slice)));
            let mut bytes = Vec::new();
            list.encode(&mut bytes);
            assert!(List::decode(&bytes).unwrap().iter_from(0).eq(list.iter_from(0)));
        }
    }

    #[test]
    fn any_bytes_are_a_list_or_none_and_never_a_panic() {
        let mut rng = Rng::new(1);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..rng.index(40)).map(|_| u8::try_from(rng.below(256)).unwrap()).collect();
            let _ = List::decode(&bytes);
        }
    }

    #[test]
    fn a_short_element_costs_two_bytes_more_than_it_has() {
        let mut list = List::default();
        for _ in 0..100_000 {
            list.push(End::Back, b"12345678");
        }
        assert!(list.bytes() < 100_000 * 14, "{}", list.bytes());
        let mut front = List::default();
        for _ in 0..100_000 {
            front.push(End::Front, b"12345678");
        }
        assert!(front.bytes() < 100_000 * 20, "{}", front.bytes());
    }
}
