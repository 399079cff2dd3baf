//! How often libCacheSim's policies miss, for tests of ours.
//!
//! `golden/misses.csv` is what libCacheSim counts; `golden/misses.py` made it, and its first lines say how. A line names our
//! policy with the choices that libCacheSim makes where a paper leaves one open.

/// What libCacheSim counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Golden {
    /// Our policy and its parameters, without `slots`.
    pub policy: &'static str,
    /// The name of a [sequence](keys), or one itself, a key for each letter.
    pub sequence: &'static str,
    /// How many keys fit.
    pub slots: usize,
    /// How many of the sequence were not there.
    pub misses: usize,
}

/// All lines of the file.
///
/// # Panics
/// When a line has not four fields, two of them numbers.
pub fn lines() -> impl Iterator<Item = Golden> {
    let lines = include_str!("../golden/misses.csv").lines().filter(|line| !line.starts_with('#')).skip(1);
    lines.map(|line| {
        let [policy, sequence, slots, misses] = line.split(';').collect::<Vec<_>>()[..] else {
            panic!("not four fields: {line}");
        };
        let number = |field: &str| field.parse().unwrap_or_else(|_| panic!("`{field}` is no number: {line}"));
        Golden { policy, sequence, slots: number(slots), misses: number(misses) }
    })
}

/// The keys of a sequence: of the one with that name, whose comments are in `misses.py`, or of a text's letters.
#[must_use]
pub fn keys(sequence: &str) -> Vec<u32> {
    match sequence {
        "zipf" => {
            let (mut generator, keys) = (Generator(1), Zipf::new(256));
            (0..LENGTH).map(|_| keys.draw(&mut generator)).collect()
        }
        "loop" => {
            let rings = [6, 12, 24, 48, 96];
            let part = LENGTH / rings.len() as u32;
            rings.iter().flat_map(|ring| (0..part).map(move |i| 1000 * ring + i % ring)).collect()
        }
        "scan" => {
            let (mut generator, keys, mut ring) = (Generator(2), Zipf::new(128), (0..400).cycle());
            let mut key = |i| match i % 250 {
                0..200 => keys.draw(&mut generator),
                _ => 10_000 + ring.next().unwrap_or_default(),
            };
            (0..LENGTH).map(&mut key).collect()
        }
        "shift" => {
            let mut generator = Generator(3);
            (0..LENGTH).map(|i| i / 250 * 10 + generator.below(30)).collect()
        }
        "uniform" => {
            let mut generator = Generator(4);
            (0..LENGTH).map(|_| generator.below(100)).collect()
        }
        letters => letters.bytes().map(u32::from).collect(),
    }
}

/// Keys in a sequence with a name.
const LENGTH: u32 = 4000;

/// Marsaglia's xorshift with the shifts 13, 17 and 5.
struct Generator(u32);

impl Generator {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 % bound
    }
}

/// Key `i` has the weight 1 / (i + 1); for each, the sum of the weights up to it.
struct Zipf(Vec<u32>);

impl Zipf {
    fn new(keys: u32) -> Self {
        let mut sum = 0;
        let mut sum_up_to = |key| {
            sum += (1 << 20) / (key + 1);
            sum
        };
        Self((0..keys).map(&mut sum_up_to).collect())
    }

    fn draw(&self, generator: &mut Generator) -> u32 {
        let point = generator.below(self.0.last().copied().unwrap_or(1));
        self.0.partition_point(|&end| end <= point) as u32
    }
}
