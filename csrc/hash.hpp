// Hashes of codes. They are stored in histories and files, so they are the same on every platform and in every version.
//
// Definition: a code is read as little-endian words of 8 digits, the last padded with zeros. A state that starts from
// the number of digits takes each word by `state = mix(state ^ word)`, where `mix` is a bijection of 64 bits; so two
// codes that differ in one word never collide. The 128-bit hash runs two such chains with different mixers; its high
// half is the 64-bit hash.
#pragma once

#include "codes.hpp"

namespace ncode {

// out: (rows,)
void hash64(Codes codes, std::uint64_t* out);

// out: (rows, 2), high then low
void hash128(Codes codes, std::uint64_t* out);

}  // namespace ncode
