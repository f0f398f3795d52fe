// Adds up the areas of nested shapes, and throws when one is impossible. Things to try, from the project's root:
//
// A virtual call, through nested groups, a template and a lambda:
//   ptap --backtrace 'process("examples/build/shapes").function("drawing::Circle::area")' -- examples/build/shapes
//
// Where do exceptions come from?
//   ptap --backtrace 'process("libstdc++.so.6").function("__cxa_throw")' -- examples/build/shapes
//
// Every instance of a template, inlined or not:
//   ptap --backtrace 'process("examples/build/shapes").function("*total*")' -- examples/build/shapes

#include "shape.h"

#include <cstdio>
#include <utility>

namespace drawing {

namespace {

constexpr double pi = 3.141592653589793;

inline double square(double length)
{
	return length * length;
}

double checked(double length, const char *what)
{
	if (length < 0)
		throw BadShape(std::string("negative ") + what);
	return length;
}

template <typename Container, typename Measure>
auto total(const Container &container, Measure measure)
{
	decltype(measure(*container.begin())) sum{};
	for (const auto &element : container)
		sum += measure(element);
	return sum;
}

} // namespace

Circle::Circle(Point centre, double radius, Colour colour)
	: Shape("circle", colour), centre_(centre), radius_(checked(radius, "radius"))
{
}

double Circle::area(double scale) const
{
	return pi * square(radius_ * scale);
}

Rectangle::Rectangle(Point corner, double width, double height, Colour colour)
	: Shape("rectangle", colour), corner_(corner), width_(checked(width, "width")),
	  height_(checked(height, "height"))
{
}

double Rectangle::area(double scale) const
{
	return width_ * height_ * square(scale);
}

Group &Group::add(std::unique_ptr<Shape> shape)
{
	shapes_.push_back(std::move(shape));
	return *this;
}

double Group::area(double scale) const
{
	return total(shapes_, [scale](const auto &shape) { return shape->area(scale); });
}

} // namespace drawing

using namespace drawing;

static std::unique_ptr<Group> draw_house(double chimney_width)
{
	auto window = std::make_unique<Group>("window");
	window->add(std::make_unique<Rectangle>(Point{2, 2}, 1, 1.5, Colour::Blue))
		.add(std::make_unique<Circle>(Point{2.5, 3.5}, 0.5, Colour::Green));

	auto house = std::make_unique<Group>("house");
	house->add(std::make_unique<Rectangle>(Point{0, 0}, 8, 5, Colour::Red))
		.add(std::move(window))
		.add(std::make_unique<Rectangle>(Point{6, 5}, chimney_width, 2, Colour::Red));
	return house;
}

static void report(const Shape &shape, double scale)
{
	std::printf("%s: area %.2f at scale %.1f\n", shape.name().c_str(), shape.area(scale), scale);
}

int main()
{
	for (double chimney_width : {1.0, -1.0}) {
		try {
			auto house = draw_house(chimney_width);
			report(*house, 1.0);
			report(*house, 2.0);
		} catch (const BadShape &problem) {
			std::printf("no house: %s\n", problem.what());
		}
	}
}
