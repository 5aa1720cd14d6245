// Integer types and the one bit mixer that hashes, random draws and tables share.
#pragma once

#include <cstddef>
#include <cstdint>

#ifndef __SIZEOF_INT128__
#error "ncode-search needs a compiler with 128-bit integers (GCC or Clang, 64-bit)"
#endif

namespace ncode {

__extension__ typedef unsigned __int128 uint128;

constexpr std::uint64_t high64(uint128 value) { return static_cast<std::uint64_t>(value >> 64); }
constexpr std::uint64_t low64(uint128 value) { return static_cast<std::uint64_t>(value); }
constexpr uint128 join64(std::uint64_t high, std::uint64_t low) { return (uint128{high} << 64) | low; }

// Low `bits` bits set, 0 <= bits <= 64.
constexpr std::uint64_t low_mask(unsigned bits) {
    return bits >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << bits) - 1;
}

// A bijection of 64 bits in which every input bit reaches every output bit (multiply and xor-shift, as in SplitMix64).
// Stored hashes and seeded draws depend on it: it must never change.
constexpr std::uint64_t mix64(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
}

}  // namespace ncode
