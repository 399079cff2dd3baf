//! A person at the disk image's screen, for the section `package`: waits for the prompt, starts a guest, asks the host what it
//! has, switches off.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rexpect::session::{PtySession, spawn_command};
use xtask::qemu;

use crate::image;

/// For how long a program may take to answer, in ms: a start of the whole system on a busy build machine.
const PATIENCE: u64 = 1_800_000;

/// What the shell prints when it waits.
const PROMPT: &str = "student@lguest:~$ ";

/// Logs in to a copy of `image` that is thrown away, and uses it as its greeting says.
///
/// # Errors
/// When an answer does not come, or is another one.
pub fn try_out(image: &Path) -> Result<()> {
    let mut command = Command::new(qemu::PROGRAM);
    command.args(image::options(image)).arg("-snapshot");
    let mut screen = spawn_command(command, Some(PATIENCE)).context("QEMU does not start")?;

    let greeting = screen.exp_string(PROMPT).context("no prompt comes")?;
    ensure!(greeting.contains("Debian 12 with lguest"), "it greets with something else: {greeting}");
    let answer = ask(&mut screen, "lguest-linux --strategy lru -- guest-bench getpid")?;
    // A line such as `bench getpid 20000 241`.
    ensure!(answer.lines().any(|line| line.starts_with("bench ")), "no figure of a guest's: {answer}");
    let answer = ask(&mut screen, "cat /sys/module/lg/parameters/strategies; id -nG")?;
    ensure!(answer.contains("greedy-dual"), "no list of strategies: {answer}");
    ensure!(answer.contains("student") && answer.contains("lguest"), "not the user it should be: {answer}");
    let answer = ask(
        &mut screen,
        "MANPAGER=cat man 4 lg | head -n 1; gcc --version | head -n 1; make --version | head -n 1",
    )?;
    for expected in ["LG(4)", "gcc (Debian", "GNU Make"] {
        ensure!(answer.contains(expected), "{expected} is missing: {answer}");
    }
    screen.send_line("sudo poweroff")?;
    screen.exp_eof().context("it does not switch off")?;
    Ok(())
}

/// What is printed for a command, up to the next prompt.
fn ask(screen: &mut PtySession, command: &str) -> Result<String> {
    screen.send_line(command)?;
    screen.exp_string(PROMPT).with_context(|| format!("no end of: {command}"))
}
