//! One trace on many strategies at once.
//!
//! The trace is read once for up to [`AT_ONCE`] strategies, piece by piece; each piece goes to every worker
//! thread, and each worker runs it on the strategies that are its share. Memory does not grow with the trace, only
//! with the strategies and the memory that the guest has touched; the one exception is the optimum, which needs
//! to know every load of a page directory in advance ([`Future`]).

use crate::analysis::FirstLoads;
use crate::optimum::{Collector, Future, Optimum};
use arch_i386::addr::PAGE_SIZE;
use framework::registry::{self, Choice, ConfigError, OF, SLOTS};
use sim::input::{Input, InputError};
use sim::policy_check::message;
use sim::replay::{Replay, Report};
use sim::trace::{Header, Operation};
use std::fmt;
use std::io::Read;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use strategies::shadow::{self, Capacity, Optimizations};
use strategies::shared::BUDGET;

/// Strategies that share one reading of the trace.
pub const AT_ONCE: usize = 128;

/// Operations in a piece; a worker's cache holds them.
const PIECE: usize = 4096;

/// Pieces that may wait for a worker.
const WAITING: usize = 4;

/// The name of the optimum, which is no strategy of the registry.
pub const OPTIMUM: &str = "opt";

/// Who takes part.
#[derive(Clone, Debug)]
pub struct Competitor {
    /// The strategy as it was requested, without its slots.
    pub name: String,
    /// How many slots it has; `None` where their number was not chosen, and for a strategy that has none to choose.
    pub slots: Option<u64>,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Registered(Choice),
    Optimum,
}

impl fmt::Display for Competitor {
    /// The strategy, every parameter named.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.kind, self.slots) {
            (Kind::Registered(choice), _) => choice.fmt(f),
            (Kind::Optimum, Some(slots)) => write!(f, "{OPTIMUM}:slots={slots}"),
            (Kind::Optimum, None) => f.write_str(OPTIMUM),
        }
    }
}

/// How a strategy did.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which.
    pub competitor: Competitor,
    /// The report of its replay, or the message of its panic.
    pub outcome: Result<Report, String>,
}

/// What all strategies have in common.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// The seed of everything random, instead of the trace's.
    pub seed: Option<u64>,
    /// Page-directory loads at the beginning that are not counted.
    pub warmup: u64,
}

/// A trace on strategies.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// How each did, in the order of the competitors.
    pub rows: Vec<Row>,
    /// Loads of page directories that were the first of theirs, after the warm-up: no policy has fewer misses, whatever
    /// its number of slots.
    pub compulsory: u64,
}

/// A comparison that cannot be made.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CompareError<E: std::error::Error + 'static> {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("all {loads} loads of page directories are within the warm-up of {warmup}")]
    WarmUp { warmup: u64, loads: u64 },
    #[error(transparent)]
    Open(E),
}

/// Splits a list of strategies at its commas. A parameter belongs to the strategy before it, so that
/// `lru,2q:kin=10,kout=20,arc` are three.
#[must_use]
pub fn split_list(list: &str) -> Vec<String> {
    let mut strategies: Vec<String> = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match strategies.last_mut() {
            Some(last) if part.contains('=') && !part.split('=').next().unwrap_or_default().contains(':') => {
                last.push(',');
                last.push_str(part);
            }
            _ => strategies.push(part.to_owned()),
        }
    }
    strategies
}

/// Whether a strategy runs with the number of slots that it is given: not if it has no such parameter, or a budget instead.
fn takes_slots(choice: &Choice) -> bool {
    choice.has_parameter(SLOTS.name) && choice.number(&BUDGET).is_none_or(|budget| budget == 0)
}

