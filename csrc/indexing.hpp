// Code <-> integer index in mixed radix; position 0 is the most significant digit.
#pragma once

#include <array>
#include <vector>

#include "bytes.hpp"
#include "space.hpp"

namespace ncode {

// Digits outside the space give some number, never undefined behaviour; callers validate first.
uint128 index_of(const Space& space, const Digit* row);

// index <= space.last_index()
void write_code(const Space& space, uint128 index, Digit* row);

// The index of codes in a space of at most 2**64, eight digits at a time: where all positions of a group have the same
// number of options, three multiplications of a whole word replace eight of a digit.
class WordIndexer {
public:
    explicit WordIndexer(const Space& space);

    std::uint64_t operator()(const Digit* row) const {
        std::uint64_t index = 0;
        for (const Group& group : groups_) {
            index = index * group.size + group_index(group, row);
        }
        return index;
    }

private:
    struct Group {
        std::size_t first;    // of the word that is loaded
        std::uint64_t keep;   // the bytes of that word that belong to the group
        std::uint64_t radix;  // shared by the group's positions; 0 if they differ
        std::uint64_t size;   // product of the group's options, modulo 2**64
        std::array<Digit, 8> sizes;
    };

    Group make_group(std::size_t begin, std::size_t end) const;
    std::uint64_t group_index(const Group& group, const Digit* row) const;
    static std::uint64_t uniform_index(std::uint64_t digits, std::uint64_t radix);
    static std::uint64_t mixed_index(std::uint64_t digits, const std::array<Digit, 8>& sizes);

    std::vector<Digit> sizes_;
    std::vector<Group> groups_;
};

// Neighbouring digits are joined pairwise: 8 lanes of 8 bits, then 4 of 16, 2 of 32, 1 of 64. No lane overflows, even
// for digits up to 255 with a radix of 64.
inline std::uint64_t WordIndexer::uniform_index(std::uint64_t digits, std::uint64_t radix) {
    constexpr std::uint64_t bytes = 0x00ff00ff00ff00ffU;
    constexpr std::uint64_t shorts = 0x0000ffff0000ffffU;
    digits = (digits & bytes) * radix + ((digits >> 8) & bytes);
    const std::uint64_t square = radix * radix;
    digits = (digits & shorts) * square + ((digits >> 16) & shorts);
    return (digits & low_mask(32)) * (square * square) + (digits >> 32);
}

inline std::uint64_t WordIndexer::mixed_index(std::uint64_t digits, const std::array<Digit, 8>& sizes) {
    std::uint64_t index = 0;
    for (std::size_t i = 0; i < 8; ++i) {
        index = index * sizes[i] + ((digits >> (8 * i)) & 0xff);
    }
    return index;
}

inline std::uint64_t WordIndexer::group_index(const Group& group, const Digit* row) const {
    const std::size_t length = sizes_.size();
    const std::uint64_t word =
        length >= 8 ? load_word(row + group.first) & group.keep : load_tail(row, length, length) << (8 * (8 - length));
    return group.radix != 0 ? uniform_index(word, group.radix) : mixed_index(word, group.sizes);
}

}  // namespace ncode
