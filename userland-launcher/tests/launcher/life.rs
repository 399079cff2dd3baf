//! A guest's life on a scripted host, from start to exit code.

use crate::support::driver::Driver;
use crate::support::elf::Elf;
use crate::support::host::{ScriptedHost, Step};
use crate::support::{Screen, piped_terminal};
use arch_i386::addr::GuestPhys;
use arch_i386::launcher::{Emulation, IO_PORT};
use arch_i386::paging::Paging;
use clap::Parser;
use libc::{EAGAIN, EINTR, ENOENT, ERESTART};
use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use userland_launcher::cli::Cli;
use userland_launcher::control::Control;
use userland_launcher::devices::block::Block;
use userland_launcher::disk_file::DiskError;
use userland_launcher::files::Files;
use userland_launcher::host::Host;
use userland_launcher::launch::{Ended, LaunchError, Prepared, Session};
use userland_launcher::outcome::{Outcome, Violation};
use userland_launcher::sockets::Sockets;

/// Where the device page of these guests is, their memory being 2 MiB: the console's descriptor, then the
/// rings of input and output.
const DEVICE_PAGE: u32 = 2 << 20;
const STATUS: u64 = DEVICE_PAGE as u64 + 4;
const OUTPUT_RING: u32 = DEVICE_PAGE + 4 * 4096;
const OUTPUT_IRQ: u32 = 2;

/// Runs a guest with `options`, one script for each life; returns how it ended and what it showed.
fn run(options: &[&str], lives: Vec<Vec<Step>>) -> (Ended, Vec<u8>, Vec<Arc<ScriptedHost>>) {
    run_kernel(&Elf::good(), options, lives)
}

/// The same with this kernel, on a host with PAE.
fn run_kernel(
    kernel_file: &Elf,
    options: &[&str],
    lives: Vec<Vec<Step>>,
) -> (Ended, Vec<u8>, Vec<Arc<ScriptedHost>>) {
    let kernel = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(kernel.path(), kernel_file.bytes()).unwrap();
    let line = ["lguest", "--memory", "2M"].into_iter().chain(options.iter().copied());
    let cli = Cli::parse_from(line.chain([kernel.path().to_str().unwrap()]));
    let screen = Screen::default();
    let (terminal, _keyboard) = piped_terminal();
    let session = Session::new(screen.output(), Arc::new(Control::new().unwrap()));
    let hosts: Vec<_> = lives.into_iter().map(ScriptedHost::new).collect();
    let next = RefCell::new(hosts.clone().into_iter());
    let mut files = Files::open(&cli, &Sockets::default()).unwrap();
    files.host_paging = Some(Paging::Pae);
    let ended = session.run(
        &cli,
        &files,
        || Prepared::new(&cli, &files, &terminal, &screen.output()),
        || Ok(next.borrow_mut().next().expect("a life that was not planned") as Arc<dyn Host>),
    );
    (ended.unwrap(), screen.shown(), hosts)
}

/// The same for a single life; returns how it ended and what it showed.
fn run_once(steps: Vec<Step>) -> (Outcome, Vec<u8>) {
    let (ended, shown, _) = run(&[], vec![steps]);
    (ended.outcome, shown)
}

fn act(action: impl FnOnce(&ScriptedHost) + Send + 'static) -> Step {
    Step::Act(Box::new(action))
}

fn put(address: u64, bytes: &'static [u8]) -> Step {
    act(move |host| {
        let copied = host.memory().slice(address, bytes.len() as u64).unwrap().copy_from(bytes);
        assert_eq!(copied, bytes.len());
    })
}

const POWER_DOWN: Step = Step::Dead(b"CRASH: Power down\0");

#[test]
fn the_host_is_asked_in_order() {
    let options = ["--strategy", "lru:slots=8", "--paging", "2-level"];
    let (ended, _, hosts) = run(&options, vec![vec![Step::Dead(b"CRASH: exit 7\0")]]);
    assert_eq!(ended.outcome.code(), 7);
    assert!(ended.ticks > 0);
    assert_eq!(
        *hosts[0].log.lock().unwrap(),
        ["paging 2-level", "strategy lru:slots=8", "initialize 0x207000 bytes, entry 0x100000"]
    );
}

