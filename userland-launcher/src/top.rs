//! `lguest top`: what guests do, per second, the fastest counters first; the counters are those of the module.
//!
//! On a terminal the table is drawn anew after each interval; elsewhere one follows the other. What is drawn can go to a CSV
//! file as well, a line for each guest and counter:
//!
//! ```text
//!  time,guest,counter,total,per_second
//!  1700000000.123,512-0,world_switches,81234,4321.0
//! ```

use crate::guest_views::{self, GuestName, ViewError};
use crate::rates::{self, GuestRates, Rate};
use clap::Args;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use thiserror::Error;

/// What is shown of whom.
#[derive(Args, Clone, Debug)]
pub struct Top {
    /// Only the guests of this launcher
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,

    /// The time between two looks
    #[arg(long, value_name = "SECONDS", default_value = "1")]
    pub interval: Interval,

    /// Writes what is shown to FILE as well, a line for each guest and counter: time,guest,counter,total,per_second
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,

    /// Ends after the first table
    #[arg(long)]
    pub once: bool,
}

/// The time between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval(pub Duration);

impl FromStr for Interval {
    type Err = TopError;

    fn from_str(text: &str) -> Result<Self, TopError> {
        match text.parse::<f64>() {
            Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(Self(Duration::from_secs_f64(seconds))),
            _ => Err(TopError::Interval),
        }
    }
}

