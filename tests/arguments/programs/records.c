/* Arguments of many types in C. Every stop in it is compared with gdb. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include <uchar.h>

#define NOINLINE __attribute__((noinline))

enum color { RED, GREEN = 5, BLUE };
enum access { READ = 1, WRITE = 2, EXECUTE = 4 };
enum level { LOW = -1, HIGH = 1 };
struct empty { };
typedef struct page { unsigned number; struct page *next; char tag[12]; } page;
struct flags { unsigned dirty : 1; int delta : 5; unsigned long big : 40; _Bool pinned : 1; enum color color : 4; };
union word { uint32_t u; float f; unsigned char bytes[4]; };
typedef int (*compare_fn)(const void *, const void *);
struct cursor {
    page *root; int stack[24]; struct flags flags; union word word; double cost; long double precise;
    compare_fn compare; enum access access; const char *names[3]; struct { int line; union { short column; char c; }; };
};
struct small { int a; float b; };
struct pair { double x, y; };
struct mixed { double x; long n; };
struct text { char text[300]; };

volatile int sink_value;
char global_text[40] = "global text";
page global_page = { 7, 0, "root" };

NOINLINE void sink(int value) { sink_value += value; }
NOINLINE int by_number(const void *a, const void *b) { sink(1); return *(const int *)a - *(const int *)b; }

NOINLINE int integers(int a, unsigned b, long c, unsigned long long d, short e, unsigned char f, int8_t g, _Bool h,
                      __int128 wide, char q) {
    sink(a + (int)b);
    sink((int)c + (int)d + e + f + g + h + (int)wide);
    return q;
}
NOINLINE double floats(float a, double b, long double c, double nan, float inf, _Complex double z) {
    double sum = a + b + (double)c;
    sink((int)a);
    return sum + nan * 0 + inf * 0 + __real__ z;
}
NOINLINE int texts(const char *a, char *const *argv, const unsigned char *bytes, const wchar_t *wide, const char *none,
                   char16_t u, char32_t w, const char *longer) {
    sink(a[0] + argv[0][0]);
    sink(bytes[0] + (int)wide[0] + (none != 0) + u + (int)w + longer[0]);
    return 2;
}
NOINLINE int enums(enum color a, enum color b, enum access c, enum access d, enum level e, enum access none) {
    sink((int)a + (int)b);
    return (int)c + (int)d + (int)e + (int)none;
}
NOINLINE int records(struct cursor cursor, struct cursor *pointer, struct small small, struct pair pair, struct empty empty,
                     struct flags flags, page page, union word word) {
    (void)empty;
    sink(cursor.stack[0] + pointer->stack[1] + small.a);
    sink((int)pair.x + flags.delta + (int)page.number + (int)word.u);
    return 3;
}
NOINLINE int pointers(compare_fn compare, void *any, int (*matrix)[3], const volatile int *watched, struct page **list, int *heap,
                      int (*old)(), char *middle, struct text text) {
    int numbers[3] = { 3, 1, 2 };
    sink(compare(numbers, numbers + 1));
    sink(matrix[0][0] + *watched + (int)list[0]->number + heap[0] + (any != 0) + (old != 0) + middle[0] + text.text[0]);
    return 4;
}
/* Arguments that are dead, or known only from the caller. */
NOINLINE int dead(int kept, int lost, const char *name, page *first) {
    sink(kept);
    sink(2);
    sink(3);
    return lost == 12345 ? name[0] + (int)first->number : 1;
}
static inline __attribute__((always_inline)) int inlined_leaf(page *p, int weight, struct small s, const char *why) {
    sink(weight);
    sink((int)p->number * weight + s.a);
    return weight + s.a + (why != 0);
}
NOINLINE int inlined(page *p, int n) {
    struct small s = { n, 1.5f };
    int total = inlined_leaf(p, n + 1, s, "because");
    sink(total);
    return total + inlined_leaf(p->next ? p->next : p, 3, s, 0);
}
static NOINLINE int specialized(int mode, const char *name, int n) {
    sink(mode + n);
    sink(name[0]);
    return mode * n;
}
NOINLINE int tail_target(int a, int b) { sink(a); sink(b); return a + b; }
NOINLINE int tail_caller(int a, int b) { sink(a); return tail_target(b + 1, a + 1); }
NOINLINE int indirect(int (*call)(int, int), int a) { sink(a); return call(a + 1, a + 2) + 1; }
NOINLINE int even(int n);
NOINLINE int odd(int n) { sink(n); return n ? even(n - 1) : 0; }
NOINLINE int even(int n) { sink(n); return n ? odd(n - 1) : 1; }
NOINLINE int recursive(int depth, const char *label) {
    char buffer[64];
    int below = 0;
    memset(buffer, depth, sizeof buffer);
    sink(buffer[depth] + label[0]);
    if (depth)
        below = recursive(depth - 1, label + 1);
    sink(buffer[0]);
    return below + buffer[1];
}
NOINLINE struct small return_small(int a) { sink(a); return (struct small){ a, 2.5f }; }
NOINLINE struct mixed return_mixed(int a) { sink(a); return (struct mixed){ a + 0.5, a }; }
NOINLINE struct pair return_pair(int a) { sink(a); return (struct pair){ a, a + 1 }; }
NOINLINE struct flags return_flags(int a) { sink(a); return (struct flags){ 1, -3, 1234567890123, 1, BLUE }; }
NOINLINE page return_page(int a) { sink(a); return (page){ (unsigned)a, &global_page, "made" }; }
NOINLINE const char *return_text(int a) { sink(a); return global_text + 7; }
NOINLINE enum color return_enum(int a) { sink(a); return a ? BLUE : RED; }
NOINLINE _Bool return_bool(int a) { sink(a); return a != 0; }
NOINLINE short return_short(int a) { sink(a); return (short)-a; }
NOINLINE float return_float(int a) { sink(a); return a + 0.25f; }
NOINLINE __int128 return_wide(int a) { sink(a); return ((__int128)a << 70) + 5; }
NOINLINE void return_void(int a) { sink(a); }

