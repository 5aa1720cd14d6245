// Codes packed into the bits that their positions need: ceil(log2(options)) bits each, position 0 lowest. Equal keys are
// equal codes.
#pragma once

#include <array>
#include <vector>

#include "bytes.hpp"
#include "space.hpp"

namespace ncode {

// N words of 64 bits, the lowest first.
template <std::size_t N>
using Key = std::array<std::uint64_t, N>;

class Packer {
public:
    explicit Packer(const Space& space);

    std::size_t bits() const { return bits_; }
    std::size_t bytes() const { return (bits_ + 7) / 8; }

    // keys: (rows,); N * 64 >= bits(). Digits outside the space are cut to their bits, so that a key never has more than
    // bits().
    template <std::size_t N>
    void pack(Codes codes, Key<N>* keys) const;

    template <std::size_t N>
    void unpack(const Key<N>& key, Digit* row) const;

private:
    // Up to eight neighbouring positions, packed within one word.
    struct Group {
        std::size_t first;            // of the word that is loaded
        unsigned skip;                // low bits of that word that belong to the group before
        unsigned width;               // bits of every position if all have the same; 0 if they differ
        unsigned bits;                // of the whole group, 1 to 48
        std::size_t offset;           // of the group in the key
        std::array<unsigned, 8> widths;
    };

    void add_group(std::size_t begin, std::size_t end);
    template <std::size_t N>
    static void add_bits(Key<N>& key, const Group& group, std::uint64_t packed);
    static std::uint64_t pack_uniform(std::uint64_t digits, unsigned width);
    static std::uint64_t pack_mixed(std::uint64_t digits, const std::array<unsigned, 8>& widths);

    std::vector<unsigned> widths_;
    std::vector<Group> groups_;
    std::size_t bits_ = 0;
};

// Neighbouring digits move together pairwise: 8 lanes of 8 bits, then 4 of 16, 2 of 32, 1 of 64.
inline std::uint64_t Packer::pack_uniform(std::uint64_t x, unsigned width) {
    x &= 0x0101010101010101U * low_mask(width);
    x = (x & 0x00ff00ff00ff00ffU) | ((x & 0xff00ff00ff00ff00U) >> (8 - width));
    x = (x & 0x0000ffff0000ffffU) | ((x & 0xffff0000ffff0000U) >> (16 - 2 * width));
    return (x & low_mask(32)) | ((x & ~low_mask(32)) >> (32 - 4 * width));
}

inline std::uint64_t Packer::pack_mixed(std::uint64_t digits, const std::array<unsigned, 8>& widths) {
    std::uint64_t packed = 0;
    unsigned offset = 0;
    for (const unsigned width : widths) {
        packed |= (digits & low_mask(width)) << offset;
        digits >>= 8;
        offset += width;
    }
    return packed;
}

template <std::size_t N>
void Packer::add_bits(Key<N>& key, const Group& group, std::uint64_t packed) {
    const std::size_t word = N == 1 ? 0 : group.offset / 64;
    const std::size_t shift = group.offset % 64;
    key[word] |= packed << shift;
    if (N > 1 && shift + group.bits > 64) {
        key[word + 1] |= packed >> (64 - shift);
    }
}

// Group by group, so that what is the same for all rows stays in registers.
template <std::size_t N>
void Packer::pack(Codes codes, Key<N>* keys) const {
    std::fill_n(keys, codes.rows, Key<N>{});
    for (const Group group : groups_) {
        if (group.width != 0) {
            each_word(codes, group.first, [keys, group](std::size_t i, std::uint64_t word) {
                add_bits<N>(keys[i], group, pack_uniform(word >> group.skip, group.width));
            });
        } else {
            each_word(codes, group.first, [keys, &group](std::size_t i, std::uint64_t word) {
                add_bits<N>(keys[i], group, pack_mixed(word >> group.skip, group.widths));
            });
        }
    }
}

template <std::size_t N>
void Packer::unpack(const Key<N>& key, Digit* row) const {
    std::size_t offset = 0;
    for (std::size_t p = 0; p < widths_.size(); ++p) {
        const std::size_t shift = offset % 64;
        std::uint64_t bits = widths_[p] == 0 ? 0 : key[offset / 64] >> shift;
        if (shift + widths_[p] > 64) {
            bits |= key[offset / 64 + 1] << (64 - shift);
        }
        row[p] = static_cast<Digit>(bits & low_mask(widths_[p]));
        offset += widths_[p];
    }
}

}  // namespace ncode
