//! Running external programs: a live line while they work, a log of all they printed, and a short answer to
//! "what went wrong" when they fail.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// The cargo that runs this program: the one known to work here.
pub fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// How many of a failed program's last lines are shown.
const TAIL_LINES: usize = 30;

/// The terminal, shared by everything that is being done at the same time.
static SCREEN: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Where there is no terminal, work that can be counted is reported about this many times.
const TOLD: u64 = 5;

/// Shows that something is being done, for as long as it lives: a spinner on a terminal, plain lines elsewhere.
pub struct Progress {
    bar: Option<ProgressBar>,
    what: String,
    begun: Instant,
    /// How much there is to do, where that can be counted.
    total: Option<u64>,
}

impl Progress {
    /// Begins to show `what`.
    pub fn start(what: impl Into<String>) -> Progress {
        Progress::show(what.into(), None)
    }

    /// Begins to show `what`, of which there is about `total` to do.
    pub fn start_counted(what: impl Into<String>, total: u64) -> Progress {
        Progress::show(what.into(), Some(total.max(1)))
    }

    fn show(what: String, total: Option<u64>) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let (template, bar) = match total {
                None => ("{spinner} {msg} [{elapsed}]", ProgressBar::new_spinner()),
                Some(total) => {
                    ("{spinner} {msg} {wide_bar} {pos}/{len} [{elapsed}]", ProgressBar::new(total))
                }
            };
            let style = ProgressStyle::with_template(template).expect("a fixed template");
            let bar = SCREEN.add(bar.with_style(style).with_message(what.clone()));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Progress { bar, what, begun: Instant::now(), total }
    }

    /// So much of the total is done. The total is a guess, and is raised when it turns out too low.
    pub fn reached(&mut self, done: u64) {
        let Some(total) = self.total else { return };
        if let Some(bar) = &self.bar {
            bar.set_length(total.max(done));
            bar.set_position(done);
        } else if done < total && done.is_multiple_of(total.div_ceil(TOLD)) {
            let seconds = self.begun.elapsed().as_secs();
            SCREEN.suspend(|| eprintln!("  {}: {done} of about {total} ({seconds} s)", self.what));
        }
    }

    /// Leaves one line that reports what was done and how long it took.
    pub fn done(self) {
        let line = format!("  {} ({:.1} s)", self.what, self.begun.elapsed().as_secs_f32());
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        SCREEN.suspend(|| eprintln!("{line}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Runs `command` to its end with all its output in `log`.
///
/// # Errors
/// When it cannot be started or exits with anything but 0: the message names the command, shows the log's last
/// lines and reports where the rest is.
pub fn run_logged(command: &mut Command, log: &Path) -> Result<()> {
    let line = describe(command);
    let file = begin_log(log, &line)?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .with_context(|| format!("cannot start `{line}`"))?;
    judge(&line, status, log)
}

/// As [`run_logged`]; `said` sees each line that the program prints, as it comes.
pub fn run_watched(command: &mut Command, log: &Path, mut said: impl FnMut(&str)) -> Result<()> {
    let line = describe(command);
    let mut file = begin_log(log, &line)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(file.try_clone()?)
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let mut text = Vec::new();
    while output.read_until(b'\n', &mut text)? > 0 {
        file.write_all(&text)?;
        said(String::from_utf8_lossy(&text).trim_end());
        text.clear();
    }
    judge(&line, child.wait()?, log)
}

/// Opens a log whose first line is the command.
fn begin_log(log: &Path, line: &str) -> Result<File> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    // Several programs may write to it at once: each at its end.
    let mut file = File::options().append(true).open(log)?;
    writeln!(file, "$ {line}")?;
    Ok(file)
}

fn judge(line: &str, status: ExitStatus, log: &Path) -> Result<()> {
    if !status.success() {
        let text = fs::read(log).unwrap_or_default();
        bail!("`{line}` failed ({status}). Its last lines:\n{}\nAll of it: {}", tail(&text), log.display());
    }
    Ok(())
}

/// Runs `command` and returns what it printed.
///
/// # Errors
/// As [`run_logged`], with the program's standard error in the message.
pub fn output(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed ({}):\n{}", output.status, tail(&output.stderr));
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` printed what is not UTF-8"))
}

/// Whether a program of this name is in the search path.
pub fn find_program(name: &str) -> Option<PathBuf> {
    // Debian keeps some tools in folders that an ordinary user's path leaves out.
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// The command as one would type it, without its environment.
pub fn describe(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        let arg = arg.to_string_lossy();
        if arg.is_empty() || arg.contains(|c: char| c.is_whitespace() || "'\"$*;&|<>()".contains(c)) {
            line.push_str(&format!("'{}'", arg.replace('\'', r"'\''")));
        } else {
            line.push_str(&arg);
        }
    }
    line
}

/// The last lines of a program's output, indented.
fn tail(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    shown.iter().map(|line| format!("    {line}\n")).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_tells_command_last_lines_and_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("sub/it.log");
        let mut command = Command::new("sh");
        command.args(["-c", "seq 1 100; echo broken pipe dream >&2; exit 3"]);
        let message = run_logged(&mut command, &log).unwrap_err().to_string();
        assert!(message.contains("exit status: 3"), "{message}");
        assert!(message.contains("    broken pipe dream"), "{message}");
        assert!(message.contains(log.to_str().unwrap()), "{message}");
        assert!(message.contains("    100\n") && !message.contains("    50\n"), "{message}");
        assert!(
            fs::read_to_string(&log).unwrap().contains("\n50\n"),
            "the log keeps what the message leaves out"
        );
    }

    #[test]
    fn a_watched_program_is_logged_too() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("it.log");
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo aside >&2; printf two"]);
        run_watched(&mut command, &log, |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["one", "two"]);
        let text = fs::read_to_string(&log).unwrap();
        assert!(["one\n", "aside\n", "two"].iter().all(|word| text.contains(word)), "{text}");
        let mut command = Command::new("sh");
        command.args(["-c", "echo why; exit 7"]);
        let message = run_watched(&mut command, &log, |_| {}).unwrap_err().to_string();
        assert!(message.contains("exit status: 7") && message.contains("    why"), "{message}");
    }

    #[test]
    fn commands_are_described_as_one_would_type_them() {
        let mut command = Command::new("a");
        command.args(["b c", "it's", "", "-d=e"]);
        assert_eq!(describe(&command), r"a 'b c' 'it'\''s' '' -d=e");
    }
}
