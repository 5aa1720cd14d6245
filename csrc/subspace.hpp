// A part of a space: the kept options of every position, renumbered from 0 in the order in which they are given.
#pragma once

#include <array>
#include <vector>

#include "enumeration.hpp"
#include "space.hpp"

namespace ncode {

class Subspace {
public:
    // Throws std::invalid_argument naming the position.
    Subspace(const std::vector<long long>& sizes, const std::vector<std::vector<long long>>& kept);

    const Space& full() const { return full_; }
    const Space& dense() const { return dense_; }
    std::vector<Digit> kept(std::size_t position) const;

    // out: (rows,). Codes must be valid in full().
    void contains(Codes codes, bool* out) const;

    // Full digits -> dense digits. Throws std::invalid_argument for a code outside.
    void prune(Codes codes, CodesOut out) const;

    // Dense digits, valid in dense(), -> full digits, in place.
    void restore(CodesOut codes) const;

    void enumerate(uint128 start, CodesOut out) const { ncode::enumerate(dense_, full_digits_, start, out); }

private:
    Space full_;
    Space dense_;
    DigitMap full_digits_;                              // dense digit -> full digit
    std::vector<std::array<Digit, 256>> dense_digits_;  // full digit -> dense digit, or no_digit
};

}  // namespace ncode
