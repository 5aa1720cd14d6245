// Words read from digits in little-endian order on every platform: digit 0 is the lowest byte.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "codes.hpp"
#include "integers.hpp"

namespace ncode {

inline std::uint64_t little_endian(std::uint64_t word) {
    if constexpr (std::endian::native == std::endian::big) {
        return __builtin_bswap64(word);
    }
    return word;
}

inline std::uint64_t load_word(const std::uint8_t* bytes) {
    std::uint64_t word;
    std::memcpy(&word, bytes, sizeof word);
    return little_endian(word);
}

inline void store_word(std::uint8_t* bytes, std::uint64_t word) {
    word = little_endian(word);
    std::memcpy(bytes, &word, sizeof word);
}

// The last `count` (1 to 7) of a row's `length` digits, in the low bytes. A row of eight or more is read as its last
// whole word, which costs one load; a shorter one must not be read past its end.
inline std::uint64_t load_tail(const std::uint8_t* row, std::size_t length, std::size_t count) {
    if (length >= 8) {
        return load_word(row + length - 8) >> (8 * (8 - count));
    }
    std::uint64_t word = 0;
    for (std::size_t i = 0; i < count; ++i) {
        word |= std::uint64_t{row[i]} << (8 * i);
    }
    return word;
}

// Calls use(i, word) for every row i with the eight digits from `first` on; first + 8 <= length. Rows of fewer than
// eight digits give all that they have, in the low bytes. Rows follow each other, so only the last few of those must be
// read digit by digit.
template <class Use>
void each_word(Codes codes, std::size_t first, Use use) {
    const std::uint8_t* row = codes.data;
    if (codes.length >= 8) {
        for (std::size_t i = 0; i < codes.rows; ++i, row += codes.length) {
            use(i, load_word(row + first));
        }
        return;
    }
    const std::size_t careful = std::min<std::size_t>(codes.rows, 8);
    const std::uint64_t mask = low_mask(static_cast<unsigned>(8 * codes.length));
    for (std::size_t i = 0; i < codes.rows - careful; ++i, row += codes.length) {
        use(i, load_word(row) & mask);
    }
    for (std::size_t i = codes.rows - careful; i < codes.rows; ++i, row += codes.length) {
        use(i, load_tail(row, codes.length, codes.length));
    }
}

}  // namespace ncode
