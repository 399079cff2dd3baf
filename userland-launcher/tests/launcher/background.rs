//! A guest's console in the background of a shell, at a real terminal.

use crate::support::driver::Driver;
use crate::support::{Screen, pseudo_terminal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, tcgetattr};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use userland_launcher::devices::console::Console;
use userland_launcher::devices::{Device, QueueService};
use userland_launcher::guest_memory::GuestMemory;
use userland_launcher::terminal::Terminal;
use userland_launcher::virtqueue::Virtqueue;

/// Set where this test is what the shell runs.
const INSIDE: &str = "LGUEST_TEST_INSIDE";
/// Longer than anything here takes, in seconds.
const PATIENCE: u32 = 30;
/// What the guest's side prints when its console is served.
const SERVED: &str = "the console is served";
/// Runs the guest's side in the background, reads a line itself, brings it to the foreground, and ends as it does.
const SCRIPT: &str = r#"set -m; "$@" & read -r line; [ "$line" = "for the shell" ] && fg"#;

/// A shell that is ended with all that it runs.
struct Shell(Child);

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The guest's side: ends with the first byte that is typed at the console.
fn guest() -> ! {
    let terminal = Arc::new(Terminal::new(std::io::stdin().as_fd().try_clone_to_owned().unwrap()));
    let mut input =
        Console::new(terminal.clone(), Screen::default().output()).start().unwrap().swap_remove(0);
    let memory = GuestMemory::map(1 << 20).unwrap();
    let driver = Driver { memory: &memory, start: 0, size: 8 };
    driver.describe_chain(0, &[(0x4000, 1, true)]);
    driver.offer(0);
    let mut queue = Virtqueue::new(&memory, 0, 8).unwrap();
    input.serve(&mut queue).unwrap();
    println!("{SERVED}");
    while driver.used_index() == 0 {
        poll(&mut [PollFd::from_borrowed_fd(input.source().unwrap(), PollFlags::IN)], None).unwrap();
        input.serve(&mut queue).unwrap();
    }
    terminal.give_back();
    std::process::exit(driver.get(0x4000, 1)[0].into());
}

#[test]
fn a_guest_in_the_background_leaves_the_terminal_alone_until_it_is_in_the_foreground() {
    if std::env::var_os(INSIDE).is_some() {
        guest();
    }
    let (person, launcher) = pseudo_terminal();
    let stdio = || Stdio::from(launcher.try_clone().unwrap());
    let test = std::thread::current().name().unwrap().to_owned();
    let shell = Command::new("setsid")
        .args(["-c", "sh", "-c", SCRIPT, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &test, "--nocapture"])
        .env(INSIDE, "1")
        .stdin(stdio())
        .stdout(stdio())
        .stderr(stdio())
        .spawn();
    let mut shell = Shell(shell.unwrap());
    let raw = LocalModes::ISIG | LocalModes::ICANON | LocalModes::ECHO;
    let modes = || tcgetattr(&launcher).unwrap().local_modes & raw;

    let mut shown = String::new();
    while !shown.contains(SERVED) {
        let patience = Timespec { tv_sec: PATIENCE.into(), tv_nsec: 0 };
        let came = poll(&mut [PollFd::new(&person, PollFlags::IN)], Some(&patience)).unwrap();
        assert_eq!(came, 1, "the guest was stopped: {shown}");
        let mut bytes = [0; 256];
        let len = rustix::io::read(&person, &mut bytes).unwrap();
        shown += &String::from_utf8_lossy(&bytes[..len]);
    }
    assert_eq!(modes(), raw, "the shell's");
    rustix::io::write(&person, b"for the shell\n").unwrap();
    let start = Instant::now();
    while !modes().is_empty() {
        assert!(start.elapsed().as_secs() < PATIENCE.into(), "the terminal is not handed over");
        std::thread::sleep(Duration::from_millis(1));
    }
    rustix::io::write(&person, b"g").unwrap();
    assert_eq!(shell.0.wait().unwrap().code(), Some(b'g'.into()));
    assert_eq!(modes(), raw, "it was given back");
}
