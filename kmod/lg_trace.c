// SPDX-License-Identifier: GPL-2.0-only
/* The trace events (lg_trace.h), for Rust, which makes them (src/events.rs). */
#include <linux/compiler.h>

#define CREATE_TRACE_POINTS
#include "lg_trace.h"
#include "lg_shim.h"

/* Linux calls these one at a time: before the first who watches an event gets any, and after the last. */
#define LG_OBSERVER_IS(name, bit) \
	int lg_observe_##name(void) \
	{ \
		WRITE_ONCE(lg_rust_observed, lg_rust_observed | (bit)); \
		return 0; \
	} \
	void lg_ignore_##name(void) \
	{ \
		WRITE_ONCE(lg_rust_observed, lg_rust_observed & ~(bit)); \
	}

LG_OBSERVER_IS(exit, LG_OBSERVED_EXIT)
LG_OBSERVER_IS(hypercall, LG_OBSERVED_HYPERCALL)
LG_OBSERVER_IS(fault, LG_OBSERVED_FAULT)
LG_OBSERVER_IS(load, LG_OBSERVED_LOAD)
LG_OBSERVER_IS(evict, LG_OBSERVED_EVICTION)
LG_OBSERVER_IS(flush, LG_OBSERVED_FLUSH)
LG_OBSERVER_IS(table_alloc, LG_OBSERVED_TABLE_ALLOCATED)
LG_OBSERVER_IS(table_free, LG_OBSERVED_TABLE_FREED)
LG_OBSERVER_IS(in_switcher, LG_OBSERVED_IN_SWITCHER)

asmlinkage void lg_trace_exit(u32 guest, u32 kind, u32 vector, u32 eip)
{
	trace_lguest_exit(guest, kind, vector, eip);
}

asmlinkage void lg_trace_hypercall(u32 guest, u32 ring, u32 number, u32 a, u32 b, u32 c, u32 d)
{
	trace_lguest_hypercall(guest, ring, number, a, b, c, d);
}

asmlinkage void lg_trace_fault(u32 guest, u32 va, u32 error, u32 outcome)
{
	trace_lguest_fault(guest, va, error, outcome);
}

asmlinkage void lg_trace_load(u32 guest, u32 directory, u32 hit)
{
	trace_lguest_load(guest, directory, hit);
}

asmlinkage void lg_trace_evict(u32 guest, u32 victim, u32 incoming)
{
	trace_lguest_evict(guest, victim, incoming);
}

asmlinkage void lg_trace_flush(u32 guest, u32 entries)
{
	trace_lguest_flush(guest, entries);
}

asmlinkage void lg_trace_table_alloc(u32 guest, u32 frame, u32 kind)
{
	trace_lguest_table_alloc(guest, frame, kind);
}

asmlinkage void lg_trace_table_free(u32 guest, u32 frame, u32 kind)
{
	trace_lguest_table_free(guest, frame, kind);
}

asmlinkage void lg_trace_in_switcher(u32 guest, u32 calls, u32 ring_calls, u32 reflected, u32 fills)
{
	trace_lguest_in_switcher(guest, calls, ring_calls, reflected, fills);
}
