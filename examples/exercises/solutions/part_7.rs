//! Part 7, solved.

use arch_i386::paging::TwoLevel;
use framework::host::PagingHost;
use framework::tables::{RootId, Tables};

/// Gives back every table page of a guest.
pub fn tear_down(tables: &mut Tables<TwoLevel, TwoLevel>, _current: RootId, host: &mut dyn PagingHost) {
    tables.remove_all(host);
}
