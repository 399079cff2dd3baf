//! Part 7, set-up: and what becomes of everything at the guest's end.

use arch_i386::paging::TwoLevel;
use framework::host::PagingHost;
use framework::tables::{RootId, Tables};

/// Gives back every table page of a guest that has shadows of several page directories. It runs on `current`.
///
/// The hole: only the root that the guest runs on is given back. `framework/src/tables/mod.rs` lists what `Tables` can do.
pub fn tear_down(tables: &mut Tables<TwoLevel, TwoLevel>, current: RootId, host: &mut dyn PagingHost) {
    tables.remove_root(host, current);
}
