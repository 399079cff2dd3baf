//! The policies once more, plainly: whole keys in queues, straight from the papers' pseudo-code, with no slots, no
//! numbers and no shared structure, so that nothing of the implementation can be in them.
//!
//! In queues, the front is the paper's head (the newest), the back its tail.

use std::collections::{HashMap, VecDeque};

/// A cache of keys.
pub trait Model {
    /// A key is requested; returns whether it was there. It is there afterwards.
    fn load(&mut self, key: u32) -> bool;
}

type Queue = VecDeque<u32>;

/// Takes a key out of a queue; returns whether it was there.
fn take(queue: &mut Queue, key: u32) -> bool {
    let place = queue.iter().position(|&other| other == key);
    place.map(|place| queue.remove(place)).is_some()
}

/// Belady 1966.
pub struct Fifo {
    pub size: usize,
    pub queue: Queue,
}

impl Model for Fifo {
    fn load(&mut self, key: u32) -> bool {
        if self.queue.contains(&key) {
            return true;
        }
        if self.queue.len() == self.size {
            self.queue.pop_back();
        }
        self.queue.push_front(key);
        false
    }
}

/// Mattson et al. 1970.
pub struct Lru {
    pub size: usize,
    pub stack: Queue,
}

impl Model for Lru {
    fn load(&mut self, key: u32) -> bool {
        let hit = take(&mut self.stack, key);
        if !hit && self.stack.len() == self.size {
            self.stack.pop_back();
        }
        self.stack.push_front(key);
        hit
    }
}

/// Corbató 1968: page frames in a circle, a usage bit each.
pub struct Clock {
    pub size: usize,
    pub frames: Vec<(u32, bool)>,
    pub hand: usize,
}

impl Model for Clock {
    fn load(&mut self, key: u32) -> bool {
        if let Some(frame) = self.frames.iter_mut().find(|frame| frame.0 == key) {
            frame.1 = true;
            return true;
        }
        if self.frames.len() < self.size {
            self.frames.push((key, true));
            return false;
        }
        while self.frames[self.hand].1 {
            self.frames[self.hand].1 = false;
            self.hand = (self.hand + 1) % self.size;
        }
        self.frames[self.hand] = (key, true);
        self.hand = (self.hand + 1) % self.size;
        false
    }
}

/// Zhang et al. 2024, algorithm 1.
pub struct Sieve {
    pub size: usize,
    pub queue: Queue,
    pub visited: HashMap<u32, bool>,
    pub hand: Option<u32>,
}

impl Model for Sieve {
    fn load(&mut self, key: u32) -> bool {
        if self.queue.contains(&key) {
            self.visited.insert(key, true);
            return true;
        }
        if self.queue.len() == self.size {
            let toward_head = |queue: &Queue, key| {
                let place = queue.iter().position(|&other| other == key).unwrap();
                place.checked_sub(1).map(|place| queue[place])
            };
            let mut object = self.hand.unwrap_or(*self.queue.back().unwrap());
            while self.visited[&object] {
                self.visited.insert(object, false);
                object = toward_head(&self.queue, object).unwrap_or(*self.queue.back().unwrap());
            }
            self.hand = toward_head(&self.queue, object);
            take(&mut self.queue, object);
        }
        self.queue.push_front(key);
        self.visited.insert(key, false);
        false
    }
}

/// In-cache LFU; of those used least, the least recently used.
pub struct Lfu {
    pub size: usize,
    pub counts: HashMap<u32, u32>,
    /// The last used in front.
    pub order: Queue,
}

impl Model for Lfu {
    fn load(&mut self, key: u32) -> bool {
        let hit = take(&mut self.order, key);
        if !hit {
            if self.order.len() == self.size {
                let least = self.order.iter().map(|key| self.counts[key]).min().unwrap();
                let victim = *self.order.iter().rev().find(|key| self.counts[key] == least).unwrap();
                take(&mut self.order, victim);
                self.counts.remove(&victim);
            }
            self.counts.insert(key, 0);
        }
        *self.counts.get_mut(&key).unwrap() += 1;
        self.order.push_front(key);
        hit
    }
}

