// A pseudo-random permutation of 0..last that needs no memory: a Feistel network over the smallest number of bits that
// holds `last`, repeated until its result is in the range (cycle walking; less than two passes on average).
#pragma once

#include <vector>

#include "integers.hpp"

namespace ncode {

class Permutation {
public:
    Permutation(uint128 last, std::uint64_t seed);

    // index <= last; a bijection of 0..last
    uint128 operator()(uint128 index) const;

private:
    uint128 encrypt(uint128 value) const;

    uint128 last_;
    unsigned low_bits_;
    std::uint64_t low_mask_;
    std::uint64_t high_mask_;
    std::vector<std::uint64_t> keys_;
};

}  // namespace ncode
