/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The module's trace events, of the system `lguest` (/sys/kernel/tracing/events/lguest). What each means is in
 * ../framework/src/event.rs; `guest` is the number in the name of the guest's folder in debugfs.
 *
 * Off, an event costs a look at a word, by Rust and before anything is made of it: a bit of `lg_rust_observed` says for each
 * event whether somebody watches. Linux calls the functions lg_observe_…() and lg_ignore_…() when that changes.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM lguest

#if !defined(LG_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define LG_TRACE_H

#include <linux/tracepoint.h>

#include "lg_shared.h"

#define LG_OBSERVER(name) \
	int lg_observe_##name(void); \
	void lg_ignore_##name(void)

LG_OBSERVER(exit);
LG_OBSERVER(hypercall);
LG_OBSERVER(fault);
LG_OBSERVER(load);
LG_OBSERVER(evict);
LG_OBSERVER(flush);
LG_OBSERVER(table_alloc);
LG_OBSERVER(table_free);
LG_OBSERVER(in_switcher);

#define lg_exit_names \
	{ LG_EXIT_HYPERCALL, "hypercall" }, \
	{ LG_EXIT_PAGE_FAULT, "page_fault" }, \
	{ LG_EXIT_GENERAL_PROTECTION, "general_protection" }, \
	{ LG_EXIT_DEVICE_NOT_AVAILABLE, "device_not_available" }, \
	{ LG_EXIT_TRAP, "trap" }, \
	{ LG_EXIT_INTERRUPT, "interrupt" }, \
	{ LG_EXIT_SWITCHER, "switcher" }

#define lg_hypercall_names \
	{ LG_CALL_FLUSH_ASYNC, "FLUSH_ASYNC" }, \
	{ LG_CALL_LGUEST_INIT, "LGUEST_INIT" }, \
	{ LG_CALL_SHUTDOWN, "SHUTDOWN" }, \
	{ LG_CALL_NEW_PGTABLE, "NEW_PGTABLE" }, \
	{ LG_CALL_FLUSH_TLB, "FLUSH_TLB" }, \
	{ LG_CALL_LOAD_IDT_ENTRY, "LOAD_IDT_ENTRY" }, \
	{ LG_CALL_SET_STACK, "SET_STACK" }, \
	{ LG_CALL_TS, "TS" }, \
	{ LG_CALL_SET_CLOCKEVENT, "SET_CLOCKEVENT" }, \
	{ LG_CALL_HALT, "HALT" }, \
	{ LG_CALL_SET_PMD, "SET_PMD" }, \
	{ LG_CALL_SET_PTE, "SET_PTE" }, \
	{ LG_CALL_SET_PGD, "SET_PGD" }, \
	{ LG_CALL_LOAD_TLS, "LOAD_TLS" }, \
	{ LG_CALL_NOTIFY, "NOTIFY" }, \
	{ LG_CALL_LOAD_GDT_ENTRY, "LOAD_GDT_ENTRY" }, \
	{ LG_CALL_SEND_INTERRUPTS, "SEND_INTERRUPTS" }, \
	{ LG_CALL_SWITCH_TO, "SWITCH_TO" }, \
	{ LG_CALL_FLUSH_USER_OF, "FLUSH_USER_OF" }

#define lg_fault_names \
	{ LG_FAULT_FIXED, "fixed" }, \
	{ LG_FAULT_REFLECTED, "reflected" }, \
	{ LG_FAULT_KILLED, "killed" }, \
	{ LG_FAULT_PASSED_ON, "passed_on" }

#define lg_flush_names { LG_FLUSH_USER, "user" }, { LG_FLUSH_ALL, "all" }

#define lg_table_names \
	{ LG_TABLE_ROOT, "root" }, \
	{ LG_TABLE_DIRECTORY, "directory" }, \
	{ LG_TABLE_LEVEL1, "level1" }

TRACE_EVENT_FN(lguest_exit,
	TP_PROTO(u32 guest, u32 kind, u32 vector, u32 eip),
	TP_ARGS(guest, kind, vector, eip),
	TP_STRUCT__entry(
		__field(u32, guest)
		__field(u32, kind)
		__field(u32, vector)
		__field(u32, eip)
	),
	TP_fast_assign(
		__entry->guest = guest;
		__entry->kind = kind;
		__entry->vector = vector;
		__entry->eip = eip;
	),
	TP_printk("guest=%u kind=%s vector=%#x eip=%#x", __entry->guest,
		  __print_symbolic(__entry->kind, lg_exit_names), __entry->vector, __entry->eip),
	lg_observe_exit, lg_ignore_exit
);

