//! The eviction policies held against plain models of the papers, and against cases worked out by hand.

use arch_i386::addr::GuestPhys;
use framework::registry::{self, Choice};
use models::{Arc, Clock, Fifo, Lfu, Lirs, Lru, Model, S3Fifo, Sieve, Slru, TwoQ};
use proptest::prelude::*;
use sim::policy_check::{self, Cache};
use strategies as _;

mod models;

/// The model of a policy as it is by default.
fn model(policy: &str, size: usize) -> Option<Box<dyn Model>> {
    let at_least_one = |part: usize| part.max(1);
    let (queue, counts) = (Default::default, Default::default);
    Some(match policy {
        "fifo" => Box::new(Fifo { size, queue: queue() }),
        "lru" => Box::new(Lru { size, stack: queue() }),
        "clock" => Box::new(Clock { size, frames: Vec::new(), hand: 0 }),
        "sieve" => Box::new(Sieve { size, queue: queue(), visited: Default::default(), hand: None }),
        "lfu" => Box::new(Lfu { size, counts: Default::default(), order: queue() }),
        "slru" => {
            let protected_size = size * 80 / 100;
            Box::new(Slru { size, protected_size, probationary: queue(), protected: queue() })
        }
        "2q" => {
            let (kin, kout) = (at_least_one(size / 4), at_least_one(size / 2));
            Box::new(TwoQ { size, kin, kout, a1_in: queue(), a1_out: queue(), am: queue() })
        }
        "arc" => Box::new(Arc { c: size, p: 0, t1: queue(), t2: queue(), b1: queue(), b2: queue() }),
        "lirs" => {
            let hir_size = at_least_one(size / 100);
            Box::new(Lirs {
                lir_size: size - hir_size,
                hir_size,
                most_non_resident: 2 * size,
                s: queue(),
                q: queue(),
                lir: Vec::new(),
                non_resident: queue(),
            })
        }
        "s3-fifo" => {
            let small_size = at_least_one(size / 10);
            Box::new(S3Fifo { size, small_size, s: queue(), m: queue(), g: queue(), frequency: counts() })
        }
        _ => return None,
    })
}

/// The policies that have a model; `lguest` is held against lguest's recorded answers instead.
fn modelled() -> Vec<&'static str> {
    registry::all_names().into_iter().filter(|policy| model(policy, 1).is_some()).collect()
}

fn policies() -> impl Iterator<Item = &'static str> {
    registry::all_names().into_iter().filter(|name| Choice::parse(name).unwrap().policy(0).is_some())
}

fn hits(policy: &str, size: usize, keys: &[u32]) -> Vec<bool> {
    let mut cache = Cache::new(&format!("{policy}:slots={size}"), 1).unwrap();
    keys.iter().map(|key| cache.load(GuestPhys(key * 4096)).unwrap().hit).collect()
}

fn model_hits(policy: &str, size: usize, keys: &[u32]) -> Vec<bool> {
    let mut model = model(policy, size).unwrap();
    keys.iter().map(|&key| model.load(key)).collect()
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
        let write =
            |hits: Vec<bool>| -> String { hits.iter().map(|hit| if *hit { 'h' } else { '.' }).collect() };
        assert_eq!(write(hits(policy, 3, &keys)), expected, "{policy}");
        assert_eq!(write(model_hits(policy, 3, &keys)), expected, "the model of {policy}");
    }
}

#[test]
fn every_policy_of_the_registry_behaves() {
    registry::check().unwrap();
    assert!(modelled().len() >= 10, "a model is missing: {:?}", modelled());
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
    ] {
        if !cfg!(miri) {
            policy_check::check(text).unwrap_or_else(|violation| panic!("{violation}"));
        }
    }
    let refused = Choice::parse("s3-fifo:small=0").unwrap_err().to_string();
    assert_eq!(refused, "parameter small=0: the value must be a whole number from 1 to 100");
}

/// A page of the module's parameter is all there is for it.
#[test]
fn the_catalogue_fits_a_page() {
    let catalogue = registry::catalogue().to_string();
    assert!(catalogue.len() < 4096, "{} bytes", catalogue.len());
    assert!(catalogue.contains("shared-lirs=shared:policy=lirs"));
    for policy in modelled() {
        assert!(catalogue.contains(&format!("\n{policy} ")) || catalogue.starts_with(policy), "{policy}");
    }
}
