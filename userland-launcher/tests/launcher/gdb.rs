//! A debugger on a guest that a scripted host runs, as GDB speaks (GDB's manual, "GDB Remote Serial Protocol").

use crate::support::host::{ScriptedHost, Step};
use crate::support::session::Played;
use arch_i386::debug::Registers;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;
use userland_launcher::gdb;
use userland_launcher::outcome::Outcome;

/// A debugger that is connected.
struct Gdb(UnixStream);

impl Gdb {
    fn connect(socket: &Path) -> Self {
        Self(UnixStream::connect(socket).unwrap())
    }

    fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.0.read_exact(&mut byte).unwrap();
        byte[0]
    }

    fn send(&mut self, packet: &str) {
        let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
        write!(self.0, "${packet}#{sum:02x}").unwrap();
        assert_eq!(self.byte(), b'+', "{packet}");
    }

    /// The next packet.
    fn receive(&mut self) -> String {
        while self.byte() != b'$' {}
        let mut text = String::new();
        loop {
            match self.byte() {
                b'#' => break,
                byte => text.push(byte.into()),
            }
        }
        // Its checksum.
        self.byte();
        self.byte();
        // It may be gone after its last one.
        let _ = self.0.write_all(b"+");
        text
    }

    fn ask(&mut self, packet: &str) -> String {
        self.send(packet);
        self.receive()
    }
}

/// Runs a guest of these steps, with a debugger in another thread; returns how the guest ended.
fn with_gdb(
    steps: impl IntoIterator<Item = Step>,
    act: impl FnOnce(&Path, &ScriptedHost) + Send + 'static,
) -> Outcome {
    let mut played = Played::with_socket("--gdb");
    gdb::serve(played.files.gdb.take().unwrap(), played.control.clone(), played.session.ender()).unwrap();
    let (host, socket) = (ScriptedHost::new(steps), played.socket.clone());
    let guest = host.clone();
    played.run(&host, move || act(&socket, &guest))
}

/// Whether a packet says that a signal has stopped the guest.
fn says(packet: &str, signal: &str) -> bool {
    packet.strip_prefix(['S', 'T']).is_some_and(|rest| rest.starts_with(signal))
}

/// The guest has come so far, and a trap of this vector stops it.
fn trap_at(eip: u32, cs: u32, vector: u8) -> [Step; 2] {
    let stand = Step::Act(Box::new(move |host| {
        let mut registers = host.registers.lock().unwrap();
        (registers.eip, registers.cs) = (eip, cs);
    }));
    [stand, Step::Trap(vector)]
}

/// Where the kernel of these tests is linked, and where it is.
const LINKED: u32 = 0xc010_0000;
const KERNEL: u64 = 0x10_0000;
const TRAP_FLAG: u32 = 0x100;
/// SIGTRAP and SIGINT, as GDB numbers them.
const TRAP: &str = "05";
const INTERRUPT: &str = "02";

fn memory(host: &ScriptedHost, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    assert_eq!(host.memory().slice(KERNEL, len).unwrap().copy_to(&mut bytes), bytes.len());
    bytes
}

#[test]
fn breakpoints_stop_a_guest_and_are_not_seen() {
    let script = trap_at(LINKED + 5, 0x61, 3).into_iter().chain([Step::Dead(b"CRASH: exit 7\0")]);
    let outcome = with_gdb(script, |socket, host| {
        let mut gdb = Gdb::connect(socket);
        assert!(says(&gdb.ask("?"), TRAP), "it waits at its first instruction");
        assert!(host.log.lock().unwrap().contains(&"intercept 0b1010".to_owned()));
        assert_eq!(gdb.ask("mc0100000,4"), "01020304");
        assert_eq!(gdb.ask("Z0,c0100004,1"), "OK");
        assert_eq!(gdb.ask("mc0100003,3"), "040506", "what was there");
        assert_eq!(memory(host, 6), [1, 2, 3, 4, 0xcc, 6]);
        // What is written over it is there when it goes.
        assert_eq!(gdb.ask("Mc0100003,2:aabb"), "OK");
        assert_eq!(memory(host, 6), [1, 2, 3, 0xaa, 0xcc, 6]);
        assert_eq!(gdb.ask("m40000000,4"), "E0e", "nothing is mapped there");
        assert_eq!(gdb.ask("Z0,40000000,1"), "E16");
        let stop = gdb.ask("c");
        assert!(says(&stop, TRAP) && stop.contains("swbreak"), "{stop}");
        assert_eq!(host.registers.lock().unwrap().eip, LINKED + 4, "the breakpoint was executed");
        assert_eq!(gdb.ask("z0,c0100004,1"), "OK");
        assert_eq!(memory(host, 6), [1, 2, 3, 0xaa, 0xbb, 6]);
        assert_eq!(gdb.ask("c"), "W07");
    });
    assert_eq!(outcome.code(), 7);
}

