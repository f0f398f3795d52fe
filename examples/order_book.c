/* The order book: keeps orders sorted, and hands them to a visitor one by one. */

#include <stdlib.h>

#include "order.h"

static int by_number(const void *left, const void *right)
{
	const struct order *first = left, *second = right;

	return (first->number > second->number) - (first->number < second->number);
}

void order_book_sort(struct order_book *book)
{
	qsort(book->orders, book->count, sizeof(book->orders[0]), by_number);
}

void order_book_visit(struct order_book *book, order_visitor *visit, void *context)
{
	for (size_t i = 0; i < book->count; i++)
		visit(&book->orders[i], context);
}
