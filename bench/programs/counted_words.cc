// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A job whose code is mostly inlined templates: text is made, taken apart by a regular expression, counted and sorted.
 */
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

using Word = std::pair<std::uint64_t, std::string>;

std::string made_text(std::uint64_t seed, int words)
{
    std::string text;
    for (int i = 0; i < words; i++) {
        seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
        for (std::uint64_t rest = seed >> 48; rest; rest /= 13)
            text += static_cast<char>('a' + rest % 13);
        text += i % 7 ? ' ' : '=';
        text += std::to_string(seed % 1000);
        text += '\n';
    }
    return text;
}

std::vector<Word> counted(const std::string &text)
{
    static const std::regex pattern("([a-z]+)(=| )([0-9]+)");
    std::unordered_map<std::string, std::uint64_t> seen;
    for (std::sregex_iterator each(text.begin(), text.end(), pattern), end; each != end; ++each)
        seen[(*each)[1].str()] += std::stoul((*each)[3].str());
    std::vector<Word> words;
    for (const auto &[word, count] : seen)
        words.emplace_back(count, word);
    std::sort(words.begin(), words.end());
    return words;
}

std::uint64_t joined(const std::vector<Word> &words)
{
    std::map<std::string, std::set<std::uint64_t>> tree;
    for (const Word &word : words)
        tree[word.second.substr(0, 2)].insert(word.first);
    std::uint64_t sum = 0;
    for (const auto &[key, values] : tree)
        for (std::uint64_t value : values)
            sum = sum * 31 + value + key.size();
    return sum;
}

} // namespace

int main(int count, char **arguments)
{
    const int rounds = count > 1 ? std::atoi(arguments[1]) : 10;
    std::uint64_t sum = 0;
    for (int round = 0; round < rounds; round++)
        sum += joined(counted(made_text(round, 2000)));
    std::printf("%llu\n", static_cast<unsigned long long>(sum));
}