/// A strategy's text with a number of slots, which for a wrapper is that of the wrapped strategy.
fn with_slots(name: &str, choice: &Choice, slots: u64) -> String {
    let assign = |text: &str, assignment: &str| {
        let separator = if text.contains(':') { ',' } else { ':' };
        format!("{separator}{assignment}")
    };
    let slots = format!("{}={slots}", SLOTS.name);
    let before_of = [':', ','].iter().find_map(|separator| name.find(&format!("{separator}{OF}=")));
    let added = match (choice.wrapped(), before_of) {
        // What follows `of=` is the wrapped strategy's text, to the end.
        (Some(_), Some(at)) => assign(&name[at + 1..], &slots),
        (Some(of), None) => assign(name, &format!("{OF}={}:{slots}", of.name())),
        (None, _) => assign(name, &slots),
    };
    name.to_owned() + &added
}

/// The competitors that a list of strategies and numbers of slots make: each strategy with each number, or once if
/// it does not run with a chosen number. A wrapper passes the numbers on. `all` stands for every policy and the optimum.
///
/// # Errors
/// [`ConfigError`].
pub fn competitors(strategies: &[String], slots: &[u64]) -> Result<Vec<Competitor>, ConfigError> {
    let mut names: Vec<String> = Vec::new();
    for strategy in strategies {
        if strategy == "all" {
            let is_policy = |name: &&str| Choice::parse(name).is_ok_and(|choice| choice.policy(0).is_some());
            names.extend(registry::all_names().into_iter().filter(is_policy).map(str::to_owned));
            names.push(OPTIMUM.to_owned());
        } else {
            names.push(strategy.clone());
        }
    }
    let default = [SLOTS.default];
    let mut all = Vec::new();
    for name in names {
        if name == OPTIMUM {
            let slots = if slots.is_empty() { &default[..] } else { slots };
            all.extend(slots.iter().map(|&slots| Competitor {
                name: name.clone(),
                slots: Some(slots),
                kind: Kind::Optimum,
            }));
            continue;
        }
        let plain = Choice::parse(&name)?;
        if slots.is_empty() || !takes_slots(plain.wrapped().unwrap_or(&plain)) {
            all.push(Competitor { name, slots: None, kind: Kind::Registered(plain) });
            continue;
        }
        for &slots in slots {
            let choice = Choice::parse(&with_slots(&name, &plain, slots))?;
            all.push(Competitor { name: name.clone(), slots: Some(slots), kind: Kind::Registered(choice) });
        }
    }
    Ok(all)
}

impl Competitor {
    fn replay(&self, header: &Header, future: Option<&Future>) -> Result<Replay, ConfigError> {
        match &self.kind {
            Kind::Registered(choice) => Replay::new(header, choice),
            Kind::Optimum => {
                let slots = self.slots.unwrap_or(SLOTS.default) as usize;
                let future = future.expect("the future is known where the optimum takes part").clone();
                Replay::of(header, header.paging, |context| {
                    let (capacity, policy) = (Capacity::Slots(slots), Box::new(Optimum::new(future, slots)));
                    let built = shadow::build(
                        context.formats,
                        context.window,
                        capacity,
                        policy,
                        Optimizations::NONE,
                    )?;
                    Ok(built.into_pager())
                })
            }
        }
    }
}

/// How many strategies share one reading, for a guest with so many pages: each has a memory of its own for the guest, of which a
/// 32-bit program has no room for many, touched or not.
fn at_once(pages: u32) -> usize {
    let room = usize::MAX as u64 / 4 / u64::from(PAGE_SIZE);
    usize::try_from(room / u64::from(pages.max(1))).map_or(AT_ONCE, |fit| fit.clamp(1, AT_ONCE))
}

/// How often the trace is read for that many competitors, for those who show progress; a 32-bit program reads it more often where
/// guests are large.
#[must_use]
pub fn readings(competitors: &[Competitor]) -> u64 {
    let optimum = competitors.iter().any(|competitor| matches!(competitor.kind, Kind::Optimum));
    competitors.len().div_ceil(AT_ONCE) as u64 + u64::from(optimum)
}

