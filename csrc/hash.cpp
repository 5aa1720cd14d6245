#include "hash.hpp"

#include "bytes.hpp"
#include "integers.hpp"

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

template <class Chain>
std::uint64_t hash_row(const Digit* row, std::size_t length, std::uint64_t state) {
    const std::size_t whole = length / 8 * 8;
    for (std::size_t i = 0; i < whole; i += 8) {
        state = Chain::mix(state ^ load_word(row + i));
    }
    if (whole < length) {
        state = Chain::mix(state ^ load_tail(row, length, length - whole));
    }
    return state;
}

}  // namespace

void hash64(Codes codes, std::uint64_t* out) {
    const auto start = start_state<HighChain>(codes.length);
    for (std::size_t i = 0; i < codes.rows; ++i) {
        out[i] = hash_row<HighChain>(codes.row(i), codes.length, start);
    }
}

void hash128(Codes codes, std::uint64_t* out) {
    const auto high = start_state<HighChain>(codes.length);
    const auto low = start_state<LowChain>(codes.length);
    for (std::size_t i = 0; i < codes.rows; ++i) {
        out[2 * i] = hash_row<HighChain>(codes.row(i), codes.length, high);
        out[2 * i + 1] = hash_row<LowChain>(codes.row(i), codes.length, low);
    }
}

}  // namespace ncode
