/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The walk where it is short: by plans that are remembered, over words that are near. Freestanding, as ptap_step.h is. */
#ifndef PTAP_FOLLOW_H
#define PTAP_FOLLOW_H

#include "ptap_walk.h"

/*
 * Walk on from `cursor` for as long as plans are simple, what they read is near, and the step would find nothing to say
 * of a frame. What `walk` and `cursor` hold then is what the step would have left.
 *
 * Gives the plan of the frame that the cursor is at, which the step is needed for; null where there is none.
 */
const struct ptap_plan *ptap_follow(struct ptap_walk *walk, struct ptap_cursor *cursor);

/* Whether `walk` remembers anything. Without near memory it gives plans, and follows none. */
static inline int ptap_may_follow(const struct ptap_walk *walk)
{
	return walk->generation && walk->scratch->remembered;
}

#endif
