// A pseudo-random permutation of 0..last that needs no memory: a Feistel network over the smallest number of bits that
// holds `last`, repeated until its result is in the range (cycle walking; less than two passes on average).
#pragma once

#include <array>

#include "integers.hpp"

namespace ncode {

class Permutation {
public:
    Permutation(uint128 last, std::uint64_t seed);

    // index <= last; a bijection of 0..last
    uint128 operator()(uint128 index) const;

private:
    static constexpr std::size_t rounds = 12;  // even. The halves of tiny ranges are a bit or two: they need many

    uint128 encrypt(uint128 value) const;

    uint128 last_;
    unsigned low_bits_;
    std::uint64_t low_mask_;
    std::uint64_t high_mask_;
    std::array<std::uint64_t, rounds> keys_{};
};

}  // namespace ncode
