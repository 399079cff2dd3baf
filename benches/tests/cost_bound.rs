//! The lower bound on cost, on a trace worked out by hand and below what every policy costs.

use benches::bound::{Bound, Collector};
use benches::comparison::{Settings, compare, competitors};
use benches::cost::Cost;
use sim::input::Input;
use sim::trace::{Reader, TraceError};
use std::convert::Infallible;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

fn bound(trace: &[u8], slots: usize) -> Bound {
    let reader = Reader::new(trace).unwrap();
    let mut collector = Collector::new(&reader.header()).unwrap();
    reader.for_each(|operation: Result<_, TraceError>| collector.see(&operation.unwrap()));
    collector.finish(slots).unwrap()
}

/// Page directories A, B and C map two pages by one table. A, B and C run, then A and B again: A and C use one page,
/// B two. One slot: all is filled in each run. Two: to keep B while C and A run is worth two entries, to keep A while B and C
/// run is worth one, and at C there is room for one of them. Three: each page is filled once in each.
#[test]
fn three_directories_by_hand() {
    let head = "lgtrace 1\npaging 2\npages 64\nseed 1\ncpus 1\nswitcher 0xfe800000\n";
    let tables = "w 0x1000 0x4067\nw 0x2000 0x4067\nw 0x3000 0x4067\nw 0x4000 0x5067\nw 0x4004 0x6067\n";
    let [a, b, c] = [
        "cr3 0x1000\nacc 0x0 u r\n",
        "cr3 0x2000\nacc 0x0 u r\nacc 0x1000 u r\nacc 0x0 u r\n",
        "cr3 0x3000\nacc 0x1000 u r\n",
    ];
    let trace = [head, tables, "init 0xc0000000\n", a, b, c, a, b, "end\n"].concat();
    let refilled: Vec<u64> =
        bound(trace.as_bytes(), 3).by_slots.iter().map(|(refilled, _)| *refilled).collect();
    assert_eq!(refilled, [7, 5, 4]);

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(trace.as_bytes()).unwrap();
    let printed = |slots: &str| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_replay"));
        let output = program.arg("bound").arg(file.path()).args(["--slots", slots]).output().unwrap();
        assert!(output.status.success(), "{slots}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    // Numbers as everywhere: a range, a list in any order, shares of the three page directories.
    for (slots, wanted) in [("1..3", &["1,7", "2,5", "3,4"][..]), ("3,1", &["1,7", "3,4"]), ("0.7", &["2,5"])]
    {
        let printed = printed(slots);
        let lines: Vec<_> = printed.lines().map(|line| line.rsplit_once(',').unwrap().0).collect();
        assert_eq!(lines[0], "slots,refilled");
        assert_eq!(lines[1..], *wanted, "{slots}");
    }
}

#[test]
fn no_policy_is_below_it() {
    const SLOTS: [u64; 3] = [1, 3, 9];
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces");
    let mut compared = 0;
    for name in
        ["calm-p2-101.trace", "calm-p3-102.trace", "calm-p2-102.trace", "recorded/mini-guest.lgtrace.lz4"]
    {
        let trace = fs::read(traces.join(name)).unwrap();
        let bound = bound(&trace, 9);
        let all = competitors(&["all".to_owned()], &SLOTS).unwrap();
        let open = || Ok::<_, Infallible>(Input::new(&trace[..], None).unwrap());
        // As many guests at a time as fit into 32-bit addresses.
        for some in all.chunks(8) {
            for row in compare(some, Settings { seed: None, warmup: 0 }, open).unwrap().rows {
                let (lowest, cost) = bound.by_slots[row.competitor.slots.unwrap() as usize - 1];
                let report = row.outcome.unwrap();
                assert!(report.counters.demand_faults >= lowest, "{name}: {}", report.strategy);
                assert!(Cost::of(&report).instructions >= cost.instructions, "{name}: {}", report.strategy);
                compared += 1;
            }
        }
    }
    assert!(compared > 200, "{compared}");
}
