#include "indexing.hpp"

#include <algorithm>

#include "vectorize.hpp"

namespace ncode {
namespace {

constexpr std::uint64_t bytes = 0x00ff00ff00ff00ffU;
constexpr std::uint64_t shorts = 0x0000ffff0000ffffU;

// The last 8, 4 or 2 of a word's digits are joined pairwise: lanes of 8 bits, then of 16 and 32. No lane overflows,
// even for digits up to 255 with a radix of 64.
template <unsigned Digits>
std::uint64_t uniform_index(std::uint64_t digits, std::uint64_t radix) {
    digits >>= 64 - 8 * Digits;
    digits = (digits & bytes) * radix + ((digits >> 8) & bytes);
    const std::uint64_t square = radix * radix;
    if constexpr (Digits > 2) {
        digits = (digits & shorts) * square + ((digits >> 16) & shorts);
    }
    if constexpr (Digits > 4) {
        digits = (digits & low_mask(32)) * (square * square) + (digits >> 32);
    }
    return digits;
}

// The same for a radix up to 16, where a pair fits the lane of one of its digits: one multiplication by 1 + radix *
// 2**k adds each lane's multiple to the next lane, and the sums are taken from every second one. Digits that are no
// digits of the space give a wrong number, no more.
template <unsigned Digits>
std::uint64_t small_uniform_index(std::uint64_t digits, std::uint64_t radix) {
    digits >>= 64 - 8 * Digits;
    digits = (digits * ((radix << 8) + 1)) >> 8 & bytes;
    const std::uint64_t square = radix * radix;
    if constexpr (Digits > 2) {
        digits = (digits * ((square << 16) + 1)) >> 16 & shorts;
    }
    if constexpr (Digits > 4) {
        digits = (digits * (((square * square) << 32) + 1)) >> 32;
    }
    return digits;
}

std::uint64_t mixed_index(std::uint64_t digits, const std::array<Digit, 8>& sizes) {
    std::uint64_t index = 0;
    for (std::size_t i = 0; i < 8; ++i) {
        index = index * sizes[i] + ((digits >> (8 * i)) & 0xff);
    }
    return index;
}

}  // namespace

uint128 index_of(const Space& space, const Digit* row) {
    uint128 index = 0;
    for (std::size_t i = 0; i < space.length(); ++i) {
        index = index * space.sizes()[i] + row[i];
    }
    return index;
}

void write_code(const Space& space, uint128 index, Digit* row) {
    const auto& sizes = space.sizes();
    std::size_t i = sizes.size();
    for (; i > 0 && high64(index) != 0; --i) {  // 128-bit division is slow: only as long as it is needed
        row[i - 1] = static_cast<Digit>(index % sizes[i - 1]);
        index /= sizes[i - 1];
    }
    std::uint64_t rest = low64(index);
    for (; i > 0; --i) {
        row[i - 1] = static_cast<Digit>(rest % sizes[i - 1]);
        rest /= sizes[i - 1];
    }
}

WordIndexer::WordIndexer(const Space& space) {
    for (std::size_t begin = 0; begin < space.length(); begin += 8) {
        groups_.push_back(make_group(space.sizes(), begin, std::min(begin + 8, space.length())));
    }
}

// A group of fewer than eight is moved to the end of its word; the places before it count as positions whose digit is
// 0.
WordIndexer::Group WordIndexer::make_group(const std::vector<Digit>& sizes, std::size_t begin, std::size_t end) {
    const std::size_t missing = 8 - (end - begin);
    const auto first = sizes.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto last = sizes.begin() + static_cast<std::ptrdiff_t>(end);
    const bool uniform = std::all_of(first, last, [&](Digit size) { return size == *first; });
    const auto shift = static_cast<unsigned>(begin == 0 ? 8 * missing : 0);
    const std::uint64_t keep = ~std::uint64_t{0} << (8 * missing);
    Group group{begin - std::min(begin, missing), shift, keep, end - begin, uniform ? *first : 0U, 1, {}};
    group.sizes.fill(1);
    std::copy(first, last, group.sizes.begin() + static_cast<std::ptrdiff_t>(missing));
    for (const Digit size : group.sizes) {
        group.size *= size;
    }
    return group;
}

namespace {

using Group = WordIndexer::Group;

// Appends a group's digits to the indices so far; `join` gets the group's digits at the end of a word.
template <class Join>
inline void append(Codes codes, std::uint64_t* out, const Group& group, Join join) {
    // By value: in registers, whatever `out` may point to.
    each_word(codes, group.first, [=, shift = group.shift, keep = group.keep, size = group.size](std::size_t i, std::uint64_t word) {
        out[i] = out[i] * size + join((word << shift) & keep);
    });
}

template <unsigned Digits>
inline void append_uniform(Codes codes, std::uint64_t* out, const Group& group) {
    const std::uint64_t radix = group.radix;
    if (radix <= 16) {
        append(codes, out, group, [radix](std::uint64_t digits) { return small_uniform_index<Digits>(digits, radix); });
    } else {
        append(codes, out, group, [radix](std::uint64_t digits) { return uniform_index<Digits>(digits, radix); });
    }
}

NCODE_AVX2_TOO void append_group(Codes codes, std::uint64_t* out, const Group& group) {
    if (group.radix == 0) {
        append(codes, out, group, [&](std::uint64_t digits) { return mixed_index(digits, group.sizes); });
    } else if (group.digits <= 2) {
        append_uniform<2>(codes, out, group);
    } else if (group.digits <= 4) {
        append_uniform<4>(codes, out, group);
    } else {
        append_uniform<8>(codes, out, group);
    }
}

}  // namespace

// Group by group, so that what is the same for all rows stays in registers.
void WordIndexer::operator()(Codes codes, std::uint64_t* out) const {
    std::fill_n(out, codes.rows, 0);
    for (const Group& group : groups_) {
        append_group(codes, out, group);
    }
}

}  // namespace ncode
