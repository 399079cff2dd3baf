//! The versions of all that takes part in a benchmark.

use std::collections::BTreeMap;
use std::process::Command;

use xtask::process::output;
use xtask::project::Project;
use xtask::setup::Machine;

/// Names and versions. What cannot be found out is `unknown`: the figures are not worse for it.
pub fn all(project: &Project, machine: &Machine) -> BTreeMap<String, String> {
    let mut git = Command::new("git");
    git.arg("-C").arg(project.root()).args(["describe", "--always", "--dirty", "--tags"]);
    let mut qemu = Command::new("qemu-system-i386");
    qemu.arg("--version");
    let first_line = |command: &mut Command| {
        let text = output(command).unwrap_or_default();
        text.lines().next().map_or_else(|| "unknown".to_owned(), |line| line.trim().to_owned())
    };
    let kernels = &machine.kernels;
    [
        ("lguest", first_line(&mut git)),
        ("qemu", first_line(&mut qemu)),
        ("rustc", machine.toolchain.version.clone()),
        ("host kernel", format!("{} ({})", kernels.release, kernels.version)),
    ]
    .map(|(name, version)| (name.to_owned(), version))
    .into()
}
