//! The loads of the library of recorded guests (`traces/recorded/*.zst`): what must hold of each, and that the tables in the
//! library's README are what the replays give.
//!
//! Misses depend on the loads of page directories alone for every policy that does not ask what an eviction costs. So those are
//! replayed on the loads alone, with each number of slots, and on the whole trace with one.

use arch_i386::addr::GuestPhys;
use benches::comparison::{OPTIMUM, Settings, compare, competitors};
use benches::cost::Cost;
use sim::input::Input;
use sim::replay::Report;
use sim::trace::{Operation, Reader, Writer, WrittenForm};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Loads that the library has at least.
const LOADS: usize = 12;

/// Operations that each load has at least.
const OPERATIONS: u64 = 1_000_000;

/// Numbers of slots in the table of misses.
const SLOTS: [u64; 3] = [4, 8, 16];

/// The number of slots in the table of costs.
const COST_SLOTS: u64 = 8;

/// The policies that choose by what an eviction costs.
const BY_COST: [&str; 3] = ["gdsf", "greedy-dual", "irg"];

struct Trace {
    name: String,
    bytes: Vec<u8>,
    operations: u64,
    /// Every directory that is loaded, in order.
    loads: Vec<GuestPhys>,
}

/// Reports by strategy and slots.
type Reports = BTreeMap<(String, u64), Report>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("traces/recorded")
}

fn traces() -> Vec<Trace> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "zst")).collect();
    files.sort();
    let read = |path: PathBuf| {
        let packed = fs::read(&path).unwrap();
        let reader = Reader::new(&packed[..]).unwrap();
        let form = WrittenForm { binary: true, compressed: false };
        // Unpacked once for all replays.
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, form, &reader.header()).unwrap();
        let (mut operations, mut loads) = (0, Vec::new());
        for operation in reader {
            // A recording that lost something is refused here.
            let operation = operation.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            writer.write(&operation).unwrap();
            operations += 1;
            if let Operation::LoadPageDirectory(directory) = operation {
                loads.push(directory);
            }
        }
        writer.finish().unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        let name = name.strip_prefix("linux-").unwrap().strip_suffix(".lgtrace.zst").unwrap().to_owned();
        Trace { name, bytes, operations, loads }
    };
    files.into_iter().map(read).collect()
}

impl Trace {
    /// The trace with nothing but its loads.
    fn of_loads(&self) -> Vec<u8> {
        let header = Reader::new(&self.bytes[..]).unwrap().header();
        let mut bytes = Vec::new();
        let form = WrittenForm { binary: true, compressed: false };
        let mut writer = Writer::new(&mut bytes, form, &header).unwrap();
        for &directory in &self.loads {
            writer.write(&Operation::LoadPageDirectory(directory)).unwrap();
        }
        writer.finish().unwrap();
        bytes
    }

    fn directories(&self) -> usize {
        self.loads.iter().collect::<BTreeSet<_>>().len()
    }

    fn reports(&self, bytes: &[u8], strategies: &[String], slots: &[u64]) -> Reports {
        let competitors = competitors(strategies, slots).unwrap();
        let open = || Ok::<_, Infallible>(Input::new(bytes, None).unwrap());
        let compared = compare(&competitors, Settings::default(), open).unwrap();
        let report = |row: benches::comparison::Row| {
            let report = row.outcome.unwrap_or_else(|panic| panic!("{}: {panic}", self.name));
            assert_eq!(report.killed, None, "{} on {}", self.name, row.competitor);
            assert_eq!(report.after_free, (0, 0), "{} on {}", self.name, row.competitor);
            ((row.competitor.name, row.competitor.slots.unwrap()), report)
        };
        compared.rows.into_iter().map(report).collect()
    }
}

/// What the two tables are made of: for each policy and number of slots its misses, and with [`COST_SLOTS`] its cost.
struct Answers {
    misses: BTreeMap<(String, u64), u64>,
    cost: BTreeMap<String, u64>,
}

fn answers(trace: &Trace) -> Answers {
    let (all, by_cost) = (["all".to_owned()], BY_COST.map(str::to_owned));
    let mut misses: BTreeMap<_, _> = trace
        .reports(&trace.of_loads(), &all, &SLOTS)
        .into_iter()
        .filter(|((name, _), _)| !BY_COST.contains(&&name[..]))
        .map(|(key, report)| (key, report.misses()))
        .collect();
    let others: Vec<_> = SLOTS.into_iter().filter(|&slots| slots != COST_SLOTS).collect();
    let whole = trace.reports(&trace.bytes, &all, &[COST_SLOTS]);
    for (key, report) in trace.reports(&trace.bytes, &by_cost, &others).iter().chain(&whole) {
        let before = misses.insert(key.clone(), report.misses());
        let same = before.is_none_or(|misses| misses == report.misses());
        assert!(same, "{} on {key:?}: {before:?} misses of its loads alone, {}", trace.name, report.misses());
    }
    let cost =
        whole.iter().map(|((name, _), report)| (name.clone(), Cost::of(report).instructions)).collect();
    Answers { misses, cost }
}

impl Answers {
    fn misses(&self, name: &str, slots: u64) -> u64 {
        self.misses[&(name.to_owned(), slots)]
    }

