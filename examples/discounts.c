/* Discounts: by the customer's tier, by loyalty, and by quantity. */

#include "order.h"

static inline long percent_of(long cents, double percent)
{
	return (long)((double)cents * percent / 100.0);
}

static inline double tier_percent(enum tier tier)
{
	switch (tier) {
	case TIER_GOLD:
		return 10.0;
	case TIER_SILVER:
		return 5.0;
	default:
		return 0.0;
	}
}

static inline double loyalty_percent(const struct customer *customer)
{
	return tier_percent(customer->tier) + (customer->loyal_years > 5 ? 1.5 : 0.0);
}

long apply_discount(const struct item *item, const struct customer *customer, long cents, double extra_percent)
{
	long discount = percent_of(cents, loyalty_percent(customer) + extra_percent);

	if (item->quantity >= 5)
		discount += percent_of(cents - discount, 3.0);
	return cents - discount;
}