/// Karedla et al. 1994.
pub struct Slru {
    pub size: usize,
    pub protected_size: usize,
    pub probationary: Queue,
    pub protected: Queue,
}

impl Model for Slru {
    fn load(&mut self, key: u32) -> bool {
        if take(&mut self.probationary, key) || take(&mut self.protected, key) {
            self.protected.push_front(key);
            if self.protected.len() > self.protected_size {
                let demoted = self.protected.pop_back().unwrap();
                self.probationary.push_front(demoted);
            }
            return true;
        }
        if self.probationary.len() + self.protected.len() == self.size
            && self.probationary.pop_back().is_none()
        {
            self.protected.pop_back();
        }
        self.probationary.push_front(key);
        false
    }
}

/// Johnson and Shasha 1994, "2Q, full version".
pub struct TwoQ {
    pub size: usize,
    pub kin: usize,
    pub kout: usize,
    pub a1_in: Queue,
    pub a1_out: Queue,
    pub am: Queue,
}

impl TwoQ {
    fn reclaim(&mut self) {
        if self.a1_in.len() + self.am.len() < self.size {
            return;
        }
        // The paper does not say what happens while Am is empty; there is only A1in to take from.
        if self.a1_in.len() > self.kin || self.am.is_empty() {
            let y = self.a1_in.pop_back().unwrap();
            self.a1_out.push_front(y);
            if self.a1_out.len() > self.kout {
                self.a1_out.pop_back();
            }
        } else {
            self.am.pop_back();
        }
    }
}

impl Model for TwoQ {
    fn load(&mut self, key: u32) -> bool {
        if take(&mut self.am, key) {
            self.am.push_front(key);
            return true;
        }
        if take(&mut self.a1_out, key) {
            self.reclaim();
            self.am.push_front(key);
            return false;
        }
        if self.a1_in.contains(&key) {
            return true;
        }
        self.reclaim();
        self.a1_in.push_front(key);
        false
    }
}

/// Megiddo and Modha 2003, figure 4; the quotients may be rounded down.
pub struct Arc {
    pub c: usize,
    pub p: f64,
    pub whole: bool,
    pub t1: Queue,
    pub t2: Queue,
    pub b1: Queue,
    pub b2: Queue,
}

impl Arc {
    fn delta(&self, others: usize, own: usize) -> f64 {
        let quotient = others as f64 / own as f64;
        if self.whole { quotient.floor() } else { quotient }.max(1.0)
    }

    fn replace(&mut self, in_b2: bool) {
        if !self.t1.is_empty() && (self.t1.len() as f64 > self.p || in_b2 && self.t1.len() as f64 == self.p) {
            self.b1.push_front(self.t1.pop_back().unwrap());
        } else {
            self.b2.push_front(self.t2.pop_back().unwrap());
        }
    }
}

impl Model for Arc {
    fn load(&mut self, x: u32) -> bool {
        // Case I.
        if take(&mut self.t1, x) || take(&mut self.t2, x) {
            self.t2.push_front(x);
            return true;
        }
        // Case II.
        if self.b1.contains(&x) {
            let delta = self.delta(self.b2.len(), self.b1.len());
            self.p = (self.p + delta).min(self.c as f64);
            self.replace(false);
            take(&mut self.b1, x);
            self.t2.push_front(x);
            return false;
        }
        // Case III.
        if self.b2.contains(&x) {
            let delta = self.delta(self.b1.len(), self.b2.len());
            self.p = (self.p - delta).max(0.0);
            self.replace(true);
            take(&mut self.b2, x);
            self.t2.push_front(x);
            return false;
        }
        // Case IV.
        let l1 = self.t1.len() + self.b1.len();
        let l2 = self.t2.len() + self.b2.len();
        if l1 == self.c {
            if self.t1.len() < self.c {
                self.b1.pop_back();
                self.replace(false);
            } else {
                self.t1.pop_back();
            }
        } else if l1 + l2 >= self.c {
            if l1 + l2 == 2 * self.c {
                self.b2.pop_back();
            }
            self.replace(false);
        }
        self.t1.push_front(x);
        false
    }
}