#[test]
fn a_step_is_one_instruction() {
    let script = trap_at(0x10_0001, 0x61, 1).into_iter().chain([Step::Run]);
    let outcome = with_gdb(script, |socket, host| {
        let mut gdb = Gdb::connect(socket);
        assert!(says(&gdb.ask("?"), TRAP));
        let before =
            Registers { eax: 0x1234_5678, gs: 0x7b, eflags: 0x202, levels: 0, ..Registers::default() };
        *host.registers.lock().unwrap() = before;
        let shown = gdb.ask("g");
        assert!(shown.starts_with("78563412"), "{shown}");
        assert_eq!(&shown[9 * 8..10 * 8], "02020000");
        assert_eq!(&shown[15 * 8..17 * 8], "7b000000xxxxxxxx", "the floating-point unit is not shown");
        // EAX is another one.
        assert_eq!(gdb.ask(&format!("G21436587{}", shown[8..].replace('x', "0"))), "OK");
        assert_eq!(*host.registers.lock().unwrap(), Registers { eax: 0x8765_4321, ..before });
        let stop = gdb.ask("s");
        assert!(says(&stop, TRAP), "{stop}");
        assert_eq!(host.registers.lock().unwrap().eflags & TRAP_FLAG, 0);
        gdb.send("c");
        while !host.is_running() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Ctrl-C.
        gdb.0.write_all(&[3]).unwrap();
        assert!(says(&gdb.receive(), INTERRUPT));
        assert!(!host.is_running());
        gdb.send("k");
    });
    assert!(matches!(outcome, Outcome::KilledByDebugger), "{outcome:?}");
    assert_eq!(outcome.code(), 137);
}

#[test]
fn what_is_the_guests_own_is_passed_on() {
    let script = trap_at(0x10_0005, 0x61, 3)
        .into_iter()
        // Programs are stepped by the guest.
        .chain(trap_at(0x40_0000, 0x73, 1))
        // The rest of a step that a trap has put on the guest's stack.
        .chain(trap_at(0x10_0006, 0x61, 1))
        .chain([
            Step::Act(Box::new(|host| {
                assert_eq!(host.registers.lock().unwrap().eflags & TRAP_FLAG, 0);
            })),
            Step::Dead(b"CRASH: exit 3\0"),
        ]);
    let outcome = with_gdb(script, |socket, host| {
        host.registers.lock().unwrap().eflags = TRAP_FLAG | 2;
        let mut gdb = Gdb::connect(socket);
        assert!(says(&gdb.ask("?"), TRAP));
        assert_eq!(gdb.ask("c"), "W03");
        let passed = host.log.lock().unwrap().iter().filter(|entry| *entry == "pass the trap on").count();
        assert_eq!(passed, 2);
    });
    assert_eq!(outcome.code(), 3);
}

