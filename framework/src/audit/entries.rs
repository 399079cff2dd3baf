//! One audit: compares shadow entries with the guest's tables.

use super::frames::Frames;
use super::seen::{Reader, Seen, SeenBy};
use crate::defect::Defect;
use crate::inspect::{Inspect, Mapping};
use crate::pager::Pager;
use crate::paging_host::{PagingHost, Progress, reschedule_point};
use crate::walk::{self, WalkResult, frame_within};
use crate::watch::Watched;
use arch_i386::addr::{GuestPhys, GuestVirt, HostFrame};
use arch_i386::paging::{Entry, Flags, Pae, Paging, TwoLevel};
use core::ops::Range;

/// What the last operation covers: the entries that it has the strategy drop or replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// Nothing.
    Nothing,
    /// Everything there is.
    Everything,
    /// These addresses (64 bits, as the end may be 4 GiB) in one page directory.
    Addresses(GuestPhys, Range<u64>),
    /// That this is the guest's entry now, in one page directory or, in the kernel's half, in all. The
    /// guest's table may be ahead of that already.
    Entry(Option<GuestPhys>, GuestVirt, Entry),
}

impl Coverage {
    /// Whether the guest's tables, as they are now, must justify this entry.
    fn covers(&self, directory: GuestPhys, va: GuestVirt) -> bool {
        match self {
            Self::Nothing | Self::Entry(..) => false,
            Self::Everything => true,
            Self::Addresses(of, range) => *of == directory && range.contains(&va.0.into()),
        }
    }

    /// The value that the operation names for this entry itself.
    fn entry(&self, directory: GuestPhys, va: GuestVirt) -> Option<Entry> {
        match self {
            Self::Entry(of, page, entry) if of.is_none_or(|of| of == directory) && page.page() == va => {
                Some(*entry)
            }
            _ => None,
        }
    }
}

/// What an audit came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries compared with the guest's tables.
    pub entries: u64,
    /// Those that disagree with them, and may.
    pub stale: u64,
    /// Defects found.
    pub defects: u64,
    /// The first of them.
    pub first: Option<Defect>,
}

impl Report {
    fn add(&mut self, defect: Defect) {
        self.defects += 1;
        self.first.get_or_insert(defect);
    }
}

/// Compares everything that a strategy has mapped with the guest's tables. If the host breaks it off, or the strategy has
/// no [`Inspect`], the report is empty.
#[must_use]
pub fn audit(strategy: &dyn Pager, host: &mut dyn PagingHost, coverage: &Coverage) -> Report {
    audit_with(strategy, host, coverage, &mut Seen::default())
}

/// The same with what the strategy has seen, where the launcher may have changed that.
pub(super) fn audit_with(
    strategy: &dyn Pager,
    host: &mut dyn PagingHost,
    coverage: &Coverage,
    seen: &mut Seen,
) -> Report {
    let mut report = Report::default();
    let Some(inspect) = strategy.inspect() else { return report };
    inspect.check(host, &mut |defect| report.add(defect));
    let current = current_directory(strategy);
    // There may be millions, so that they are gone through twice and not kept in between.
    let each = |host: &mut dyn PagingHost, visit: &mut dyn FnMut(&mut dyn PagingHost, Mapping)| {
        let mut number = 0_usize;
        inspect.mappings(&mut |mapping| {
            number += 1;
            if number.is_multiple_of(ENTRIES_AT_ONCE) {
                reschedule_point(host)?;
            }
            // An entry that several page directories share is one entry.
            if !mapping.shared || mapping.number == 0 {
                visit(host, mapping);
            }
            Progress::Continue(())
        })
    };
    if each(host, &mut |_, _| report.entries += 1).is_break() {
        return Report::default();
    }
    let frames = Frames::known(host, seen.frames.take());
    let whole = each(host, &mut |host, mut mapping| {
        if mapping.shared {
            mapping.directory = current;
        }
        let Mapping { directory, va, entry, .. } = mapping;
        if entry.has(Flags::GLOBAL) {
            report.add(Defect::Global { directory, va });
        }
        if let Some(defect) = frames.as_ref().and_then(|frames| frames.check(host, &mapping)) {
            report.add(defect);
        }
        seen.look_anew();
        let host: &mut dyn PagingHost =
            &mut Watched { host, watcher: SeenBy { seen: &mut *seen, reader: Reader::Audit } };
        let justified = match coverage.entry(directory, va) {
            Some(said) => justify(host, &mapping, said, Flags::all()).or_else(|defect| match defect {
                Defect::Unseen { .. } if said.flags().intersects(Flags::ACCESSED | Flags::DIRTY) => Ok(()),
                defect => Err(defect),
            }),
            None => match walk((inspect, strategy.paging()), host, directory, va) {
                Some(leaf) => justify(host, &mapping, leaf.entry, leaf.table_flags),
                None => Err(Defect::Unmapped { directory, va }),
            },
        };
        match justified {
            Ok(()) => {}
            Err(_) if seen.has_changed() => report.stale += 1,
            Err(defect) if coverage.covers(directory, va) || coverage.entry(directory, va).is_some() => {
                report.add(defect);
            }
            Err(_) => report.stale += 1,
        }
    });
    seen.frames = frames;
    if whole.is_break() { Report::default() } else { report }
}

