//! `cargo xtask inject`: every instruction of the Switcher, every event.
//!
//! The Switcher changes page tables, descriptor tables and stacks one after the other, with the host's kernel none
//! the wiser; whatever comes at any moment of that must do no harm. So a machine runs guests under a debugger, is
//! stopped at each instruction of the Switcher, and gets there an NMI, a machine check, or something to load that
//! cannot be loaded, as far as a guest or a process could bring that about. Then it goes on, and must do what the
//! module promises: the host's handlers are called as often as there was something to handle, no more and no less;
//! what was interrupted goes on as it was, or the guest is killed with a reason; the host is well.
//!
//! Control comes to some instructions only because of such an event, as to those that handle it. So there are several
//! [ways](Way) to an instruction, each with events of its own before; a pair of an instruction and an event is tried
//! on each way.
//!
//! | module | its part |
//! | --- | --- |
//! | [`text`](mod@text) | the instructions, found in the module |
//! | [`event`] | what is injected, and what cannot be |
//! | [`gdb`], [`monitor`] | the two connections to QEMU |
//! | [`session`] | one machine, brought to an instruction and observed |
//! | [`report`] | what became of each pair |

mod event;
mod gdb;
mod monitor;
mod report;
mod session;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use arch_i386::trap;
use iced_x86::Mnemonic;

use event::{Event, Fault, faults};
use monitor::Monitor;
use report::{Place, Report};
use session::{Fate, GUESTS, Observed, SCRIPT, Session, Spot};
use switcher::stubs;
use text::{Kind, Text};
use xtask::boots;
use xtask::flavour::Flavour;
use xtask::kernels::Kernels;
use xtask::module::ModuleSource;
use xtask::process::Progress;
use xtask::programs;
use xtask::project::Project;
use xtask::qemu::{Clock, Processor};
use xtask::setup;
use xtask::steps::Step;
use xtask::tally;
use xtask::vm::{Boot, Contents, Vm};

/// The processor, which overrides the usual one of QEMU's command line: the same, with what makes the Switcher
/// change CR4.
const PROCESSOR: &str = "coreduo,+smep,+smap";

/// How often a pair is tried anew when a guest came to its own end meanwhile.
const TRIES: usize = 4;

/// Options of `cargo xtask inject`.
#[derive(clap::Args)]
pub struct Args {
    /// Only this kernel: 686 or 686-pae (may be repeated) [default: both]
    #[arg(long = "kernel", value_name = "NAME")]
    kernels: Vec<String>,
    /// Try each pair on one way only
    #[arg(long)]
    quick: bool,
}

/// The command itself.
///
/// # Errors
/// When a pair failed or was not covered, after the report.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let flavours: Vec<Flavour> = match &args.kernels[..] {
        [] => Flavour::ALL.to_vec(),
        names => names
            .iter()
            .map(|name| {
                let found = Flavour::ALL.into_iter().find(|flavour| flavour.name() == name);
                found.with_context(|| format!("there is no kernel `{name}`; there are 686 and 686-pae"))
            })
            .collect::<Result<_>>()?,
    };
    let machine = setup::ensure(project, false)?;
    let built = programs::build_all(project, &machine, &ModuleSource::of(project), &flavours, true);
    let (modules, launcher) = (built.modules?, built.launcher?);
    let guest = built.guest.transpose()?.context("the example guest was not built")?;
    let mut wrong = Vec::new();
    for (&flavour, module) in flavours.iter().zip(modules) {
        let contents =
            Contents { module, launcher: launcher.clone(), guests: vec![programs::as_guest(guest.clone())] };
        let report = inject(project, &machine.kernels, &contents, flavour, args.quick)?;
        println!("{report}");
        wrong.extend(report.verdict().err());
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    Ok(())
}