#[test]
fn a_debugger_that_goes_leaves_nothing_behind() {
    let outcome = with_gdb([Step::Run], |socket, host| {
        // By detaching, and without a word: while the guest stands still, and while it runs.
        for goes in ["D", "", "c"] {
            let mut gdb = Gdb::connect(socket);
            assert!(says(&gdb.ask("?"), TRAP));
            assert_eq!(gdb.ask("Z0,c0100004,1"), "OK");
            assert_eq!(memory(host, 6)[4], 0xcc);
            match goes {
                "D" => assert_eq!(gdb.ask(goes), "OK"),
                "c" => {
                    gdb.send(goes);
                    while !host.is_running() {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
                _ => {}
            }
            drop(gdb);
            let is_let_go = || host.log.lock().unwrap().last().is_some_and(|entry| entry == "intercept 0b0");
            while !is_let_go() || !host.is_running() {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(memory(host, 6), [1, 2, 3, 4, 5, 6]);
        }
        assert!(host.runs.load(Ordering::SeqCst) >= 3);
        // The last one ends it.
        let mut gdb = Gdb::connect(socket);
        assert!(says(&gdb.ask("?"), TRAP));
        gdb.send("k");
    });
    assert_eq!(outcome.code(), 137);
}

/// A guest that a trap stops is let go by a debugger that has done `act`; it must go on as if nothing had happened, from `eip`.
fn let_go_at(trap: [Step; 2], eip: u32, act: impl FnOnce(&mut Gdb, &ScriptedHost) + Send + 'static) {
    let outcome = with_gdb(trap.into_iter().chain([Step::Dead(b"CRASH: exit 7\0")]), move |socket, host| {
        let mut gdb = Gdb::connect(socket);
        assert!(says(&gdb.ask("?"), TRAP));
        act(&mut gdb, host);
        drop(gdb);
        while host.log.lock().unwrap().last().is_none_or(|entry| entry != "intercept 0b0") {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(
            !host.log.lock().unwrap().contains(&"pass the trap on".to_owned()),
            "it is not the guest's own"
        );
        assert_eq!(memory(host, 6), [1, 2, 3, 4, 5, 6]);
        let registers = host.registers.lock().unwrap();
        assert_eq!((registers.eip, registers.eflags & TRAP_FLAG), (eip, 0));
    });
    assert_eq!(outcome.code(), 7);
}

#[test]
fn a_guest_is_let_go_at_a_breakpoint() {
    let at_breakpoint = || trap_at(LINKED + 5, 0x61, 3);
    let run_to_breakpoint = |gdb: &mut Gdb, _: &ScriptedHost| {
        assert_eq!(gdb.ask("Z0,c0100004,1"), "OK");
        let stop = gdb.ask("c");
        assert!(says(&stop, TRAP) && stop.contains("swbreak"), "{stop}");
    };
    // GDB removes its breakpoints before it detaches.
    let_go_at(at_breakpoint(), LINKED + 4, move |gdb, host| {
        run_to_breakpoint(gdb, host);
        assert_eq!(gdb.ask("z0,c0100004,1"), "OK");
        assert_eq!(gdb.ask("D"), "OK");
    });
    let_go_at(at_breakpoint(), LINKED + 4, run_to_breakpoint);
    // The debugger may not have been told yet.
    let_go_at(at_breakpoint(), LINKED + 4, |gdb, host| {
        assert_eq!(gdb.ask("Z0,c0100004,1"), "OK");
        gdb.send("c");
        while host.registers.lock().unwrap().eip < LINKED {
            std::thread::yield_now();
        }
    });
}

#[test]
fn a_program_is_let_go_after_a_step() {
    let_go_at(trap_at(0x40_0000, 0x73, 1), 0x40_0000, |gdb, _| {
        let stop = gdb.ask("s");
        assert!(says(&stop, TRAP), "{stop}");
        assert_eq!(gdb.ask("D"), "OK");
    });
}

#[test]
fn a_ctrl_c_that_comes_after_the_stop_changes_nothing() {
    let script = trap_at(LINKED + 5, 0x61, 3).into_iter().chain([Step::Dead(b"CRASH: exit 7\0")]);
    let outcome = with_gdb(script, |socket, host| {
        let mut gdb = Gdb::connect(socket);
        assert_eq!(gdb.ask("Z0,c0100004,1"), "OK");
        assert!(says(&gdb.ask("c"), TRAP));
        gdb.0.write_all(&[3]).unwrap();
        assert_eq!(gdb.ask("z0,c0100004,1"), "OK");
        assert!(!host.log.lock().unwrap().contains(&"pass the trap on".to_owned()));
        assert_eq!(gdb.ask("c"), "W07");
    });
    assert_eq!(outcome.code(), 7);
}
