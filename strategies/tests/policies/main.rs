//! The eviction policies held against plain models of the papers, and against cases worked out by hand.

use arch_i386::addr::GuestPhys;
use framework::registry::{self, Choice};
use models::{
    Arc, Clock, ClockPro, Fifo, Gdsf, Hyperbolic, Lfu, Lirs, Lru, LruK, Model, S3Fifo, Sieve, Slru, TwoQ,
};
use proptest::prelude::*;
use sim::golden::{self, Golden};
use sim::policy_check::{self, Cache};
use std::collections::BTreeMap;
use strategies as _;

mod models;

/// The model of a policy.
fn model(policy: &str, size: usize) -> Option<Box<dyn Model>> {
    let at_least_one = |part: usize| part.max(1);
    let (queue, counts) = (Default::default, Default::default);
    Some(match policy {
        "fifo" => Box::new(Fifo { size, queue: queue() }),
        // With equal costs.
        "lru" | "greedy-dual" | "lecar:learn=off,lru=100" => Box::new(Lru { size, stack: queue() }),
        "clock" => Box::new(Clock { size, frames: Vec::new(), hand: 0 }),
        "sieve" => Box::new(Sieve { size, queue: queue(), visited: Default::default(), hand: None }),
        "lfu" | "lecar:learn=off,lru=0" => Box::new(Lfu { size, counts: Default::default(), order: queue() }),
        "slru" => {
            let protected_size = size * 80 / 100;
            Box::new(Slru { size, protected_size, probationary: queue(), protected: queue() })
        }
        "2q" => {
            let (kin, kout) = (at_least_one(size / 4), at_least_one(size / 2));
            Box::new(TwoQ { size, kin, kout, a1_in: queue(), a1_out: queue(), am: queue() })
        }
        "arc" | "arc:target=whole" => Box::new(Arc {
            c: size,
            p: 0.0,
            whole: policy != "arc",
            t1: queue(),
            t2: queue(),
            b1: queue(),
            b2: queue(),
        }),
        "lirs" => Box::new(lirs(size, usize::MAX)),
        "s3-fifo" => {
            let (small_size, ghost_size) = (at_least_one(size / 10), size * 90 / 100);
            Box::new(S3Fifo {
                size,
                small_size,
                ghost_size,
                s: queue(),
                m: queue(),
                g: queue(),
                frequency: counts(),
            })
        }
        "hyperbolic:sample=1024" => Box::new(Hyperbolic { size, time: 0, pages: Default::default() }),
        "gdsf" => Box::new(Gdsf { size, l: 0, time: 0, objects: Default::default() }),
        "clock-pro" => Box::new(ClockPro {
            m: size,
            m_c: at_least_one(size / 2),
            clock: Vec::new(),
            hand_hot: 0,
            hand_cold: None,
            hand_test: None,
        }),
        "lru-k" => Box::new(LruK {
            size,
            k: 2,
            most_remembered: size,
            time: 0,
            resident: Vec::new(),
            remembered: queue(),
            hist: Default::default(),
        }),
        _ => return None,
    })
}

fn lirs(size: usize, most_in_s: usize) -> Lirs {
    let hir_size = (size / 100).max(1);
    Lirs {
        lir_size: size - hir_size,
        hir_size,
        most_non_resident: 2 * size,
        s: Default::default(),
        q: Default::default(),
        lir: Vec::new(),
        non_resident: Default::default(),
        most_in_s,
        hits_outside_s: 0,
    }
}

/// The policies that have a model; `lguest` is held against lguest's recorded answers instead.
fn modelled() -> Vec<&'static str> {
    let variants =
        ["arc:target=whole", "hyperbolic:sample=1024", "lecar:learn=off,lru=100", "lecar:learn=off,lru=0"];
    let all = registry::all_names().into_iter().chain(variants);
    all.filter(|policy| model(policy, 1).is_some()).collect()
}

fn policies() -> impl Iterator<Item = &'static str> {
    registry::all_names().into_iter().filter(|name| Choice::parse(name).unwrap().policy(0).is_some())
}

fn hits(policy: &str, size: usize, keys: &[u32]) -> Vec<bool> {
    let separator = if policy.contains(':') { ',' } else { ':' };
    let mut cache = Cache::new(&format!("{policy}{separator}slots={size}"), 1).unwrap();
    keys.iter().map(|key| cache.load(GuestPhys(key * 4096)).unwrap().hit).collect()
}

