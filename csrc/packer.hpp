// Codes packed into the bits that their positions need: ceil(log2(options)) bits each, position 0 lowest. Equal keys
// are equal codes.
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

    static constexpr std::size_t max_rows = 64;

    // keys: (rows,), at most max_rows; N * 64 >= bits(). Digits outside the space are cut to their bits, so that a key
    // never has more than bits().
    template <std::size_t N>
    void pack(Codes codes, Key<N>* keys) const;

    template <std::size_t N>
    void unpack(const Key<N>& key, Digit* row) const;

    // Up to eight neighbouring positions, packed within one word.
    struct Group {
        std::size_t first;            // of the word that is loaded
        unsigned skip;                // low bits of that word that belong to the group before
        unsigned width;               // bits of every position if all have the same; 0 if they differ
        unsigned bits;                // of the whole group, 1 to 48
        std::size_t offset;           // of the group in the key
        std::array<unsigned, 8> widths;
    };

private:
    void add_group(std::size_t begin, std::size_t end);

    std::vector<unsigned> widths_;
    std::vector<Group> groups_;
    std::size_t bits_ = 0;
};

// packed: (rows,), the group's bits of every code
void pack_group(Codes codes, const Packer::Group& group, std::uint64_t* packed);

// Group by group, so that what is the same for all rows stays in registers.
template <std::size_t N>
void Packer::pack(Codes codes, Key<N>* keys) const {
    std::array<std::uint64_t, max_rows> packed;
    std::fill_n(keys, codes.rows, Key<N>{});
    for (const Group& group : groups_) {
        pack_group(codes, group, packed.data());
        const std::size_t word = N == 1 ? 0 : group.offset / 64;
        const std::size_t shift = group.offset % 64;
        for (std::size_t i = 0; i < codes.rows; ++i) {
            keys[i][word] |= packed[i] << shift;
        }
        if (N > 1 && shift + group.bits > 64) {
            for (std::size_t i = 0; i < codes.rows; ++i) {
                keys[i][word + 1] |= packed[i] >> (64 - shift);
            }
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
