// Objects of the C++ library and of unusual classes. Every stop in it is compared with gdb.
#include <array>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#define NOINLINE __attribute__((noinline))

volatile int sink_value;
extern "C" NOINLINE void sink(int value) { sink_value = sink_value + value; }

namespace model {
struct Counter { static int made; static const int limit = 40; static constexpr double rate = 2.5; int value; };
int Counter::made = 3;
template <typename Key, typename Value> struct Pair { Key key; Value value; Pair *next; static Pair *head; };
template <typename Key, typename Value> Pair<Key, Value> *Pair<Key, Value>::head;
struct Abstract { virtual ~Abstract() {} virtual int run(int) = 0; int tag = 1; };
struct Top { virtual ~Top() {} int top = 1; };
struct Left : virtual Top { int left = 2; };
struct Right : virtual Top { int right = 3; };
struct Bottom : Left, Right, Abstract { NOINLINE int run(int n) override { sink(n); sink(bottom); return n; } int bottom = 4; };
struct Holder { Counter &counter; const char (&name)[5]; Counter Counter::*none; int Counter::*member; int (Abstract::*method)(int); };
enum class Mode : unsigned char { Off, On = 200 };
enum Flags : unsigned { FlagNone = 0, FlagA = 1, FlagB = 2 };
struct Empty {};
struct Optimized : Empty { int only; };
union Either { int number; float real; };
struct Anonymous { int before; union { int inside; float other; }; struct { char a, b; } named; };
}
using model::Counter;
typedef std::vector<std::string> Names;

NOINLINE int strings(std::string by_value, const std::string &reference, std::string *pointer, std::string_view view, std::u16string wide, std::wstring wider) {
    sink((int)by_value.size() + (int)reference.size());
    sink((int)pointer->size() + (int)view.size() + (int)wide.size() + (int)wider.size());
    return 1;
}
NOINLINE int vectors(std::vector<int> numbers, const Names &names, std::vector<bool> bits, const std::vector<std::vector<short>> &nested, std::vector<Counter> &counters,
                     std::array<int, 3> fixed, const std::vector<long> &many) {
    sink(numbers[0] + (int)names.size() + bits[1]);
    sink((int)nested.size() + counters[0].value + fixed[1] + (int)many.size());
    return 2;
}
NOINLINE int owners(std::unique_ptr<Counter> owned, const std::unique_ptr<int[]> &array, std::shared_ptr<Counter> shared, const std::shared_ptr<int> &empty,
                    std::weak_ptr<Counter> weak, std::optional<int> some, const std::optional<std::string> &text, std::optional<Counter> none) {
    sink(owned->value + array[1] + shared->value);
    sink(*some + (int)text->size() + (none ? 1 : 0) + (empty ? 1 : 0) + (weak.expired() ? 1 : 0));
    return 3;
}
NOINLINE int trees(const std::map<std::string, int> &map, std::set<int> &set, const std::multimap<int, Counter> &multi, const std::map<int, int> &none,
                   std::list<int> &list, std::pair<int, std::string> &pair, std::tuple<int, char, double> &tuple) {
    sink((int)map.size() + (int)set.size() + (int)multi.size());
    sink((int)none.size() + (int)list.size() + pair.first + std::get<0>(tuple));
    return 4;
}
NOINLINE int others(const std::unordered_map<int, int> &hashed, const std::deque<int> &deque, std::variant<int, std::string> &variant, std::initializer_list<int> items) {
    sink((int)hashed.size() + (int)deque.size() + (int)variant.index());
    sink((int)items.size());
    return 5;
}
NOINLINE int classes(Counter counter, const model::Pair<int, Counter> &pair, model::Bottom &bottom, model::Abstract *abstract, model::Holder &holder, model::Mode mode,
                     model::Mode odd, model::Flags flags, model::Optimized optimized, model::Either either, model::Anonymous &anonymous) {
    sink(counter.value + pair.key + bottom.bottom + abstract->tag);
    sink(holder.counter.value + (int)mode + (int)odd + (int)flags + optimized.only + either.number + anonymous.before);
    return 6;
}
template <typename... Values> NOINLINE int variadic(Values... values) {
    int total = (0 + ... + (int)values);
    sink(total);
    return total;
}
template <typename Call> NOINLINE int with_lambda(Call call, int n) { sink(n); return call(n); }

int main(int argc, char **) {
    std::string name = "short", longer(300, 'x');
    longer += "end";
    Names names{"one", longer, "", std::string("nul\0inside", 10)};
    std::vector<int> numbers{1, 2, argc};
    numbers.reserve(8);
    std::vector<long> many(250, 5);
    for (int at = 0; at < 100; at++) many[at] = at * at;
    std::vector<Counter> counters{{4}, {5}};
    auto shared = std::make_shared<Counter>(Counter{7});
    auto array = std::make_unique<int[]>(3);
    std::map<std::string, int> map{{"a", 1}, {"b", argc}, {"c", 3}};
    std::set<int> set;
    for (int at = 0; at < 20; at++) set.insert(at * 7 % 20);
    std::multimap<int, Counter> multi{{1, {1}}, {1, {2}}};
    std::list<int> list{4, 5, argc};
    std::pair<int, std::string> pair{argc, "paired"};
    std::tuple<int, char, double> tuple{argc, 't', 0.5};
    std::deque<int> deque{1, 2, argc};
    std::variant<int, std::string> variant{"held"};
    model::Pair<int, Counter> own{argc, {2}, nullptr};
    model::Pair<int, Counter>::head = &own;
    model::Bottom bottom;
    Counter counter{argc + 40};
    model::Holder holder{counter, "four", nullptr, &Counter::value, &model::Abstract::run};
    model::Anonymous anonymous{argc, {2}, {'a', 'b'}};
    int total = strings(name, longer, &pair.second, std::string_view(longer).substr(298), u"wide\u00e9", L"wider");
    total += vectors(numbers, names, {true, false, true}, {{1, 2}, {}, {3}}, counters, {1, 2, argc}, many);
    total += owners(std::make_unique<Counter>(Counter{6}), array, shared, nullptr, shared, argc, "text", std::nullopt);
    total += trees(map, set, multi, {}, list, pair, tuple);
    total += others({{1, 2}, {3, argc}}, deque, variant, {1, 2, argc});
    total += classes(counter, own, bottom, &bottom, holder, model::Mode::On, (model::Mode)7, (model::Flags)3, {{}, argc}, {argc}, anonymous);
    total += variadic(argc, 'c', 2.5f, (short)4) + with_lambda([&counter, argc](int n) { sink(n); return n + counter.value + argc; }, 4) + bottom.run(argc);
    sink(total);
    return 0;
}
