//! The command line.

use crate::confinement::Confine;
use crate::disk_file::DiskName;
use crate::gdb;
use crate::lguest_c;
use crate::memory_size::MemorySize;
use crate::monitor;
use crate::paging::RequestedFormat;
use crate::recording;
use crate::top::Top;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

/// Starts a kernel as an lguest guest, shows its console, and exits with the guest's own result.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "lguest",
    version,
    after_help = EXIT_CODES,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do instead of starting a guest
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The guest's memory: a whole number of K, M or G
    #[arg(long, value_name = "SIZE", default_value = "32M")]
    pub memory: MemorySize,

    /// Lets the host merge pages of the guest's memory with equal ones of other guests (KSM)
    #[arg(long)]
    pub mergeable: bool,

    /// Has the host hold the guest's memory in huge pages where it can, also if those are not for everybody there
    #[arg(long)]
    pub huge_pages: bool,

    /// Takes all of the guest's memory from the host before the start, so that the guest never waits for a page of it
    #[arg(long)]
    pub prealloc: bool,

    /// The guest's paging strategy, instead of the one the module was loaded with
    #[arg(long, value_name = "NAME[:KEY=VALUE,...]")]
    pub strategy: Option<String>,

    /// The format of the guest's page tables
    #[arg(long, value_enum, default_value_t)]
    pub paging: RequestedFormat,

    /// An initial RAM disk, put at the top of the guest's memory
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,

    /// A disk for the guest, which no other guest can use meanwhile; or one that it only reads, as others may who only
    /// read it; may be repeated
    #[arg(long, value_name = "FILE[,readonly]")]
    pub block: Vec<DiskName>,

    /// Gives the guest a source of random numbers
    #[arg(long)]
    pub rng: bool,

    /// Gives the guest a network card, connected to this TAP interface of the host, or to a new one at this bridge
    #[arg(long, value_name = "TAPDEV|bridge:BRIDGE")]
    pub tunnet: Option<String>,

    /// The kernel's command line; arguments after KERNEL are added to it
    #[arg(long, value_name = "TEXT")]
    pub append: Option<String>,

    /// Writes the host's counters to FILE (or standard error) when the guest has ended
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    #[allow(clippy::option_option, reason = "clap's way to distinguish --counters from --counters=FILE")]
    pub counters: Option<Option<PathBuf>>,

    /// Writes the spans that the guest marks on its early console to FILE, with what the host counted in each
    #[arg(long, value_name = "FILE")]
    pub spans: Option<PathBuf>,

    /// Records the guest's paging requests, as a trace for `replay`; --strategy names the recorded
    /// strategy
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,

    /// Makes a socket by which other programs see to the guest, with JSON lines such as {"command":"pause"}; also
    /// continue, status, counters, directories, tables, stop
    #[arg(long, value_name = "SOCKET")]
    pub monitor: Option<PathBuf>,

    /// Starts no guest, but sends this to the monitor of one that runs, and prints the answer
    #[arg(
        long,
        value_enum,
        value_name = "COMMAND",
        requires = "monitor",
        conflicts_with = "kernel_and_arguments"
    )]
    pub send: Option<monitor::Command>,

    /// Waits for GDB at this TCP port of the loopback interface, or at this Unix socket, before the guest's first
    /// instruction
    #[arg(long, value_name = "PORT|SOCKET")]
    pub gdb: Option<gdb::wire::Address>,

    /// The hypervisor's device
    #[arg(long, value_name = "PATH", default_value = "/dev/lguest")]
    pub device: PathBuf,

    /// Once everything is open, stop being root and become this user; without a GID with that user's own group
    #[arg(long, alias = "username", value_name = "NAME|UID[:GID]")]
    pub user: Option<String>,

    /// Whether lguest, once everything is open, gives up its capabilities and the file system
    #[arg(long, value_enum, default_value_t)]
    pub confine: Confine,

    /// Ends the guest when it and its devices have taken so many seconds of the host's processor time
    #[arg(long, value_name = "SECONDS")]
    pub cpu_time: Option<NonZeroU32>,

    /// How often the guest may restart itself; without this, as often as it likes
    #[arg(long, value_name = "N")]
    pub restart_limit: Option<u32>,

    /// The guest's kernel, a 32-bit i386 ELF executable such as vmlinux, also compressed, or a Linux bzImage; and more of
    /// its command line
    #[arg(value_names = ["KERNEL", "ARGS"], required_unless_present = "send", num_args = 1.., trailing_var_arg = true)]
    kernel_and_arguments: Vec<String>,
}

