//! One run of QEMU: the emulated PC, its three serial lines, and a watchdog.
//!
//! The first line (`ttyS0`) is the kernel's console and goes to a file; the second (`ttyS1`) is that of the
//! programs and is read live; files leave the machine on the third (`ttyS2`), byte for byte. The processor is emulated
//! (TCG), except where a benchmark asks for the developer's own by KVM ([`Processor::Own`], [`kvm`](crate::kvm)).

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::process::describe;

/// The emulator.
pub const PROGRAM: &str = "qemu-system-i386";

/// What came out on the third serial line, in the folder of a run's logs.
pub const EXPORTS: &str = "exports";

/// Memory of an emulated PC that has room for Linux with guests, in MiB.
pub const MEMORY: u32 = 512;

/// Linux's parameters in any case: panics end the run, and oopses are panics. The
/// self-tests of Linux's cryptography and its search for ISA cards are most of a boot and have nothing to do with
/// us. Its test of the timer's interrupt counts ticks of a clock on the wall, and panics where the build machine is
/// busy.
pub const LINUX: &str = "console=ttyS0 panic=-1 oops=panic cryptomgr.notests noisapnp no_timer_check quiet";

/// And where time is the build machine's: how long a processor may do nothing else (120 s, twice the threshold in seconds), RCU may
/// wait, and a task may. A build machine that is paused for half a minute, as virtual ones are, or too busy for that
/// long, looks from inside as if the kernel had hung. Where time is counted in instructions, Linux's own limits hold.
const PATIENCE: &str =
    "watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=300 sysctl.kernel.hung_task_timeout_secs=600";

/// The processor of the PC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Processor {
    /// PAE, NX and a constant TSC, but not what came to 32-bit processors later: what everything else is run on.
    #[default]
    CoreDuo,
    /// All that QEMU can emulate: SMEP and SMAP among it, AVX, five-level paging.
    Max,
    /// A server's of today, with SMEP, SMAP and AVX.
    Epyc,
    /// The last that were 32-bit processors only: PAE, NX, MOVBE, Hyper-Threading.
    N270,
    /// PAE without NX, SSE without SSE2.
    Pentium3,
    /// No emulated one: the developer's own, by KVM, with its counters, and with its invariant time-stamp counter, which QEMU
    /// shows only to a machine that will never migrate. (Without, Linux knows no constant one on AMD's processors, and
    /// so a guest has none.)
    Own,
}

impl Processor {
    /// QEMU's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Processor::CoreDuo => "coreduo",
            Processor::Max => "max",
            Processor::Epyc => "EPYC",
            Processor::N270 => "n270",
            Processor::Pentium3 => "pentium3",
            Processor::Own => "host,pmu=on,migratable=off",
        }
    }

    /// What executes its instructions, by QEMU's name.
    pub fn accelerator(self) -> &'static str {
        match self {
            Processor::Own => "kvm",
            _ => "tcg",
        }
    }
}

/// How virtual time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// As the build machine's.
    Real,
    /// 2 to the power of this many nanoseconds for each instruction: runs repeat exactly, and the time stamp
    /// counter, which counts nanoseconds, gives instructions. For one processor only.
    Instructions(u8),
}

/// What to boot, and in what.
#[derive(Debug, Clone)]
pub struct Pc {
    /// The kernel image. Without one, the machine starts what is on its first disk, which an option gives it.
    pub kernel: Option<PathBuf>,
    /// The initial file system of a Linux; without one the kernel is another, which receives nothing but
    /// [`Pc::append`].
    pub initrd: Option<PathBuf>,
    /// Memory in MiB.
    pub memory: u32,
    /// Number of processors.
    pub processors: u32,
    /// Which processor that is.
    pub processor: Processor,
    /// How time passes.
    pub clock: Clock,
    /// More words for the kernel's command line.
    pub append: String,
}

/// When a run is given up.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Neither serial line printed anything for this long.
    pub silence: Duration,
    /// The whole run took this long.
    pub whole: Duration,
}

/// How a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// QEMU ended by itself: power-off, or a panic. Only the log shows which.
    ByItself,
    /// The watchdog ended it, as nothing had been printed for too long.
    Silent(Duration),
    /// The watchdog ended it, as it had taken too long.
    TooLong(Duration),
}

/// A run that is over.
#[derive(Debug)]
pub struct Run {
    /// What the programs printed.
    pub console: String,
    /// What the kernel printed.
    pub kernel_log: String,
    /// How it ended.
    pub end: End,
}

