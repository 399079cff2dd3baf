//! The library of recorded guests (`traces/recorded`): each can be replayed on every kind of strategy, and
//! what does not depend on the strategy is the same on all.

use framework::registry::Choice;
use framework::trace::Header;
use sim::replay::{Replay, Report};
use sim::trace::{Operation, Reader};
use std::fs::{self, File};
use std::path::Path;
use strategies as _;

struct Recording {
    name: String,
    header: Header,
    operations: Vec<Operation>,
}

fn recordings() -> Vec<Recording> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces/recorded");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let traces = files.filter(|path| path.extension().is_some_and(|extension| extension == "lz4"));
    let read = |path: std::path::PathBuf| {
        let reader = Reader::new(File::open(&path).unwrap()).unwrap();
        let header = reader.header();
        // A recording that lost something is refused here.
        let operations =
            reader.map(|operation| operation.unwrap_or_else(|e| panic!("{}: {e}", path.display())));
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        Recording { name, header, operations: operations.collect() }
    };
    traces.map(read).collect()
}

impl Recording {
    fn on(&self, strategy: &str) -> Report {
        let choice = Choice::parse(strategy).unwrap();
        let mut replay = Replay::new(&self.header, &choice).unwrap();
        for operation in &self.operations {
            replay.step(operation);
        }
        let report = replay.finish(&choice, false);
        assert_eq!(report.after_free, (0, 0), "{} on {strategy}", self.name);
        assert_eq!(report.killed, None, "{} on {strategy}", self.name);
        report
    }
}

const fn misses(report: &Report) -> u64 {
    report.counters.page_directory_loads - report.counters.page_directory_hits
}

#[test]
fn every_recording_replays_on_every_kind_of_strategy() {
    let recordings = recordings();
    assert!(!recordings.is_empty(), "the library is not there");
    for recording in &recordings {
        let lguest = recording.on("lguest");
        for strategy in ["lru", "sieve:slots=8", "shared"] {
            let other = recording.on(strategy);
            let (a, b) = (&lguest.counters, &other.counters);
            assert_eq!(
                (a.reflected_faults, a.page_directory_loads, a.set_pte, a.set_pgd, a.set_pmd, a.flush_user),
                (b.reflected_faults, b.page_directory_loads, b.set_pte, b.set_pgd, b.set_pmd, b.flush_user),
                "{} on {strategy}: what the guest does, not the strategy",
                recording.name
            );
            assert_eq!(lguest.hit + a.demand_faults, other.hit + b.demand_faults, "{}", recording.name);
        }
        // LRU is a stack algorithm (Mattson et al., 1970): more slots never miss more.
        let by_slots = [1, 4, 16].map(|slots| misses(&recording.on(&format!("lru:slots={slots}"))));
        assert!(by_slots.is_sorted_by(|few, more| few >= more), "{}: {by_slots:?}", recording.name);
    }
}

/// What `shared` is for, on the recordings of sixteen processes. A page that the host has to look for is missed once under every
/// strategy.
#[test]
fn shared_has_a_tenth_of_the_misses_and_demand_faults() {
    let of_sixteen = |recording: &Recording| {
        ["mini-guest", "linux-ctx16"].iter().any(|name| recording.name.starts_with(name))
    };
    let recordings: Vec<_> = recordings().into_iter().filter(of_sixteen).collect();
    assert_eq!(recordings.len(), 2);
    for recording in recordings {
        // What is withheld to see whether it pays is missed.
        let (original, shared) = (recording.on("lguest"), recording.on("shared:prefetch-on-trial=off"));
        assert!(misses(&shared) * 10 <= misses(&original), "{}: misses", recording.name);
        let avoidable = |report: &Report| report.counters.demand_faults - report.frames_known;
        let (few, many) = (avoidable(&shared), avoidable(&original));
        assert!(few * 10 <= many, "{}: {few} demand faults against {many}", recording.name);
    }
}