    /// The policies with the fewest misses, and how many that are.
    fn fewest(&self, slots: u64) -> (Vec<&str>, u64) {
        let of = self.misses.iter().filter(|((name, number), _)| *number == slots && name != OPTIMUM);
        least(of.map(|((name, _), misses)| (&name[..], *misses)))
    }

    /// The cheapest policies, and what they cost.
    fn cheapest(&self) -> (Vec<&str>, u64) {
        least(self.cost.iter().filter(|(name, _)| *name != OPTIMUM).map(|(name, cost)| (&name[..], *cost)))
    }
}

fn least<'a>(of: impl Iterator<Item = (&'a str, u64)> + Clone) -> (Vec<&'a str>, u64) {
    let least = of.clone().map(|(_, value)| value).min().unwrap();
    (of.filter(|(_, value)| *value == least).map(|(name, _)| name).collect(), least)
}

/// Names in code type.
fn names(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" ")
}

/// Both tables, as they are in the README.
fn tables(all: &[(Trace, Answers)]) -> String {
    let mut text = String::new();
    let mut line = |line: String| writeln!(text, "{line}").unwrap();
    line("| load | operations | loads | directories |".into());
    line("| --- | ---: | ---: | ---: |".into());
    for (trace, _) in all {
        let Trace { name, operations, loads, .. } = trace;
        line(format!("| `{name}` | {operations} | {} | {} |", loads.len(), trace.directories()));
    }
    line(String::new());
    line("| load | slots | `opt` | fewest misses | `lru` | `lguest` |".into());
    line("| --- | ---: | ---: | --- | ---: | ---: |".into());
    for (Trace { name, .. }, answers) in all {
        for slots in SLOTS {
            let (winners, fewest) = answers.fewest(slots);
            let [opt, lru, lguest] = ["opt", "lru", "lguest"].map(|policy| answers.misses(policy, slots));
            line(format!("| `{name}` | {slots} | {opt} | {fewest} {} | {lru} | {lguest} |", names(&winners)));
        }
    }
    line(String::new());
    line("| load | cheapest | `lru` | `lguest` |".into());
    line("| --- | --- | ---: | ---: |".into());
    for (Trace { name, .. }, answers) in all {
        let (winners, cheapest) = answers.cheapest();
        let [lru, lguest] = ["lru", "lguest"].map(|policy| millions(answers.cost[policy]));
        line(format!("| `{name}` | {} {} | {lru} | {lguest} |", millions(cheapest), names(&winners)));
    }
    let sum = |policy: &str| all.iter().map(|(_, answers)| answers.cost[policy]).sum::<u64>();
    let policies = all.iter().flat_map(|(_, answers)| answers.cost.keys()).map(|name| &name[..]);
    let policies: BTreeSet<_> = policies.filter(|name| *name != OPTIMUM).collect();
    let sums: Vec<_> = policies.into_iter().map(|name| (name, sum(name))).collect();
    let (winners, cheapest) = least(sums.iter().copied());
    let [cheapest, lru, lguest] = [cheapest, sum("lru"), sum("lguest")].map(millions);
    line(format!("| all of them | {cheapest} {} | {lru} | {lguest} |", names(&winners)));
    text
}

/// Of instructions.
fn millions(cost: u64) -> String {
    format!("{:.1}", cost as f64 / 1e6)
}

#[test]
fn each_load_is_long_and_the_tables_are_what_its_replays_give() {
    let all: Vec<_> = traces()
        .into_iter()
        .map(|trace| {
            let answers = answers(&trace);
            (trace, answers)
        })
        .collect();
    assert!(all.len() >= LOADS, "the library has {} loads", all.len());
    for (trace, answers) in &all {
        assert!(trace.operations >= OPERATIONS, "{} has {} operations", trace.name, trace.operations);
        for ((name, slots), misses) in &answers.misses {
            let opt = answers.misses(OPTIMUM, *slots);
            assert!(opt <= *misses, "{} on {name}:slots={slots}: {misses} misses, opt has {opt}", trace.name);
            assert!(*misses >= trace.directories() as u64, "{}: {name} misses each once", trace.name);
        }
        // LRU is a stack algorithm (Mattson et al., 1970), and so is the optimum: more slots never miss more.
        for policy in ["lru", OPTIMUM] {
            let by_slots = SLOTS.map(|slots| answers.misses(policy, slots));
            assert!(by_slots.is_sorted_by(|few, more| few >= more), "{}: {policy} {by_slots:?}", trace.name);
        }
    }
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    let tables = tables(&all);
    for table in tables.split("\n\n") {
        assert!(
            readme.contains(table.trim_end()),
            "the README has other figures; these are right:\n\n{tables}"
        );
    }
}

#[test]
fn a_replay_repeats_exactly() {
    for trace in traces() {
        let strategies = ["lguest".to_owned(), "random".to_owned()];
        let again = || {
            let reports = trace.reports(&trace.bytes, &strategies, &[COST_SLOTS]);
            reports
                .into_values()
                .map(|report| (report.hit, report.counters, report.entries))
                .collect::<Vec<_>>()
        };
        assert_eq!(again(), again(), "{}", trace.name);
    }
}