TRACE_EVENT_FN(lguest_hypercall,
	TP_PROTO(u32 guest, u32 ring, u32 number, u32 a, u32 b, u32 c, u32 d),
	TP_ARGS(guest, ring, number, a, b, c, d),
	TP_STRUCT__entry(
		__field(u32, guest)
		__field(u32, ring)
		__field(u32, number)
		__field(u32, a)
		__field(u32, b)
		__field(u32, c)
		__field(u32, d)
	),
	TP_fast_assign(
		__entry->guest = guest;
		__entry->ring = ring;
		__entry->number = number;
		__entry->a = a;
		__entry->b = b;
		__entry->c = c;
		__entry->d = d;
	),
	TP_printk("guest=%u call=%s ring=%u a=%#x b=%#x c=%#x d=%#x", __entry->guest,
		  __print_symbolic(__entry->number, lg_hypercall_names), __entry->ring, __entry->a, __entry->b,
		  __entry->c, __entry->d),
	lg_observe_hypercall, lg_ignore_hypercall
);

TRACE_EVENT_FN(lguest_fault,
	TP_PROTO(u32 guest, u32 va, u32 error, u32 outcome),
	TP_ARGS(guest, va, error, outcome),
	TP_STRUCT__entry(
		__field(u32, guest)
		__field(u32, va)
		__field(u32, error)
		__field(u32, outcome)
	),
	TP_fast_assign(
		__entry->guest = guest;
		__entry->va = va;
		__entry->error = error;
		__entry->outcome = outcome;
	),
	TP_printk("guest=%u va=%#x error=%#x outcome=%s", __entry->guest, __entry->va, __entry->error,
		  __print_symbolic(__entry->outcome, lg_fault_names)),
	lg_observe_fault, lg_ignore_fault
);

TRACE_EVENT_FN(lguest_load,
	TP_PROTO(u32 guest, u32 directory, u32 hit),
	TP_ARGS(guest, directory, hit),
	TP_STRUCT__entry(
		__field(u32, guest)
		__field(u32, directory)
		__field(u32, hit)
	),
	TP_fast_assign(
		__entry->guest = guest;
		__entry->directory = directory;
		__entry->hit = hit;
	),
	TP_printk("guest=%u directory=%#x hit=%u", __entry->guest, __entry->directory, __entry->hit),
	lg_observe_load, lg_ignore_load
);

TRACE_EVENT_FN(lguest_evict,
	TP_PROTO(u32 guest, u32 victim, u32 incoming),
	TP_ARGS(guest, victim, incoming),
	TP_STRUCT__entry(
		__field(u32, guest)
		__field(u32, victim)
		__field(u32, incoming)
	),
	TP_fast_assign(
		__entry->guest = guest;
		__entry->victim = victim;
		__entry->incoming = incoming;
	),
	TP_printk("guest=%u victim=%#x incoming=%#x", __entry->guest, __entry->victim, __entry->incoming),
	lg_observe_evict, lg_ignore_evict
);

TRACE_EVENT_FN(lguest_flush,
	TP_PROTO(u32 guest, u32 entries),
	TP_ARGS(guest, entries),
	TP_STRUCT__entry(
		__field(u32, guest)
		__field(u32, entries)
	),
	TP_fast_assign(
		__entry->guest = guest;
		__entry->entries = entries;
	),
	TP_printk("guest=%u entries=%s", __entry->guest, __print_symbolic(__entry->entries, lg_flush_names)),
	lg_observe_flush, lg_ignore_flush
);

/* The two of a table page. */
DECLARE_EVENT_CLASS(lguest_table,
	TP_PROTO(u32 guest, u32 frame, u32 kind),
	TP_ARGS(guest, frame, kind),
	TP_STRUCT__entry(
		__field(u32, guest)
		__field(u32, frame)
		__field(u32, kind)
	),
	TP_fast_assign(
		__entry->guest = guest;
		__entry->frame = frame;
		__entry->kind = kind;
	),
	TP_printk("guest=%u frame=%#x kind=%s", __entry->guest, __entry->frame,
		  __print_symbolic(__entry->kind, lg_table_names))
);

DEFINE_EVENT_FN(lguest_table, lguest_table_alloc,
	TP_PROTO(u32 guest, u32 frame, u32 kind), TP_ARGS(guest, frame, kind),
	lg_observe_table_alloc, lg_ignore_table_alloc
);

DEFINE_EVENT_FN(lguest_table, lguest_table_free,
	TP_PROTO(u32 guest, u32 frame, u32 kind), TP_ARGS(guest, frame, kind),
	lg_observe_table_free, lg_ignore_table_free
);

TRACE_EVENT_FN(lguest_in_switcher,
	TP_PROTO(u32 guest, u32 calls, u32 ring_calls, u32 reflected, u32 fills),
	TP_ARGS(guest, calls, ring_calls, reflected, fills),
	TP_STRUCT__entry(
		__field(u32, guest)
		__field(u32, calls)
		__field(u32, ring_calls)
		__field(u32, reflected)
		__field(u32, fills)
	),
	TP_fast_assign(
		__entry->guest = guest;
		__entry->calls = calls;
		__entry->ring_calls = ring_calls;
		__entry->reflected = reflected;
		__entry->fills = fills;
	),
	TP_printk("guest=%u calls=%u ring_calls=%u reflected=%u fills=%u", __entry->guest, __entry->calls,
		  __entry->ring_calls, __entry->reflected, __entry->fills),
	lg_observe_in_switcher, lg_ignore_in_switcher
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE lg_trace
#include <trace/define_trace.h>
