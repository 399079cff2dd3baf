//! The program on a machine without the hypervisor, where each guest ends before it begins: what becomes of sockets.

use crate::support::elf::Elf;
use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

/// Runs it with these sockets; returns what it printed.
fn lguest(folder: &Path, monitor: &Path, gdb: &Path) -> String {
    let kernel = folder.join("kernel");
    fs::write(&kernel, Elf::good().bytes()).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_lguest"));
    program.arg("--device").arg(folder.join("nosuch")).arg("--monitor").arg(monitor).arg("--gdb").arg(gdb);
    let output = program.arg(kernel).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn sockets_that_are_left_are_taken_over_and_go_with_the_launcher() {
    let folder = tempfile::tempdir().unwrap();
    let [monitor, gdb] = ["monitor", "gdb"].map(|name| folder.path().join(name));
    // As a launcher leaves them that was killed, and its helper with it.
    for socket in [&monitor, &gdb] {
        drop(UnixListener::bind(socket).unwrap());
    }
    let message = lguest(folder.path(), &monitor, &gdb);
    assert!(message.contains("the hypervisor's module is not loaded"), "{message}");
    assert!(!monitor.exists() && !gdb.exists());
}

#[test]
fn sockets_and_files_of_others_are_refused_and_stay() {
    let folder = tempfile::tempdir().unwrap();
    let [monitor, gdb] = ["monitor", "gdb"].map(|name| folder.path().join(name));
    let others = UnixListener::bind(&gdb).unwrap();
    let message = lguest(folder.path(), &monitor, &gdb);
    assert!(
        message.contains("a program that runs answers there") && message.contains("another name"),
        "{message}"
    );
    assert!(!monitor.exists(), "what was made before it goes");
    UnixStream::connect(&gdb).unwrap();
    drop(others);

    fs::write(&monitor, "x").unwrap();
    let message = lguest(folder.path(), &monitor, &gdb);
    assert!(message.contains("is no socket") && message.contains("another name"), "{message}");
    assert_eq!(fs::read(&monitor).unwrap(), b"x");
}
