//! What a strategy forgets, its host takes back, to the last page, and reports how much it was.

use arch_i386::addr::{GuestFrame, GuestPhys, GuestVirt};
use arch_i386::paging::{Entry, Flags, Pae, PageFormat, TwoLevel};
use arch_i386::trap::PageFaultErrorCode;
use framework::host::PagingHost;
use framework::kill::Kill;
use framework::ledger::Forgotten;
use framework::strategy::{Fault, Loaded, PagingStrategy};
use framework::tables::{Origin, RootId, ShadowEntry, ShadowRoot, Tables};
use sim::SimHost;
use std::mem;

const PAGES: u32 = 16;

/// What a strategy does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    /// Nothing.
    None,
    /// It gives nothing back.
    KeepsAll,
    /// It forgets its tables, which run nothing when they are dropped either.
    ForgetsTables,
    /// It leaks them.
    LeaksTables,
}

/// A strategy that maps the guest's memory linearly, and makes a mistake.
struct Forgetful<F> {
    tables: Tables<F, F>,
    root: Option<RootId>,
    mistake: Mistake,
}

impl<F: PageFormat> PagingStrategy for Forgetful<F> {
    fn set_up(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill> {
        let root = self.tables.add_root(host)?;
        self.tables.make_current(root);
        self.root = Some(root);
        Ok(())
    }
    fn guest_initialised(&mut self, _: &mut dyn PagingHost, _: GuestVirt) -> Result<(), Kill> {
        Ok(())
    }
    fn demand_fault(
        &mut self,
        host: &mut dyn PagingHost,
        va: GuestVirt,
        _: PageFaultErrorCode,
    ) -> Result<Fault, Kill> {
        let origin = Origin { table: GuestFrame(0), flags: F::DIRECTORY_FLAGS, middle: None };
        let leaf = self.tables.find_or_add(host, self.root.expect("it is set up"), va, origin)?;
        let guest = Entry::new((va.0 >> 12).into(), Flags::PRESENT | Flags::WRITABLE);
        let entry = ShadowEntry::new(host, guest)?;
        self.tables.replace(leaf, va, entry);
        Ok(Fault::Fixed)
    }
    fn load_page_directory(&mut self, _: &mut dyn PagingHost, _: GuestPhys) -> Result<Loaded, Kill> {
        Ok(Loaded::Hit)
    }
    fn set_pte(&mut self, _: &mut dyn PagingHost, _: GuestPhys, _: GuestVirt, _: Entry) -> Result<(), Kill> {
        Ok(())
    }
    fn set_pgd(&mut self, _: &mut dyn PagingHost, _: GuestPhys, _: u32) -> Result<(), Kill> {
        Ok(())
    }
    fn set_pmd(&mut self, _: &mut dyn PagingHost, _: GuestPhys, _: u32) -> Result<(), Kill> {
        Ok(())
    }
    fn flush_user(&mut self, _: &mut dyn PagingHost) {}
    fn flush_all(&mut self, _: &mut dyn PagingHost) {}
    fn root(&self) -> ShadowRoot<'_> {
        self.tables.current_root()
    }
    fn translate(&mut self, _: &mut dyn PagingHost, va: GuestVirt) -> Result<GuestPhys, Kill> {
        Ok(GuestPhys(va.0))
    }
    fn tear_down(&mut self, host: &mut dyn PagingHost) {
        let other = Tables::new(self.tables.window(), true);
        match self.mistake {
            Mistake::None => self.tables.remove_all(host),
            Mistake::KeepsAll => {}
            Mistake::ForgetsTables => mem::forget(mem::replace(&mut self.tables, other)),
            Mistake::LeaksTables => {
                Box::leak(Box::new(mem::replace(&mut self.tables, other)));
            }
        }
    }
}

/// The end of a guest that has had `faults` pages mapped, on a strategy that makes this mistake.
fn end<F: PageFormat>(mistake: Mistake, faults: u32) -> Forgotten {
    let mut host = SimHost::new(PAGES);
    let tables = Tables::<F, F>::new(host.window(GuestVirt(0xffc0_0000)), true);
    let mut strategy: Box<dyn PagingStrategy> = Box::new(Forgetful { tables, root: None, mistake });
    strategy.set_up(&mut host).unwrap();
    for page in 0..faults {
        strategy.demand_fault(&mut host, GuestVirt(page << 12), PageFaultErrorCode::empty()).unwrap();
    }
    strategy.tear_down(&mut host);
    drop(strategy);
    let forgotten = host.reclaim();
    host.remove_window();
    assert_eq!((host.entries(), host.tables()), (0, 0), "after {mistake:?}");
    forgotten
}

fn check<F: PageFormat>() {
    // A root, with PAE a middle table for the Switcher and one for the guest, and a table of level 1.
    let all = if F::LEVELS == 3 { 4 } else { 2 };
    for (mistake, tables) in [
        (Mistake::None, 0),
        (Mistake::KeepsAll, all),
        (Mistake::ForgetsTables, all),
        (Mistake::LeaksTables, all),
    ] {
        let forgotten = end::<F>(mistake, 7);
        assert_eq!(forgotten, Forgotten { tables }, "after {mistake:?}");
        assert_eq!(forgotten.is_nothing(), tables == 0);
    }
    assert_eq!(end::<F>(Mistake::KeepsAll, 0), Forgotten { tables: all / 2 });
}

#[test]
fn two_levels() {
    check::<TwoLevel>();
}

#[test]
fn pae() {
    check::<Pae>();
}