/// Jiang and Zhang 2002, section 3.3, with a bound on the non-resident blocks.
pub struct Lirs {
    pub lir_size: usize,
    pub hir_size: usize,
    pub most_non_resident: usize,
    /// The stack S.
    pub s: Queue,
    /// The list Q; its end is the front here, blocks leave at the back.
    pub q: Queue,
    pub lir: Vec<u32>,
    /// Non-resident blocks in S, the last evicted in front.
    pub non_resident: Queue,
    /// The most blocks that S may have.
    pub most_in_s: usize,
    /// Hits of resident HIR blocks that are not in S, where libCacheSim 0.3.5 evicts a LIR block, and the paper none.
    pub hits_outside_s: usize,
}

impl Lirs {
    fn prune(&mut self) {
        while let Some(bottom) = self.s.back()
            && !self.lir.contains(bottom)
        {
            take(&mut self.non_resident, *bottom);
            self.s.pop_back();
        }
    }

    fn move_up(&mut self, x: u32) {
        take(&mut self.s, x);
        self.s.push_front(x);
    }

    fn becomes_lir(&mut self, x: u32) {
        self.move_up(x);
        self.lir.push(x);
        self.prune();
        if self.lir.len() > self.lir_size {
            let bottom = self.s.pop_back().unwrap();
            self.lir.retain(|&other| other != bottom);
            self.q.push_front(bottom);
            self.prune();
        }
    }
}

impl Model for Lirs {
    fn load(&mut self, x: u32) -> bool {
        let hit = self.access(x);
        while self.s.len() > self.most_in_s
            && let Some(forgotten) = self.non_resident.pop_back()
        {
            take(&mut self.s, forgotten);
        }
        hit
    }
}

impl Lirs {
    fn access(&mut self, x: u32) -> bool {
        if self.lir.contains(&x) {
            self.move_up(x);
            self.prune();
            return true;
        }
        if self.q.contains(&x) {
            take(&mut self.q, x);
            if self.s.contains(&x) {
                self.becomes_lir(x);
            } else {
                self.hits_outside_s += 1;
                self.move_up(x);
                self.q.push_front(x);
                self.prune();
            }
            return true;
        }
        let remembered = take(&mut self.non_resident, x);
        if remembered {
            take(&mut self.s, x);
        }
        if self.lir.len() + self.q.len() == self.lir_size + self.hir_size {
            let evicted = self.q.pop_back().unwrap();
            if self.s.contains(&evicted) {
                self.non_resident.push_front(evicted);
                if self.non_resident.len() > self.most_non_resident {
                    let forgotten = self.non_resident.pop_back().unwrap();
                    take(&mut self.s, forgotten);
                }
            }
        }
        if remembered || self.lir.len() < self.lir_size {
            self.becomes_lir(x);
        } else {
            self.move_up(x);
            self.q.push_front(x);
            self.prune();
        }
        false
    }
}

/// Yang et al. 2023, algorithm 1. As in the authors' own program, the ghost queue is checked before anything is
/// evicted, and one eviction makes room for one key.
pub struct S3Fifo {
    pub size: usize,
    pub small_size: usize,
    pub ghost_size: usize,
    pub s: Queue,
    pub m: Queue,
    pub g: Queue,
    pub frequency: HashMap<u32, u8>,
}

impl S3Fifo {
    fn evict_m(&mut self) {
        loop {
            let t = self.m.pop_back().unwrap();
            let frequency = self.frequency.get_mut(&t).unwrap();
            if *frequency == 0 {
                return;
            }
            *frequency -= 1;
            self.m.push_front(t);
        }
    }

    fn evict_s(&mut self) {
        while let Some(t) = self.s.pop_back() {
            if self.frequency[&t] > 1 {
                self.frequency.insert(t, 0);
                self.m.push_front(t);
                if self.m.len() > self.size - self.small_size {
                    return self.evict_m();
                }
            } else {
                self.g.push_front(t);
                if self.g.len() > self.ghost_size {
                    self.g.pop_back();
                }
                return;
            }
        }
    }
}