#[test]
fn a_recording_is_complete_when_the_guest_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace");
    let options = ["--strategy", "lru", "--record", file.to_str().unwrap()];
    let (ended, _, hosts) = run(&options, vec![vec![Step::Dead(b"CRASH: exit 7\0")]]);
    assert!(hosts[0].log.lock().unwrap().contains(&"strategy record:of=lru".to_owned()));
    assert_eq!(ended.close().unwrap().code(), 7);
    assert_eq!(std::fs::read(file).unwrap(), b"a recording");
}

#[test]
fn a_recording_that_cannot_be_kept_does_not_start_the_guest() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nosuch/trace");
    let kernel = tempfile::NamedTempFile::new().unwrap();
    let line = ["lguest", "--record", file.to_str().unwrap(), kernel.path().to_str().unwrap()];
    let refused = Files::open(&Cli::parse_from(line), &Sockets::default()).unwrap_err();
    assert!(matches!(refused, LaunchError::Record { .. }));
    let message = refused.to_string();
    assert!(message.contains("cannot record the guest to") && message.contains("nosuch"), "{message}");
}

#[test]
fn a_refused_strategy_does_not_start_the_guest() {
    let (ended, _, hosts) = run(&["--strategy", "nosuch"], vec![vec![]]);
    assert_eq!(ended.outcome.code(), 125);
    let message = ended.outcome.message().unwrap();
    assert!(message.contains("`nosuch`") && message.contains("dmesg"), "{message}");
    assert_eq!(hosts[0].log.lock().unwrap().len(), 1);
}

#[test]
fn early_console_strings_are_shown_raw() {
    let (outcome, shown) = run_once(vec![
        put(0x5000, b"one \xff\xfe two\0three"),
        Step::Notify(0x5000),
        Step::Notify(0x5000 + 7),
        POWER_DOWN,
    ]);
    assert_eq!(outcome.code(), 0);
    assert_eq!(shown, b"one \xff\xfe twotwo");
}

#[test]
fn an_endless_string_ends() {
    let (outcome, shown) = run_once(vec![
        act(|host| {
            let n = host.memory().slice(0x5000, 0x2000).unwrap().copy_from(&[b'x'; 0x2000]);
            assert_eq!(n, 0x2000);
        }),
        Step::Notify(0x5000),
        put(u64::from(DEVICE_PAGE) - 3, b"end"),
        Step::Notify(DEVICE_PAGE - 3),
        POWER_DOWN,
    ]);
    assert_eq!(outcome.code(), 0);
    assert_eq!(shown, [&[b'x'; 4096][..], b"end"].concat());
}

#[test]
fn a_notification_of_nothing_kills_the_guest() {
    for address in [DEVICE_PAGE + 1, OUTPUT_RING + 1, 0x21_0000, u32::MAX] {
        let (outcome, shown) = run_once(vec![Step::Notify(address)]);
        assert_eq!(outcome.code(), 120);
        assert!(
            matches!(outcome, Outcome::Violation { violation: Violation::Notify(at), .. } if at == address)
        );
        assert_eq!(shown, b"");
    }
}

#[test]
fn interrupted_reads_go_on() {
    let (outcome, _) = run_once(vec![
        Step::Fail(EINTR),
        Step::Fail(EAGAIN),
        Step::Fail(EINTR),
        Step::Fail(ENOENT),
        Step::Dead(b"bad stack\0"),
    ]);
    assert!(matches!(outcome, Outcome::KilledByHost(reason) if reason == "bad stack"));
}

#[test]
fn other_failures_end_the_launcher() {
    for failure in [vec![Step::Fail(1)], vec![Step::Fail(ENOENT), Step::Fail(ENOENT)], vec![Step::Dead(b"")]]
    {
        let (outcome, _) = run_once(failure);
        assert!(matches!(outcome, Outcome::Failed { .. }));
        assert_eq!(outcome.code(), 125);
    }
}

#[test]
fn a_restarted_guest_finds_fresh_memory() {
    let first = vec![put(0x5000, b"old"), Step::Fail(ERESTART)];
    let second = vec![Step::Notify(0x5000), Step::Dead(b"CRASH: exit 3\0")];
    let (ended, shown, _) = run(&[], vec![first, second]);
    assert_eq!(ended.outcome.code(), 3);
    assert_eq!(shown, b"");
}

