//! What became of each pair of an instruction and an event.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Result, bail};
use comfy_table::{Table, presets};

use super::event::{COLUMNS, Event, Reason};
use xtask::flavour::Flavour;

/// A row of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// An instruction of the text.
    Text(u32),
    /// The guest.
    Guest,
}

/// All pairs on one kernel.
pub struct Report {
    flavour: Flavour,
    quick: bool,
    rows: BTreeMap<Place, (String, String)>,
    pairs: BTreeMap<(Place, Event), Pair>,
    impossible: BTreeSet<(Place, usize, Reason)>,
    /// What is wrong beside single pairs.
    pub broken: Vec<String>,
    /// How often the host's handlers of NMIs and of machine checks were called since the machine was last taken back.
    pub calls: [u32; 2],
    injected: u64,
}

/// What became of a pair.
#[derive(Default)]
struct Pair {
    passed: u32,
    failures: Vec<String>,
}

impl Report {
    /// An empty one.
    pub fn new(flavour: Flavour, quick: bool) -> Report {
        Report {
            flavour,
            quick,
            rows: BTreeMap::new(),
            pairs: BTreeMap::new(),
            impossible: BTreeSet::new(),
            broken: Vec::new(),
            calls: [0; 2],
            injected: 0,
        }
    }

    /// Names a row.
    pub fn row(&mut self, place: Place, name: String, assembly: String) {
        self.rows.insert(place, (name, assembly));
    }

    /// A pair was tried on a way.
    pub fn add(&mut self, place: Place, event: Event, way: &str, outcome: std::result::Result<(), String>) {
        self.injected += 1;
        let pair = self.pairs.entry((place, event)).or_default();
        match outcome {
            Ok(()) => pair.passed += 1,
            Err(why) => pair.failures.push(format!("(way: {way}) {why}")),
        }
    }

    /// A pair was never come to.
    pub fn uncovered(&mut self, place: Place, event: Event) {
        self.pairs.entry((place, event)).or_default();
    }

    /// Something cannot come there.
    pub fn impossible(&mut self, place: Place, column: usize, reason: Reason) {
        self.impossible.insert((place, column, reason));
    }

    /// What is wrong with the machine's end.
    pub fn end(&mut self, wrong: &[String]) {
        self.broken.extend(wrong.iter().cloned());
    }

    /// Pairs that failed on one of their ways.
    pub fn failed(&self) -> usize {
        self.pairs.values().filter(|pair| !pair.failures.is_empty()).count()
    }

    fn never_tried(&self) -> usize {
        self.pairs.values().filter(|pair| pair.passed == 0 && pair.failures.is_empty()).count()
    }

    /// Nothing, or what is wrong, in a line.
    pub fn verdict(&self) -> std::result::Result<(), String> {
        let (failed, uncovered) = (self.failed(), self.never_tried());
        if failed + uncovered + self.broken.len() == 0 {
            return Ok(());
        }
        Err(format!(
            "{}: {failed} pairs failed, {uncovered} were not covered, {} other faults",
            self.flavour,
            self.broken.len()
        ))
    }

    /// The same as an error that shows each fault.
    ///
    /// # Errors
    /// When there is one.
    pub fn check(&self) -> Result<()> {
        match self.verdict() {
            Ok(()) => Ok(()),
            Err(verdict) => bail!("{verdict}\n{}", self.faults().join("\n")),
        }
    }

    /// A line for each fault.
    fn faults(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for ((place, event), pair) in &self.pairs {
            let name = self.rows.get(place).map_or("?", |(name, _)| name);
            lines.extend(pair.failures.iter().map(|failure| format!("FAILED {name}, {event} {failure}")));
            if pair.passed == 0 && pair.failures.is_empty() {
                lines.push(format!("NOT COVERED {name}, {event}: control never came there"));
            }
        }
        lines.extend(self.broken.iter().map(|wrong| format!("WRONG {wrong}")));
        lines
    }

