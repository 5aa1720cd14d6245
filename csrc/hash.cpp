#include "hash.hpp"

#include <algorithm>
#include <array>

#include "bytes.hpp"
#include "integers.hpp"
#include "vectorize.hpp"

namespace ncode {
namespace {

struct HighChain {
    static constexpr std::uint64_t start = 0x6e636f64652d6869U;
    static std::uint64_t mix(std::uint64_t x) { return mix64(x); }
};

struct LowChain {
    static constexpr std::uint64_t start = 0x6e636f64652d6c6fU;
    static std::uint64_t mix(std::uint64_t x) {
        x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdU;
        x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53U;
        return x ^ (x >> 33);
    }
};

template <class Chain>
std::uint64_t start_state(std::size_t length) {
    return Chain::mix(Chain::start + std::uint64_t{length});
}

// The chains of a few hundred rows advance together, word by word: the rows do not wait for each other's
// multiplications.
template <class Chain>
inline void advance_block(Codes codes, std::uint64_t* states) {
    std::fill_n(states, codes.rows, start_state<Chain>(codes.length));
    const std::size_t whole = codes.length / 8 * 8;
    for (std::size_t first = 0; first < whole; first += 8) {
        each_word(codes, first, [states](std::size_t i, std::uint64_t word) {
            states[i] = Chain::mix(states[i] ^ word);
        });
    }
    if (whole < codes.length) {
        const std::size_t first = codes.length >= 8 ? codes.length - 8 : 0;
        const std::size_t skip = 8 * (whole - first);  // digits that the last whole word already had
        each_word(codes, first, [states, skip](std::size_t i, std::uint64_t word) {
            states[i] = Chain::mix(states[i] ^ word >> skip);
        });
    }
}

NCODE_AVX2_TOO void hash_high(Codes codes, std::uint64_t* states) { advance_block<HighChain>(codes, states); }
NCODE_AVX2_TOO void hash_low(Codes codes, std::uint64_t* states) { advance_block<LowChain>(codes, states); }

constexpr std::size_t block_rows = 256;

}  // namespace

void hash64(Codes codes, std::uint64_t* out) {
    for (std::size_t i = 0; i < codes.rows; i += block_rows) {
        hash_high(codes.slice(i, std::min(block_rows, codes.rows - i)), out + i);
    }
}

void hash128(Codes codes, std::uint64_t* out) {
    std::array<std::uint64_t, block_rows> high;
    std::array<std::uint64_t, block_rows> low;
    for (std::size_t first = 0; first < codes.rows; first += block_rows) {
        const Codes block = codes.slice(first, std::min(block_rows, codes.rows - first));
        hash_high(block, high.data());
        hash_low(block, low.data());
        for (std::size_t i = 0; i < block.rows; ++i) {
            out[2 * (first + i)] = high[i];
            out[2 * (first + i) + 1] = low[i];
        }
    }
}

}  // namespace ncode
