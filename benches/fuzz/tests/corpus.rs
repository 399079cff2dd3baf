//! The targets on the inputs that are kept, and on a bounded number of random ones.

use fuzz_targets::TARGETS;
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::fs;
use std::path::Path;

/// Random inputs for each target.
const RANDOM: usize = 500;

#[test]
fn what_is_kept_finds_nothing() {
    for (name, target) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
        assert!(!files.is_empty(), "{} is empty", folder.display());
        for file in files {
            println!("{}", file.display());
            target(&fs::read(&file).unwrap());
        }
    }
}

#[test]
fn random_inputs_find_nothing() {
    let mut generator = Xoshiro256PlusPlus::seed_from_u64(1);
    for (name, target) in TARGETS {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let kept: Vec<Vec<u8>> =
            fs::read_dir(corpus).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
        for number in 0..RANDOM {
            let mut input = match number % 2 {
                // A kept one with some bytes changed.
                0 => kept[number / 2 % kept.len()].clone(),
                _ => vec![0; generator.next_u32() as usize % 512],
            };
            let changes =
                if number.is_multiple_of(2) { 1 + generator.next_u32() as usize % 8 } else { input.len() };
            for change in 0..changes.min(input.len()) {
                let at = if number.is_multiple_of(2) {
                    generator.next_u32() as usize % input.len()
                } else {
                    change
                };
                input[at] = generator.next_u32() as u8;
            }
            println!("{name} {number}");
            target(&input);
        }
    }
}