fn count_misses(policy: &str, size: usize, keys: &[u32]) -> usize {
    hits(policy, size, keys).iter().filter(|hit| !**hit).count()
}

fn model_hits(policy: &str, size: usize, keys: &[u32]) -> Vec<bool> {
    let mut model = model(policy, size).unwrap();
    keys.iter().map(|&key| model.load(key)).collect()
}

/// A letter for each load: `h` for a hit.
fn written(hits: Vec<bool>) -> String {
    hits.iter().map(|hit| if *hit { 'h' } else { '.' }).collect()
}

/// Reference strings: keys near others of before, a few far away, and rings.
fn keys(size: usize, length: usize) -> impl Strategy<Value = Vec<u32>> {
    let size = size as u32;
    let key = prop_oneof![4 => 0..size + 2, 2 => 0..size.div_ceil(2), 1 => 0..4 * size + 2];
    let any = prop::collection::vec(key, 0..length);
    let ring = (1..2 * size + 2).prop_map(move |n| (0..length as u32).map(|i| i % n).collect());
    prop_oneof![8 => any, 1 => ring]
}

/// Under Miri every step costs a thousandfold.
const CASES: u32 = if cfg!(miri) { 2 } else { 50 };
const LENGTH: usize = if cfg!(miri) { 60 } else { 600 };

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_policy_does_what_its_paper_says(
        (size, keys) in prop_oneof![1usize..8, 8usize..65, Just(100)]
            .prop_flat_map(|size| (Just(size), keys(size, LENGTH)))
    ) {
        for policy in modelled() {
            prop_assert_eq!(hits(policy, size, &keys), model_hits(policy, size, &keys), "{} {}", policy, size);
        }
    }
}

/// The last use of each slot, in order.
fn last_uses(uses: &[usize]) -> impl Iterator<Item = usize> {
    let last = |(at, slot): (usize, &usize)| (!uses[at + 1..].contains(slot)).then_some(*slot);
    uses.iter().enumerate().filter_map(last)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    /// Between victims, some slots are used, each any number of times.
    #[test]
    fn who_does_not_count_each_use_goes_by_the_last_ones(
        slots in 1usize..7,
        rounds in prop::collection::vec(prop::collection::vec(0usize..6, 0..20), 0..LENGTH / 10),
    ) {
        for name in policies().filter(|name| counts_each_use(name) == Some(false)) {
            let choice = Choice::parse(&format!("{name}:slots={slots}")).unwrap();
            let [(_, mut each), (_, mut last)] = [(); 2].map(|()| choice.policy(1).unwrap());
            let directory = |number: usize| GuestPhys(number as u32 * 4096);
            for slot in 0..slots {
                each.filled(slot, directory(slot));
                last.filled(slot, directory(slot));
            }
            for (round, uses) in rounds.iter().enumerate() {
                let uses: Vec<usize> = uses.iter().map(|slot| slot % slots).collect();
                uses.iter().for_each(|&slot| each.used(slot, directory(slot)));
                last_uses(&uses).for_each(|slot| last.used(slot, directory(slot)));
                let incoming = directory(slots + round);
                let victim = each.victim(incoming);
                prop_assert_eq!(last.victim(incoming), victim, "{}", name);
                each.filled(victim, incoming);
                last.filled(victim, incoming);
            }
        }
    }
}

fn counts_each_use(policy: &str) -> Option<bool> {
    let (_, policy) = Choice::parse(policy).unwrap().policy(0)?;
    Some(policy.counts_each_use())
}

#[test]
fn those_that_do_not_count_each_use() {
    for policy in ["clock", "fifo", "lguest", "lru", "random", "sieve"] {
        assert_eq!(counts_each_use(policy), Some(false), "{policy}");
    }
    assert_eq!(counts_each_use("clock:bits=2"), Some(true), "it counts to three");
}

/// Worked out by hand for three slots, and the parameters' defaults: 2q keeps one directory in its first queue and
/// remembers one; slru protects two; lirs has one slot for HIR; s3-fifo's small queue has one, and it remembers two.
#[test]
fn three_slots_by_hand() {
    let keys = [1, 2, 3, 1, 4, 5, 1, 2, 4, 3, 1, 4];
    for (policy, expected) in [
        ("fifo", "...h.......h"),
        ("lru", "...h..h....h"),
        ("clock", "...h.......h"),
        ("sieve", "...h..h...hh"),
        ("lfu", "...h..h...hh"),
        ("slru", "...h..h...hh"),
        ("2q", "...h.......h"),
        ("arc", "...h..h....h"),
        ("lirs", "...h..hh..h."),
        ("s3-fifo", "...h.......h"),
    ] {
        assert_eq!(written(hits(policy, 3, &keys)), expected, "{policy}");
        assert_eq!(written(model_hits(policy, 3, &keys)), expected, "the model of {policy}");
    }
}

