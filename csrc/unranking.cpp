#include "unranking.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "bytes.hpp"
#include "indexing.hpp"
#include "integers.hpp"

namespace ncode {
namespace {

constexpr std::size_t most_rows = 4096;  // of a table: all of them together stay in the caches
constexpr std::size_t few_codes = 1024;  // not worth the tables
constexpr std::size_t word_bytes = 8;

// Takes the last digit of a number of base `size` off it and returns it; `inverse` is 2**64 / size, rounded down, so that
// the quotient may be one too low; for a size of 1 it is 2**64 - 1.
std::uint64_t take_part(std::uint64_t size, std::uint64_t inverse, std::uint64_t& number) {
    std::uint64_t quotient = high64(uint128{number} * inverse);
    std::uint64_t part = number - quotient * size;
    const std::uint64_t one_low = part >= size ? 1 : 0;
    quotient += one_low;
    part -= one_low * size;
    number = quotient;
    return part;
}

}  // namespace

Unranker::Unranker(const Space& space) : sizes_(space.sizes()) {
    for (std::size_t last = sizes_.size(); last > 0;) {
        std::size_t first = last;
        std::size_t rows = 1;
        while (first > 0 && last - first < word_bytes && rows * sizes_[first - 1] <= most_rows) {
            rows *= sizes_[--first];
        }
        add_group(first, last);
        last = first;
    }
}

void Unranker::add_group(std::size_t first, std::size_t last) {
    Group group{first, last - first, 1, 0, digits_.size()};
    for (std::size_t p = first; p < last; ++p) {
        group.size *= sizes_[p];
    }
    group.inverse = group.size == 1 ? ~std::uint64_t{0} : low64((uint128{1} << 64) / group.size);
    for (std::uint64_t row = 0; row < group.size; ++row) {
        std::uint64_t word = 0;
        std::uint64_t rest = row;
        for (std::size_t p = last; p > first; --p) {
            word = (word << 8) | rest % sizes_[p - 1];
            rest /= sizes_[p - 1];
        }
        digits_.push_back(word);
    }
    groups_.push_back(group);
}

// Whole words are written from the first position on: what one writes too far the next ones overwrite, within the row
// and behind it. Nothing may be written behind the last row, so the last ones are made aside.
void Unranker::operator()(const std::uint64_t* indices, CodesOut out) const {
    std::array<Digit, max_positions + word_bytes> aside;
    const std::size_t careful = std::min(out.rows, word_bytes / out.length + 1);
    for (std::size_t i = 0; i < out.rows - careful; ++i) {
        write_row(indices[i], out.row(i));
    }
    for (std::size_t i = out.rows - careful; i < out.rows; ++i) {
        write_row(indices[i], aside.data());
        std::memcpy(out.row(i), aside.data(), out.length);
    }
}

void Unranker::write_row(std::uint64_t index, Digit* row) const {
    std::array<std::uint64_t, max_positions> words;
    for (std::size_t g = 0; g < groups_.size(); ++g) {
        words[g] = digits_[groups_[g].table + take_part(groups_[g].size, groups_[g].inverse, index)];
    }
    for (std::size_t g = groups_.size(); g > 0; --g) {
        store_word(row + groups_[g - 1].first, words[g - 1]);
    }
}

void write_codes(const Space& space, const std::uint64_t* indices, CodesOut out) {
    if (out.rows > few_codes) {
        const Unranker unrank(space);
        return unrank(indices, out);
    }
    for (std::size_t i = 0; i < out.rows; ++i) {
        write_code(space, indices[i], out.row(i));
    }
}

}  // namespace ncode