impl Pc {
    fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        let smp = self.processors.to_string();
        let memory = self.memory.to_string();
        let (accelerator, processor) = (self.processor.accelerator(), self.processor.name());
        command.args(["-accel", accelerator, "-cpu", processor, "-m", &memory, "-smp", &smp]);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        if let Clock::Instructions(shift) = self.clock {
            command.arg("-icount").arg(format!("shift={shift},sleep=off"));
            // What else a machine gets from outside: the time of day, and the seed of Linux's random numbers.
            command.args(["-rtc", "base=2020-01-01T00:00:00,clock=vm", "-seed", "1"]);
        }
        let Some(kernel) = &self.kernel else { return command };
        command.arg("-kernel").arg(kernel);
        let mut append = self.append.clone();
        if let Some(initrd) = &self.initrd {
            command.arg("-initrd").arg(initrd);
            let patience = if self.clock == Clock::Real { format!("{PATIENCE} ") } else { String::new() };
            append.insert_str(0, &format!("{LINUX} {patience}rdinit=/init "));
        }
        command.arg("-append").arg(append.trim_end());
        command
    }

    /// Runs without anyone at the keyboard; `line` sees each line of the programs' console as it comes. The
    /// lines' logs are kept in `folder`.
    pub fn run(&self, folder: &Path, limits: Limits, line: impl FnMut(&str)) -> Result<Run> {
        self.run_with(&[], folder, limits, line)
    }

    /// As [`Pc::run`], with more options for QEMU.
    pub fn run_with(
        &self,
        options: &[String],
        folder: &Path,
        limits: Limits,
        mut line: impl FnMut(&str),
    ) -> Result<Run> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let kernel_log = folder.join("kernel.log");
        File::create(&kernel_log).with_context(|| format!("cannot write {}", kernel_log.display()))?;
        let errors = folder.join("qemu.log");

        let mut command = self.command();
        command.arg("-serial").arg(format!("file:{}", kernel_log.display())).args(["-serial", "stdio"]);
        command.arg("-serial").arg(format!("file:{}", folder.join(EXPORTS).display()));
        command.args(options);
        fs::write(folder.join("command"), describe(&command) + "\n")?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&errors)?);
        let mut child = Killed(command.spawn().with_context(|| format!("cannot start {PROGRAM}"))?);

        let output = child.0.stdout.take().expect("piped");
        let (sender, lines) = mpsc::channel();
        let reader = thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut bytes = Vec::new();
            while matches!(output.read_until(b'\n', &mut bytes), Ok(n) if n > 0) {
                if sender.send(String::from_utf8_lossy(&bytes).into_owned()).is_err() {
                    break;
                }
                bytes.clear();
            }
        });

        let mut console = String::new();
        let begun = Instant::now();
        let mut last_word = begun;
        let mut kernel_said = 0;
        let end = loop {
            match lines.recv_timeout(Duration::from_millis(200)) {
                Ok(text) => {
                    last_word = Instant::now();
                    line(text.trim_end_matches(['\r', '\n']));
                    console.push_str(&text);
                }
                Err(RecvTimeoutError::Disconnected) => break End::ByItself,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let length = fs::metadata(&kernel_log).map_or(0, |meta| meta.len());
            if length != kernel_said {
                kernel_said = length;
                last_word = Instant::now();
            }
            if last_word.elapsed() > limits.silence {
                break End::Silent(limits.silence);
            }
            if begun.elapsed() > limits.whole {
                break End::TooLong(limits.whole);
            }
        };
        drop(child);
        drop(lines);
        reader.join().expect("the reading thread does not panic");

        fs::write(folder.join("console.log"), &console)?;
        let kernel_log = String::from_utf8_lossy(&fs::read(&kernel_log)?).into_owned();
        let complaint = fs::read_to_string(&errors).unwrap_or_default();
        if console.is_empty() && kernel_log.is_empty() && !complaint.trim().is_empty() {
            anyhow::bail!("{PROGRAM} did not start a machine: {}", complaint.trim());
        }
        Ok(Run { console, kernel_log, end })
    }

    /// Runs with both serial lines' place taken by the terminal, until the machine is powered off.
    pub fn run_interactively(&self) -> Result<()> {
        let mut command = self.command();
        command.args(["-serial", "mon:stdio"]);
        let status = command.status().with_context(|| format!("cannot start {PROGRAM}"))?;
        if !status.success() {
            anyhow::bail!("{PROGRAM} ended with {status}");
        }
        Ok(())
    }
}

/// A process that does not outlive its owner.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instruction_clock_and_command_line() {
        let pc = Pc {
            kernel: Some("/k".into()),
            initrd: Some("/i".into()),
            memory: 128,
            processors: 1,
            processor: Processor::Pentium3,
            clock: Clock::Instructions(1),
            append: "lg.shell=host".into(),
        };
        let line = describe(&pc.command());
        assert!(
            line.contains(" -icount shift=1,sleep=off -rtc base=2020-01-01T00:00:00,clock=vm -seed 1 "),
            "{line}"
        );
        assert!(line.contains(" -cpu pentium3 "), "{line}");
        assert!(line.contains(" -smp 1 ") && line.ends_with("quiet rdinit=/init lg.shell=host'"), "{line}");
        assert!(!line.contains("watchdog"), "{line}");
        let line = describe(&Pc { clock: Clock::Real, ..pc.clone() }.command());
        assert!(
            line.contains(" watchdog_thresh=60 ") && line.ends_with(" rdinit=/init lg.shell=host'"),
            "{line}"
        );
        let line = describe(&Pc { clock: Clock::Real, initrd: None, ..pc.clone() }.command());
        assert!(
            !line.contains("-icount")
                && line.ends_with(
                    "-m 128 -smp 1 -nodefaults -no-user-config -display none \
            -no-reboot -kernel /k -append lg.shell=host"
                ),
            "{line}"
        );
        let line = describe(&Pc { clock: Clock::Real, kernel: None, ..pc.clone() }.command());
        assert!(line.ends_with("-no-reboot"), "{line}");
        assert!(line.contains(" -accel tcg -cpu pentium3 "), "{line}");
        let line = describe(&Pc { clock: Clock::Real, processor: Processor::Own, ..pc }.command());
        assert!(
            line.contains(" -accel kvm -cpu host,pmu=on,migratable=off ") && !line.contains("-icount"),
            "{line}"
        );
    }
}