/// Worked out by hand for three slots, as above.
#[test]
fn three_slots_by_hand_without_a_model() {
    let keys = [1, 2, 3, 1, 4, 5, 1, 2, 4, 3, 1, 4];
    for (policy, expected) in [
        // Evicted, with the load before last of each at the time: 2, 3, 4 and 5, which have none, then 2, of load 2, when 1 and 4
        // have 4 and 5.
        ("lru-k", "...h..h...hh"),
        // 2, 3, 4 and 5 leave queue 0 in turn; then all are in queue 1, from which 1 goes, and 2.
        ("mq", "...h..h....h"),
        // By uses and age: 2 (1/3), 3 (1/3), 4 (1/3), 5 (1/3), 1 (3/9), 2 (1/3).
        ("hyperbolic", "...h..h....h"),
        ("greedy-dual", "...h..h....h"),
        // By inflation and uses: 2 (0 + 1), 3 (0 + 1), 4 (1 + 1), 5 (1 + 1), 2 (2 + 1).
        ("gdsf", "...h..h...hh"),
        // One slot in the window, one protected. 3, 4, 5, 4 and 3 fall out of the window, none loaded more often than the last of
        // the others: 2, 2, 1, 1 and 2.
        ("w-tinylfu", "...h..hh..h."),
        // One slot for cold ones at first. 4 evicts 2, as 1 was used in its test: 1 is hot, two slots are for cold ones. 5 evicts 3.
        // 2 comes back in its test and evicts 4: hot, three slots for cold ones, so that the hot hand ends all other tests, which
        // leaves one slot, spares 1 and stops at 2, which is cold again. 4 evicts 5, 3 evicts 2.
        ("clock-pro", "...h..h...hh"),
        // 2, 3, 4 and 5, with one use, are expected latest; then 2 in 5 loads, 4 in 4 and 1 in the next.
        ("irg", "...h..h...hh"),
        ("lecar:learn=off,lru=100", "...h..h....h"),
        ("lecar:learn=off,lru=0", "...h..h...hh"),
    ] {
        assert_eq!(written(hits(policy, 3, &keys)), expected, "{policy}");
    }
    // And then 4, which was loaded three times, falls out of the window when 2 is the last of the others, with two loads.
    let keys = [&keys[..], &[5, 4, 2]].concat();
    assert_eq!(written(hits("w-tinylfu", 3, &keys)), "...h..hh..h..h.");
}

/// Two uses of 1, one after the other: as one, they leave it the directory that was used longest ago; as two, 2 is evicted
/// before it, which was used once.
#[test]
fn correlated_uses_are_one() {
    let keys = [1, 1, 2, 3, 4, 1];
    assert_eq!(written(hits("lru-k:correlated=1", 3, &keys)), ".h....");
    assert_eq!(written(hits("lru-k", 3, &keys)), ".h...h");
}

/// `sim::golden` has what libCacheSim counts.
#[test]
fn policies_miss_as_often_as_libcachesims() {
    let (mut wrong, mut compared) = (Vec::new(), BTreeMap::new());
    let sequences = |golden: &Golden| golden.policy != "opt" && golden::keys(golden.sequence).len() >= 1000;
    for golden in golden::lines().filter(sequences) {
        let Golden { policy, sequence, slots, misses } = golden;
        let keys = golden::keys(sequence);
        // Up to the first such hit it does as the paper says.
        if policy == "lirs:stack=200" {
            let mut model = lirs(slots, 2 * slots);
            keys.iter().for_each(|&key| _ = model.load(key));
            if model.hits_outside_s > 0 {
                continue;
            }
        }
        let counted = count_misses(policy, slots, &keys);
        if counted != misses {
            wrong.push(format!("{policy}, {sequence}, {slots} slots: {counted} instead of {misses}"));
        }
        *compared.entry(policy).or_insert(0) += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared.len() >= 21 && compared.values().all(|&lines| lines >= 9), "{compared:?}");
}

