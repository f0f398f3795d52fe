// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The core over many addresses at once: row_steps.py is the same by the compiled Python. */

#include "../../runtime_c/core/ptap_lookup.h"
#include "../../runtime_c/host/ptap_host.h"

void row_rules(const uint8_t *table, uint32_t size, const uint64_t *pcs, uint64_t count, int64_t *rules);
void row_steps(const struct ptap_host_input *input, int64_t *states, uint64_t count, int64_t *frames,
	       int64_t *registers, int64_t *reasons);

/* The offset of the rule in force at each of `count` addresses, -1 where there is none. */
void row_rules(const uint8_t *table, uint32_t size, const uint64_t *pcs, uint64_t count, int64_t *rules)
{
	for (uint64_t index = 0; index < count; index++)
		rules[index] = ptap_find_rule(table, size, pcs[index]);
}

/* Walk one frame from each of `count` states, which are left behind the step; a row of each array a state. */
void row_steps(const struct ptap_host_input *input, int64_t *states, uint64_t count, int64_t *frames,
	       int64_t *registers, int64_t *reasons)
{
	uint64_t found;

	for (uint64_t index = 0; index < count; index++)
		reasons[index] = ptap_host_walk(input, states + index * PTAP_HOST_STATE_WIDTH,
						frames + index * PTAP_HOST_FRAME_WIDTH,
						registers + index * PTAP_REGISTER_COUNT, 1, &found);
}