/// How many entries are looked at before the host may run something else.
const ENTRIES_AT_ONCE: usize = 256;

/// The page directory that the guest runs on.
pub(super) fn current_directory(strategy: &dyn Pager) -> GuestPhys {
    let mut current = GuestPhys(0);
    if let Some(inspect) = strategy.inspect() {
        inspect.directories(&mut |directory, is_current| {
            if is_current {
                current = directory;
            }
        });
    }
    current
}

/// The walk through the guest's tables for an address, if they are not malformed.
fn walk(
    (inspect, paging): (&dyn Inspect, Paging),
    host: &mut dyn PagingHost,
    directory: GuestPhys,
    va: GuestVirt,
) -> Option<WalkResult> {
    if inspect.is_linear() {
        let leaf = WalkResult::linear(va);
        // There is no entry in which an access could show.
        return Some(WalkResult { entry: leaf.entry.with(Flags::ACCESSED | Flags::DIRTY), ..leaf });
    }
    match paging {
        Paging::TwoLevel => walk::walk::<TwoLevel>(host, directory, va),
        Paging::Pae => walk::walk::<Pae>(host, directory, va),
    }
    .unwrap_or(None)
}

/// Whether the guest's entry, under a directory entry with `table_flags`, allows what is mapped.
fn justify(
    host: &mut dyn PagingHost,
    mapping: &Mapping,
    guest: Entry,
    table_flags: Flags,
) -> Result<(), Defect> {
    let Mapping { directory, va, entry, .. } = *mapping;
    let frame = frame_within(host, guest).filter(|_| guest.present());
    let frame = frame.ok_or(Defect::Unmapped { directory, va })?;
    if host.known(frame).is_none_or(|known| u64::from(known.frame.0) != entry.frame()) && !host.has_stale() {
        let shadow = HostFrame(entry.frame() as u32);
        return Err(Defect::Frame { directory, va, shadow, guest: frame });
    }
    let rights = Flags::WRITABLE | Flags::USER_ACCESSIBLE;
    let given = guest.flags() & table_flags & rights;
    let mut extra = (entry.flags() & mapping.table_flags & rights) - given;
    if guest.has(Flags::NO_EXECUTE) && !entry.has(Flags::NO_EXECUTE) {
        extra |= Flags::NO_EXECUTE;
    }
    if !extra.is_empty() {
        return Err(Defect::Rights { directory, va, extra });
    }
    let mut traces = Flags::ACCESSED;
    traces.set(Flags::DIRTY, entry.has(Flags::WRITABLE));
    let missing = traces - guest.flags();
    if missing.is_empty() { Ok(()) } else { Err(Defect::Unseen { directory, va, missing }) }
}
