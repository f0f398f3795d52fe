// An exception through three frames; destructors run while the stack is unwound, above frames of the unwinder itself.

#include <stdexcept>

extern "C" __attribute__((noinline)) int in_destructor(int depth)
{
	__asm__ volatile("" : "+r"(depth));
	return depth;
}

static int destroyed;

struct Guard {
	int depth;
	~Guard() { destroyed += in_destructor(depth); }
};

__attribute__((noinline)) int throw_at(int depth)
{
	if (depth == 0)
		throw std::runtime_error("the bottom");
	Guard guard{depth};
	int result = throw_at(depth - 1);
	__asm__ volatile("" : "+r"(result));
	return result;
}

extern "C" __attribute__((noinline)) int in_handler(const char *what)
{
	__asm__ volatile("" : "+r"(what));
	return what[0];
}

int main()
{
	try {
		throw_at(3);
	} catch (const std::exception &problem) {
		return in_handler(problem.what()) != 't' || destroyed != 6;
	}
	return 1;
}
