//! Misbehaviour in ring 3. Each act runs in a child, so that a fault in it ends that child only: what
//! matters is that neither the host nor the guest's kernel comes to harm.

use crate::ensure;
use crate::start::spawn;
use core::arch::asm;
use mini_programs::abi::{FORGED, FORGED_ENTRIES, HostileAct};
use mini_programs::user;

/// Commits a ring-3 act.
pub fn commit(act: HostileAct) {
    match act {
        HostileAct::SysenterUser => in_child(|| {
            // SAFETY: meant to trap; whatever it does, it does to this process.
            unsafe { asm!("mov ecx, esp", "sysenter", out("ecx") _, out("edx") _) };
        }),
        HostileAct::HostVectorsUser => host_vectors(),
        HostileAct::HypercallUser => in_child(|| {
            // SAFETY: as above.
            unsafe { asm!("int 0x1f", inout("eax") 2 => _, in("ebx") 0, in("ecx") 1) };
        }),
        HostileAct::SelectorsUser => selectors(),
        HostileAct::SwitcherAccessUser => switcher_access(),
        HostileAct::SpoiltSystemCall => spoilt_system_calls(),
        HostileAct::ErrorCodeGatesUser => error_code_gates(),
        HostileAct::ForgedDirectoryUser => forged_directory(),
        HostileAct::StackAcrossSwitcherUser => fault_after(HostileAct::StackAcrossSwitcher),
        HostileAct::StackInRegistersUser => fault_after(HostileAct::StackInRegisters),
        _ => crate::start::fail(format_args!("{} is not an act of ring 3", act.name())),
    }
}

fn in_child(act: impl FnOnce()) {
    spawn(|| {
        act();
        0
    });
    // Dying and living on are both right.
    let _ = user::wait();
}

/// Loads and stores through each forged entry, at places whose words there may look like anything.
fn forged_directory() {
    for entry in 0..FORGED_ENTRIES {
        for page in [0, 1, 32, 512, 768, 1023] {
            let address = FORGED + (entry << 22) + (page << 12) + 4;
            in_child(|| {
                user::hostile(HostileAct::ForgedDirectory);
                // SAFETY: faults, or reads what the process does not use.
                unsafe { asm!("mov {0}, [{0}]", inout(reg) address => _, options(nostack)) };
            });
            in_child(|| {
                user::hostile(HostileAct::ForgedDirectory);
                // SAFETY: faults, for there is no memory of the process's.
                unsafe { asm!("mov dword ptr [{}], 0", in(reg) address, options(nostack)) };
            });
        }
    }
}

/// Comes to a fresh page right after the kernel has misbehaved.
fn fault_after(act: HostileAct) {
    let fresh = user::mmap(4096).unwrap_or_else(|| crate::start::fail(format_args!("mmap failed")));
    user::hostile(act);
    // SAFETY: a word of the mapping.
    unsafe { fresh.write_volatile(1) };
}

fn host_vectors() {
    macro_rules! interrupts {
        ($($vector:literal)*) => {
            // SAFETY: meant to trap; whatever it does, it does to this process.
            $(in_child(|| unsafe { asm!(concat!("int ", $vector), out("eax") _) });)*
        };
    }
    interrupts!("2" "8" "13" "14" "0x1e" "0x20" "0x30" "0x81" "0xef" "0xf6" "0xff");
}

/// What arrives is the vector with the error code 0, as of an exception.
fn error_code_gates() {
    user::hostile(HostileAct::ErrorCodeGates);
    // As every C program has, so that switches from and to this one load descriptors.
    let _selector = user::set_tls(error_code_gates as *const () as usize as u32);
    macro_rules! interrupts {
        ($($vector:literal)*) => {
            $(
                spawn(|| {
                    // SAFETY: traps.
                    unsafe { asm!(concat!("int ", $vector)) };
                    0
                });
                let ended = user::wait();
                ensure!(
                    matches!(ended, Some((_, s)) if s.killed == 1 && s.code == $vector && s.error == 0),
                    "int {} ended in {ended:?}", $vector
                );
            )*
        };
    }
    interrupts!(10 11 12 17);
}

fn selectors() {
    for selector in 0..0x110u32 {
        in_child(|| {
            // SAFETY: faults or loads a segment that the process does not use.
            unsafe {
                asm!("mov fs, {0:x}", "mov gs, {0:x}", in(reg) selector, options(nomem, nostack));
            }
            // Through the kernel and another process, and back with that selector still loaded.
            user::yield_now();
            // SAFETY: faults, or reads the segment's first word.
            unsafe { asm!("mov {0}, gs:[0]", out(reg) _, options(nostack)) };
        });
    }
}

fn switcher_access() {
    const TOP_PAGES: u32 = 256;
    for page in 1..=TOP_PAGES {
        let address = page.wrapping_neg().wrapping_mul(4096);
        in_child(|| {
            // SAFETY: meant to fault.
            unsafe { asm!("mov {0}, [{0}]", inout(reg) address => _, options(nostack)) };
        });
        in_child(|| {
            // SAFETY: meant to fault.
            unsafe { asm!("mov dword ptr [{0}], 0", in(reg) address, options(nostack)) };
        });
    }
}

fn spoilt_system_calls() {
    in_child(|| {
        // SAFETY: the stack pointer is put back before anything uses it.
        unsafe {
            asm!("mov ecx, esp", "mov esp, 0xfffffff0", "int 0x80", "mov esp, ecx",
                inout("eax") 1 => _, out("ecx") _);
        }
    });
    in_child(|| {
        // SAFETY: the direction flag and the data segments are put back before anything uses them.
        unsafe {
            asm!("push ds", "push es", "std", "xor ecx, ecx", "mov ds, ecx", "mov es, ecx", "int 0x80",
                "cld", "pop es", "pop ds", inout("eax") 1 => _, out("ecx") _);
        }
    });
    in_child(|| {
        // Every flag that ring 3 may set: trap, direction, nested task, alignment check, id.
        // SAFETY: a trap ends the process, otherwise the flags are put back.
        unsafe {
            asm!("pushfd", "push 0x244f00", "popfd", "int 0x80", "popfd", inout("eax") 1 => _);
        }
    });
    in_child(|| {
        // Arguments that point into the kernel, the Switcher and past the end of the address space.
        for address in [0xc000_0000u32, 0xffff_f000, 0xffff_fffc, 0] {
            // SAFETY: the kernel has to refuse them.
            unsafe {
                asm!("int 0x80", inout("eax") 3 => _, in("ebx") address, in("ecx") 0x1000_0000, in("edx") 0);
            }
        }
    });
}