#[test]
fn a_restarted_guest_keeps_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::write(&disk, [7; 1024]).unwrap();
    let file = folder.path().join("spans");
    // Queried in the guest's thread, judged in the test's: who waits for a guest waits for one that panics as well.
    let locked = Arc::new(Mutex::new(Vec::new()));
    let try_disk = || {
        let (disk, locked) = (disk.clone(), locked.clone());
        act(move |_| {
            let in_use =
                matches!(Block::open(&disk.clone().into_os_string().into()), Err(DiskError::InUse(_)));
            locked.lock().unwrap().push(in_use);
        })
    };
    let first =
        vec![put(0x5000, b"span begin first\n\0"), Step::Notify(0x5000), try_disk(), Step::Fail(ERESTART)];
    let second = vec![put(0x5000, b"span begin 2\n\0"), Step::Notify(0x5000), try_disk(), POWER_DOWN];
    let options = ["--block", disk.to_str().unwrap(), "--spans", file.to_str().unwrap()];
    let (ended, shown, _) = run(&options, vec![first, second]);
    assert_eq!(ended.outcome.code(), 0, "{:?}", ended.outcome);
    assert_eq!(shown, b"");
    assert_eq!(*locked.lock().unwrap(), [true, true]);
    assert_eq!(std::fs::read(file).unwrap(), b"span begin 2\n");
}

#[test]
fn an_early_page_fault_of_an_unknown_kernel_hints_at_its_page_format() {
    const DEATH: Step = Step::Dead(b"unhandled trap 14 at 0xc0100000 (0x0)\0");
    let message = |elf: &Elf, options: &[&str], before: Vec<Step>| {
        let steps = before.into_iter().chain([DEATH]).collect();
        run_kernel(elf, options, vec![steps]).0.outcome.message().unwrap()
    };
    let unknown = Elf::good();
    let hint = "try --paging 2-level";
    assert!(message(&unknown, &[], vec![]).contains(hint));
    // Who has stated the format needs no hint, nor does a guest that has come as far as to its devices.
    assert!(!message(&unknown, &["--paging", "pae"], vec![]).contains("try"));
    assert!(!message(&Elf { paging: Some(3), ..Elf::good() }, &[], vec![]).contains("try"));
    let console = vec![put(STATUS, &[3]), Step::Notify(DEVICE_PAGE)];
    assert!(!message(&unknown, &[], console).contains("try"));
}

#[test]
fn a_guest_that_was_not_started_has_no_counters() {
    let (ended, ..) = run(&["--strategy", "nosuch"], vec![vec![]]);
    assert!(matches!(ended.outcome, Outcome::NotStarted(_)), "{:?}", ended.outcome);
    assert_eq!(ended.counters().unwrap(), "");
}

#[test]
fn restarts_have_a_limit() {
    let restart = || vec![Step::Fail(ERESTART)];
    let (ended, ..) = run(&["--restart-limit", "2"], vec![restart(), restart(), restart()]);
    assert!(matches!(ended.outcome, Outcome::RestartLimit(2)));
    assert_eq!(ended.outcome.code(), 122);
    let (ended, ..) = run(&["--restart-limit", "1"], vec![restart(), vec![POWER_DOWN]]);
    assert_eq!(ended.outcome.code(), 0);
}

/// The guest offers `text` on the console's output ring as chain `n`.
fn print(n: u16, text: &'static [u8]) -> Step {
    act(move |host| {
        let driver = Driver { memory: host.memory(), start: OUTPUT_RING.into(), size: 256 };
        driver.put(0x8000, text);
        driver.describe(n, 0x8000, text.len() as u32, 0, 0);
        driver.offer(n);
    })
}

fn signal(address: u32) -> Step {
    act(move |host| host.signal(address))
}

#[test]
fn the_console_device_serves_its_rings() {
    let (outcome, shown) = run_once(vec![
        put(STATUS, &[3]),
        Step::Notify(DEVICE_PAGE),
        print(0, b"by eventfd, "),
        signal(OUTPUT_RING),
        Step::AwaitInterrupt(OUTPUT_IRQ),
        print(1, b"by read"),
        Step::Notify(OUTPUT_RING),
        Step::AwaitInterrupt(OUTPUT_IRQ),
        POWER_DOWN,
    ]);
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert_eq!(shown, b"by eventfd, by read");
}

#[test]
fn a_reset_device_begins_anew() {
    let (outcome, shown) = run_once(vec![
        put(STATUS, &[3]),
        Step::Notify(DEVICE_PAGE),
        print(0, b"before, "),
        signal(OUTPUT_RING),
        Step::AwaitInterrupt(OUTPUT_IRQ),
        put(STATUS, &[0]),
        Step::Notify(DEVICE_PAGE),
        act(|host| {
            let driver = Driver { memory: host.memory(), start: OUTPUT_RING.into(), size: 256 };
            assert_eq!(driver.used_index(), 0, "the ring is empty again");
        }),
        put(STATUS, &[3]),
        Step::Notify(DEVICE_PAGE),
        print(0, b"after"),
        signal(OUTPUT_RING),
        Step::AwaitInterrupt(OUTPUT_IRQ),
        POWER_DOWN,
    ]);
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert_eq!(shown, b"before, after");
}