int main(int argc, char **argv) {
    static int matrix[2][3] = { { 1, 2, 3 }, { 4, 5, 6 } };
    int *heap = malloc(40);
    page second = { 8, &global_page, "second" };
    page *list[2] = { &second, &global_page };
    struct cursor cursor = { &second, { 1, 2, 3 }, { 1, -4, 99, 1, GREEN }, { 0x40490fdb }, 2.75, 1.1L,
                             by_number, READ | EXECUTE, { "one", 0, "three" }, { 12, { 65 } } };
    static struct text text;
    static char longer[260];
    int total = 0;
    memset(text.text, 'z', 20);
    memset(longer, 'l', 259);
    for (int i = 0; i < 259; i += 2)
        longer[i] = (char)('a' + i % 26);
    heap[0] = argc;
    total += integers(-argc, 4000000000u, -1234567890123L, ~0ull, (short)(argc - 7), 200, -5, argc == 1,
                      (__int128)1 << 100, '\'');
    total += (int)floats(0.1f, 1e300, 3.14159L, __builtin_nan(""), -__builtin_inff(), 1.0 + 2.5 * __extension__ 1i);
    total += texts("line\n\tq\"\\ \303\251 \001", argv, (const unsigned char *)"\001\377z", L"w\u00e9", 0, u'y', U'Z', longer);
    total += enums(argc ? BLUE : RED, (enum color)9, WRITE, READ | EXECUTE | 8, LOW, (enum access)0);
    total += records(cursor, &cursor, (struct small){ argc, 0.5f }, (struct pair){ 1.5, -2 }, (struct empty){ },
                     cursor.flags, second, cursor.word);
    total += pointers(by_number, global_text + 3, matrix, &matrix[1][1], list, heap, (int (*)())integers, global_page.tag, text);
    total += dead(argc, argc + 41, "dead", &second);
    total += inlined(&second, argc + 2);
    total += specialized(6, "special", argc) + specialized(6, "special", argc + 1);
    total += tail_caller(argc, argc + 9) + tail_target(argc + 3, 4);
    total += indirect(argc ? tail_caller : tail_target, argc) + indirect(tail_target, argc + 5);
    total += even(argc + 2) + recursive(3, "recursive");
    total += return_small(argc).a + (int)return_mixed(argc).n + (int)return_pair(argc).x + return_flags(argc).delta;
    total += (int)return_page(argc).number + return_text(argc)[0] + (int)return_enum(argc) + return_bool(argc);
    total += return_short(argc) + (int)return_float(argc) + (int)return_wide(argc);
    return_void(argc);
    sink(total);
    return 0;
}