impl Model for S3Fifo {
    fn load(&mut self, x: u32) -> bool {
        if self.s.contains(&x) || self.m.contains(&x) {
            let frequency = self.frequency.get_mut(&x).unwrap();
            *frequency = (*frequency + 1).min(3);
            return true;
        }
        let in_g = take(&mut self.g, x);
        while self.s.len() + self.m.len() == self.size {
            if self.s.len() >= self.small_size { self.evict_s() } else { self.evict_m() }
        }
        if in_g { &mut self.m } else { &mut self.s }.push_front(x);
        self.frequency.insert(x, 0);
        false
    }
}

/// Jiang, Chen and Zhang 2005, section 4: one circle, in a vector. Hands go to higher indices; the head of the list is
/// just behind the hot hand.
pub struct ClockPro {
    pub m: usize,
    pub m_c: usize,
    pub clock: Vec<Page>,
    pub hand_hot: usize,
    /// Where the hot hand is, before they are first used.
    pub hand_cold: Option<usize>,
    pub hand_test: Option<usize>,
}

#[derive(Clone, Copy)]
pub struct Page {
    key: u32,
    hot: bool,
    resident: bool,
    test: bool,
    reference: bool,
}

impl ClockPro {
    fn next(&self, hand: usize) -> usize {
        (hand + 1) % self.clock.len()
    }

    fn count(&self, is: impl Fn(&Page) -> bool) -> usize {
        self.clock.iter().filter(|page| is(page)).count()
    }

    fn insert_at_head(&mut self, page: Page) {
        let (at, is_first) = (self.hand_hot, self.clock.is_empty());
        self.clock.insert(at, page);
        if !is_first {
            self.hand_hot += 1;
            for hand in [&mut self.hand_cold, &mut self.hand_test].into_iter().flatten() {
                *hand += usize::from(*hand >= at);
            }
        }
    }

    fn remove(&mut self, at: usize) -> Page {
        let page = self.clock.remove(at);
        let length = self.clock.len().max(1);
        let hands = [&mut self.hand_cold, &mut self.hand_test].into_iter().flatten();
        for hand in hands.chain([&mut self.hand_hot]) {
            *hand = (*hand - usize::from(*hand > at)) % length;
        }
        page
    }

    fn becomes_hot(&mut self, at: usize) {
        self.m_c = (self.m_c + 1).min(self.m);
        let key = self.remove(at).key;
        self.insert_at_head(Page { key, hot: true, resident: true, test: false, reference: false });
        while self.count(|page| page.hot) > self.m - self.m_c {
            self.run_hand_hot();
        }
    }

    /// A page in its test period that was not used since is a failure.
    fn end_test(&mut self, at: usize) {
        let page = &mut self.clock[at];
        if page.test && !page.reference {
            self.m_c = (self.m_c - 1).max(1);
        }
        page.test = false;
    }

    fn run_hand_hot(&mut self) {
        loop {
            let at = self.hand_hot;
            let page = self.clock[at];
            if !page.hot {
                self.end_test(at);
                if !page.resident {
                    self.remove(at);
                    continue;
                }
            }
            self.hand_hot = self.next(at);
            if page.hot && !page.reference {
                self.clock[at].hot = false;
                return;
            }
            if page.hot {
                self.clock[at].reference = false;
            }
        }
    }

    fn run_hand_cold(&mut self) {
        loop {
            let at = self.hand_cold.unwrap_or(self.hand_hot);
            self.hand_cold = Some(self.next(at));
            let page = self.clock[at];
            if page.hot || !page.resident {
                continue;
            }
            match (page.reference, page.test) {
                (false, true) => self.clock[at].resident = false,
                (false, false) => _ = self.remove(at),
                (true, true) => {
                    self.becomes_hot(at);
                    continue;
                }
                (true, false) => {
                    let page = self.remove(at);
                    self.insert_at_head(Page { test: true, reference: false, ..page });
                    continue;
                }
            }
            return;
        }
    }

    fn run_hand_test(&mut self) {
        loop {
            let at = self.hand_test.unwrap_or(self.hand_hot);
            self.hand_test = Some(self.next(at));
            if !self.clock[at].hot {
                self.end_test(at);
            }
            if !self.clock[at].resident {
                self.remove(at);
                return;
            }
        }
    }
}