/// Sequences by hand on which libCacheSim 0.3.5 does not do what the papers say, as it counts other misses.
#[test]
fn where_libcachesim_differs_from_the_paper() {
    for (policy, letters, expected) in [
        // A and B are LIR, C is HIR. The hits of A and B leave C out of the stack S, and that of C changes nothing but its
        // place. D evicts C, the only HIR one. When C is hit, libCacheSim evicts it and demotes A, and says later on that C
        // is still there.
        ("lirs:stack=200", "ABCABCDC", "...hhh.."),
        // Five keys fit in five slots. In libCacheSim each of the four segments has one, so that hits evict what falls out
        // of the lowest.
        ("slru:segments=4,protected=75,new=free", "ABCDEAABBCCDDEE", ".....hhhhhhhhhh"),
        // In libCacheSim, nothing enters a small queue of one.
        ("s3-fifo:fill=main,overflow=small", "AAABBB", ".hh.hh"),
        // In libCacheSim, a window of one percent of less than a hundred is none, and nothing enters the cache.
        ("w-tinylfu", "AAABBB", ".hh.hh"),
        // Four slots, two of them for cold pages. E evicts A, F evicts B, both in their test periods and without a use; then E
        // and F are hit. A comes back within its test: it is hot, three slots are for cold ones, and C goes. So does B, and D
        // goes. Four slots for cold ones leave none for hot ones, so that the hot hand ends the tests of C and D, which makes
        // it two slots again, and A cold. In libCacheSim, C to F are not brought in, as A and B are cold pages enough.
        ("clock-pro", "ABCDEFEFEFABAB", "......hhhh..hh"),
        // In libCacheSim, the priority of a new key is made of the one evicted before last, and so it evicts itself.
        ("gdsf", "AAABBBCCCDCDCD", ".hh.hh.hh.hhhh"),
    ] {
        let golden = golden::lines().find(|line| (line.policy, line.sequence) == (policy, letters)).unwrap();
        let hits = written(hits(policy, golden.slots, &golden::keys(letters)));
        assert_eq!(hits, expected, "{policy}");
        assert_ne!(hits.matches('.').count(), golden.misses, "{policy}");
    }
}

#[test]
fn every_policy_of_the_registry_behaves() {
    registry::check().unwrap();
    assert!(modelled().len() >= 18, "a model is missing: {:?}", modelled());
    // What is checked needs many loads, hence no Miri.
    for policy in policies().filter(|_| !cfg!(miri)) {
        policy_check::check(policy).unwrap_or_else(|violation| panic!("{violation}"));
    }
}

#[test]
fn parameters_at_their_bounds_work() {
    for text in [
        "slru:protected=0",
        "slru:protected=100",
        "2q:kin=1,kout=1",
        "2q:kin=100,kout=400",
        "lirs:hir=50,ghosts=0",
        "lirs:stack=100",
        "clock:bits=4,initial=15",
        "slru:segments=8,protected=100,new=free",
        "s3-fifo:small=100,ghosts=400,threshold=1,fill=main,overflow=small",
        "lru-k:k=1,ghosts=0",
        "lru-k:k=8,ghosts=400,correlated=1000000",
        "mq:queues=1,ghosts=0",
        "mq:queues=16,lifetime=1",
        "hyperbolic:sample=1",
        "w-tinylfu:window=100,protected=0,sample=1",
        "clock-pro:cold=1",
        "clock-pro:cold=100",
        "irg:ghosts=0,base=0,unknown=0,smoothing=0",
        "irg:cost=off,unknown=1000,smoothing=99",
        "lecar:ghosts=0,lru=100",
        "lecar:ghosts=200,lru=0",
    ] {
        if !cfg!(miri) {
            policy_check::check(text).unwrap_or_else(|violation| panic!("{violation}"));
        }
    }
    let refused = Choice::parse("s3-fifo:small=0").unwrap_err().to_string();
    assert_eq!(refused, "parameter small=0: the value must be a whole number from 1 to 100");
}

/// A page of the module's parameter is all there is for it, with a line of the module's own. Who adds a policy need not give it a
/// short name; each that the README lists has one.
#[test]
fn the_summary_fits_a_page() {
    let readme = include_str!("../../../README.md");
    let summary = registry::summary().to_string();
    assert!(summary.len() < 4000, "{} bytes", summary.len());
    assert!(registry::catalogue().to_string().contains("shared-lirs=shared:policy=lirs"));
    for policy in policies() {
        assert!(summary.contains(&format!("\n{policy} ")), "{policy}");
        let has_short_name = policy != "lguest" && readme.contains(&format!("`{policy}`"));
        assert!(!has_short_name || summary.contains(&format!(" shared-{policy}")), "{policy}");
    }
}
