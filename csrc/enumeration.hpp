// Codes in index order, at the speed of memory.
//
// The last positions of a space repeat: their combinations are written once into a tile that fits the L1 cache. The
// output is the tile, over and over, each time joined with the digits of the positions before it: one vector `or` a
// block of bytes, and no division or carry per code.
#pragma once

#include <array>
#include <vector>

#include "space.hpp"

namespace ncode {

// What a position's digit is written as; an identity for whole spaces, the kept options for subspaces.
using DigitMap = std::vector<std::array<Digit, max_options>>;

DigitMap identity_map(std::size_t length);

// out.rows codes of `space` from index `start`, written through `map`. start + out.rows <= size.
void enumerate(const Space& space, const DigitMap& map, uint128 start, CodesOut out);

}  // namespace ncode
