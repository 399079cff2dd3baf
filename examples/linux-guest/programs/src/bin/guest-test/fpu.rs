//! The floating-point and SSE registers of a process: its own, whoever else runs and whatever signals come.

use std::arch::asm;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::Settings;
use crate::process;
use crate::random::Random;
use crate::timers::Interval;

const PROCESSES: u32 = 6;
const ROUNDS: u32 = 200;

/// The registers under test.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Registers {
    /// x87's, bottom of the stack first.
    x87: [f64; 8],
    /// SSE's.
    xmm: [u128; 8],
    /// x87's control word; the lowest bits mask exceptions, the highest select the rounding.
    control: u16,
    /// SSE's control and status.
    mxcsr: u32,
}

impl Registers {
    fn random(random: &mut Random) -> Registers {
        let rounding = random.below(4) as u32;
        Registers {
            // Whole numbers: exact in every format and rounding.
            x87: std::array::from_fn(|_| f64::from(random.number())),
            xmm: std::array::from_fn(|_| u128::from(random.seed()) << 64 | u128::from(random.seed())),
            control: 0x37f & !0xc00 | (rounding << 10) as u16,
            mxcsr: 0x1f80 & !0x6000 | rounding << 13,
        }
    }
}

/// Loads the registers, spends some time, and stores what they hold then. With `spin` 0 the time goes into
/// system calls that let others run, else into a loop of so many rounds.
fn hold(registers: &Registers, spin: u32) -> Registers {
    let mut after = Registers { x87: [0.0; 8], xmm: [0; 8], control: 0, mxcsr: 0 };
    // SAFETY: it reads the one structure, writes the other, and leaves x87 empty and both control registers as
    // they were.
    unsafe {
        asm!(
            "sub esp, 8",
            "fnstcw [esp]",
            "stmxcsr [esp + 4]",
            "fninit",
            "fldcw [{from} + 192]",
            "ldmxcsr [{from} + 196]",
            "fld qword ptr [{from}]",
            "fld qword ptr [{from} + 8]",
            "fld qword ptr [{from} + 16]",
            "fld qword ptr [{from} + 24]",
            "fld qword ptr [{from} + 32]",
            "fld qword ptr [{from} + 40]",
            "fld qword ptr [{from} + 48]",
            "fld qword ptr [{from} + 56]",
            "movups xmm0, [{from} + 64]",
            "movups xmm1, [{from} + 80]",
            "movups xmm2, [{from} + 96]",
            "movups xmm3, [{from} + 112]",
            "movups xmm4, [{from} + 128]",
            "movups xmm5, [{from} + 144]",
            "movups xmm6, [{from} + 160]",
            "movups xmm7, [{from} + 176]",
            "test ecx, ecx",
            "jz 3f",
            "2:",
            "dec ecx",
            "jnz 2b",
            "jmp 4f",
            "3:",
            "mov ecx, 10",
            "5:",
            "mov eax, {sched_yield}",
            "int 0x80",
            "dec ecx",
            "jnz 5b",
            "4:",
            "fnstcw [{to} + 192]",
            "stmxcsr [{to} + 196]",
            "fstp qword ptr [{to} + 56]",
            "fstp qword ptr [{to} + 48]",
            "fstp qword ptr [{to} + 40]",
            "fstp qword ptr [{to} + 32]",
            "fstp qword ptr [{to} + 24]",
            "fstp qword ptr [{to} + 16]",
            "fstp qword ptr [{to} + 8]",
            "fstp qword ptr [{to}]",
            "movups [{to} + 64], xmm0",
            "movups [{to} + 80], xmm1",
            "movups [{to} + 96], xmm2",
            "movups [{to} + 112], xmm3",
            "movups [{to} + 128], xmm4",
            "movups [{to} + 144], xmm5",
            "movups [{to} + 160], xmm6",
            "movups [{to} + 176], xmm7",
            "fldcw [esp]",
            "ldmxcsr [esp + 4]",
            "add esp, 8",
            from = in(reg) registers,
            to = in(reg) &raw mut after,
            sched_yield = const libc::SYS_sched_yield,
            inout("ecx") spin => _,
            out("eax") _,
            out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
        );
    }
    after
}

const _: () = {
    assert!(std::mem::offset_of!(Registers, xmm) == 64);
    assert!(std::mem::offset_of!(Registers, control) == 192);
    assert!(std::mem::offset_of!(Registers, mxcsr) == 196);
};

fn unchanged(random: &mut Random, spin: u32) -> Result<()> {
    let before = Registers::random(random);
    let after = hold(&before, spin);
    ensure!(after == before, "the registers hold {after:x?} instead of {before:x?}");
    Ok(())
}

/// While other processes use the same registers.
pub fn switches(settings: &Settings) -> Result<()> {
    process::in_parallel(PROCESSES, |number| {
        let mut random = Random::new(settings.seed ^ u64::from(number));
        for round in 0..ROUNDS {
            // Switches by will and by the clock.
            let spin = if round % 2 == 0 { 0 } else { 200_000 };
            unchanged(&mut random, spin).with_context(|| format!("round {round}"))?;
        }
        Ok(())
    })
}

/// While signals come whose handler uses the same registers.
pub fn signals(settings: &Settings) -> Result<()> {
    static DELIVERED: AtomicU32 = AtomicU32::new(0);

    extern "C" fn clobber(_: i32) {
        let count = DELIVERED.fetch_add(1, Ordering::Relaxed);
        let others = Registers {
            x87: [f64::from(count); 8],
            xmm: [u128::from(count); 8],
            control: 0x37f | 0xc00,
            mxcsr: 0x1f80 | 0x6000,
        };
        hold(&others, 10);
        // A handler begins with registers of its own, and need not leave them tidy.
        // SAFETY: the interrupted code gets its own back.
        unsafe { asm!("fninit", "pxor xmm0, xmm0", "pxor xmm7, xmm7", out("xmm0") _, out("xmm7") _) };
    }

    process::in_parallel(2, |number| {
        let mut random = Random::new(settings.seed ^ u64::from(number));
        let action = SigAction::new(SigHandler::Handler(clobber), SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler only touches what is its own.
        unsafe { sigaction(Signal::SIGALRM, &action) }.context("no handler")?;
        let interval = Interval::start(libc::ITIMER_REAL, Duration::from_millis(2))?;
        let mut rounds = 0;
        while DELIVERED.load(Ordering::Relaxed) < 100 {
            unchanged(&mut random, 200_000).with_context(|| format!("round {rounds}"))?;
            rounds += 1;
        }
        interval.stop()
    })
}