    /// A field of the table.
    fn field(&self, place: Place, column: usize) -> String {
        let pairs: Vec<&Pair> = self
            .pairs
            .iter()
            .filter(|((p, event), _)| *p == place && event.column() == column)
            .map(|(_, p)| p)
            .collect();
        if !pairs.is_empty() {
            let failed = pairs.iter().any(|pair| !pair.failures.is_empty());
            let uncovered = pairs.iter().any(|pair| pair.passed == 0 && pair.failures.is_empty());
            let passed: u32 = pairs.iter().map(|pair| pair.passed).sum();
            return match (failed, uncovered) {
                (true, _) => "FAILED".to_owned(),
                (_, true) => "not covered".to_owned(),
                _ if passed == 1 => "ok".to_owned(),
                _ => format!("ok {passed}"),
            };
        }
        let reasons = self.impossible.iter().filter(|(p, c, _)| *p == place && *c == column);
        reasons.map(|(_, _, reason)| reason.letter()).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["instruction", ""].into_iter().chain(COLUMNS));
        for (&place, (name, assembly)) in &self.rows {
            let fields = (0..COLUMNS.len()).map(|column| self.field(place, column));
            table.add_row([name.clone(), assembly.clone()].into_iter().chain(fields));
        }
        writeln!(f, "The Switcher on {}\n\n{table}\n", self.flavour)?;
        writeln!(
            f,
            "ok: as promised, as often as the number says (on other ways, or with other values). Cannot come:"
        )?;
        for reason in Reason::ALL {
            if self.impossible.iter().any(|(_, _, found)| *found == reason) {
                writeln!(f, "  {}: {}", reason.letter(), reason.text())?;
            }
        }
        writeln!(f)?;
        for line in self.faults() {
            writeln!(f, "{line}")?;
        }
        let all = self.pairs.len();
        let covered = all - self.never_tried();
        write!(
            f,
            "{}: {covered} of {all} pairs covered{}, {} injections, {} pairs failed; {} cannot come",
            self.flavour,
            if self.quick { " on one way each" } else { "" },
            self.injected,
            self.failed(),
            self.impossible.iter().map(|(place, column, _)| (place, column)).collect::<BTreeSet<_>>().len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new(Flavour::Plain, false);
        let place = Place::Text(0x800);
        report.row(place, "enter".to_owned(), "push %es".to_owned());
        report.add(place, Event::Nmi, "usual", Ok(()));
        report.add(place, Event::Nmi, "another", Ok(()));
        report.impossible(place, Event::MachineCheck.column(), Reason::SecondMachineCheck);
        report
    }

    #[test]
    fn all_is_well_when_each_pair_passed_on_each_of_its_ways() {
        let report = report();
        assert!(report.check().is_ok());
        let text = report.to_string();
        assert!(text.contains(" ok 2 "), "{text}");
        let last = "686: 1 of 1 pairs covered, 2 injections, 0 pairs failed; 1 cannot come";
        assert!(text.ends_with(last), "{text}");
        assert!(text.contains("  s: ") && !text.contains("  m: "), "{text}");
    }

    #[test]
    fn one_way_that_fails_is_a_failure() {
        let mut report = report();
        report.add(Place::Text(0x800), Event::Nmi, "a third", Err("triple fault".to_owned()));
        let text = report.check().unwrap_err().to_string();
        assert!(text.contains("FAILED enter, NMI (way: a third) triple fault"), "{text}");
    }

    #[test]
    fn a_pair_that_was_never_tried_is_a_failure() {
        let mut report = report();
        report.uncovered(Place::Text(0x800), Event::MachineCheck);
        let text = report.check().unwrap_err().to_string();
        assert!(
            text.contains("1 were not covered") && text.contains("NOT COVERED enter, machine check"),
            "{text}"
        );
    }

    #[test]
    fn a_host_that_ends_badly_is_a_failure() {
        let mut report = report();
        report.end(&["the host's kernel counts 1 of NMI, the debugger 2".to_owned()]);
        assert!(report.check().unwrap_err().to_string().contains("WRONG the host's kernel counts 1"));
    }
}
