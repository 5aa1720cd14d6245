#include "packer.hpp"

#include <algorithm>
#include <bit>

#include "vectorize.hpp"

namespace ncode {
namespace {

// Neighbouring digits move together pairwise: 8 lanes of 8 bits, then 4 of 16, 2 of 32, 1 of 64.
inline std::uint64_t pack_uniform(std::uint64_t x, unsigned width) {
    x &= 0x0101010101010101U * low_mask(width);
    x = (x & 0x00ff00ff00ff00ffU) | ((x & 0xff00ff00ff00ff00U) >> (8 - width));
    x = (x & 0x0000ffff0000ffffU) | ((x & 0xffff0000ffff0000U) >> (16 - 2 * width));
    return (x & low_mask(32)) | ((x & ~low_mask(32)) >> (32 - 4 * width));
}

inline std::uint64_t pack_mixed(std::uint64_t digits, const std::array<unsigned, 8>& widths) {
    std::uint64_t packed = 0;
    unsigned offset = 0;
    for (const unsigned width : widths) {
        packed |= (digits & low_mask(width)) << offset;
        digits >>= 8;
        offset += width;
    }
    return packed;
}

}  // namespace

NCODE_AVX2_TOO void pack_group(Codes codes, const Packer::Group& group, std::uint64_t* packed) {
    const unsigned skip = group.skip;
    const unsigned width = group.width;
    if (width != 0) {
        each_word(codes, group.first, [=](std::size_t i, std::uint64_t word) {
            packed[i] = pack_uniform(word >> skip, width);
        });
    } else {
        each_word(codes, group.first, [&](std::size_t i, std::uint64_t word) {
            packed[i] = pack_mixed(word >> skip, group.widths);
        });
    }
}

Packer::Packer(const Space& space) {
    for (const Digit size : space.sizes()) {
        widths_.push_back(static_cast<unsigned>(std::bit_width(size - 1U)));
    }
    for (std::size_t begin = 0; begin < widths_.size(); begin += 8) {
        add_group(begin, std::min(begin + 8, widths_.size()));
    }
}

// The last group of a row of at least eight positions is read as the row's last whole word.
void Packer::add_group(std::size_t begin, std::size_t end) {
    const std::size_t missing = 8 - (end - begin);
    const std::size_t back = std::min(begin, missing);
    Group group{begin - back, static_cast<unsigned>(8 * back), widths_[begin], 0, bits_, {}};
    for (std::size_t p = begin; p < end; ++p) {
        group.widths[p - begin] = widths_[p];
        group.bits += widths_[p];
        group.width = widths_[p] == group.width ? group.width : 0;
    }
    if (group.bits > 0) {
        groups_.push_back(group);
    }
    bits_ += group.bits;
}

}  // namespace ncode