/// Runs a trace on all competitors. `open` begins to read it anew.
///
/// # Errors
/// [`CompareError`].
pub fn compare<R: Read, E: std::error::Error + 'static>(
    competitors: &[Competitor],
    settings: Settings,
    mut open: impl FnMut() -> Result<Input<R>, E>,
) -> Result<Comparison, CompareError<E>> {
    let mut future = None;
    if competitors.iter().any(|competitor| matches!(competitor.kind, Kind::Optimum)) {
        let mut collector = Collector::default();
        for operation in open().map_err(CompareError::Open)? {
            collector.see(&operation?);
        }
        future = Some(collector.finish());
    }
    let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut comparison = Comparison { rows: Vec::new(), compulsory: 0 };
    let mut rest = competitors;
    while !rest.is_empty() {
        let mut input = open().map_err(CompareError::Open)?;
        let (wave, later) = rest.split_at(at_once(input.header().pages).min(rest.len()));
        rest = later;
        let mut first_loads = FirstLoads::default();
        comparison.rows.extend(run_wave(
            wave,
            settings,
            future.as_ref(),
            &mut input,
            &mut first_loads,
            workers,
        )?);
        let loads = first_loads.loads();
        if settings.warmup > 0 && loads <= settings.warmup {
            return Err(CompareError::WarmUp { warmup: settings.warmup, loads });
        }
        comparison.compulsory = first_loads.after(settings.warmup);
    }
    Ok(comparison)
}

fn run_wave<R: Read, E: std::error::Error + 'static>(
    competitors: &[Competitor],
    settings: Settings,
    future: Option<&Future>,
    input: &mut Input<R>,
    first_loads: &mut FirstLoads,
    workers: usize,
) -> Result<Vec<Row>, CompareError<E>> {
    let mut header = input.header();
    header.seed = settings.seed.unwrap_or(header.seed);
    let workers = workers.min(competitors.len());
    thread::scope(|scope| {
        let mut senders = Vec::new();
        let mut threads = Vec::new();
        for first in 0..workers {
            let (sender, receiver) = sync_channel(WAITING);
            senders.push(sender);
            let header = &header;
            // A strategy lives and dies on one thread.
            threads.push(scope.spawn(move || {
                let share = competitors.iter().enumerate().skip(first).step_by(workers);
                let share = share.map(|(number, competitor)| {
                    Ok((number, competitor.replay(header, future)?.after_warmup(settings.warmup)))
                });
                share.collect::<Result<_, _>>().map(|share| run_share(share, &receiver, competitors))
            }));
        }
        'pieces: loop {
            let piece = input.take(PIECE).collect::<Result<Vec<_>, _>>()?;
            if piece.is_empty() {
                break;
            }
            for operation in &piece {
                if let Operation::LoadPageDirectory(directory) = *operation {
                    first_loads.load(directory);
                }
            }
            let piece: Arc<[Operation]> = piece.into();
            for sender in &senders {
                // A worker takes pieces until there are no more, unless a strategy of its share is refused.
                if sender.send(Arc::clone(&piece)).is_err() {
                    break 'pieces;
                }
            }
        }
        drop(senders);
        let mut results = Vec::new();
        for thread in threads {
            let rows: Result<_, ConfigError> = thread.join().expect("panics are caught within");
            results.extend(rows?);
        }
        results.sort_by_key(|(number, _)| *number);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    })
}

