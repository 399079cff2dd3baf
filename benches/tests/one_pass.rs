//! LRU's miss curve from one pass over the loads (`benches::analysis`) against a replay of `lru` with each number of slots.

use arch_i386::addr::GuestPhys;
use benches::analysis::{Reuse, misses_with};
use benches::comparison::{Settings, compare, competitors};
use sim::generate::{Generator, Load};
use sim::input::Input;
use sim::keys::ReadForm;
use sim::trace::{Operation, Writer, WrittenForm};
use std::convert::Infallible;
use std::fs;
use std::path::Path;

fn loads(bytes: &[u8], keys: Option<&ReadForm>) -> Vec<GuestPhys> {
    let input = Input::new(bytes, keys).unwrap();
    let loaded = |operation| match operation {
        Ok(Operation::LoadPageDirectory(directory)) => Some(directory),
        Ok(_) => None,
        Err(error) => panic!("{error}"),
    };
    input.filter_map(loaded).collect()
}

/// Returns for how many numbers of slots the two were compared.
fn compare_both(name: &str, bytes: &[u8], keys: Option<&ReadForm>, warmup: u64) -> usize {
    let mut reuse = Reuse::new(warmup);
    loads(bytes, keys).into_iter().for_each(|directory| reuse.load(directory));
    let curve = reuse.finish().lru_misses();
    // One more than it takes to have nothing but compulsory misses.
    let slots: Vec<u64> = (1..=(curve.last().unwrap().0 + 1).min(64)).collect();
    let all = misses_with(&curve, u64::MAX);
    // As many guests at a time as have room in 32 bits.
    for slots in slots.chunks(4) {
        let lru = competitors(&["lru".to_owned()], slots).unwrap();
        let open = || Ok::<_, Infallible>(Input::new(bytes, keys).unwrap());
        let replayed = compare(&lru, Settings { seed: None, warmup }, open).unwrap();
        for (row, &slots) in replayed.rows.iter().zip(slots) {
            let misses = row.outcome.as_ref().unwrap().misses();
            assert_eq!(misses_with(&curve, slots), misses, "{name} with {slots} slots after {warmup} loads");
        }
        assert_eq!(replayed.compulsory, all, "{name}: with slots for all, only compulsory misses are left");
    }
    slots.len()
}

#[test]
fn on_recordings_of_guests() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces");
    let files = [
        "calm-p2-102.trace",
        "calm-p3-102.trace",
        "recorded/linux-ctx16.lgtrace.lz4",
        "recorded/linux-fork-exec.lgtrace.lz4",
    ];
    for name in files {
        let bytes = fs::read(folder.join(name)).unwrap();
        for warmup in [0, 100] {
            assert!(compare_both(name, &bytes, None, warmup) > 4, "{name} has too few page directories");
        }
    }
}

#[test]
fn on_a_generated_load() {
    let load = Load { paging: arch_i386::paging::Paging::TwoLevel, processes: 40, seed: 7 };
    let generator = Generator::new(load);
    let mut bytes = Vec::new();
    let form = WrittenForm { binary: true, compressed: false };
    let mut writer = Writer::new(&mut bytes, form, &generator.header()).unwrap();
    generator.take(200_000).for_each(|operation| writer.write(&operation).unwrap());
    writer.finish().unwrap();
    assert!(compare_both("the generated load", &bytes, None, 0) > 20);
}

/// Thousands of keys, some of them popular.
#[test]
fn on_a_list_of_keys() {
    use rand_core::{Rng, SeedableRng};
    let mut generator = rand_xoshiro::Xoshiro128PlusPlus::seed_from_u64(3);
    let mut below = |bound| generator.next_u32() % bound;
    let list: String = (0..20_000).map(|_| format!("{}\n", below(60) * below(60))).collect();
    assert_eq!(compare_both("the list", list.as_bytes(), Some(&ReadForm::List), 500), 64);
}
