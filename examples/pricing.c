/* Prices: a bundle costs what its parts cost, so pricing is recursive. */

#include "order.h"

static inline long price_parts(const struct item *parts, const struct customer *customer, int depth)
{
	long sum = 0;

	for (const struct item *part = parts; part->name; part++)
		sum += price_item(part, customer, depth + 1);
	return sum;
}

long price_item(const struct item *item, const struct customer *customer, int depth)
{
	long cents = item->price_cents;

	if (item->parts)
		cents += price_parts(item->parts, customer, depth);
	return apply_discount(item, customer, cents * item->quantity, depth > 1 ? 2.5 : 0.0);
}