/// What to do instead of starting a guest.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Shows what the guests of this host do, per second: the fastest counters first (root only). A kernel of this name is ./top
    Top(Top),
}

impl Cli {
    /// Parses a command line of this launcher's own, or of lguest (C); see [`lguest_c`].
    ///
    /// # Errors
    /// Wrong usage, and requests for help.
    pub fn of(line: &[OsString]) -> Result<Self, clap::Error> {
        let parsed = Self::try_parse_from(line)?;
        match lguest_c::translate(line, &parsed.kernel_and_arguments) {
            Some(translated) => Self::try_parse_from(translated),
            None => Ok(parsed),
        }
    }

    /// The file of the guest's kernel.
    #[must_use]
    pub fn kernel(&self) -> &Path {
        // The definition requires one.
        self.kernel_and_arguments.first().map_or(Path::new(""), Path::new)
    }

    /// The sockets that it names for others to connect to.
    #[must_use]
    pub fn sockets(&self) -> Vec<PathBuf> {
        let gdb = match &self.gdb {
            Some(gdb::wire::Address::Socket(path)) => Some(path),
            Some(gdb::wire::Address::Port(_)) | None => None,
        };
        self.monitor.iter().chain(gdb).cloned().collect()
    }

    /// The strategy to request of the host, if any.
    #[must_use]
    pub fn strategy(&self) -> Option<String> {
        match &self.record {
            Some(_) => Some(recording::strategy(self.strategy.as_deref())),
            None => self.strategy.clone(),
        }
    }

    /// What follows the kernel: for its command line.
    #[must_use]
    pub fn arguments(&self) -> &[String] {
        self.kernel_and_arguments.get(1..).unwrap_or_default()
    }
}

