//! Whether prefetching pays, which it must show before it is done.
//!
//! What a prefetch has filled for nothing does not show without the processor's accessed bits, and a decision by those would
//! not repeat in a replay. What it *would have* saved shows in the guest's requests alone: now and then prefetching is
//! withheld, and the guest's faults on the pages that it would have filled are counted. After [`TRIALS`] such trials
//! the faults saved are held against the cost, and prefetching goes on, or stays off, until the next verdict.

use arch_i386::addr::{GuestPhys, GuestVirt};
use arch_i386::paging::{Entry, Flags};

/// A page that was not filled, and the entry that would have been made for it. (If the guest gives the page another frame before
/// it uses it, or writes where that entry may only be read, the fault comes all the same.)
pub(super) type Withheld = (GuestVirt, Entry);

/// How many withheld pages are watched at most.
pub(super) const WATCHED: usize = 16;

/// After how many trials there is a verdict.
const TRIALS: u32 = 4;

/// What a demand fault costs, and to fill one page ahead of it, in instructions (docs/design.md, measured on a Linux guest).
const FAULT: i32 = 1000;
/// See [`FAULT`].
const FILL: i32 = 200;

/// How many faults in other page directories shorten a trial as one in its own does: its own may never run again.
const OTHERS: u32 = 16;

/// What is to be done where there is something to prefetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It pays: prefetch.
    Prefetch,
    /// It has not shown that it pays.
    Leave,
    /// Find out: [`Trial::begin`], and [`Trial::withhold`] what it would have filled.
    Withhold,
}

/// One kind of prefetching, on trial again and again.
#[derive(Debug)]
pub(super) struct Trial {
    /// How many occasions there are from one trial to the next, once there is a verdict.
    interval: u32,
    /// How many faults in its page directory a trial lasts.
    lasts: u32,
    /// What one occasion costs besides what it fills, in instructions.
    occasion: i32,
    pays: bool,
    /// Occasions until the next trial.
    until_next: u32,
    /// How many trials are over since the last verdict, and what they would have gained, in instructions.
    over: u32,
    gain: i32,
    /// The trial that goes on: faults until its end, in any page directory (one in its own counts as [`OTHERS`]); its page
    /// directory, and what was withheld of that.
    faults_left: u32,
    directory: GuestPhys,
    watched: [Withheld; WATCHED],
    count: usize,
}

impl Trial {
    pub(super) const fn new(interval: u32, lasts: u32, occasion: i32) -> Self {
        Self {
            interval,
            lasts,
            occasion,
            pays: false,
            until_next: 0,
            over: 0,
            gain: 0,
            faults_left: 0,
            directory: GuestPhys(0),
            watched: [(GuestVirt(0), Entry::EMPTY); WATCHED],
            count: 0,
        }
    }

    /// There is an occasion to prefetch.
    pub(super) fn verdict(&mut self) -> Verdict {
        if self.faults_left > 0 || self.until_next > 0 {
            self.until_next = self.until_next.saturating_sub(1);
            return if self.pays { Verdict::Prefetch } else { Verdict::Leave };
        }
        Verdict::Withhold
    }

    /// A trial begins, in this page directory.
    pub(super) const fn begin(&mut self, directory: GuestPhys) {
        self.directory = directory;
        self.count = 0;
        self.gain -= self.occasion;
        self.faults_left = self.lasts * OTHERS;
    }

    /// A page is withheld.
    pub(super) const fn withhold(&mut self, page: Withheld) {
        if self.count < WATCHED {
            self.watched[self.count] = page;
            self.count += 1;
            self.gain -= FILL;
        }
    }

    /// A demand fault on a page, for which this entry was then made.
    #[inline]
    pub(super) fn fault(&mut self, directory: GuestPhys, page: GuestVirt, made: Entry) {
        if self.faults_left > 0 {
            self.fault_in_trial(directory, page, made);
        }
    }

