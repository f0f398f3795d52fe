/* Objects of unusual layout in C. Every stop in it is compared with gdb. */
#include <complex.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define NOINLINE __attribute__((noinline))

enum bits { BIT_NONE, BIT_A = 1, BIT_B = 2, BIT_C = 4, BIT_HIGH = 0x40000000 };
enum fields { FIELD_ONE = 1, FIELD_LOW = 6, FIELD_TOP = 0x30 };
enum wide { WIDE_SMALL = 1, WIDE_LARGE = 0x100000000 };
enum unsorted { LAST = 9, FIRST = 2, SAME = 2, MINUS = -3 };
typedef enum { ANON_ZERO, ANON_ONE } anonymous;

struct inner { short key; char tag; };
struct packed { char c; int i; short s; long long l; } __attribute__((packed));
struct fields_of_bits {
    unsigned first : 3; int : 5; int negative : 7; unsigned long long across : 33; _Bool flag : 1;
    unsigned char byte : 8; enum unsorted what : 5; short narrow : 9; signed char single : 1;
};
struct deep { struct { union { struct { int a, b; }; long long whole; }; struct inner named; } level; struct deep *next; };
struct flexible { int count; struct inner entries[]; };
struct with_zero { int count; int none[0]; };
struct arrays {
    int same[30]; int mixed[14]; char grid[2][5]; struct inner table[2][2]; double few[3]; void *holes[16];
    struct inner alike[12]; unsigned char raw[6]; _Bool bools[3]; enum bits marks[2]; int (*calls[2])(int);
};
struct large { int numbers[250]; };
struct large_grid { short cells[15][20]; };
typedef int vector4 __attribute__((vector_size(16)));
union shapes { struct inner inner; double real; char text[8]; };
typedef const struct inner *handle;
typedef int row[4];

volatile int sink_value;
NOINLINE void sink(int value) { sink_value += value; }
NOINLINE int call_one(int n) { sink(n); return n; }

NOINLINE int numbers(float complex small, long double complex big, __float128 quad, double denormal, long double huge, double minus_zero,
                     unsigned __int128 most, signed char negative, unsigned short half, int64_t wide, float third, double whole) {
    sink((int)crealf(small) + (int)creall(big) + (int)quad);
    sink((int)denormal + (huge > 1) + (int)minus_zero + (int)most + negative + half + (int)wide + (int)third + (int)whole);
    return 1;
}
NOINLINE int enumerations(enum bits none, enum bits two, enum bits strange, enum fields fields, enum fields outside, enum wide large,
                          enum unsorted same, enum unsorted missing, anonymous anon, enum bits high) {
    sink((int)none + (int)two + (int)strange + (int)fields + (int)outside);
    sink((int)(large >> 3) + (int)same + (int)missing + (int)anon + (int)high);
    return 2;
}
NOINLINE int structures(struct packed packed, struct fields_of_bits fields, struct deep deep, struct flexible *flexible, struct with_zero zero,
                        union shapes shapes, handle handle, const struct deep *chain) {
    sink(packed.i + (int)fields.negative + deep.level.a + flexible->entries[1].key);
    sink(zero.count + shapes.inner.key + handle->key + chain->next->level.b);
    return 3;
}
NOINLINE int arrays(struct arrays arrays, struct large large, struct large_grid cells, vector4 vector, row *rows, const char (*lines)[4]) {
    sink(arrays.mixed[1] + large.numbers[7] + (int)vector[2]);
    sink(rows[0][1] + lines[1][0] + cells.cells[1][1]);
    return 4;
}
NOINLINE int variable(int rows, int columns, int matrix[rows][columns], const int list[static 3], char last) {
    int copy[columns];
    for (int at = 0; at < columns; at++)
        copy[at] = matrix[rows - 1][at];
    sink(copy[0] + list[2] + last);
    return copy[columns - 1];
}
NOINLINE int optional(const struct inner *none, int (*call)(int), void (*(*returning)(int))(void), char *volatile *place, int32_t *restrict only) {
    sink(none == NULL);
    sink(call(3) + (returning != 0) + place[0][0] + *only);
    return 5;
}
NOINLINE static long copies(long first, struct inner second) {
    long kept = first * 2;
    sink((int)kept);
    sink(second.key);
    return kept;
}

int main(int argc, char **argv) {
    struct packed packed = { 'p', -argc, 2, 1LL << 40 };
    struct fields_of_bits fields = { 5, -17, 0x123456789, 1, 200, LAST, -100, -1 };
    struct deep deep = { { { { argc, 2 } }, { 3, 'd' } }, NULL }, chain = deep;
    struct flexible *flexible = calloc(1, sizeof *flexible + 3 * sizeof(struct inner));
    struct with_zero zero = { 4 };
    union shapes shapes = { .text = "abc" };
    static struct arrays arrays_;
    static struct large large;
    static struct large_grid cells;
    int matrix[2][3] = { { 1, 2, 3 }, { 4, 5, argc } };
    row rows[2] = { { 1, 2, 3, 4 }, { 5, 6, 7, 8 } };
    char lines[2][4] = { "abc", "wxyz" }, *text = "place";
    int total = 0, only = argc;
    chain.next = &deep;
    flexible->count = 3;
    flexible->entries[1] = (struct inner){ 9, 'f' };
    for (int at = 0; at < 14; at++)
        arrays_.mixed[at] = at < 12 ? 7 : at;
    arrays_.same[29] = argc;
    arrays_.grid[0][0] = 'g';
    arrays_.grid[1][4] = 'h';
    arrays_.table[1][0] = (struct inner){ 1, 't' };
    arrays_.few[1] = 0.1;
    arrays_.holes[15] = &sink_value;
    arrays_.raw[2] = 255;
    arrays_.bools[1] = 1;
    arrays_.marks[0] = BIT_A | BIT_C;
    arrays_.calls[1] = call_one;
    for (int at = 0; at < 250; at++)
        large.numbers[at] = at < 150 ? at * at : at / 60;
    for (int at = 0; at < 300; at++)
        cells.cells[at / 20][at % 20] = (short)(at < 150 ? at : -1);
    total += numbers(1.5f - 2.0f * I, 0.1L + 1e4000L * I, (__float128)1 / 3, 4.9e-324, 1.18973149535723176502e+4932L, -0.0, ~(unsigned __int128)0, -1, 65535,
                     INT64_MIN, 1.0f / 3, 1e15);
    total += enumerations(BIT_NONE, BIT_A | BIT_C, (enum bits)(8 | BIT_B), FIELD_ONE | FIELD_LOW, (enum fields)2, WIDE_LARGE, SAME, (enum unsorted)77, ANON_ONE,
                          BIT_HIGH | BIT_A);
    total += structures(packed, fields, deep, flexible, zero, shapes, &flexible->entries[1], &chain);
    total += arrays(arrays_, large, cells, (vector4){ 1, -2, argc, 4 }, rows, lines);
    total += variable(2, 3, matrix, large.numbers + 3, 'v');
    total += optional(NULL, call_one, 0, &text, &only);
    total += (int)copies(argc, flexible->entries[1]) + (int)copies(argc + 1, (struct inner){ 8, 'i' });
    sink(total);
    return argv[0] == 0;
}
