#include "unranking.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

#include "bytes.hpp"
#include "indexing.hpp"
#include "integers.hpp"

namespace ncode {
namespace {

constexpr std::size_t most_rows = 4096;  // of a table: all of them together stay in the caches
constexpr std::size_t few_codes = 256;    // not worth the tables
constexpr std::size_t word_bytes = 8;

// Takes the last digit of a number of base group.size off it and returns it.
template <bool Exact>
std::uint64_t take_part(const Unranker::Group& group, std::uint64_t& number) {
    std::uint64_t quotient = high64(uint128{number} * group.inverse);
    std::uint64_t part = number - quotient * group.size;
    if constexpr (!Exact) {
        const std::uint64_t one_low = part >= group.size ? 1 : 0;
        quotient += one_low;
        part -= one_low * group.size;
    }
    number = quotient;
    return part;
}

// Whole words are written, the last one first: each holds the beginning of what follows it as well. What the last one
// writes too far the next row overwrites. What is left of the index for the first positions is their part of it.
template <bool Exact>
void write_row(const Unranker::Group* groups, std::size_t count, const std::uint64_t* tables, std::uint64_t index,
               Digit* row) {
    std::uint64_t word = 0;
    for (std::size_t g = 0; g < count; ++g) {
        const Unranker::Group& group = groups[g];
        const std::uint64_t part = g + 1 < count ? take_part<Exact>(group, index) : index;
        word = tables[group.table + part] | word << group.half_bits << group.half_bits;
        store_word(row + group.first, word);
    }
}

// Another thread may write into the array of indices between a check and the use, so each is read only once.
inline std::uint64_t read_once(const std::uint64_t& index) {
    return std::atomic_ref<std::uint64_t>(const_cast<std::uint64_t&>(index)).load(std::memory_order_relaxed);
}

// With the number of groups known when this is compiled, all that belongs to them stays in registers. 0: any number of
// groups, whose inverses need not be exact.
template <std::size_t Count>
bool write_rows(const std::vector<Unranker::Group>& all, const std::uint64_t* tables, const std::uint64_t* indices,
                std::uint64_t last, CodesOut out) {
    std::array<Unranker::Group, Count> known;
    std::copy_n(all.begin(), Count, known.begin());
    const Unranker::Group* groups = Count > 0 ? known.data() : all.data();
    const std::size_t count = Count > 0 ? Count : all.size();
    for (std::size_t i = 0; i < out.rows; ++i) {
        const std::uint64_t index = read_once(indices[i]);
        if (index > last) {
            return false;
        }
        write_row<(Count > 0)>(groups, count, tables, index, out.row(i));
    }
    return true;
}

}  // namespace

Unranker::Unranker(const Space& space) : sizes_(space.sizes()), last_(low64(space.require_last_index())) {
    for (std::size_t last = sizes_.size(); last > 0;) {
        std::size_t first = last;
        std::size_t rows = 1;
        while (first > 0 && last - first < word_bytes && rows * sizes_[first - 1] <= most_rows) {
            rows *= sizes_[--first];
        }
        add_group(first, last);
        last = first;
    }
    set_inverses();
}

void Unranker::add_group(std::size_t first, std::size_t last) {
    Group group{first, last - first, static_cast<unsigned>(4 * (last - first)), 1, 0, 0};
    for (std::size_t p = first; p < last; ++p) {
        group.size *= sizes_[p];
    }
    group.table = table_of(first, last);
    groups_.push_back(group);
}

// The quotient by an inverse that is rounded up is exact for numbers up to 2**64 / size; rounded down, it may be one too
// low. Of a size of 1 there is only the latter.
void Unranker::set_inverses() {
    const bool some_single = std::any_of(groups_.begin(), groups_.end(), [](const Group& g) { return g.size == 1; });
    exact_ = last_ < ~std::uint64_t{0} / most_rows && !some_single;
    for (Group& group : groups_) {
        group.inverse = group.size == 1 ? ~std::uint64_t{0} : low64((uint128{1} << 64) / group.size) + (exact_ ? 1 : 0);
    }
}

// Groups with the same options share a table.
std::size_t Unranker::table_of(std::size_t first, std::size_t last) {
    for (const Group& group : groups_) {
        const auto sizes = sizes_.begin() + group.first;
        if (group.length == last - first && std::equal(sizes, sizes + group.length, sizes_.begin() + first)) {
            return group.table;
        }
    }
    const std::size_t table = digits_.size();
    digits_.push_back(0);
    for (std::size_t p = last; p > first; --p) {
        append_digit(table, sizes_[p - 1], 8 * (p - 1 - first));
    }
    return table;
}

// The rows from `table` on, once with each digit of a position in front.
void Unranker::append_digit(std::size_t table, std::uint64_t options, std::size_t shift) {
    const std::size_t end = digits_.size();
    for (std::uint64_t digit = 1; digit < options; ++digit) {
        for (std::size_t row = table; row < end; ++row) {
            digits_.push_back(digits_[row] | digit << shift);
        }
    }
}

// Nothing may be written behind the last row, so the last ones are made aside.
bool Unranker::operator()(const std::uint64_t* indices, CodesOut out) const {
    std::array<Digit, max_positions + word_bytes> aside;
    const std::size_t plain = out.rows - std::min(out.rows, word_bytes / out.length + 1);
    bool valid = write_whole_words(indices, {out.data, plain, out.length});
    for (std::size_t i = plain; i < out.rows && valid; ++i) {
        valid = write_whole_words(indices + i, {aside.data(), 1, out.length});
        std::memcpy(out.row(i), aside.data(), out.length);
    }
    return valid;
}

bool Unranker::write_whole_words(const std::uint64_t* indices, CodesOut out) const {
    switch (exact_ ? groups_.size() : 0) {
        case 1: return write_rows<1>(groups_, digits_.data(), indices, last_, out);
        case 2: return write_rows<2>(groups_, digits_.data(), indices, last_, out);
        case 3: return write_rows<3>(groups_, digits_.data(), indices, last_, out);
        case 4: return write_rows<4>(groups_, digits_.data(), indices, last_, out);
        default: return write_rows<0>(groups_, digits_.data(), indices, last_, out);
    }
}

bool write_codes(const Space& space, const std::uint64_t* indices, CodesOut out) {
    if (out.rows > few_codes) {
        const Unranker unrank(space);
        return unrank(indices, out);
    }
    const std::uint64_t last = low64(space.require_last_index());
    for (std::size_t i = 0; i < out.rows; ++i) {
        const std::uint64_t index = read_once(indices[i]);
        if (index > last) {
            return false;
        }
        write_code(space, index, out.row(i));
    }
    return true;
}

}  // namespace ncode
