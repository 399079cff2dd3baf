//! `cargo xtask`: the project's one front door for people and CI. The library beside describes what each command does.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use xtask::passed_on::{self, Arguments, Package};
use xtask::project::Project;
use xtask::{clean, demo, programs, setup, test};

/// The project's one front door: set up, build, show, test.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Install what is missing and fetch Debian's i386 kernels and headers into the cache
    Setup(setup::Args),
    /// Build the kernel module (both flavours), the launcher and the example guests
    Build(programs::BuildArgs),
    /// Build a Linux guest of Debian's kernel source: its kernel and its initial file system
    #[command(disable_help_flag = true)]
    LinuxGuest(Arguments),
    /// Measure workloads in a guest under several strategies, beside the same guest on the bare machine
    #[command(disable_help_flag = true)]
    Bench(Arguments),
    /// Boot Debian's kernel in QEMU, run a guest under several strategies, compare them
    Demo(demo::Args),
    /// Record a guest's paging requests, as a trace for `replay`
    #[command(disable_help_flag = true)]
    Record(Arguments),
    /// Count the instructions of the pager's hot paths, and compare them with the committed ones
    #[command(disable_help_flag = true)]
    Instructions(Arguments),
    /// Count the instructions of one workload by function: of the guest, the Switcher, the module, the host
    #[command(disable_help_flag = true)]
    Profile(Arguments),
    /// Attack the module at random in the host VM, and all that parses bytes on this machine
    #[command(disable_help_flag = true)]
    Fuzz(Arguments),
    /// Stop at every instruction of the Switcher and inject there every event that can come
    #[command(disable_help_flag = true)]
    Inject(Arguments),
    /// Run everything that CI checks
    Test(test::Args),
    /// A shell in the host VM, with module and launcher at hand
    Shell(demo::ShellArgs),
    /// Make the book of all documents in target/book, and check every link
    #[command(disable_help_flag = true)]
    Book(Arguments),
    /// Write the manual pages and shell completions of the installed programs
    #[command(disable_help_flag = true)]
    Manual(Arguments),
    /// Make Debian packages for i386: the module for DKMS, the programs, the Linux guest
    #[command(disable_help_flag = true)]
    Package(Arguments),
    /// Make a disk image of Debian 12 for i386 with the packages and a C compiler
    #[command(disable_help_flag = true)]
    Image(Arguments),
    /// Throw away what the other commands have made
    Clean(clean::Args),
}

fn main() -> ExitCode {
    xtask::exit_code(run(Command::parse()))
}

fn run(command: Command) -> Result<()> {
    let project = Project::locate()?;
    let pass_on = |package, name| passed_on::pass_on(&project, package, name);
    match command {
        Command::Setup(args) => setup::run(&project, &args).map(drop),
        Command::Build(args) => programs::build_command(&project, &args),
        Command::LinuxGuest(_) => pass_on(Package::LinuxGuestBuilder, "linux-guest"),
        Command::Bench(_) => pass_on(Package::Lab, "bench"),
        Command::Demo(args) => demo::run(&project, &args),
        Command::Record(_) => pass_on(Package::Lab, "record"),
        Command::Instructions(_) => pass_on(Package::Lab, "instructions"),
        Command::Profile(_) => pass_on(Package::Lab, "profile"),
        Command::Fuzz(_) => pass_on(Package::Attack, "fuzz"),
        Command::Inject(_) => pass_on(Package::Attack, "inject"),
        Command::Test(args) => test::run(&project, &args),
        Command::Shell(args) => demo::shell(&project, &args),
        Command::Book(_) => pass_on(Package::Book, "book"),
        Command::Manual(_) => pass_on(Package::Manual, "manual"),
        Command::Package(_) => pass_on(Package::Packages, "package"),
        Command::Image(_) => pass_on(Package::Packages, "image"),
        Command::Clean(args) => clean::run(&project, &args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_on_is_not_looked_at() {
        let passed_on = [
            "linux-guest",
            "bench",
            "record",
            "instructions",
            "profile",
            "fuzz",
            "inject",
            "book",
            "manual",
            "package",
        ];
        for command in passed_on {
            for rest in [&["--help"][..], &["--", "--help"], &["compare", "-x", "--", "-h"], &[]] {
                Command::try_parse_from(["cargo xtask", command].iter().chain(rest)).unwrap();
            }
        }
        assert!(Command::try_parse_from(["cargo xtask", "setup", "--nosuch"]).is_err());
    }
}
