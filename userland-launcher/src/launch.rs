//! From a command line to a guest's end: prepares memory, starts the guest, waits, restarts.
//!
//! ```text
//!  main thread    prepares memory; waits for the first outcome; reports
//!  guest thread   Initialize and every read, as the host requires both from one thread
//!  worker threads one for each virtqueue the guest has set up
//! ```

use crate::boot_params::{self, Initrd};
use crate::cli::Cli;
use crate::console_output::ConsoleOutput;
use crate::control::Control;
use crate::counters::ticks;
use crate::devices::bus::{Bus, Layout};
use crate::devices::console::Console;
use crate::devices::{AnyDevice, worker::Context};
use crate::files::Files;
use crate::guest_memory::GuestMemory;
use crate::hints::{self, Warning};
use crate::host::{Host, HostError};
use crate::kernel::{Image, Kernel};
pub use crate::launch_error::LaunchError;
use crate::outcome::Outcome;
use crate::paging;
use crate::recording::Recording;
use crate::run::run;
use crate::spans::Spans;
use crate::terminal::Terminal;
use arch_i386::addr::{GuestFrame, PAGE_SIZE};
use arch_i386::paging::Paging;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A guest that is ready to start.
pub struct Prepared {
    memory: GuestMemory,
    /// Bytes of ordinary memory.
    top: u32,
    entry: u32,
    /// The format of its page tables, if it is not the host's.
    paging: Option<Paging>,
    /// The same, if nobody has stated it: neither the user nor the kernel.
    assumed_paging: Option<Paging>,
    warnings: Vec<Warning>,
    kernel: Arc<[Image]>,
    devices: Vec<AnyDevice>,
    layout: Layout,
}

impl Prepared {
    /// Loads everything that `cli` names, from `files`.
    ///
    /// # Errors
    /// Everything that can be wrong with what the user gave; see [`LaunchError`].
    pub fn new(
        cli: &Cli,
        files: &Files,
        terminal: &Arc<Terminal>,
        output: &ConsoleOutput,
    ) -> Result<Self, LaunchError> {
        let bad_kernel = |source| LaunchError::Kernel { path: cli.kernel().to_owned(), source };
        let file = files
            .kernel()
            .map_err(|source| LaunchError::OpenKernel { path: cli.kernel().to_owned(), source })?;
        let kernel = Kernel::read(file).map_err(bad_kernel)?;
        let devices = devices(files, terminal, output);
        let layout = Layout::new(&devices, GuestFrame(cli.memory.pages()))?;
        let total = layout.page_limit as usize * PAGE_SIZE as usize;
        let mut memory = GuestMemory::map(total).map_err(|e| LaunchError::MapMemory(cli.memory, e))?;
        let refused = |option| move |source| LaunchError::Advice { option, source };
        if cli.mergeable {
            memory.make_mergeable().map_err(refused("--mergeable"))?;
        }
        if cli.huge_pages {
            memory.request_huge_pages().map_err(refused("--huge-pages"))?;
        }
        if cli.prealloc {
            memory.populate().map_err(refused("--prealloc"))?;
        }

        let (ordinary, device_area) = memory.bytes_mut().split_at_mut(cli.memory.bytes() as usize);
        kernel.load(ordinary).map_err(bad_kernel)?;
        let initrd = match &cli.initrd {
            Some(path) => load_initrd(path, files, ordinary, kernel.end())?,
            None => None,
        };
        let mut command_line = boot_params::command_line(cli.append.as_deref(), cli.arguments());
        let warnings = if kernel.is_noted() {
            Vec::new()
        } else {
            hints::before_start(cli.memory, &command_line, kernel.has_high_memory())
        };
        let host = files.host_paging;
        let stated = paging::decide(cli.paging, &command_line, kernel.paging(), None);
        let paging = stated.or(host);
        let assumed_paging = host.filter(|_| stated.is_none() && !kernel.is_noted());
        if let Some(paging) = paging {
            command_line = paging::with_word(&command_line, paging);
        }
        boot_params::write(ordinary, &command_line, initrd)?;
        device_area[..layout.page.len()].copy_from_slice(&layout.page);
        let paging = paging.filter(|_| paging != host);
        let (top, entry, kernel) = (cli.memory.bytes(), kernel.entry(), kernel.images());
        Ok(Self { memory, top, entry, paging, assumed_paging, warnings, kernel, devices, layout })
    }

    /// What the user should know before the start.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// What the guest will find in memory.
    pub fn memory(&mut self) -> &mut GuestMemory {
        &mut self.memory
    }
}

