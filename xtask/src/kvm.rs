//! Whether QEMU may run on this machine's own processor, and what to do where it may not.
//!
//! A guest of this project needs no processor support for virtualization; its *host VM* does, to run without emulation.
//! There a TLB miss and a load of CR3 cost what they cost.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use thiserror::Error;

use crate::qemu::{PROGRAM, Processor};

/// The device that KVM has.
const DEVICE: &str = "/dev/kvm";

/// Why there is no KVM for QEMU.
#[derive(Debug, Error)]
pub enum KvmError {
    /// The processor has what KVM needs, but the module is not loaded.
    #[error(
        "there is no KVM at {DEVICE}: load it by `sudo modprobe {module}` (if it refuses, switch virtualization on in the firmware)"
    )]
    NotLoaded {
        /// The module for this processor.
        module: &'static str,
    },
    /// This machine is a VM without what KVM needs.
    #[error(
        "there is no KVM at {DEVICE}, as this machine is a VM itself: its own host must switch nested virtualization on \
         (module parameter `nested=1` of kvm_intel or kvm_amd, and `-cpu host` or its like for this VM)"
    )]
    NotNested,
    /// The processor shows no virtualization.
    #[error(
        "there is no KVM at {DEVICE}: the processor has neither VMX nor SVM, or the firmware has it switched off"
    )]
    NoVirtualization,
    /// The user may not use it.
    #[error("{DEVICE} may not be opened: join its group by `sudo usermod -aG kvm $USER`, then log in again")]
    NotAllowed,
    /// The device is there, and something else is wrong with it.
    #[error("{DEVICE} cannot be opened")]
    Device(#[source] io::Error),
    /// QEMU did not start, or not with KVM.
    #[error(
        "{PROGRAM} does not run on this machine's KVM (that of a VM may serve 64-bit guests only: take a machine that is none): {0}"
    )]
    Qemu(String),
}

/// Checks that QEMU runs by KVM, with a PC that never starts.
///
/// # Errors
/// [`KvmError`] with what to do.
pub fn check() -> Result<(), KvmError> {
    let opened = OpenOptions::new().read(true).write(true).open(DEVICE);
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    check_device(opened.map(drop), &processor)?;
    let tried = try_qemu().map_err(|error| KvmError::Qemu(error.to_string()))?;
    check_trial(&tried)
}

/// What opening the device came to, on a processor that `/proc/cpuinfo` describes so.
fn check_device(opened: io::Result<()>, cpuinfo: &str) -> Result<(), KvmError> {
    let Err(error) = opened else { return Ok(()) };
    match error.kind() {
        io::ErrorKind::PermissionDenied => return Err(KvmError::NotAllowed),
        io::ErrorKind::NotFound => {}
        // The file is there, and nobody behind it.
        _ if matches!(error.raw_os_error(), Some(NO_DEVICE | NO_SUCH_DEVICE)) => {}
        _ => return Err(KvmError::Device(error)),
    }
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let has = |flag: &str| flags.split_whitespace().any(|word| word == flag);
    Err(match () {
        () if has("vmx") => KvmError::NotLoaded { module: "kvm_intel" },
        () if has("svm") => KvmError::NotLoaded { module: "kvm_amd" },
        () if has("hypervisor") => KvmError::NotNested,
        () => KvmError::NoVirtualization,
    })
}

/// ENXIO and ENODEV (errno(3)).
const NO_DEVICE: i32 = 6;
const NO_SUCH_DEVICE: i32 = 19;

/// Starts a PC that stands still, and has QEMU's monitor end it.
fn try_qemu() -> io::Result<Output> {
    let mut command = Command::new(PROGRAM);
    command.args(["-accel", Processor::Own.accelerator(), "-cpu", Processor::Own.name()]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-S", "-monitor", "stdio"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut monitor) = child.stdin.take() {
        // One that has died is seen by its status.
        let _ = monitor.write_all(b"quit\n");
    }
    child.wait_with_output()
}

fn check_trial(tried: &Output) -> Result<(), KvmError> {
    if tried.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&tried.stderr);
    let lines: Vec<&str> = complaint.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Err(KvmError::Qemu(format!("{} ({})", lines.join("; "), tried.status)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn refused(errno: i32, flags: &str) -> String {
        let cpuinfo = format!("processor\t: 0\nflags\t\t: fpu {flags} sse\nbugs\t\t: svm\n");
        check_device(Err(io::Error::from_raw_os_error(errno)), &cpuinfo).unwrap_err().to_string()
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        // errno(3): 2 ENOENT, 13 EACCES, 16 EBUSY, 19 ENODEV.
        assert!(refused(2, "vmx").contains("modprobe kvm_intel"));
        assert!(refused(19, "svm hypervisor").contains("modprobe kvm_amd"));
        assert!(refused(2, "hypervisor").contains("nested virtualization"));
        assert!(refused(2, "x").contains("firmware"));
        assert!(refused(13, "vmx").contains("usermod -aG kvm"));
        assert!(refused(16, "vmx").contains("cannot be opened"));
        assert!(check_device(Ok(()), "").is_ok());
    }

    #[test]
    fn what_qemu_complained_about_is_passed_on() {
        let output = |status, stderr: &str| Output {
            status: ExitStatus::from_raw(status),
            stdout: Vec::new(),
            stderr: stderr.into(),
        };
        let error =
            check_trial(&output(6, "failed to set MSR\nassertion failed\n\n")).unwrap_err().to_string();
        assert!(error.contains("failed to set MSR; assertion failed (signal: 6"), "{error}");
        assert!(error.contains("take a machine that is none"), "{error}");
        assert!(check_trial(&output(0, "warning: y\n")).is_ok());
    }
}
