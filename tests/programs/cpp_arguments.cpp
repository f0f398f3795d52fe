// C++ arguments: `this`, references, classes passed by hidden pointer, templates, namespaces, operators, lambdas.

#include <cstdint>
#include <string>
#include <utility>

#define NOINLINE __attribute__((noinline))
#define USE(variable) __asm__ volatile("" : : "g"(variable) : "memory")

volatile int stops;

extern "C" NOINLINE void stop_here(int which)
{
	stops = stops + which;
	__asm__ volatile("" ::: "memory");
}

namespace garden {

enum class Season : unsigned char { Spring = 1, Summer, Autumn, Winter };
enum Soil { Sand, Clay = 10 };

struct Size {
	int width;
	int height;
};

class Plant {
public:
	Plant(const char *name, int height) : name_(name), height_(height) {}
	virtual ~Plant() {}
	NOINLINE virtual int grow(int centimetres, Season season);
	NOINLINE int water(const Size &area, bool often) const;
	NOINLINE static int count(long plants);
	NOINLINE Plant &operator+=(int centimetres);

protected:
	const char *name_;
	int height_;
};

class Tree : public Plant {
public:
	Tree(const char *name, int height, int rings) : Plant(name, height), rings_(rings) {}
	NOINLINE int grow(int centimetres, Season season) override;

private:
	int rings_;
};

int Plant::grow(int centimetres, Season season)
{
	stop_here(1);
	USE(this); USE(centimetres); USE(season);
	return height_ += centimetres;
}

int Tree::grow(int centimetres, Season season)
{
	stop_here(2);
	USE(this); USE(centimetres); USE(season);
	return rings_ += Plant::grow(centimetres / 2, season);
}

int Plant::water(const Size &area, bool often) const
{
	stop_here(3);
	USE(this); USE(&area); USE(often);
	return area.width * area.height;
}

int Plant::count(long plants)
{
	stop_here(4);
	USE(plants);
	return static_cast<int>(plants);
}

Plant &Plant::operator+=(int centimetres)
{
	stop_here(5);
	USE(this); USE(centimetres);
	height_ += centimetres;
	return *this;
}

template <typename Number, int Factor>
NOINLINE Number scaled(Number number, const Number *other)
{
	stop_here(6);
	USE(number); USE(other);
	return number * Factor + *other;
}

NOINLINE int take_class(std::string by_value, const std::string &by_reference, int &changed, int &&moved)
{
	stop_here(7);
	USE(&by_value); USE(&by_reference); USE(&changed); USE(&moved);
	return static_cast<int>(by_value.size() + by_reference.size()) + changed++ + moved;
}

NOINLINE int take_members(int Size::*field, int (Plant::*method)(int, Season), Soil soil, std::nullptr_t nothing)
{
	stop_here(8);
	USE(field); USE(soil); USE(nothing);
	return method == nullptr;
}

namespace {

NOINLINE int anonymous(char16_t sixteen, char32_t thirty_two, wchar_t wide, Size size)
{
	stop_here(9);
	USE(sixteen); USE(thirty_two); USE(wide);
	__asm__ volatile("" : : "m"(size));
	return size.width;
}

} // namespace

template <typename... Values>
NOINLINE int take_pack(int first, Values... rest)
{
	stop_here(10);
	USE(first);
	return (first + ... + static_cast<int>(rest));
}

} // namespace garden

static inline __attribute__((always_inline)) int inlined_sum(const garden::Size &size, int extra)
{
	stop_here(extra);
	USE(extra);
	return size.width + size.height + extra;
}

NOINLINE int call_inlined(garden::Size *size)
{
	int sum = inlined_sum(*size, 11);
	USE(size);
	return sum;
}

int main()
{
	using namespace garden;
	Tree tree("oak", 900, 40);
	Plant *plant = &tree;
	Size size{4, 5};
	int changed = 3;
	long one = 1;
	double half = 0.5;
	int captured = 6;
	auto lambda = [&captured](int given) __attribute__((noinline)) {
		stop_here(given);
		USE(given);
		return captured + given;
	};

	long sum = plant->grow(12, Season::Autumn) + plant->water(size, true) + Plant::count(99);
	sum += (tree += 7).water(size, false);
	sum += scaled<long, 3>(2, &one) + static_cast<long>(scaled<double, 2>(1.25, &half));
	sum += take_class("by value", "a longer text, kept on the heap by the library", changed, 8);
	sum += take_members(&Size::height, &Plant::grow, Clay, nullptr);
	sum += anonymous(u'\u00e9', U'\U0001F333', L'z', size) + take_pack(1, 2.5, 'c', 4L);
	sum += call_inlined(&size) + lambda(12);
	return sum == 0;
}