/// The guest's devices, in the order of the bus.
fn devices(files: &Files, terminal: &Arc<Terminal>, output: &ConsoleOutput) -> Vec<AnyDevice> {
    let mut devices = vec![Console::new(terminal.clone(), output.clone()).into()];
    devices.extend(files.disks.iter().cloned().map(AnyDevice::from));
    devices.extend(files.entropy.iter().cloned().map(AnyDevice::from));
    devices.extend(files.network.iter().cloned().map(AnyDevice::from));
    devices
}

/// Puts the file at the top of memory, from a page boundary, above the kernel that ends at `kernel_end`.
fn load_initrd(
    path: &Path,
    files: &Files,
    memory: &mut [u8],
    kernel_end: u64,
) -> Result<Option<Initrd>, LaunchError> {
    let failed = |source| LaunchError::ReadInitrd { path: path.to_owned(), source };
    let Some(mut file) = files.initrd().map_err(failed)? else { return Ok(None) };
    let len = file.metadata().map_err(failed)?.len();
    let page = u64::from(PAGE_SIZE);
    let needed = kernel_end.next_multiple_of(page).saturating_add(len).checked_next_multiple_of(page);
    let memory_len = memory.len() as u64;
    match needed {
        Some(needed) if needed <= memory_len => {}
        _ => {
            let needed = needed.unwrap_or(u64::MAX);
            return Err(LaunchError::InitrdTooLarge { path: path.to_owned(), len, needed });
        }
    }
    let start = memory_len - len.next_multiple_of(page);
    file.read_exact(&mut memory[start as usize..][..len as usize]).map_err(failed)?;
    Ok(Some(Initrd { start: start as u32, len: len as u32 }))
}

/// How a guest ended, and what may still be queried of it.
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// Its host, for the counters.
    pub host: Arc<dyn Host>,
    /// Ticks of the time-stamp counter that its (last) life took.
    pub ticks: u64,
    /// What is being recorded of it.
    pub recording: Option<Recording>,
}

impl Ended {
    /// The host's counters of the guest, as [`Host::counters`] returns them; none of a guest that the host did not take.
    ///
    /// # Errors
    /// As [`Host::counters`]: a guest that was left, or killed by the launcher, still runs.
    pub fn counters(&self) -> io::Result<String> {
        match self.outcome {
            Outcome::NotStarted(_) => Ok(String::new()),
            _ => self.host.counters(),
        }
    }

    /// Lets go of the host, and waits for the end of the recording that comes then. A guest that still
    /// runs, as it was left or killed by the launcher, holds on to its host itself: there the recording
    /// lacks its last few operations.
    ///
    /// # Errors
    /// When the recording could not be kept.
    pub fn close(self) -> io::Result<Outcome> {
        drop(self.host);
        match self.recording {
            Some(recording) if self.outcome.is_the_guests_end() => recording.finish()?,
            _ => {}
        }
        Ok(self.outcome)
    }
}

/// What threads report to the main thread.
enum Event {
    /// The guest is about to execute its first instruction, at this tick.
    Started(u64, Option<Recording>),
    /// Something ended the guest, at this tick.
    Ended(Outcome, u64),
}

/// The place where outcomes arrive, of which the first one counts.
pub struct Session {
    control: Arc<Control>,
    sender: Sender<Event>,
    receiver: Receiver<Event>,
    output: ConsoleOutput,
}

impl Session {
    /// A session that shows early console strings on `output`, and whose guests `control` has.
    #[must_use]
    pub fn new(output: ConsoleOutput, control: Arc<Control>) -> Self {
        let (sender, receiver) = channel();
        Self { control, sender, receiver, output }
    }

    /// A function with which any thread may end the guest.
    pub fn ender(&self) -> impl Fn(Outcome) + Send + Sync + use<> {
        let sender = self.sender.clone();
        // Nobody listens any more once an outcome is known.
        move |outcome| drop(sender.send(Event::Ended(outcome, ticks())))
    }

    /// Runs guests made by `prepare` on hosts made by `open_host`, one after the other as long as they
    /// request a restart. What is reported of them goes to `files`.
    ///
    /// # Errors
    /// See [`LaunchError`].
    pub fn run(
        &self,
        cli: &Cli,
        files: &Files,
        prepare: impl Fn() -> Result<Prepared, LaunchError>,
        open_host: impl Fn() -> Result<Arc<dyn Host>, HostError>,
    ) -> Result<Ended, LaunchError> {
        let mut restarts = 0;
        loop {
            let prepared = prepare()?;
            let mut ended = self.run_once(prepared, open_host()?, cli, files)?;
            if !matches!(ended.outcome, Outcome::Restart) {
                return Ok(ended);
            }
            match cli.restart_limit {
                Some(limit) if restarts >= limit => {
                    ended.outcome = Outcome::RestartLimit(limit);
                    return Ok(ended);
                }
                _ => restarts = restarts.saturating_add(1),
            }
            // Before the next life is recorded to the same file.
            ended.close().map_err(LaunchError::Recording)?;
        }
    }

