//! `rogue-hoarder`: a shadow cache without any limit, which never evicts.

use arch_i386::paging::Paging;
use framework::cache::{self, Mends, Room};
use framework::registry::{STRATEGIES, StrategyEntry};

#[linkme::distributed_slice(STRATEGIES)]
static HOARDER: StrategyEntry = StrategyEntry {
    name: "rogue-hoarder",
    help: "keeps all page directories for ever",
    parameters: &[],
    formats: &[Paging::TwoLevel, Paging::Pae],
    build: |context, _| cache::build(context.formats, Room::Pages(usize::MAX), Mends::NONE, context.window),
};
