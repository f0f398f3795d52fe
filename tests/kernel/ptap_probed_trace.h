/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A tracepoint of the module, as trace/define_trace.h wants it: read several times. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM ptap_probed

#if !defined(PTAP_PROBED_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define PTAP_PROBED_TRACE_H

#include <linux/tracepoint.h>

TRACE_EVENT(ptap_probed_shown,
	TP_PROTO(int value),
	TP_ARGS(value),
	TP_STRUCT__entry(__field(int, value)),
	TP_fast_assign(__entry->value = value;),
	TP_printk("value=%d", __entry->value)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE ptap_probed_trace
#include <trace/define_trace.h>
