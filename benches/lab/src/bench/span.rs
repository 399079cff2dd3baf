//! Reading the spans that a guest marks on its console (`examples/mini-guest/programs/src/workloads.rs`) and
//! that the launcher completes by the host's counters (`userland-launcher/src/spans.rs`):
//!
//! ```text
//! span end ctx16 operations=2048 ticks=21575610 tsc_khz=1000000 counter.world_switches=2311
//! ```
//!
//! A boot of Linux has no marks: its first process prints when it was started (`examples/linux-guest/init`).

use super::results::Span;
use crate::workloads::is_boot;

/// What a guest reports where the module has no constant time-stamp counter to offer.
const NO_SPEED: &str = "tsc_khz=0";

/// The span of `workload` in what was printed. With `instruction_ns` the time-stamp counter counts
/// nanoseconds and an instruction takes that many, otherwise it is as fast as the guest reports.
///
/// # Errors
/// What is missing, or was not understood.
pub fn find<'a>(
    lines: impl IntoIterator<Item = &'a String>,
    workload: &str,
    instruction_ns: Option<u64>,
) -> Result<Span, String> {
    if is_boot(workload) {
        return boot(lines, instruction_ns);
    }
    let begins = format!("span end {workload} ");
    let mut found = lines.into_iter().filter_map(|line| line.trim_end().strip_prefix(&begins));
    let line = found.next().ok_or_else(|| format!("no span of {workload} was marked"))?;
    if found.next().is_some() {
        return Err(format!("more than one span of {workload} was marked"));
    }
    if instruction_ns.is_none() && line.split_whitespace().any(|pair| pair == NO_SPEED) {
        return Err("the host has no time-stamp counter of constant speed, so ticks are no time".to_owned());
    }
    parse(line, instruction_ns).ok_or_else(|| format!("the span `{line}` is not understood"))
}

/// The span from the start of Linux's clock to its first process.
fn boot<'a>(
    lines: impl IntoIterator<Item = &'a String>,
    instruction_ns: Option<u64>,
) -> Result<Span, String> {
    let said = lines.into_iter().find_map(|line| line.split_once("user space after "));
    let (_, after) = said.ok_or("Linux came to no user space")?;
    let seconds = after.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    let seconds = seconds.ok_or_else(|| format!("`{after}` is no time"))?;
    let nanoseconds = (seconds * 1e9).round() as u64;
    let instructions = instruction_ns.map(|ns| nanoseconds / ns);
    Ok(Span { operations: 1, nanoseconds, instructions, ..Span::default() })
}

/// The values behind a span's name; those that are strange to this program are passed over.
fn parse(values: &str, instruction_ns: Option<u64>) -> Option<Span> {
    let (mut span, mut ticks, mut tsc_khz) = (Span::default(), None, None);
    for pair in values.split_whitespace() {
        let (name, value) = pair.split_once('=')?;
        let value: u64 = value.parse().ok()?;
        match name {
            "operations" => span.operations = value,
            "ticks" => ticks = Some(value),
            "tsc_khz" => tsc_khz = Some(value),
            _ => {
                if let Some(counter) = name.strip_prefix("counter.") {
                    span.counters.insert(counter.to_owned(), value);
                }
            }
        }
    }
    let ticks = ticks?;
    span.nanoseconds = match instruction_ns {
        Some(_) => ticks,
        None => (u128::from(ticks) * 1_000_000).checked_div(u128::from(tsc_khz?))?.try_into().ok()?,
    };
    span.instructions = instruction_ns.map(|ns| ticks / ns);
    (span.operations > 0).then_some(span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workloads::BOOT;

    fn find_in(text: &str, instruction_ns: Option<u64>) -> Result<Span, String> {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        find(&lines, "ctx2", instruction_ns)
    }

    const LINES: &str = "span begin ctx2\nspan end ctx2p16 operations=9 ticks=9\n\
        span end ctx2 operations=8 ticks=4000 tsc_khz=2000000 counter.hypercalls=3 later=1\n";

    #[test]
    fn instructions_are_ticks_by_their_length() {
        let span = find_in(LINES, Some(2)).unwrap();
        let counters = [("hypercalls".to_owned(), 3)].into();
        assert_eq!(span, Span { operations: 8, nanoseconds: 4000, instructions: Some(2000), counters });
    }

    #[test]
    fn wall_time_is_ticks_by_the_speed_of_the_counter() {
        let span = find_in(LINES, None).unwrap();
        assert_eq!((span.nanoseconds, span.instructions), (2000, None));
        let unknown = LINES.replace("tsc_khz=2000000", "tsc_khz=0");
        assert!(find_in(&unknown, None).unwrap_err().contains("no time-stamp counter of constant speed"));
        assert!(find_in(&unknown, Some(2)).is_ok());
    }

    #[test]
    fn a_boot_ends_where_user_space_begins() {
        let text = "[    0.1] Run /init as init process\r\n\
            guest: Linux 6.1, 1 kB of memory, user space after 0.250001 s\r\nguest: status 0\n";
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let span = find(&lines, BOOT, Some(2)).unwrap();
        assert_eq!(
            (span.operations, span.nanoseconds, span.instructions),
            (1, 250_001_000, Some(125_000_500))
        );
        assert_eq!(find(&lines, BOOT, None).unwrap().instructions, None);
        assert!(find(&lines[..1], BOOT, None).is_err());
        assert!(find(&["user space after  s".to_owned()], BOOT, None).is_err());
    }

    #[test]
    fn what_is_missing_is_an_error() {
        assert!(find_in("span begin ctx2\n", None).unwrap_err().contains("no span"));
        assert!(find_in(&LINES.repeat(2), Some(2)).unwrap_err().contains("more than one"));
        for values in ["operations=8", "ticks=8", "operations=x ticks=8", "operations=0 ticks=8", "8 8"] {
            assert!(find_in(&format!("span end ctx2 {values}"), Some(2)).is_err(), "{values}");
        }
    }
}
