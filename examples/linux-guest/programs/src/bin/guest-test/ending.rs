//! How the machine itself ends. These tests pass by not coming back: who runs them looks at what becomes of the
//! machine.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::reboot::{RebootMode, reboot};

use crate::Settings;

/// Powers the machine off.
pub fn power_off(_: &Settings) -> Result<()> {
    end(RebootMode::RB_POWER_OFF)
}

/// Restarts it.
pub fn restart(_: &Settings) -> Result<()> {
    end(RebootMode::RB_AUTOBOOT)
}

/// Halts it: it stands still for ever.
pub fn halt(_: &Settings) -> Result<()> {
    end(RebootMode::RB_HALT_SYSTEM)
}

fn end(mode: RebootMode) -> Result<()> {
    nix::unistd::sync();
    match reboot(mode) {
        Err(errno) => Err(errno).context("the kernel refused (is this root?)"),
    }
}

/// Makes the kernel panic by a fault of its own, and restart or stop as its `panic=` specifies.
pub fn crash(_: &Settings) -> Result<()> {
    trigger("c")
}

fn trigger(key: &str) -> Result<()> {
    let path = "/proc/sysrq-trigger";
    fs::write(path, key).with_context(|| format!("{path} (does the kernel have CONFIG_MAGIC_SYSRQ?)"))?;
    std::thread::sleep(Duration::from_secs(10));
    bail!("the machine goes on after key {key} in {path}")
}
