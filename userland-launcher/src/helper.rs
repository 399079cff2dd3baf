//! Helper processes, which can still do what the launcher no longer may once it has given up its rights.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::net::UnixStream;

/// Starts a process that runs `serve` with its end of a socket, and ends then. It has the rights that the launcher has now, and the
/// files that are open. Returns the other end, which the launcher's end closes, however that comes.
///
/// # Errors
/// When there is more than one thread, or no more processes.
pub fn start(serve: impl FnOnce(UnixStream) -> io::Result<()>) -> io::Result<UnixStream> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("threads run already"));
    }
    let (ours, theirs) = UnixStream::pair()?;
    // SAFETY: there is no other thread that could hold a lock at this moment.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(ours);
            let served = detach().and_then(|()| serve(theirs));
            std::process::exit(i32::from(served.is_err()))
        }
        _ => Ok(ours),
    }
}

/// Makes the helper independent of the launcher's terminal: keys that end the launcher are not for the helper, and
/// who reads what the launcher prints is not to wait for the helper.
fn detach() -> io::Result<()> {
    rustix::process::setsid()?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(rustix::stdio::dup2_stderr(&null)?)
}
