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

// The indices of codes in a space of at most 2**64, eight digits at a time: where all positions of a group have the
// same number of options, three multiplications of a whole word replace eight of a digit.
class WordIndexer {
public:
    explicit WordIndexer(const Space& space);

    // out: (rows,)
    void operator()(Codes codes, std::uint64_t* out) const;

    // Up to eight neighbouring positions.
    struct Group {
        std::size_t first;    // of the word that is loaded
        unsigned shift;       // moves a short row to the end of its word
        std::uint64_t keep;   // the bytes of the word that belong to the group
        std::size_t digits;   // 1 to 8
        std::uint64_t radix;  // shared by the group's positions; 0 if they differ
        std::uint64_t size;   // product of the group's options, modulo 2**64
        std::array<Digit, 8> sizes;
    };

private:
    static Group make_group(const std::vector<Digit>& sizes, std::size_t begin, std::size_t end);

    std::vector<Group> groups_;
};

}  // namespace ncode