impl Model for ClockPro {
    fn load(&mut self, x: u32) -> bool {
        if let Some(page) = self.clock.iter_mut().find(|page| page.key == x && page.resident) {
            page.reference = true;
            return true;
        }
        if self.count(|page| page.resident) == self.m {
            self.run_hand_cold();
        }
        match self.clock.iter().position(|page| page.key == x) {
            Some(at) => self.becomes_hot(at),
            None => {
                self.insert_at_head(Page { key: x, hot: false, resident: true, test: true, reference: false })
            }
        }
        while self.count(|page| !page.resident) > self.m {
            self.run_hand_test();
        }
        false
    }
}

/// O'Neil, O'Neil and Weikum 1993, figure 2.1, with LRU among the pages that have been used less than K times.
pub struct LruK {
    pub size: usize,
    pub k: usize,
    pub most_remembered: usize,
    pub time: u64,
    pub resident: Vec<u32>,
    /// The last evicted in front.
    pub remembered: Queue,
    /// HIST: the times of the last K uses, the last first.
    pub hist: HashMap<u32, Vec<u64>>,
}

impl Model for LruK {
    fn load(&mut self, x: u32) -> bool {
        self.time += 1;
        let hit = self.resident.contains(&x);
        take(&mut self.remembered, x);
        if !hit && self.resident.len() == self.size {
            let age = |page: &&u32| {
                let uses = &self.hist[page];
                (uses.get(self.k - 1).copied().unwrap_or(0), uses[0])
            };
            let victim = *self.resident.iter().min_by_key(age).unwrap();
            self.resident.retain(|&page| page != victim);
            self.remembered.push_front(victim);
            if self.remembered.len() > self.most_remembered {
                let forgotten = self.remembered.pop_back().unwrap();
                self.hist.remove(&forgotten);
            }
        }
        if !hit {
            self.resident.push(x);
        }
        let uses = self.hist.entry(x).or_default();
        uses.insert(0, self.time);
        uses.truncate(self.k);
        hit
    }
}

/// Blankstein, Sen and Freedman 2017, with all pages looked at: uses for the time in the cache.
pub struct Hyperbolic {
    pub size: usize,
    pub time: u64,
    /// Of each page: its uses, and when it came.
    pub pages: HashMap<u32, (u64, u64)>,
}

impl Model for Hyperbolic {
    fn load(&mut self, x: u32) -> bool {
        self.time += 1;
        if let Some((uses, _)) = self.pages.get_mut(&x) {
            *uses += 1;
            return true;
        }
        if self.pages.len() == self.size {
            let rate = |uses: u64, came: u64| uses as f64 / (self.time - came) as f64;
            let lowest = self
                .pages
                .iter()
                .min_by(|(_, a), (_, b)| rate(a.0, a.1).total_cmp(&rate(b.0, b.1)).then(a.1.cmp(&b.1)));
            let victim = *lowest.unwrap().0;
            self.pages.remove(&victim);
        }
        self.pages.insert(x, (1, self.time));
        false
    }
}

/// Cherkasova 1998, with objects of cost 1 and size 1.
pub struct Gdsf {
    pub size: usize,
    pub l: u64,
    pub time: u64,
    /// Of each object: its frequency, its priority H, and its last use.
    pub objects: HashMap<u32, (u64, u64, u64)>,
}

impl Model for Gdsf {
    fn load(&mut self, x: u32) -> bool {
        self.time += 1;
        let (l, time) = (self.l, self.time);
        if let Some((frequency, h, last)) = self.objects.get_mut(&x) {
            *frequency += 1;
            (*h, *last) = (l + *frequency, time);
            return true;
        }
        if self.objects.len() == self.size {
            let lowest = self.objects.iter().min_by_key(|(_, (_, h, last))| (*h, *last));
            let (&victim, &(_, h, _)) = lowest.unwrap();
            self.l = h;
            self.objects.remove(&victim);
        }
        self.objects.insert(x, (1, self.l + 1, time));
        false
    }
}
