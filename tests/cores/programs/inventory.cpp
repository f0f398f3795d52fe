// Templates, strings, vectors, exceptions and threads, down to an abort() in a destructor that an exception runs.
#include <cstdio>
#include <cstdlib>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

enum class Colour : unsigned char { red = 1, green, blue };

struct Point {
	double x, y;
	unsigned flags : 3;
	signed height : 9;
};

template <typename Value, int Limit> class Shelf {
public:
	explicit Shelf(std::string label) : label_(std::move(label)) {}
	template <typename Visit> void each(Visit &&visit) const
	{
		int position = 0;
		for (const Value &value : values_) {
			static long visited = 40;
			visited++;
			visit(value, position++);
		}
	}
	void put(const Value &value)
	{
		if (values_.size() >= Limit)
			throw std::length_error("shelf " + label_ + " is full");
		values_.push_back(value);
	}
	const std::string &label() const { return label_; }

private:
	std::string label_;
	std::vector<Value> values_;
};

std::mutex lock;
std::condition_variable changed;
int waiting;
bool done;

struct Guard {
	const std::string *name;
	Point at;
	~Guard();
};

[[gnu::noinline]] Guard::~Guard()
{
	Colour colour = at.height > 2 ? Colour::blue : Colour::green;
	char text[24];
	snprintf(text, sizeof text, "%s/%d", name->c_str(), (int)colour);
	if (name->size() > 3)
		abort();
	printf("%s\n", text);
}

template <typename Number> [[gnu::noinline]] Number fold(const std::vector<Number> &numbers, std::size_t from)
{
	Number rest = from + 1 < numbers.size() ? fold(numbers, from + 1) : Number();
	Number &here = const_cast<Number &>(numbers[from]);
	if (from + 1 == numbers.size()) {
		Shelf<std::string, 2> shelf("glass, a name that is too long for its own bytes");
		std::string first = "tea", second = "a cup that is kept in memory of its own";
		Guard guard{&second, {1.5, -2.25, 5, -7}};
		shelf.put(first);
		shelf.put(second);
		shelf.each([&](const std::string &value, int position) { here += value.size() + position; });
		shelf.put(first + second);
	}
	return rest + here;
}

[[gnu::noinline]] long work(int number, const Point *point, float weight)
{
	long total = number * 3;
	int table[3][2] = {{number, 1}, {2, 3}, {4, 5}};
	std::unique_lock<std::mutex> hold(lock);
	waiting++;
	changed.notify_all();
	changed.wait(hold, [&] { return done; });
	for (int i = 0; i < 3; i++) {
		int total = table[i][0];
		printf("%d %f\n", total, point->x * weight);
	}
	return total + table[number % 3][1];
}

} // namespace

int main(int argc, char **argv)
{
	Point corner{0.5, 0.25, 3, 44};
	std::vector<std::thread> threads;
	for (int i = 0; i < 3; i++)
		threads.emplace_back(work, i + argc, &corner, 1.5f + i);
	{
		std::unique_lock<std::mutex> hold(lock);
		changed.wait(hold, [] { return waiting == 3; });
	}
	std::vector<double> numbers{1.5, 2.5, 3.5};
	std::map<std::string, int> names{{"one", 1}, {"two", 2}};
	try {
		return (int)fold(numbers, 0) + (int)names.size();
	} catch (const std::exception &error) {
		printf("%s\n", error.what());
	}
	for (std::thread &thread : threads)
		thread.join();
	return argv[0][0];
}
