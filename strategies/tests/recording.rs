//! What a recording is worth: replayed, it must come to the same as what was recorded.
//!
//! The traces in `benches/traces` that play by the rules take the guest's place; they hold every access
//! that the guest makes, where a recording holds those that missed the shadow tables.

use arch_i386::addr::{GuestFrame, GuestPhys, GuestVirt, PAGE_SIZE};
use arch_i386::paging::{Entry, Flags, Paging};
use arch_i386::trap::PageFaultErrorCode;
use framework::host::PagingHost;
use framework::kill::Kill;
use framework::pager::Pager;
use framework::registry::{BuildContext, Choice, all_names};
use framework::strategy::Formats;
use framework::tables::ShadowEntry;
use framework::trace::Header;
use sim::SimHost;
use sim::replay::{Replay, Report};
use sim::trace::{Operation, Reader};
use std::fs;
use std::path::Path;
use strategies as _;

struct Trace {
    name: String,
    header: Header,
    operations: Vec<Operation>,
}

impl Trace {
    fn read(name: &str, bytes: &[u8]) -> Self {
        let reader = Reader::new(bytes).unwrap();
        let header = reader.header();
        let operations = reader.map(|operation| operation.unwrap_or_else(|e| panic!("{name}: {e}")));
        Self { name: name.to_owned(), header, operations: operations.collect() }
    }

    /// The traces whose names begin like this.
    fn all(kind: &str) -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/traces");
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "trace")).collect();
        files.sort();
        let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
        let traces = files.iter().filter(|path| name(path).starts_with(kind));
        traces.map(|path| Self::read(&name(path), &fs::read(path).unwrap())).collect()
    }

    /// The same without faults that come whatever the shadow holds, which no processor has.
    fn without_forced_faults(mut self) -> Self {
        self.operations.retain(|operation| !matches!(operation, Operation::PageFault { .. }));
        self
    }

    /// Runs it; returns the result, and what the strategy recorded.
    fn run(&self, strategy: &str) -> (Report, Vec<u8>) {
        let choice = Choice::parse(strategy).unwrap();
        let mut replay = Replay::new(&self.header, &choice).unwrap();
        for operation in &self.operations {
            replay.step(operation);
        }
        replay.finish_recording(&choice, true)
    }

    fn record(&self, strategy: &str) -> Self {
        let name = format!("{} on {strategy}", self.name);
        Self::read(&name, &self.run(strategy).1)
    }
}

/// What does not depend on how many accesses a trace holds that hit.
fn outcome(report: &Report) -> impl PartialEq + std::fmt::Debug + use<> {
    let killed = report.killed.map(|kill| kill.to_string());
    (killed, report.counters, report.entries, report.table_pages, report.directories.clone())
}

/// Pages of the guest's memory.
const PAGES: u32 = 64;

/// Strategies that a recording is tried on.
const STRATEGIES: [&str; 5] = ["lguest", "lguest:slots=16", "lru", "lru:slots=1", "lru:slots=64"];

/// The others that can serve the trace's guest: all policies run on the same pager, for which those among
/// [`STRATEGIES`] stand.
fn strategies_of_their_own(trace: &Trace) -> impl Iterator<Item = &'static str> + use<> {
    let formats = Formats::both(trace.header.paging);
    all_names().into_iter().filter(move |name| {
        let choice = Choice::parse(name).unwrap();
        choice.check_formats(formats).is_ok() && choice.policy(0).is_none()
    })
}

#[test]
fn the_recorder_changes_nothing() {
    for trace in Trace::all("") {
        for strategy in STRATEGIES {
            let (recorded, _) = trace.run(&format!("record:of={strategy}"));
            let plain = trace.run(strategy).0;
            assert_eq!(Report { strategy: plain.strategy.clone(), ..recorded }, plain, "{}", trace.name);
        }
    }
}

#[test]
fn on_the_same_strategy_a_recording_comes_to_the_same() {
    for trace in Trace::all("calm").into_iter().map(Trace::without_forced_faults) {
        let records = |name: &&str| Choice::parse(&format!("record:of={name}")).is_ok();
        for strategy in STRATEGIES.into_iter().chain(strategies_of_their_own(&trace).filter(records)) {
            let recording = trace.record(&format!("record:of={strategy}"));
            let replayed = recording.run(strategy).0;
            assert_eq!(outcome(&replayed), outcome(&trace.run(strategy).0), "{}", recording.name);
            assert_eq!(replayed.hit, 0, "{}: only misses are recorded", recording.name);
        }
    }
}