#[test]
fn an_interrupt_after_the_end_does_not_hide_how_it_ended() {
    let (outcome, _) = run_once(vec![
        put(STATUS, &[3]),
        Step::Notify(DEVICE_PAGE),
        act(|host| host.ended.store(true, Ordering::SeqCst)),
        print(0, b"last words"),
        signal(OUTPUT_RING),
        Step::AwaitInterrupt(OUTPUT_IRQ),
        // The reset waits until the console's threads are at their ends, with all that they had to report.
        put(STATUS, &[0]),
        Step::Notify(DEVICE_PAGE),
        Step::Dead(b"CRASH: exit 5\0"),
    ]);
    assert_eq!(outcome.code(), 5, "{outcome:?}");
}

#[test]
fn a_broken_ring_ends_a_guest_that_runs() {
    let (outcome, _) = run_once(vec![
        put(STATUS, &[3]),
        Step::Notify(DEVICE_PAGE),
        act(|host| {
            let driver = Driver { memory: host.memory(), start: OUTPUT_RING.into(), size: 256 };
            driver.describe(0, u64::MAX, 16, 0, 0);
            driver.offer(0);
            host.signal(OUTPUT_RING);
        }),
        Step::Hang,
    ]);
    assert_eq!(outcome.code(), 120);
    let message = outcome.message().unwrap();
    assert!(message.contains("its console") && message.contains("0xffffffffffffffff"), "{message}");
}

#[test]
fn features_that_were_not_offered_cannot_be_accepted() {
    let disk = tempfile::NamedTempFile::new().unwrap();
    disk.as_file().set_len(512).unwrap();
    // The disk's descriptor follows the console's: 5 bytes and two rings of 8. Its own parts are 5 bytes,
    // one ring, 2 bytes of offered features and 2 of accepted ones.
    let descriptor = DEVICE_PAGE + 21;
    let accepted = u64::from(descriptor) + 5 + 8 + 2;
    let accept = |features: &'static [u8; 2]| {
        let steps = vec![
            put(accepted, features),
            put(u64::from(descriptor) + 4, &[3]),
            Step::Notify(descriptor),
            POWER_DOWN,
        ];
        run(&["--block", disk.path().to_str().unwrap()], vec![steps]).0.outcome
    };
    assert_eq!(accept(&[0x04, 0x02]).code(), 0);
    let outcome = accept(&[0x05, 0x02]);
    assert!(
        matches!(
            &outcome,
            Outcome::Violation { violation: Violation::Features { offered: 0x204, accepted: 0x205 }, .. }
        ),
        "{outcome:?}"
    );
}

#[test]
fn an_instruction_is_emulated_and_the_guest_goes_on() {
    let mut instruction = [0; 15];
    // in (%dx),%eax
    instruction[0] = 0xed;
    let registers = [0, 0, 0xcfc, 0, 0, 0, 0, 0, 0x1000];
    let input = Emulation { trap: IO_PORT, instruction, address: GuestPhys(0), registers };
    let (ended, _, hosts) = run(&[], vec![vec![Step::Emulate(input), POWER_DOWN]]);
    assert_eq!(ended.outcome.code(), 0);
    let registers = hosts[0].stored.lock().unwrap();
    // No cycle is made before an address is written: nothing answers.
    assert_eq!((registers[&24], registers[&48]), (u32::MAX, 0x1001));
    // What cannot be emulated is the guest's end.
    instruction[0] = 0x90;
    let (outcome, _) = run_once(vec![Step::Emulate(Emulation { instruction, ..input })]);
    assert_eq!(outcome.code(), 120);
    let message = outcome.message().unwrap();
    assert!(message.contains("`nop` at 0x1000"), "{message}");
}

#[test]
fn a_last_word_is_no_instruction_whatever_its_length() {
    for length in [Emulation::SHORT, Emulation::LONG] {
        let mut word = b"CRASH: ".to_vec();
        word.resize(length - 1, b'x');
        word.push(0);
        let (outcome, _) = run_once(vec![Step::Dead(word.leak())]);
        assert_eq!(outcome.code(), 121);
    }
}