/// Tries each pair on one way, on both kernels: a section of `cargo xtask test`.
///
/// # Errors
/// When this machine cannot be set up.
pub fn checks(project: &Project) -> Result<()> {
    let machine = setup::ensure(project, false)?;
    tally::section(|tally| match boots::hosts(project, &machine, true, |_| Ok(Vec::new())) {
        Ok(hosts) => {
            // Most of the time a machine waits for the debugger, or the other way round.
            let reports = thread::scope(|scope| {
                let tries = hosts.into_iter().zip(Flavour::ALL).map(|(contents, flavour)| {
                    let kernels = &machine.kernels;
                    let run = move || inject(project, kernels, &contents, flavour, true);
                    (flavour, scope.spawn(run))
                });
                let tries: Vec<_> = tries.collect();
                tries
                    .into_iter()
                    .map(|(flavour, run)| (flavour, run.join().expect("a session does not panic")))
                    .collect::<Vec<_>>()
            });
            for (flavour, report) in reports {
                let name = format!("every event at every instruction of the Switcher on {flavour}");
                tally.check(&name, report.and_then(|report| report.check()));
            }
        }
        Err(error) => tally.fail("inject", &format!("{error:#}")),
    });
    Ok(())
}

/// Tries all pairs on one kernel.
fn inject(
    project: &Project,
    kernels: &Kernels,
    contents: &Contents,
    flavour: Flavour,
    quick: bool,
) -> Result<Report> {
    let module = &contents.module;
    let bytes = fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    let text = Text::read(&bytes, flavour).with_context(|| module.display().to_string())?;
    // Time by instruction count would leap to the next timer at each stop.
    let vm = Vm {
        name: format!("inject-{flavour}"),
        flavour,
        processors: 1,
        processor: Processor::default(),
        clock: Clock::Real,
    };
    // The names of sockets must be short.
    let folder = std::env::temp_dir().join(format!("lguest-inject-{}-{flavour}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let result = boot(project, kernels, contents, &vm, &folder, &text, quick);
    // What is left is small, and in a folder for such things.
    let _ = fs::remove_dir_all(&folder);
    result
}

fn boot(
    project: &Project,
    kernels: &Kernels,
    contents: &Contents,
    vm: &Vm,
    folder: &Path,
    text: &Text,
    quick: bool,
) -> Result<Report> {
    let (gdb, qmp, disk) = (folder.join("gdb"), folder.join("monitor"), folder.join("machine.qcow2"));
    fs::write(&disk, monitor::empty_disk())?;
    let options = [
        format!("-cpu {PROCESSOR}"),
        // After a reset the debugger finds the processor at the address where it starts.
        "-action reboot=reset".to_owned(),
        format!("-gdb unix:{},server=on,wait=off", gdb.display()),
        format!("-qmp unix:{},server=on,wait=off", qmp.display()),
        format!("-drive if=none,id=kept,format=qcow2,file={}", disk.display()),
    ];
    let options: Vec<String> =
        options.iter().flat_map(|option| option.split(' ')).map(str::to_owned).collect();
    let limit = Duration::from_secs(24 * 3600);
    let steps = [Step { limit, guest_complains: true, ..Step::new("inject", SCRIPT) }];
    let logs = project.logs().join("vm").join(&vm.name);
    fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    let (sender, lines) = mpsc::channel();
    let progress = Progress::start(format!("{}: pairs of instruction and event", vm.flavour));
    let (boot, report) = thread::scope(|scope| {
        let session = scope.spawn(|| {
            let report = hold(&gdb, &qmp, &logs, lines, text, vm.flavour, quick);
            if report.is_err() {
                // The machine stands still and would do so for ever. If it is no more, so much the better.
                let _ = Monitor::connect(&qmp).and_then(|mut monitor| monitor.quit());
            }
            report
        });
        let boot = vm.run_with(&options, project, kernels, contents, &steps, |line| {
            // Nobody listens any more when the session is over.
            let _ = sender.send(line.to_owned());
        });
        drop(sender);
        (boot, session.join().expect("the session does not panic"))
    });
    progress.done();
    let mut report = report?;
    let boot = boot?;
    report.end(&closing(&boot, &steps, &report));
    Ok(report)
}

/// The debugger's part, from taking the machine over to letting it go.
fn hold(
    gdb: &Path,
    qmp: &Path,
    logs: &Path,
    lines: Receiver<String>,
    text: &Text,
    flavour: Flavour,
    quick: bool,
) -> Result<Report> {
    let mut session = Session::attach(gdb, qmp, logs, lines, text)?;
    let mut report = plan_and_try(&mut session, text, flavour, quick)?;
    report.broken.append(&mut session.broken);
    report.calls = session.finish()?;
    Ok(report)
}

/// What is wrong with the machine's end.
fn closing(boot: &Boot, steps: &[Step], report: &Report) -> Vec<String> {
    let mut wrong: Vec<String> =
        boot.check(steps).err().map(|error| format!("{error:#}")).into_iter().collect();
    // A kernel that has come to harm has reported it, and was taken back to before.
    if report.failed() == 0 && !boot.first_complaint.is_empty() {
        wrong.push(boot.first_complaint.join("\n    "));
    }
    let output = boot.outcomes.first().map(|outcome| &outcome.output[..]).unwrap_or_default();
    for (name, calls) in [("NMI", report.calls[0]), ("MCE", report.calls[1])] {
        let counted =
            output.iter().find_map(|line| line.trim().strip_prefix(&format!("@ interrupts {name} ")));
        if counted.and_then(|count| count.trim().parse().ok()) != Some(calls) {
            let counted = counted.unwrap_or("nothing");
            wrong.push(format!("the host's kernel counts {counted} of {name}, the debugger {calls}"));
        }
    }
    wrong
}

/// How control comes to an instruction: events that are injected one after the other on the way.
struct Way {
    name: String,
    /// Whether control first comes to where the Switcher has done by itself what the guest came for.
    by_work_done: bool,
    events: Vec<(Spot, Event)>,
}

impl Way {
    /// Whether control is brought on the way.
    fn is_led(&self) -> bool {
        self.by_work_done || !self.events.is_empty()
    }
}

/// A pair on one of its ways.
struct Case {
    /// What the report has it under.
    place: Place,
    way: usize,
    /// Where it is injected.
    spot: Spot,
    event: Event,
}

fn plan_and_try(session: &mut Session<'_>, text: &Text, flavour: Flavour, quick: bool) -> Result<Report> {
    let mut report = Report::new(flavour, quick);
    // The guests' own way: all instructions apart from the entry points, and the first of each of those.
    let firsts = |offset: &u32| {
        text.stub(*offset).is_none_or(|vector| text.stub_instructions(vector).next() == Some(*offset))
    };
    let usual = session.trace(text.instructions.keys().copied().filter(firsts), GUESTS)?;
    let rare: BTreeSet<u32> =
        usual.iter().filter(|(_, guests)| *guests > 0).map(|(offset, _)| *offset).collect();
    let usual: Vec<u32> = usual.into_iter().map(|(offset, _)| offset).collect();
    let names: Vec<String> = usual.iter().map(|&offset| text.place(offset)).collect();
    session.say(&format!("usual way: {}", names.join(" ")));
    let ways = ways(text, &usual)?;
    let mut reached: Vec<Vec<u32>> = Vec::new();
    for way in &ways {
        if way.by_work_done {
            // Only the way back into the guest.
            let back = text.back_into_guest()?;
            reached.push(text.inwards().map(|(at, _)| at).filter(|at| *at >= back).collect());
            continue;
        }
        if way.events.is_empty() {
            reached.push(usual.clone());
            continue;
        }
        let mut offsets = Vec::new();
        if go(session, way)? {
            let traced = session.trace(text.instructions.keys().copied(), 0)?;
            offsets.extend(traced.into_iter().map(|(offset, _)| offset));
        }
        session.restore()?;
        let names: Vec<String> = offsets.iter().map(|&offset| text.place(offset)).collect();
        session.say(&format!("way {}: {}", way.name, names.join(" ")));
        reached.push(offsets);
    }
    let cases = cases(text, &ways, &reached, &mut report, quick);
    let progress = Progress::start_counted(format!("{flavour}: pairs on their ways"), cases.len() as u64);
    let mut progress = progress;
    for (number, case) in cases.iter().enumerate() {
        let way = &ways[case.way];
        if let Spot::Text(offset) = case.spot
            && case.way == 0
            && rare.contains(&offset)
        {
            // The guests that come there are the first.
            session.restore()?;
        }
        let outcome = attempt(session, way, case)?;
        session.say(&format!("{:?}, {}, way {}: {outcome:?}", case.place, case.event, way.name));
        report.add(case.place, case.event, &way.name, outcome);
        progress.reached(number as u64 + 1);
    }
    progress.done();
    Ok(report)
}

/// All ways, the guests' own first.
fn ways(text: &Text, usual: &[u32]) -> Result<Vec<Way>> {
    let last = text.last_inwards()?;
    let outwards = |offset: &&u32| **offset >= stubs::STUBS_SIZE && !text.is_inwards(**offset);
    let first_out = *usual.iter().find(outwards).context("no guest is ever left")?;
    let host_idt = usual
        .iter()
        .filter(outwards)
        .find(|offset| text.instructions[offset].mnemonic() == Mnemonic::Lidt)
        .context("the host's IDT is never loaded")?;
    // The first with the guest's IDT.
    let guest_idt = text
        .inwards()
        .find(|(_, instruction)| instruction.mnemonic() == Mnemonic::Lidt)
        .map(|(at, instruction)| at + instruction.len() as u32)
        .context("the guest's IDT is never loaded")?;
    let segment = text
        .inwards()
        .map(|(at, _)| at)
        .find(|&at| matches!(text.kind(at), Kind::Segment(..)) && !faults(text, at).possible.is_empty());
    let mut ways = vec![Way { name: "usual".to_owned(), by_work_done: false, events: Vec::new() }];
    // Where all is loaded that the guest had, and nothing stored.
    ways.push(Way { name: "after work in the Switcher".to_owned(), by_work_done: true, events: Vec::new() });
    let mut add = |name: String, spot: Spot, event: Event| {
        ways.push(Way { name, by_work_done: false, events: vec![(spot, event)] })
    };
    let at = |offset: u32| format!("at {}", text.place(offset));
    for event in [Event::Nmi, Event::MachineCheck] {
        add(format!("{event} in the guest"), Spot::Guest, event);
        for offset in [guest_idt, last, first_out, *host_idt] {
            add(format!("{event} {}", at(offset)), Spot::Text(offset), event);
        }
    }
    let begins = text.looks.iter().map(|looks| looks.start).chain(text.does.iter().copied());
    for offset in begins {
        for event in [Event::Nmi, Event::MachineCheck] {
            add(format!("{event} {}", at(offset)), Spot::Text(offset), event);
        }
    }
    for looks in &text.looks {
        let mut inside = text.instructions.range(looks.clone()).map(|(&at, _)| at);
        let touches = inside.find(|&at| text.kind(at) == Kind::GuestMemory);
        let touches = touches.context("what can be given up touches nothing of the guest's")?;
        add(format!("#PF {}", at(touches)), Spot::Text(touches), Event::MissingPage);
    }
    for at in [text.enter].into_iter().chain(text.asks_to_clear()) {
        add(format!("{} at {}", Event::ClearBuffers, text.place(at)), Spot::Text(at), Event::ClearBuffers);
    }
    if let Some(segment) = segment {
        add(format!("#GP {}", at(segment)), Spot::Text(segment), Event::Fault(Fault::SegmentBeyond));
    }
    add(format!("#GP {}", at(last)), Spot::Text(last), Event::Fault(Fault::CodeBeyond));
    Ok(ways)
}

/// Goes a way up to its last event, which is injected.
fn go(session: &mut Session<'_>, way: &Way) -> Result<bool> {
    session.begin();
    if way.by_work_done {
        session.reach_work_done()?;
    }
    for (number, &(spot, event)) in way.events.iter().enumerate() {
        if !session.reach(spot, way.by_work_done || number > 0)? {
            return Ok(false);
        }
        session.inject(event)?;
    }
    Ok(true)
}

/// The entry points that stand for all: the first of each kind that was come to.
fn samples(text: &Text, reached: &[Vec<u32>]) -> BTreeMap<&'static str, Option<u8>> {
    let vectors: BTreeSet<u8> = reached.iter().flatten().filter_map(|&offset| text.stub(offset)).collect();
    let first = |wanted: &dyn Fn(u8) -> bool| vectors.iter().copied().find(|&vector| wanted(vector));
    BTreeMap::from([
        ("NMI", first(&|v| v == trap::NMI)),
        ("machine check", first(&|v| v == trap::MACHINE_CHECK)),
        ("hypercall", first(&|v| v == trap::HYPERCALL)),
        ("debug exception", first(&|v| v == trap::DEBUG)),
        ("page fault", first(&|v| v == trap::PAGE_FAULT)),
        ("general protection", first(&|v| v == trap::GENERAL_PROTECTION)),
        ("interrupt", first(&|v| v >= trap::FIRST_EXTERNAL && v != trap::SYSCALL)),
    ])
}

/// Everything that is to be tried; what is not come to, or cannot be, goes into the report at once.
fn cases(text: &Text, ways: &[Way], reached: &[Vec<u32>], report: &mut Report, quick: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    let samples = samples(text, reached);
    for (kind, _) in samples.iter().filter(|(_, vector)| vector.is_none()) {
        report.broken.push(format!("no guest came to the entry point of a {kind}"));
    }
    let sampled = samples.values().flatten().flat_map(|&vector| text.stub_instructions(vector));
    let sampled: BTreeSet<u32> = sampled.collect();
    let wanted = |offset: &u32| *offset >= stubs::STUBS_SIZE || sampled.contains(offset);
    let first_out = reached[0].iter().copied().find(|at| *at >= stubs::STUBS_SIZE && !text.is_inwards(*at));
    for event in [Event::Nmi, Event::MachineCheck] {
        cases.push(Case { place: Place::Guest, way: 0, spot: Spot::Guest, event });
    }
    report.row(Place::Guest, "the guest".to_owned(), "its first instruction".to_owned());
    for offset in text.instructions.keys().copied().filter(wanted) {
        let place = Place::Text(offset);
        report.row(place, text.place(offset), text.assembly(offset));
        // On the guests' own way an entry point is watched at its first instruction only.
        let first =
            text.stub(offset).and_then(|vector| text.stub_instructions(vector).next()).unwrap_or(offset);
        let on = |way: usize| reached[way].contains(&offset) || way == 0 && reached[0].contains(&first);
        let on: Vec<usize> = (0..ways.len()).filter(|&way| on(way)).collect();
        let checked = |way: usize| ways[way].events.iter().any(|(_, event)| *event == Event::MachineCheck);
        let spot = Spot::Text(offset);
        let mut add = |event: Event, of: &[usize], spot: Spot| {
            let first = of.first().copied();
            let wanted = |way: &usize| !quick || Some(*way) == first || ways[*way].by_work_done;
            cases.extend(of.iter().copied().filter(wanted).map(|way| Case { place, way, spot, event }));
        };
        if on.is_empty() {
            report.uncovered(place, Event::Nmi);
            report.uncovered(place, Event::MachineCheck);
        } else {
            add(Event::Nmi, &on, spot);
            let first_check: Vec<usize> = on.iter().copied().filter(|&way| !checked(way)).collect();
            if first_check.is_empty() {
                report.impossible(place, Event::MachineCheck.column(), event::Reason::SecondMachineCheck);
            }
            add(Event::MachineCheck, &first_check, spot);
        }
        let faults = faults(text, offset);
        for (column, reason) in faults.impossible {
            report.impossible(place, column, reason);
        }
        if first_out == Some(offset) {
            add(Event::Segments, &[0], spot);
        }
        let usual: &[usize] = if on.contains(&0) { &[0] } else { &[] };
        for event in faults.possible {
            let spot = match event {
                Event::Tss(_) if text.is_inwards(offset) => Some(text.enter),
                Event::Tss(_) => first_out,
                _ => Some(offset),
            };
            match spot {
                Some(spot) if !usual.is_empty() => add(event, usual, Spot::Text(spot)),
                _ => report.uncovered(place, event),
            }
        }
    }
    cases
}

/// Tries a pair: nothing, or what went wrong.
fn attempt(session: &mut Session<'_>, way: &Way, case: &Case) -> Result<Result<(), String>> {
    let mut outcome = Err("control did not come there".to_owned());
    for _ in 0..TRIES {
        if !go(session, way)? || !session.reach(case.spot, way.is_led())? {
            session.restore()?;
            continue;
        }
        let segments = session.segments();
        session.inject(case.event)?;
        let interrupts = matches!(case.event, Event::Nmi | Event::MachineCheck);
        let seen = session.observe(interrupts)?;
        session.say(&format!("{seen:?}"));
        outcome = judge(way, case, &seen);
        if way.by_work_done && matches!(seen.fate, Fate::GuestWentOn) {
            let now = session.segments_at_entry()?;
            if now != segments {
                outcome =
                    Err(format!("the data segments are {now:x?} at the next entry and were {segments:x?}"));
            }
        }
        let harmed = !matches!(seen.fate, Fate::GuestWentOn | Fate::GuestEnded(_));
        if outcome.is_err() && harmed || matches!(case.event, Event::Tss(_) | Event::Segments) {
            session.restore()?;
        }
        let by_itself = matches!(&seen.fate, Fate::GuestEnded(word) if !word.contains("in the Switcher"));
        if outcome.is_ok() || !by_itself {
            break;
        }
    }
    Ok(outcome)
}

/// Whether that is what the module promises, or what is wrong.
fn judge(way: &Way, case: &Case, seen: &Observed) -> Result<(), String> {
    let events: Vec<Event> = way.events.iter().map(|(_, event)| *event).chain([case.event]).collect();
    let injected = |wanted: Event| events.iter().filter(|&&event| event == wanted).count() as u32;
    let fault = events.iter().find_map(|event| match event {
        Event::Fault(fault) => Some(fault),
        _ => None,
    });
    let killed_by = |word: &str, fault: &Fault| {
        let reason = |vector: &u8| word.contains(&format!("trap {vector} in the Switcher"));
        fault.vectors().iter().any(reason)
    };
    let mut wrong = Vec::new();
    match (&seen.fate, fault) {
        (Fate::GuestWentOn, None) => {}
        (Fate::GuestEnded(word), Some(fault)) if killed_by(word, fault) => {}
        (Fate::GuestWentOn, Some(_)) => wrong.push("the guest goes on as if nothing had been".to_owned()),
        (Fate::GuestEnded(word), _) => wrong.push(format!("the guest ended: {word}")),
        (Fate::TripleFault, _) => wrong.push("triple fault".to_owned()),
        (Fate::HostPanic(line), _) => wrong.push(format!("the host's kernel gave up: {line}")),
        (Fate::Lost(place), _) => wrong.push(format!("the processor is lost {place}")),
    }
    if wrong.is_empty() {
        for (what, seen, injected) in [
            ("NMI", seen.nmis, injected(Event::Nmi)),
            ("machine check", seen.machine_checks, injected(Event::MachineCheck)),
        ] {
            if seen != injected {
                wrong.push(format!("the host's handler of {what}s was called {seen} times for {injected}"));
            }
        }
        wrong.extend(
            seen.changed.iter().map(|changed| format!("what was interrupted has changed: {changed}")),
        );
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}