    /// One life.
    fn run_once(
        &self,
        prepared: Prepared,
        host: Arc<dyn Host>,
        cli: &Cli,
        files: &Files,
    ) -> Result<Ended, LaunchError> {
        let path = |option: &Option<PathBuf>| option.clone().unwrap_or_default();
        let failed = |source| LaunchError::Spans { path: path(&cli.spans), source };
        let spans = files.spans().map_err(failed)?.map(Spans::new);
        let failed = |source| LaunchError::Record { path: path(&cli.record), source };
        let record = files.record().map_err(failed)?.map(|file| (file, path(&cli.record)));
        let strategy = cli.strategy();
        let end = Arc::new(self.ender());
        let (guest_host, output, sender) = (host.clone(), self.output.clone(), self.sender.clone());
        let (guest_end, control) = (end.clone(), self.control.clone());
        let thread = std::thread::Builder::new().name("guest".into());
        let thread = thread.spawn(move || {
            let started = |recording| drop(sender.send(Event::Started(ticks(), recording)));
            let choices = (strategy.as_deref(), record);
            let running = control.runs(guest_host.clone(), prepared.kernel.clone());
            let outcome = live(prepared, (guest_host, &control), choices, (&output, spans), end, started);
            let outcome = outcome.unwrap_or_else(|outcome| outcome);
            control.ended(outcome.code());
            drop(running);
            guest_end(outcome);
        });
        let thread = thread.map_err(LaunchError::Thread)?;

        let (mut start, mut recording) = (None, None);
        // The session holds a sender itself, so there is always another event until the end.
        let (outcome, ticks) = loop {
            match self.receiver.recv() {
                Ok(Event::Started(tick, started)) => (start, recording) = (Some(tick), started),
                Ok(Event::Ended(outcome, tick)) => {
                    break (outcome, start.map_or(0, |start| tick.wrapping_sub(start)));
                }
                Err(disconnected) => {
                    return Err(LaunchError::Thread(io::Error::other(disconnected)));
                }
            }
        };
        if matches!(outcome, Outcome::Restart) {
            // The guest's thread has stopped its workers before it reported this.
            let _ = thread.join();
            // What the old life's last words were does not concern the new one; a signal does.
            for event in self.receiver.try_iter() {
                if let Event::Ended(outcome @ Outcome::Signal(_), _) = event {
                    return Ok(Ended { outcome, host, ticks, recording });
                }
            }
        }
        Ok(Ended { outcome, host, ticks, recording })
    }
}

/// The guest's thread. Returns when the guest's own life has ended and its workers have stopped.
fn live(
    prepared: Prepared,
    (host, control): (Arc<dyn Host>, &Control),
    (strategy, record): (Option<&str>, Option<(File, PathBuf)>),
    (output, spans): (&ConsoleOutput, Option<Spans>),
    end: Arc<dyn Fn(Outcome) + Send + Sync>,
    started: impl FnOnce(Option<Recording>),
) -> Result<Outcome, Outcome> {
    let memory = Arc::new(prepared.memory);
    if let Some(paging) = prepared.paging {
        host.select_paging(paging).map_err(Outcome::NotStarted)?;
    }
    if let Some(spec) = strategy {
        host.select_strategy(spec).map_err(Outcome::NotStarted)?;
    }
    host.initialize(memory.clone(), prepared.entry, prepared.layout.device_limit())
        .map_err(Outcome::NotStarted)?;
    let recording = record.map(|(file, path)| {
        let failed = |source| HostError::Recording { path, source };
        Recording::start(host.recording()?, file).map_err(failed)
    });
    let recording = recording.transpose().map_err(Outcome::NotStarted)?;
    let context = Context { host: host.clone(), memory: memory.clone(), ended: end };
    let mut bus = Bus::new(context, prepared.devices, &prepared.layout)?;
    started(recording);
    let outcome = run(host.as_ref(), control, &memory, prepared.top, &mut bus, output, spans);
    Ok(match (outcome, prepared.assumed_paging) {
        (Outcome::KilledByHost(reason), Some(paging)) if !bus.was_used() => {
            Outcome::KilledByHost(hints::of_early_death(&reason, paging).unwrap_or(reason))
        }
        (outcome, _) => outcome,
    })
}
