// Arguments of many types in C++. Every stop in it is compared with gdb.
#include <cstddef>
#include <cstdint>

#define NOINLINE __attribute__((noinline))

volatile int sink_value;
extern "C" NOINLINE void sink(int value) { sink_value = sink_value + value; }

namespace geometry {
enum class Unit { Metre, Foot };
enum Kind { Round, Square = 4 };
struct Point { int x; int y; static int made; };
int Point::made = 3;
template <typename T, int N> struct Vector {
    T items[N];
    NOINLINE T total(T start) const { T sum = start; sink((int)sum); for (const T &item : items) sum += item; sink((int)sum); return sum; }
};
class Shape {
public:
    Shape(int id, Point origin) : id_(id), origin_(origin) {}
    virtual ~Shape() {}
    NOINLINE virtual double area(double scale) const { sink(id_); return scale; }
    int id_;
protected:
    Point origin_;
};
struct Named { const char *name; };
struct Tag { };
class Circle : public Shape, public Named, private Tag {
public:
    Circle(int id, Point origin, double radius) : Shape(id, origin), radius_(radius) { name = "circle"; }
    NOINLINE double area(double scale) const override { sink(id_ + 1); double a = scale * radius_; sink((int)a); return a; }
    double radius_;
    bool filled_ : 1 = true;
    Unit unit_ = Unit::Foot;
};
struct Base { int base = 11; };
struct Left : virtual Base { int left = 12; };
struct Right : virtual Base { int right = 13; };
struct Diamond : Left, Right { int bottom = 14; };
}
namespace { struct Hidden { short value; }; }
using geometry::Point;

NOINLINE int references(const Point &point, int &number, geometry::Circle &circle, const char *const &text, Point &&moved) {
    sink(point.x + number);
    sink(circle.id_ + text[0] + moved.y);
    return 1;
}
NOINLINE int scoped(geometry::Unit unit, geometry::Kind kind, geometry::Kind odd, bool yes, char c, wchar_t w, std::nullptr_t null, Hidden hidden) {
    sink((int)unit + kind + odd);
    sink(yes + c + (int)w + (null == nullptr) + hidden.value);
    return 2;
}
NOINLINE int objects(geometry::Circle circle, geometry::Shape *shape, const geometry::Vector<short, 3> &shorts, geometry::Diamond &diamond, geometry::Vector<Point, 2> points) {
    sink(circle.id_ + shape->id_);
    sink(shorts.items[0] + diamond.base + points.items[1].x);
    return 3;
}
template <typename T> NOINLINE T largest(const T *items, unsigned count, T (*get)(const T &)) {
    T best = items[0];
    for (unsigned i = 1; i < count; i++)
        if (get(items[i]) > best) best = get(items[i]);
    sink((int)best);
    return best;
}
NOINLINE int itself(const int &n) { sink(n); return n; }
static inline int twice(const Point &p, int factor) { sink(factor); sink(p.x); return p.x * factor; }
NOINLINE int inlining(int n) { Point local{n, n + 1}; int a = twice(local, n + 2); sink(a); return a + twice(Point{n, 2}, 5); }
NOINLINE geometry::Circle make_circle(int id) { sink(id); return geometry::Circle(id, {1, 2}, 3.5); }
NOINLINE Point make_point(int id) { sink(id); return {id, -id}; }

int main(int argc, char **argv) {
    geometry::Circle circle(argc + 6, {3, 4}, 2.5);
    geometry::Shape shape(argc + 7, {5, 6});
    geometry::Vector<short, 3> shorts{{1, 2, (short)argc}};
    geometry::Vector<Point, 2> points{{{1, 2}, {argc, 4}}};
    geometry::Diamond diamond;
    int number = argc + 20, numbers[4] = {3, argc + 8, 4, 1};
    const char *text = "text";
    int total = references({argc, 2}, number, circle, text, Point{8, 9});
    total += scoped(argc ? geometry::Unit::Foot : geometry::Unit::Metre, geometry::Square, (geometry::Kind)3, true, 'c', L'w', nullptr, Hidden{-4});
    total += objects(circle, argc ? &circle : &shape, shorts, diamond, points);
    geometry::Shape *dynamic = argc > 1 ? &shape : &circle;
    total += (int)dynamic->area(argc + 0.5) + (int)shape.area(2) + shorts.total((short)(argc + 1));
    total += largest<int>(numbers, 4, [](const int &v) { return itself(v); }) + inlining(argc + 3);
    total += make_circle(argc).id_ + make_point(argc).y;
    sink(total);
    return 0;
}
