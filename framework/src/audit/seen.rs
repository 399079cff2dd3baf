//! What an audited strategy has seen of the launcher's memory, so that a change by the launcher is not reported as a mistake
//! of the host's.
//!
//! Guest memory is the launcher's: it and its devices may write to the guest's tables while the guest runs. So what the audit
//! finds in memory need not be what the strategy has found. What was read of the guest's memory since the last operation
//! began is kept, and an entry that is made of what has changed since cannot be judged.
//!
//! That excuses only what it explains: a table that was not read again after a request for it is a defect as ever.

use super::frames::Frames;
use crate::paging_host::PagingHost;
use crate::watch::Watcher;
use alloc::boxed::Box;
use arch_i386::addr::GuestPhys;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Words, by their addresses: the value, unless there were several.
    words: HashMap<u32, Option<u32>, FxBuildHasher>,
    /// Where an audit keeps the frames that are known.
    pub(super) frames: Option<Box<Frames>>,
    /// There was no memory to keep something: nothing can be judged by what is not here.
    incomplete: bool,
    /// A word that the audit has read is not what the strategy has found.
    changed: bool,
}

impl Seen {
    /// A new operation begins.
    pub(super) fn begin(&mut self) {
        self.words.clear();
    }

    /// The audit looks at another entry.
    pub(super) fn look_anew(&mut self) {
        self.changed = self.incomplete;
    }

    /// Whether what the audit has read since then has changed since the strategy read it.
    pub(super) fn has_changed(&self) -> bool {
        self.changed
    }

    fn read(&mut self, at: GuestPhys, value: u32) {
        if self.words.try_reserve(1).is_err() {
            self.incomplete = true;
            return;
        }
        let word = self.words.entry(at.0).or_insert(Some(value));
        if *word != Some(value) {
            *word = None;
        }
    }

    fn wrote(&mut self, at: GuestPhys, value: u32) {
        // What has changed once stays changed.
        if let Some(Some(word)) = self.words.get_mut(&at.0) {
            *word = value;
        }
    }

    fn compare(&mut self, at: GuestPhys, value: u32) {
        self.changed |= self.words.get(&at.0).is_some_and(|word| *word != Some(value));
    }
}

/// Who reads through a [`Watched`](crate::watch::Watched) host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// The strategy: what it sees is kept.
    Strategy,
    /// The audit: what it sees is compared with that.
    Audit,
}

/// Watches the host that strategy and audit see.
pub(super) struct SeenBy<'a> {
    pub(super) seen: &'a mut Seen,
    pub(super) reader: Reader,
}

impl Watcher for SeenBy<'_> {
    fn read(&mut self, host: &mut dyn PagingHost, at: GuestPhys, bytes: &[u8]) {
        // Whole words.
        let (words, _) = bytes.as_chunks::<4>();
        for (address, word) in (at.0..).step_by(4).zip(words) {
            self.read_u32(host, GuestPhys(address), u32::from_le_bytes(*word));
        }
    }

    fn read_u32(&mut self, _: &mut dyn PagingHost, at: GuestPhys, value: u32) {
        match self.reader {
            Reader::Strategy => self.seen.read(at, value),
            Reader::Audit => self.seen.compare(at, value),
        }
    }

    fn wrote(&mut self, at: GuestPhys, bytes: &[u8]) {
        let (words, _) = bytes.as_chunks::<4>();
        for (address, word) in (at.0..).step_by(4).zip(words) {
            self.seen.wrote(GuestPhys(address), u32::from_le_bytes(*word));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_strategy_has_not_read_or_has_written_itself_has_not_changed() {
        let mut seen = Seen::default();
        let changed = |seen: &mut Seen, at, value| {
            seen.look_anew();
            seen.compare(GuestPhys(at), value);
            seen.has_changed()
        };
        seen.read(GuestPhys(16), 1);
        assert!(!changed(&mut seen, 16, 1) && !changed(&mut seen, 20, 1));
        assert!(changed(&mut seen, 16, 2));
        seen.wrote(GuestPhys(16), 2);
        assert!(!changed(&mut seen, 16, 2) && changed(&mut seen, 16, 1));
        seen.read(GuestPhys(16), 3);
        assert!(changed(&mut seen, 16, 2) && changed(&mut seen, 16, 3), "it was read with two values");
        seen.begin();
        assert!(!changed(&mut seen, 16, 4));
    }
}
