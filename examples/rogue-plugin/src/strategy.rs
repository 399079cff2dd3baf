//! `rogue`: wraps another strategy and does one thing wrong.
//!
//! A nonsensical answer is one that the types allow and the other strategy would not have returned: work that is not done
//! and reported as done, addresses that are none, another guest's end.

use crate::misdeed::{AFTER, DOES, Misdeed};
use alloc::boxed::Box;
use arch_i386::addr::{GuestPhys, GuestVirt};
use arch_i386::paging::{Entry, Paging};
use arch_i386::trap::PageFaultErrorCode;
use framework::counters::PagingCounters;
use framework::fallible::boxed;
use framework::host::PagingHost;
use framework::inspect::Inspect;
use framework::kill::Kill;
use framework::pager::Pager;
use framework::parameter::{Parameter, Word};
use framework::registry::{WRAPPERS, WrapperEntry};
use framework::strategy::{Fault, SwitcherWindow};
use framework::tables::ShadowRoot;

/// The methods, the making and the dropping.
static IN: Word = Word {
    name: "in",
    help: "where it is done",
    words: &[
        "demand-fault",
        "set-pte",
        "set-pgd",
        "set-pmd",
        "load-page-directory",
        "flush-user",
        "flush-user-of",
        "flush-all",
        "set-stack",
        "keep-stack",
        "guest-initialised",
        "translate",
        "set-up",
        "root",
        "counters",
        "tear-down",
        "build",
        "drop",
    ],
};
static PARAMETERS: [Parameter; 3] = [Parameter::Word(&DOES), Parameter::Word(&IN), Parameter::Number(&AFTER)];

struct Rogue {
    /// There until it is forgotten.
    of: Option<Box<dyn Pager>>,
    misdeed: Misdeed,
}

impl Rogue {
    fn of(&mut self) -> &mut dyn Pager {
        self.of.as_deref_mut().expect("it is not forgotten yet")
    }

    fn of_ref(&self) -> &dyn Pager {
        self.of.as_deref().expect("it is not forgotten yet")
    }
}

impl Pager for Rogue {
    fn paging(&self) -> Paging {
        self.of_ref().paging()
    }

    fn window(&self) -> SwitcherWindow {
        self.of_ref().window()
    }

    fn set_up(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill> {
        if self.misdeed.commit("set-up") {
            return Err(Kill::Hypercall(7));
        }
        self.of().set_up(host)
    }

    fn guest_initialised(
        &mut self,
        host: &mut dyn PagingHost,
        kernel_address: GuestVirt,
    ) -> Result<(), Kill> {
        if self.misdeed.commit("guest-initialised") {
            return self.of().guest_initialised(host, GuestVirt(kernel_address.0 / 3));
        }
        self.of().guest_initialised(host, kernel_address)
    }

    fn demand_fault(
        &mut self,
        host: &mut dyn PagingHost,
        va: GuestVirt,
        error: PageFaultErrorCode,
    ) -> Result<Fault, Kill> {
        if self.misdeed.commit("demand-fault") {
            return Ok(if va.0 & 0x1000 == 0 { Fault::Fixed } else { Fault::Reflected });
        }
        self.of().demand_fault(host, va, error)
    }

    fn load_page_directory(&mut self, host: &mut dyn PagingHost, directory: GuestPhys) -> Result<(), Kill> {
        if self.misdeed.commit("load-page-directory") {
            return self.of().load_page_directory(host, GuestPhys(!directory.0));
        }
        self.of().load_page_directory(host, directory)
    }

    fn set_pte(
        &mut self,
        host: &mut dyn PagingHost,
        directory: GuestPhys,
        va: GuestVirt,
        entry: Entry,
    ) -> Result<(), Kill> {
        if self.misdeed.commit("set-pte") {
            return self.of().set_pte(host, directory, GuestVirt(!va.0), Entry(!entry.0));
        }
        self.of().set_pte(host, directory, va, entry)
    }

    fn set_pgd(&mut self, host: &mut dyn PagingHost, directory: GuestPhys, index: u32) -> Result<(), Kill> {
        if self.misdeed.commit("set-pgd") {
            return self.of().set_pgd(host, GuestPhys(!directory.0), index ^ 1);
        }
        self.of().set_pgd(host, directory, index)
    }

    fn set_pmd(&mut self, host: &mut dyn PagingHost, middle: GuestPhys, index: u32) -> Result<(), Kill> {
        if self.misdeed.commit("set-pmd") {
            return self.of().set_pmd(host, GuestPhys(!middle.0), index ^ 1);
        }
        self.of().set_pmd(host, middle, index)
    }

    fn flush_user(&mut self, host: &mut dyn PagingHost) {
        if !self.misdeed.commit("flush-user") {
            self.of().flush_user(host);
        }
    }

    fn flush_user_of(&mut self, host: &mut dyn PagingHost, directory: GuestPhys) {
        if !self.misdeed.commit("flush-user-of") {
            self.of().flush_user_of(host, directory);
        }
    }

    fn flush_all(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill> {
        if self.misdeed.commit("flush-all") {
            return Ok(());
        }
        self.of().flush_all(host)
    }

    fn set_stack(&mut self, host: &mut dyn PagingHost, esp1: GuestVirt, pages: u32) -> Result<(), Kill> {
        if self.misdeed.commit("set-stack") {
            return Ok(());
        }
        self.of().set_stack(host, esp1, pages)
    }

    fn keep_stack(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill> {
        if self.misdeed.commit("keep-stack") {
            return Ok(());
        }
        self.of().keep_stack(host)
    }

    fn root(&self) -> ShadowRoot<'_> {
        // Which root there is to answer with is not for this to choose.
        self.misdeed.commit("root");
        self.of_ref().root()
    }

    fn translate(&mut self, host: &mut dyn PagingHost, va: GuestVirt) -> Result<GuestPhys, Kill> {
        if self.misdeed.commit("translate") {
            return Ok(GuestPhys(!va.0));
        }
        self.of().translate(host, va)
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        self.of_ref().inspect()
    }

    fn counters(&self) -> PagingCounters {
        if self.misdeed.commit("counters") {
            return PagingCounters {
                demand_faults: u64::MAX,
                set_pte: u64::MAX,
                ..PagingCounters::default()
            };
        }
        self.of_ref().counters()
    }

    fn tear_down(&mut self, host: &mut dyn PagingHost) {
        if self.misdeed.commit("tear-down") {
            // Everything that it holds: tables, references, memory.
            core::mem::forget(self.of.take());
        }
        if let Some(of) = &mut self.of {
            of.tear_down(host);
        }
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.misdeed.commit("drop");
    }
}

#[linkme::distributed_slice(WRAPPERS)]
static ROGUE: WrapperEntry = WrapperEntry {
    name: "rogue",
    help: "does one thing wrong",
    parameters: &PARAMETERS,
    of: "lguest",
    build: |_, values, of| {
        let misdeed = Misdeed::new(values, &IN);
        misdeed.commit("build");
        Ok(boxed(Rogue { of: Some(of), misdeed })?)
    },
};
