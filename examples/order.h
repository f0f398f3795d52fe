/* A small web shop: what its files share. */

#ifndef ORDER_H
#define ORDER_H

#include <stddef.h>

enum tier { TIER_GUEST, TIER_SILVER, TIER_GOLD };

struct customer {
	const char *name;
	enum tier tier;
	int loyal_years;
};

/* A product, or a bundle when it has parts. */
struct item {
	const char *name;
	long price_cents;
	int quantity;
	const struct item *parts; /* ends with a nameless item */
};

struct order {
	int number;
	const struct customer *customer;
	const struct item *item;
	long total_cents;
};

struct order_book {
	struct order *orders;
	size_t count;
};

typedef void order_visitor(struct order *order, void *context);

/* order_book.c */
void order_book_sort(struct order_book *book);
void order_book_visit(struct order_book *book, order_visitor *visit, void *context);

/* pricing.c */
long price_item(const struct item *item, const struct customer *customer, int depth);

/* discounts.c */
long apply_discount(const struct item *item, const struct customer *customer, long cents, double extra_percent);

#endif
