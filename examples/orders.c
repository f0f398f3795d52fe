/* Checks out a few orders of a small web shop. Things to try, from the project's root:
 *
 * Who calls apply_discount, with which arguments?
 *   ptap --backtrace 'process("examples/build/orders").function("apply_discount")' -- examples/build/orders
 *
 * What does it return?
 *   ptap --backtrace 'process("examples/build/orders").function("apply_discount").return' -- examples/build/orders
 *
 * An inlined helper has no call instruction and no address of its own; each inlined copy is found:
 *   ptap --backtrace 'process("examples/build/orders").function("percent_of")' -- examples/build/orders
 *
 * One line of a recursive function, bundles within bundles:
 *   ptap --backtrace 'process("examples/build/orders").statement("price_item@pricing.c:20")' -- examples/build/orders
 *
 * A function of the C library, and who of ours is behind it:
 *   ptap --backtrace 'process("libc.so.6").function("qsort")' -- examples/build/orders
 *
 * All functions whose names match:
 *   ptap 'process("examples/build/orders").function("order_book_*")' -- examples/build/orders
 */

#include <stdio.h>

#include "order.h"

static const struct customer ada = { "Ada", TIER_GOLD, 7 };
static const struct customer blaise = { "Blaise", TIER_SILVER, 2 };
static const struct customer guest = { "guest", TIER_GUEST, 0 };

static const struct item pens[] = { { "fountain pen", 4500, 1, NULL }, { "ink", 800, 3, NULL }, { 0 } };
static const struct item desk_set[] = { { "pen case", 0, 1, pens }, { "blotter", 1250, 2, NULL }, { 0 } };
static const struct item gift = { "writer's gift box", 0, 1, desk_set };
static const struct item notebook = { "notebook", 990, 5, NULL };

struct checkout {
	const char *shop;
	long turnover_cents;
};

static void check_out_order(struct order *order, void *context)
{
	struct checkout *checkout = context;

	order->total_cents = price_item(order->item, order->customer, 0);
	checkout->turnover_cents += order->total_cents;
	printf("%s: order %d of %s: %ld.%02ld\n", checkout->shop, order->number, order->customer->name,
	       order->total_cents / 100, order->total_cents % 100);
}

static long check_out_all(struct order_book *book, const char *shop)
{
	struct checkout checkout = { shop, 0 };

	order_book_visit(book, check_out_order, &checkout);
	return checkout.turnover_cents;
}

int main(void)
{
	struct order orders[] = {
		{ 1003, &guest, &notebook, 0 },
		{ 1001, &ada, &gift, 0 },
		{ 1002, &blaise, &notebook, 0 },
	};
	struct order_book book = { orders, sizeof(orders) / sizeof(orders[0]) };

	order_book_sort(&book);
	long turnover = check_out_all(&book, "The Paper Shop");
	printf("turnover: %ld.%02ld\n", turnover / 100, turnover % 100);
	return 0;
}