    fn fault_in_trial(&mut self, directory: GuestPhys, page: GuestVirt, made: Entry) {
        let mut passed = 1;
        if directory == self.directory {
            passed = OTHERS;
            let saved = |&(watched, entry): &Withheld| {
                watched == page
                    && entry.frame() == made.frame()
                    && entry.has(Flags::WRITABLE) == made.has(Flags::WRITABLE)
            };
            if let Some(found) = self.watched[..self.count].iter().position(saved) {
                self.gain += FAULT;
                self.count -= 1;
                self.watched[found] = self.watched[self.count];
            }
        }
        self.faults_left = self.faults_left.saturating_sub(passed);
        if self.faults_left == 0 {
            self.end();
        }
    }

    /// What was withheld of this page directory, or of any with `None`, would be gone by now.
    pub(super) fn end_of(&mut self, directory: Option<GuestPhys>) {
        if self.faults_left > 0 && directory.is_none_or(|directory| directory == self.directory) {
            self.end();
        }
    }

    /// The trial is over.
    fn end(&mut self) {
        self.faults_left = 0;
        self.over += 1;
        if self.over == TRIALS {
            self.pays = self.gain > 0;
            (self.over, self.gain) = (0, 0);
            self.until_next = self.interval;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const DIRECTORY: GuestPhys = GuestPhys(0x1000);

    fn page(number: u32) -> Withheld {
        (GuestVirt(number << 12), Entry::new(number.into(), Flags::PRESENT))
    }

    /// Trials up to the next verdict, in each of which the guest misses so many of 8 pages.
    fn trials(trial: &mut Trial, missed: u32) {
        for _ in 0..TRIALS {
            while trial.verdict() != Verdict::Withhold {}
            trial.begin(DIRECTORY);
            (0..8).for_each(|number| trial.withhold(page(number)));
            for number in 0..8 {
                let (va, entry) = page(if number < missed { number } else { 100 });
                trial.fault(DIRECTORY, va, entry);
            }
        }
    }

    #[test]
    fn prefetching_is_done_as_long_as_it_pays() {
        let mut trial = Trial::new(10, 8, 0);
        // 8 pages cost as much as 1.6 faults.
        for (missed, verdict) in
            [(0, Verdict::Leave), (2, Verdict::Prefetch), (8, Verdict::Prefetch), (1, Verdict::Leave)]
        {
            trials(&mut trial, missed);
            let given: Vec<_> = (0..10).map(|_| trial.verdict()).collect();
            assert_eq!(given, [verdict; 10], "{missed} of 8 missed");
            assert_eq!(trial.verdict(), Verdict::Withhold);
        }
    }

    #[test]
    fn an_occasion_that_finds_nothing_costs_too() {
        let mut trial = Trial::new(10, 8, 700);
        trials(&mut trial, 2);
        assert_eq!(trial.verdict(), Verdict::Leave, "8 pages and an occasion cost 2.3 faults");
        trials(&mut trial, 3);
        assert_eq!(trial.verdict(), Verdict::Prefetch);
    }

    #[test]
    fn only_a_fault_on_the_page_as_it_was_counts() {
        let mut trial = Trial::new(10, 4, 0);
        for _ in 0..TRIALS {
            trial.begin(DIRECTORY);
            trial.withhold(page(1));
            trial.withhold(page(2));
            // Copied meanwhile; written to; in another page directory; not withheld.
            trial.fault(DIRECTORY, page(1).0, page(77).1);
            trial.fault(DIRECTORY, page(1).0, page(1).1.with(Flags::WRITABLE));
            trial.fault(GuestPhys(0x2000), page(1).0, page(1).1);
            trial.fault(DIRECTORY, page(3).0, page(3).1);
            trial.end_of(Some(GuestPhys(0x2000)));
            trial.end_of(Some(DIRECTORY));
        }
        assert_eq!((trial.pays, trial.over, trial.until_next), (false, 0, 10));
    }
}