/// A worker: all pieces on its share of the strategies.
fn run_share(
    share: Vec<(usize, Replay)>,
    pieces: &Receiver<Arc<[Operation]>>,
    competitors: &[Competitor],
) -> Vec<(usize, Row)> {
    let mut running: Vec<(usize, Result<Replay, String>)> =
        share.into_iter().map(|(number, replay)| (number, Ok(replay))).collect();
    for piece in pieces {
        for (_, state) in &mut running {
            let Ok(replay) = state else { continue };
            // A strategy that panics is out, and its replay is not looked at again.
            let run =
                catch_unwind(AssertUnwindSafe(|| piece.iter().for_each(|operation| replay.step(operation))));
            if let Err(panic) = run
                && let Ok(replay) = std::mem::replace(state, Err(message(&*panic)))
            {
                // Its pages may be in any state; nobody is to take them apart.
                std::mem::forget(replay);
            }
        }
    }
    let finish = |(number, state): (usize, Result<Replay, String>)| {
        let competitor: &Competitor = &competitors[number];
        let outcome = state.and_then(|replay| {
            catch_unwind(AssertUnwindSafe(|| replay.finish(competitor, false)))
                .map_err(|panic| message(&*panic))
        });
        (number, Row { competitor: competitor.clone(), outcome })
    };
    running.into_iter().map(finish).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use framework::counters::PagingCounters;
    use framework::trace::TEXT_END;
    use std::convert::Infallible;
    use std::fmt::Write;

    #[test]
    fn guests_fit_into_the_address_space() {
        let narrow = cfg!(target_pointer_width = "32");
        // A quarter of 4 GiB has room for 10 guests of 96 MiB.
        assert_eq!(at_once(96 << 8), if narrow { 10 } else { AT_ONCE });
        assert_eq!(at_once(u32::MAX), if narrow { 1 } else { AT_ONCE });
        assert_eq!((at_once(0), at_once(64)), (AT_ONCE, AT_ONCE));
    }

    #[test]
    fn a_list_is_split_between_strategies() {
        assert_eq!(
            split_list("lguest, lru,2q:kin=10,kout=20,arc"),
            ["lguest", "lru", "2q:kin=10,kout=20", "arc"]
        );
        assert_eq!(split_list("record:of=lru,lru"), ["record:of=lru", "lru"]);
    }

    #[test]
    fn each_strategy_meets_each_number_of_slots() {
        let all = competitors(&["lru".to_owned(), "opt".to_owned()], &[2, 3]).unwrap();
        let names: Vec<_> = all.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["lru:slots=2", "lru:slots=3", "opt:slots=2", "opt:slots=3"]);
        assert!(
            competitors(&["lru:slots=2".to_owned()], &[3]).unwrap_err().to_string().contains("set twice")
        );
        assert!(competitors(&["all".to_owned()], &[]).unwrap().len() > 10);
    }

    /// The text of each competitor, up to its slots, and the number in its column.
    fn slots_of(strategies: &str, slots: &[u64]) -> Vec<(String, Option<u64>)> {
        let all = competitors(&split_list(strategies), slots).unwrap();
        all.iter().map(|competitor| (competitor.to_string(), competitor.slots)).collect()
    }

    #[test]
    fn a_budget_stands_in_the_place_of_slots() {
        for budget in ["shared", "shared:policy=arc,budget=64", "audit:of=shared"] {
            let all = slots_of(budget, &[2, 16]);
            assert!(all.len() == 1 && all[0].1.is_none(), "{budget}: {all:?}");
        }
        let all = slots_of("shared:budget=0", &[2, 16]);
        assert_eq!([all[0].1, all[1].1], [Some(2), Some(16)]);
        assert!(all[0].0.contains("budget=0,slots=2,") && all[1].0.contains("budget=0,slots=16,"), "{all:?}");
    }

    #[test]
    fn a_wrapper_passes_slots_on() {
        for (wrapper, of) in [
            ("audit:of=lru", "lru"),
            ("audit:every=9,of=lru", "lru"),
            ("audit:of=2q:kin=10", "2q"),
            ("audit", "lguest"),
            ("audit:every=9", "lguest"),
        ] {
            let all = slots_of(wrapper, &[2, 3]);
            assert_eq!((all[0].1, all[1].1), (Some(2), Some(3)), "{wrapper}");
            let wanted = format!(",of={of}:slots=3");
            assert!(all[1].0.contains(&wanted), "{wrapper}: {all:?}");
        }
        assert_eq!(slots_of("audit:of=tlb", &[2, 3]).len(), 1);
        let twice = competitors(&["audit:of=lru:slots=2".to_owned()], &[3]).unwrap_err().to_string();
        assert!(twice.contains("set twice"), "{twice}");
    }

    /// Page directories in turn, more of them than a piece has operations.
    fn ring(processes: u32) -> String {
        let mut trace = String::from("lgtrace 1\npaging 2\npages 64\nseed 1\ncpus 1\nswitcher 0xffc00000\n");
        for load in 0..3 * PIECE as u32 {
            writeln!(trace, "cr3 {:#x}", (1 + load % processes) * 4096).unwrap();
        }
        trace + TEXT_END
    }

    fn open(trace: &str) -> Result<Input<&[u8]>, Infallible> {
        Ok(Input::new(trace.as_bytes(), None).unwrap())
    }

    /// Loads 1 2 3 1 4 1 on lru with two slots: all but the last miss. The first two left out, 3 1 4 miss, of which 3 and 4
    /// are first loads.
    #[test]
    fn a_warm_up_is_not_counted() {
        let loads: String = [1, 2, 3, 1, 4, 1].map(|number| format!("cr3 {:#x}\n", number * 4096)).concat();
        let trace =
            format!("lgtrace 1\npaging 2\npages 64\nseed 1\ncpus 1\nswitcher 0xffc00000\n{loads}{TEXT_END}");
        let lru = competitors(&["lru".to_owned(), "opt".to_owned()], &[2]).unwrap();
        let after = |warmup| compare(&lru, Settings { warmup, seed: None }, || open(&trace));
        let counted = |warmup| {
            let comparison = after(warmup).unwrap();
            let report = comparison.rows[0].outcome.as_ref().unwrap();
            let PagingCounters { page_directory_loads, page_directory_hits, .. } = report.counters;
            (page_directory_loads, page_directory_hits, comparison.compulsory, report.batches, report.ops)
        };
        assert_eq!(counted(0), (6, 1, 4, 1, 6));
        assert_eq!(counted(2), (4, 1, 2, 0, 6));
        assert_eq!(counted(5), (1, 1, 0, 0, 6));
        assert_eq!(
            after(6).unwrap_err().to_string(),
            "all 6 loads of page directories are within the warm-up of 6"
        );
    }

    #[test]
    fn all_see_the_whole_trace_and_are_told_in_order() {
        let trace = ring(5);
        let strategies = ["opt".to_owned(), "lru".to_owned()];
        let all = competitors(&strategies, &[4, 5]).unwrap();
        let results = compare(&all, Settings::default(), || open(&trace)).unwrap();
        assert_eq!(results.compulsory, 5);
        let results = results.rows;
        let loads = 3 * PIECE as u64;
        let misses: Vec<_> = results.iter().map(|result| result.outcome.as_ref().unwrap().misses()).collect();
        // With as many slots as processes, each is missed once; with one less, lru never hits, and the optimum
        // misses 5 times and then once in 4 loads.
        assert_eq!(misses, [5 + (loads - 5) / 4, 5, loads, 5]);
    }

    #[test]
    fn a_strategy_that_panics_is_told_and_the_others_go_on() {
        use framework::policy::EvictionPolicy;
        use framework::registry::{POLICIES, PolicyEntry};
        struct Panics;
        impl EvictionPolicy for Panics {
            fn filled(&mut self, _: usize, _: arch_i386::addr::GuestPhys) {}
            fn used(&mut self, _: usize, _: arch_i386::addr::GuestPhys) {}
            fn victim(&mut self, _: arch_i386::addr::GuestPhys) -> usize {
                panic!("no victim")
            }
        }
        #[linkme::distributed_slice(POLICIES)]
        static PANICS: PolicyEntry = PolicyEntry {
            name: "test-panics-in-replay",
            help: "wrong on purpose",
            parameters: &[],
            build: |_| Ok(Box::new(Panics)),
        };
        let trace = ring(5);
        let all = competitors(&["test-panics-in-replay".to_owned(), "lru".to_owned()], &[4]).unwrap();
        let results = compare(&all, Settings::default(), || open(&trace)).unwrap().rows;
        assert_eq!(results[0].outcome, Err("no victim".to_owned()));
        assert!(results[1].outcome.is_ok());
    }
}