/// Why nothing can be shown.
#[derive(Debug, Error)]
pub enum TopError {
    /// An interval that is none.
    #[error("the interval is a number of seconds from 0.1 to 3600, as in 0.5")]
    Interval,
    /// Guests cannot be looked at.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The process has no guest.
    #[error("process {pid} has no guest; {}", launchers(.others))]
    NoGuest {
        /// The process.
        pid: u32,
        /// Those that have.
        others: BTreeSet<u32>,
    },
    /// The CSV file cannot be made or written to.
    #[error("cannot write {path}")]
    Csv {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The table cannot be written.
    #[error("cannot write the table")]
    Output(#[source] io::Error),
}

fn launchers(pids: &BTreeSet<u32>) -> String {
    if pids.is_empty() {
        return "there is no guest at all".into();
    }
    let pids: Vec<_> = pids.iter().map(u32::to_string).collect();
    format!("the launchers of those that there are: {}", pids.join(", "))
}

/// The CSV file.
struct Csv {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Csv {
    fn create(path: &Path) -> Result<Self, TopError> {
        let failed = |source| TopError::Csv { path: path.to_owned(), source };
        let mut file = BufWriter::new(File::create(path).map_err(failed)?);
        writeln!(file, "time,guest,counter,total,per_second").map_err(failed)?;
        Ok(Self { path: path.to_owned(), file })
    }

    fn add(&mut self, time: Duration, guests: &[GuestRates]) -> Result<(), TopError> {
        let mut write = || {
            for GuestRates { name, rates } in guests {
                for Rate { name: counter, total, per_second } in rates {
                    let time = time.as_secs_f64();
                    writeln!(self.file, "{time:.3},{name},{counter},{total},{per_second:.1}")?;
                }
            }
            // Whoever is ended by ctrl-C has what was shown.
            self.file.flush()
        };
        write().map_err(|source| TopError::Csv { path: self.path.clone(), source })
    }
}

/// Where the tables go.
pub struct Screen<'a> {
    /// What is written to.
    pub out: &'a mut dyn Write,
    /// For a terminal: how many lines it has, and a table takes the place of the one before.
    pub lines: Option<&'a dyn Fn() -> usize>,
}

impl Screen<'_> {
    /// Shows a table. Returns whether anybody is there to see it.
    fn show(&mut self, table: &str) -> Result<bool, TopError> {
        let mut write = || {
            if let Some(lines) = self.lines {
                let shown = cut(table, lines().max(2) - 1);
                // From the top, over what was there, and nothing below.
                write!(self.out, "\x1b[H{}\x1b[J", shown.replace('\n', "\x1b[K\n"))?;
            } else {
                writeln!(self.out, "{table}")?;
            }
            self.out.flush()
        };
        match write() {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(TopError::Output(error)),
        }
    }
}

/// The first lines of a table, and how many are left out.
fn cut(table: &str, lines: usize) -> String {
    let all: Vec<_> = table.lines().collect();
    if all.len() <= lines {
        return table.to_owned();
    }
    let kept = lines.saturating_sub(1);
    let more = all.len() - kept;
    all[..kept].iter().map(|line| format!("{line}\n")).collect::<String>() + &format!("({more} more lines)\n")
}

/// Shows the guests below `folder` until there is nobody to see them; with [`Top::once`] once, and those of one process as
/// long as it has any.
///
/// # Errors
/// [`TopError`].
pub fn run(top: &Top, folder: &Path, screen: &mut Screen<'_>) -> Result<(), TopError> {
    let mut csv = top.csv.as_deref().map(Csv::create).transpose()?;
    let mut before = (Instant::now(), guest_views::read(folder, top.pid)?);
    if let (Some(pid), true) = (top.pid, before.1.is_empty()) {
        let others = guest_views::read(folder, None)?.keys().map(|&GuestName { pid, .. }| pid).collect();
        return Err(TopError::NoGuest { pid, others });
    }
    loop {
        std::thread::sleep(top.interval.0);
        let after = (Instant::now(), guest_views::read(folder, top.pid)?);
        let elapsed = after.0 - before.0;
        let guests = rates::between(&before.1, &after.1, elapsed);
        if let Some(csv) = &mut csv {
            csv.add(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(), &guests)?;
        }
        let seen = screen.show(&table(guests, elapsed))?;
        if top.once || !seen || top.pid.is_some() && after.1.is_empty() {
            return Ok(());
        }
        before = after;
    }
}

/// The columns of a guest's line, each the rate of a counter.
const COLUMNS: [(&str, &str); 5] = [
    ("switches/s", "world_switches"),
    ("faults/s", "demand_faults"),
    ("reflected/s", "reflected_faults"),
    ("loads/s", "page_directory_loads"),
    ("evictions/s", "evictions"),
];

/// The guests, the busiest first, and under them their counters together.
fn table(mut guests: Vec<GuestRates>, elapsed: Duration) -> String {
    let number = match guests.len() {
        0 => "no guest".into(),
        1 => "1 guest".into(),
        n => format!("{n} guests"),
    };
    let mut table = format!("lguest top: {number}, {:.1} s\n", elapsed.as_secs_f64());
    if guests.is_empty() {
        return table;
    }
    guests.sort_by(|a, b| b.per_second("world_switches").total_cmp(&a.per_second("world_switches")));
    let mut line = |text: std::fmt::Arguments<'_>| writeln!(table, "{text}").expect("a String takes all");
    let headings: String = COLUMNS.iter().map(|(heading, _)| format!("{heading:>13}")).collect();
    line(format_args!("{:<14}{headings}{:>8}", "GUEST", "hits"));
    for guest in &guests {
        let rates = COLUMNS.iter().map(|(_, counter)| format!("{:>13.1}", guest.per_second(counter)));
        let loads = guest.per_second("page_directory_loads");
        let hits = guest.per_second("page_directory_hits");
        let share = if loads > 0.0 { format!("{:.1}%", 100.0 * hits / loads) } else { "-".into() };
        line(format_args!("{:<14}{}{share:>8}", guest.name, rates.collect::<String>()));
    }
    line(format_args!("\n{:<26}{:>20}{:>16}", "COUNTER", "total", "per second"));
    // What has never happened tells nobody anything.
    for Rate { name, total, per_second } in rates::sums(&guests).iter().filter(|sum| sum.total > 0) {
        line(format_args!("{name:<26}{total:>20}{per_second:>16.1}"));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTERS: &str =
        "world_switches 100\npage_directory_loads 8\npage_directory_hits 6\nevictions 2\naudits 0\n";

    fn guest(folder: &Path, name: &str) {
        std::fs::create_dir(folder.join(name)).unwrap();
        std::fs::write(folder.join(name).join("counters"), COUNTERS).unwrap();
    }

    fn top(pid: Option<u32>, csv: Option<PathBuf>) -> Top {
        Top { pid, interval: "0.1".parse().unwrap(), csv, once: true }
    }

    fn shown(top: &Top, folder: &Path) -> Result<String, TopError> {
        let mut out = Vec::new();
        run(top, folder, &mut Screen { out: &mut out, lines: None })?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_busiest_guest_and_the_fastest_counter_come_first() {
        let rate = |name: &str, total, per_second| Rate { name: name.into(), total, per_second };
        let quiet = vec![rate("world_switches", 900, 1.0), rate("audits", 0, 0.0)];
        let busy = vec![
            rate("world_switches", 100, 50.0),
            rate("page_directory_loads", 9, 8.0),
            rate("page_directory_hits", 7, 6.0),
            rate("evictions", 70, 60.5),
        ];
        let guests = [(11, quiet), (12, busy)];
        let guests = guests.map(|(pid, rates)| GuestRates { name: GuestName { pid, number: 0 }, rates });
        let table = table(guests.into(), Duration::from_millis(1500));
        let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[0], ["lguest", "top:", "2", "guests,", "1.5", "s"]);
        assert_eq!(words[2], ["12-0", "50.0", "0.0", "0.0", "8.0", "60.5", "75.0%"]);
        assert_eq!(words[3], ["11-0", "1.0", "0.0", "0.0", "0.0", "0.0", "-"]);
        assert_eq!(
            words[6..],
            [
                ["evictions", "70", "60.5"],
                ["world_switches", "1000", "51.0"],
                ["page_directory_loads", "9", "8.0"],
                ["page_directory_hits", "7", "6.0"],
            ]
        );
    }

    #[test]
    fn one_process_or_all() {
        let folder = tempfile::tempdir().unwrap();
        assert!(shown(&top(None, None), folder.path()).unwrap().starts_with("lguest top: no guest, "));
        guest(folder.path(), "12-0");
        guest(folder.path(), "13-1");
        let all = shown(&top(None, None), folder.path()).unwrap();
        assert!(all.contains("2 guests") && all.contains("12-0") && all.contains("13-1"), "{all}");
        let one = shown(&top(Some(13), None), folder.path()).unwrap();
        assert!(one.contains("1 guest,") && !one.contains("12-0") && one.contains("13-1"), "{one}");
        let error = shown(&top(Some(1), None), folder.path()).unwrap_err().to_string();
        assert_eq!(error, "process 1 has no guest; the launchers of those that there are: 12, 13");
    }

    #[test]
    fn every_counter_is_a_line_of_the_csv_file() {
        let folder = tempfile::tempdir().unwrap();
        guest(folder.path(), "12-0");
        let path = folder.path().join("log.csv");
        shown(&top(None, Some(path.clone())), folder.path()).unwrap();
        let csv = std::fs::read_to_string(path).unwrap();
        let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(lines[0], ["time", "guest", "counter", "total", "per_second"]);
        assert_eq!(lines.len(), 6);
        assert_eq!(lines[1][1..], ["12-0", "world_switches", "100", "0.0"]);
        let nowhere = shown(&top(None, Some("/nosuch/log.csv".into())), folder.path());
        assert!(nowhere.unwrap_err().to_string().contains("/nosuch/log.csv"));
    }

    #[test]
    fn an_interval_is_neither_too_short_nor_too_long() {
        assert_eq!("0.5".parse::<Interval>().unwrap().0, Duration::from_millis(500));
        for wrong in ["", "0", "0.05", "-1", "nan", "inf", "3601", "1s"] {
            assert!(wrong.parse::<Interval>().unwrap_err().to_string().contains("0.1 to 3600"), "{wrong}");
        }
    }

    #[test]
    fn a_small_terminal_gets_what_fits_and_how_much_does_not() {
        assert_eq!(cut("a\nb\nc\n", 3), "a\nb\nc\n");
        assert_eq!(cut("a\nb\nc\nd\n", 3), "a\nb\n(2 more lines)\n");
        let mut out = Vec::new();
        let mut screen = Screen { out: &mut out, lines: Some(&|| 3) };
        assert!(screen.show("a\nb\nc\n").unwrap());
        assert_eq!(String::from_utf8(out).unwrap(), "\x1b[Ha\x1b[K\n(2 more lines)\x1b[K\n\x1b[J");
    }
}
