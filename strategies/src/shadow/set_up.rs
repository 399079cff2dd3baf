//! Part 7, set-up: a guest's first slot, and what becomes of everything at its end.
//!
//! In lguest this is `init_guest_pagetable`, `page_table_guest_data_init` and `free_guest_pagetable`. Before its first page
//! directory a guest sees its memory mapped linearly: every address is the guest-physical one.
//!
//! Different here: when the guest has named its kernel address (LGUEST_INIT), the kernel's half may be shared by all slots
//! from then on ([`Optimizations::shared_kernel`](super::Optimizations::shared_kernel)).

use super::ShadowCache;
use arch_i386::addr::{GuestPhys, GuestVirt};
use arch_i386::paging::PageFormat;
use framework::host::PagingHost;
use framework::kill::Kill;

impl<G: PageFormat, S: PageFormat> ShadowCache<G, S> {
    pub(super) fn begin_linear(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill> {
        let (index, _) = self.take_slot(host, GuestPhys(0))?;
        self.make_current(index);
        self.linear = true;
        Ok(())
    }

    pub(super) fn learn_kernel_address(
        &mut self,
        host: &mut dyn PagingHost,
        kernel_address: GuestVirt,
    ) -> Result<(), Kill> {
        // The host has just written to the guest's memory, perhaps to a page that was shared until
        // then: what is mapped may be the old one.
        if self.release_all(host).is_break() {
            return Ok(());
        }
        self.kernel_address = kernel_address;
        if self.optimizations.shared_kernel {
            self.tables.share_from(host, kernel_address)?;
        }
        Ok(())
    }

    pub(super) fn give_everything_back(&mut self, host: &mut dyn PagingHost) {
        for index in 0..self.slots.len() {
            if self.give_up(host, index) {
                self.policy.emptied(index);
            }
        }
        self.tables.remove_all(host);
    }
}