/// A guest with device memory, all of whose pages the host has found before they are used, as it may find some ahead of a guest.
fn live_with_more_than_a_replay_has(strategy: &mut dyn Pager, host: &mut SimHost) {
    const DEVICE: u32 = PAGES;
    let user = Flags::PRESENT | Flags::WRITABLE | Flags::USER_ACCESSIBLE;
    let touched = user | Flags::ACCESSED | Flags::DIRTY;
    let va = |page: u32| GuestVirt(0x0800_0000 + page * PAGE_SIZE);
    let entry = |frame: u32, flags| Entry::new(frame.into(), flags);
    let store = |host: &mut SimHost, page: u32, entry: Entry| {
        host.write_u32(GuestPhys(2 * PAGE_SIZE + page * 4), entry.0 as u32).unwrap();
    };
    host.write_u32(GuestPhys(PAGE_SIZE + (va(0).0 >> 22) * 4), entry(2, user).0 as u32).unwrap();
    for page in 0..PAGES {
        let _ = ShadowEntry::new(host, entry(page, user)).unwrap();
    }
    for page in 1..32 {
        store(host, page, entry(16 + page, touched));
    }
    let device = entry(DEVICE, touched);
    store(host, 0, device);
    strategy.set_up(host).unwrap();
    strategy.guest_initialised(host, GuestVirt(0xc000_0000)).unwrap();
    let directory = GuestPhys(PAGE_SIZE);
    strategy.load_page_directory(host, directory).unwrap();
    strategy.set_pte(host, directory, va(0), device).unwrap();
    let read = PageFaultErrorCode::USER_MODE;
    let fault = strategy.demand_fault(host, va(0), read);
    assert_eq!(fault, Err(Kill::DeviceMemory(GuestFrame(DEVICE))));
    for frame in [16, 48] {
        store(host, 0, entry(frame, touched));
        strategy.set_pte(host, directory, va(0), entry(frame, touched)).unwrap();
    }
    for page in [1, 17, 18] {
        if strategy.inspect().unwrap().lookup(va(page)).is_none() {
            strategy.demand_fault(host, va(page), read).unwrap();
        }
    }
    strategy.flush_user(host);
}

#[test]
fn what_a_replays_host_has_not_makes_no_difference_to_it() {
    let formats = Formats::both(Paging::TwoLevel);
    // One that fills ahead without waiting for proof that it pays.
    for name in all_names().into_iter().chain(["shared:prefetch-on-trial=off"]) {
        let (Ok(choice), Ok(recorder)) = (Choice::parse(name), Choice::parse(&format!("record:of={name}")))
        else {
            continue;
        };
        if choice.check_formats(formats).is_err() {
            continue;
        }
        let mut host = SimHost::new(PAGES);
        host.set_device_pages(4);
        let window = host.window(GuestVirt(0xffc0_0000));
        let context = BuildContext { formats, window, seed: 7, switcher_fills: false };
        let mut strategy = recorder.build(&context).unwrap();
        live_with_more_than_a_replay_has(&mut *strategy, &mut host);
        let counters = strategy.counters();
        strategy.tear_down(&mut host);
        host.remove_window();
        let recording = Trace::read(name, &host.take_recording());
        let replayed = recording.run(name).0;
        assert_eq!((replayed.killed, replayed.counters), (None, counters), "{name}");
    }
}

#[test]
fn recorded_touches_come_to_the_same_on_any_strategy() {
    for trace in Trace::all("calm").into_iter().map(Trace::without_forced_faults) {
        let recording = trace.record("record:touch=all,of=lguest");
        // `tlb` drops entries that nobody has named, and misses a page that was not touched anew for anybody else.
        let others = strategies_of_their_own(&trace).filter(|name| *name != "tlb");
        for strategy in STRATEGIES.into_iter().chain(others) {
            let (expected, replayed) = (trace.run(strategy).0, recording.run(strategy).0);
            assert_eq!(outcome(&replayed), outcome(&expected), "{}, then on {strategy}", recording.name);
        }
    }
}

#[test]
fn what_a_guest_does_against_the_rules_can_be_replayed() {
    for trace in Trace::all("hostile") {
        for touch in ["off", "user", "all"] {
            let recording = trace.record(&format!("record:touch={touch}"));
            assert!(recording.operations.len() > 100, "{}", recording.name);
            assert_eq!(recording.run("lru").0.after_free, (0, 0), "{}", recording.name);
        }
    }
}

#[test]
fn the_text_says_what_is_recorded() {
    for (text, full) in [
        ("record", "record:touch=off,around=16,of=lguest:slots=4"),
        ("record:of=lru:slots=8", "record:touch=off,around=16,of=lru:slots=8"),
        ("record:around=1,touch=all,of=lru", "record:touch=all,around=1,of=lru:slots=4"),
    ] {
        let choice = Choice::parse(text).unwrap();
        assert_eq!(choice.to_string(), full);
        assert_eq!(Choice::parse(full).unwrap().to_string(), full);
    }
    for (text, message) in [
        ("record:of=nobody", "no strategy is named `nobody`; there are "),
        ("record:of=lur", "no strategy is named `lur` (is `lru` meant?); there are "),
        ("record:of=lru,touch=all", "`of=lru` takes the rest of the text: write touch=all before it"),
        ("record:of=lru:slots=0", "parameter slots=0: the value must be a whole number from 1 to 1024"),
        ("record:touch=1", "parameter touch=1: the value must be one of off, user, all"),
        ("record:of=record", "strategy `record` cannot wrap `record`"),
        ("record:slots=4", "strategy `record` has no parameter `slots`; it has touch, around"),
    ] {
        let error = Choice::parse(text).unwrap_err().to_string();
        assert!(error.starts_with(message), "{text}: {error}");
    }
}