const EXIT_CODES: &str = "\
Exit codes:
  N    the guest's own result: 0 after `Power down`, N after `exit N`
  120  the guest was killed, by the host or by the launcher
  121  the guest crashed: it shut down with another last word
  122  the guest restarted more often than --restart-limit allows
  125  lguest could not start the guest or go on with it
  2    wrong usage
  130  left by three ctrl-C within a second
  137  the debugger killed the guest
  152  the guest has had the processor time of --cpu-time
  128+N  ended by signal N";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("lguest").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn everything_after_the_kernel_is_the_kernels() {
        let cli = parse("--memory 64M --block a --block b vmlinux --memory quiet -x").unwrap();
        assert_eq!(cli.memory.bytes(), 64 << 20);
        assert_eq!(cli.block, ["a", "b"].map(|path| DiskName { path: path.into(), read_only: false }));
        assert_eq!(cli.kernel(), Path::new("vmlinux"));
        assert_eq!(cli.arguments(), ["--memory", "quiet", "-x"]);
    }

    fn of(line: &str) -> Result<Cli, clap::Error> {
        let words = std::iter::once("lguest").chain(line.split_whitespace());
        Cli::of(&words.map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn lines_of_lguest_in_c_mean_the_same_here() {
        // The first is the example of Linux's own documentation.
        for line in [
            "64 vmlinux --tunnet=192.168.19.1 --block=rootfile root=/dev/vda",
            "--tunnet=192.168.19.1 64 vmlinux root=/dev/vda --block rootfile",
            "--block=rootfile -- 64 vmlinux --tunnet 192.168.19.1 root=/dev/vda",
        ] {
            let cli = of(line).unwrap();
            assert_eq!(cli.memory.bytes(), 64 << 20, "{line}");
            assert_eq!(cli.kernel(), Path::new("vmlinux"), "{line}");
            assert_eq!(cli.arguments(), ["root=/dev/vda"], "{line}");
            assert_eq!(cli.tunnet.as_deref(), Some("192.168.19.1"), "{line}");
            assert_eq!(cli.block, [DiskName { path: "rootfile".into(), read_only: false }], "{line}");
        }
        let cli = of("--username=nobody 32 vmlinux --rng --initrd=i quiet -- --rng").unwrap();
        assert_eq!((cli.rng, cli.user.as_deref()), (true, Some("nobody")));
        assert_eq!(cli.initrd, Some(PathBuf::from("i")));
        assert_eq!(cli.arguments(), ["quiet", "--rng"]);
        assert!(of("64 vmlinux --nosuch").is_err());
        // A kernel of that name, and what follows a kernel of another name, are none.
        assert_eq!(of("64").unwrap().kernel(), Path::new("64"));
        assert_eq!(of("vmlinux --rng 64").unwrap().arguments(), ["--rng", "64"]);
        assert_eq!(of("./64 k").unwrap().memory.bytes(), 32 << 20);
    }

    #[test]
    fn only_a_request_to_a_monitor_needs_no_kernel() {
        assert_eq!(parse("--monitor m --send pause").unwrap().send, Some(monitor::Command::Pause));
        assert!(parse("--send pause").is_err());
        assert!(parse("--monitor m --send pause vmlinux").is_err());
        assert!(parse("--monitor m --send nosuch").is_err());
        assert!(parse("--monitor m").is_err());
    }

    #[test]
    fn a_port_is_no_socket() {
        let sockets = |line| parse(line).unwrap().sockets();
        assert_eq!(sockets("--monitor m --gdb g k"), [Path::new("m"), Path::new("g")]);
        assert_eq!(sockets("--monitor m --gdb 1234 k"), [Path::new("m")]);
        assert!(sockets("k").is_empty());
        let command = |line| parse(line).unwrap().gdb.unwrap().command();
        assert_eq!(command("--gdb 1234 k"), "gdb vmlinux -ex 'target remote :1234'");
        assert_eq!(command("--gdb ./g k"), "gdb vmlinux -ex 'target remote ./g'");
    }

    #[test]
    fn top_is_a_command_only_in_the_first_place() {
        let Some(Command::Top(top)) = of("top --pid 12 --interval 0.5 --once").unwrap().command else {
            panic!("top is no command")
        };
        assert_eq!((top.pid, top.once, top.csv), (Some(12), true, None));
        assert!(of("top vmlinux").is_err());
        assert!(of("top --interval 0").unwrap_err().to_string().contains("from 0.1 to 3600"));
        for line in ["vmlinux top", "--rng vmlinux top", "64 vmlinux top", "./top", "-- top"] {
            assert!(of(line).unwrap().command.is_none(), "{line}");
        }
        assert_eq!(of("vmlinux top").unwrap().arguments(), ["top"]);
        assert_eq!(of("-- top").unwrap().kernel(), Path::new("top"));
    }

    #[test]
    fn a_misspelt_option_is_no_kernel() {
        assert!(parse("--memroy 64M vmlinux").is_err());
        assert!(parse("").is_err());
    }

    #[test]
    fn counters_take_a_file_only_with_an_equals_sign() {
        assert_eq!(parse("k").unwrap().counters, None);
        assert_eq!(parse("--counters k").unwrap().counters, Some(None));
        assert_eq!(parse("--counters=f k").unwrap().counters, Some(Some(PathBuf::from("f"))));
        assert_eq!(parse("--counters k").unwrap().kernel(), Path::new("k"));
    }

    #[test]
    fn a_wrong_memory_size_says_what_is_right() {
        let error = parse("--memory 32 k").unwrap_err().to_string();
        assert!(error.contains("as in 32M"), "{error}");
    }
}
