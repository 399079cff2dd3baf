//! A host that follows a script instead of running a guest.

use arch_i386::addr::PAGE_SIZE;
use arch_i386::debug::Registers;
use arch_i386::launcher::{Emulation, View};
use arch_i386::paging::Paging;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use userland_launcher::guest_memory::GuestMemory;
use userland_launcher::host::{Host, HostError};

/// Longer than anything here takes; a test that waits so long fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// What one read of the device does.
pub enum Step {
    /// The guest does something to its memory, and goes on.
    Act(Box<dyn FnOnce(&ScriptedHost) + Send>),
    /// The guest notifies this address.
    Notify(u32),
    /// A trap of this vector stops the guest.
    Trap(u8),
    /// The host reports why the guest is dead.
    Dead(&'static [u8]),
    /// The read fails with this errno.
    Fail(i32),
    /// The guest stands at an instruction that the launcher emulates.
    Emulate(Emulation),
    /// The guest waits for this interrupt.
    AwaitInterrupt(u32),
    /// The guest runs for ever.
    Hang,
    /// The guest runs until a signal comes, and goes on after that.
    Run,
}

/// Plays the module for one guest.
pub struct ScriptedHost {
    steps: Mutex<VecDeque<Step>>,
    memory: OnceLock<Arc<GuestMemory>>,
    /// Requests in their order, in words.
    pub log: Mutex<Vec<String>>,
    eventfds: Mutex<HashMap<u32, OwnedFd>>,
    /// Registers that the launcher has set, by their offsets.
    pub stored: Mutex<HashMap<u32, u32>>,
    raise: Sender<u32>,
    raised: Mutex<Receiver<u32>>,
    /// How often the guest has begun to run, and how often it was interrupted, together.
    pub runs: AtomicUsize,
    /// The guest has ended, as far as interrupts are concerned.
    pub ended: AtomicBool,
    /// Its registers.
    pub registers: Mutex<Registers>,
}

impl ScriptedHost {
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Arc<Self> {
        let (raise, raised) = channel();
        Arc::new(Self {
            steps: Mutex::new(steps.into_iter().collect()),
            memory: OnceLock::new(),
            log: Mutex::default(),
            eventfds: Mutex::default(),
            stored: Mutex::default(),
            raise,
            raised: Mutex::new(raised),
            runs: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            registers: Mutex::default(),
        })
    }

    /// The guest's memory, known once it was initialised.
    pub fn memory(&self) -> &GuestMemory {
        self.memory.get().expect("initialised")
    }

    /// The guest notifies an address with an eventfd, as a ring's.
    pub fn signal(&self, address: u32) {
        let eventfds = self.eventfds.lock().unwrap();
        rustix::io::write(&eventfds[&address], &1u64.to_ne_bytes()).unwrap();
    }

    /// The next interrupt that is raised, or has been.
    pub fn next_interrupt(&self) -> u32 {
        self.raised.lock().unwrap().recv_timeout(PATIENCE).expect("an interrupt")
    }

    /// Whether it executes instructions.
    pub fn is_running(&self) -> bool {
        self.runs.load(Ordering::SeqCst) % 2 == 1
    }

    fn note(&self, text: String) {
        self.log.lock().unwrap().push(text);
    }
}

impl Host for ScriptedHost {
    fn select_paging(&self, paging: Paging) -> Result<(), HostError> {
        self.note(format!("paging {paging}"));
        Ok(())
    }

    fn select_strategy(&self, spec: &str) -> Result<(), HostError> {
        self.note(format!("strategy {spec}"));
        if spec == "nosuch" { Err(HostError::StrategyRefused(spec.to_owned())) } else { Ok(()) }
    }

    fn initialize(&self, memory: Arc<GuestMemory>, entry: u32, device_limit: u32) -> Result<(), HostError> {
        self.note(format!("initialize {:#x} bytes, entry {entry:#x}", memory.len()));
        assert!(device_limit as usize * PAGE_SIZE as usize >= memory.len());
        assert!(self.memory.set(memory).is_ok(), "initialised twice");
        Ok(())
    }

    fn read(&self, message: &mut [u8]) -> io::Result<usize> {
        loop {
            let step = self.steps.lock().unwrap().pop_front().expect("a script that ends the guest");
            match step {
                Step::Act(act) => act(self),
                Step::Notify(address) => {
                    message[..4].copy_from_slice(&address.to_ne_bytes());
                    return Ok(4);
                }
                Step::Trap(vector) => {
                    message[0] = vector;
                    return Ok(1);
                }
                Step::Emulate(emulation) => {
                    let bytes = emulation.long();
                    message[..bytes.len()].copy_from_slice(&bytes);
                    return Ok(bytes.len());
                }
                Step::Dead(reason) => {
                    let n = reason.len().min(message.len());
                    message[..n].copy_from_slice(&reason[..n]);
                    return Ok(n);
                }
                Step::Fail(errno) => return Err(io::Error::from_raw_os_error(errno)),
                Step::AwaitInterrupt(irq) => {
                    let raised = self.raised.lock().unwrap().recv_timeout(PATIENCE);
                    assert_eq!(raised, Ok(irq), "the interrupt that the guest waits for");
                }
                Step::Run => {
                    self.runs.fetch_add(1, Ordering::SeqCst);
                    rustix::event::poll(&mut [], None).unwrap_err();
                    self.runs.fetch_add(1, Ordering::SeqCst);
                    self.steps.lock().unwrap().push_front(Step::Run);
                    return Err(io::Error::from_raw_os_error(libc::EINTR));
                }
                Step::Hang => loop {
                    std::thread::park();
                },
            }
        }
    }

    fn set_register(&self, offset: u32, value: u32) -> io::Result<()> {
        self.stored.lock().unwrap().insert(offset, value);
        Ok(())
    }

    fn interrupt(&self, irq: u32) -> io::Result<()> {
        self.raise.send(irq).map_err(io::Error::other)?;
        if self.ended.load(Ordering::SeqCst) {
            Err(io::Error::from_raw_os_error(libc::ENOENT))
        } else {
            Ok(())
        }
    }

    fn attach_eventfd(&self, address: u32, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.eventfds.lock().unwrap().insert(address, fd.try_clone_to_owned()?);
        Ok(())
    }

    fn counters(&self) -> io::Result<String> {
        // As the module does.
        if self.is_running() {
            Err(io::Error::from_raw_os_error(libc::EBUSY))
        } else {
            Ok("switches 3\n".to_owned())
        }
    }

    fn view(&self, view: View) -> io::Result<String> {
        let rows = match view {
            View::Directories => {
                "directory current kernel_stack leaf_tables entries shared_entries\n0x00001000 yes no 2 3 4\n"
            }
            View::Tables => "directory page rights accessed dirty\nshared 0xc0000000 rwx- 1 0\n",
        };
        Ok(rows.to_owned())
    }

    fn registers(&self) -> io::Result<Registers> {
        Ok(*self.registers.lock().unwrap())
    }

    fn set_registers(&self, registers: &Registers) -> io::Result<()> {
        *self.registers.lock().unwrap() = *registers;
        Ok(())
    }

    fn intercept(&self, vectors: u32) -> io::Result<()> {
        self.note(format!("intercept {vectors:#b}"));
        Ok(())
    }

    fn pass_trap_on(&self) -> io::Result<()> {
        self.note("pass the trap on".into());
        Ok(())
    }

    fn memory(&self) -> Option<Arc<GuestMemory>> {
        self.memory.get().cloned()
    }

    fn recording(&self) -> Result<Box<dyn io::Read + Send>, HostError> {
        Ok(Box::new(&b"a recording"[..]))
    }
}
