// The random numbers of every seeded draw: xoshiro256++ started by SplitMix64, unbiased below a bound by Lemire's
// rejection. Results are promised to be the same on every platform and in every version, so the standard library's
// distributions (whose results are not specified) are not used.
#pragma once

#include <array>
#include <bit>

#include "integers.hpp"

namespace ncode {

// Every kind of draw has a stream of its own, so that one seed used twice gives unrelated numbers. The values are
// part of the promise.
enum class Stream : std::uint64_t {
    random = 0,
    redraw = 1,
    mutate = 2,
    crossover = 3,
    permutation = 4,
    feasible = 5,
    feasible_mutate = 6,
    feasible_crossover = 7,
};

class Random {
public:
    Random(std::uint64_t seed, Stream stream) {
        std::uint64_t counter = mix64(seed) ^ mix64(~static_cast<std::uint64_t>(stream));
        for (auto& word : state_) {
            counter += 0x9e3779b97f4a7c15U;
            word = mix64(counter);
        }
    }

    std::uint64_t next() {
        const std::uint64_t result = std::rotl(state_[0] + state_[3], 23) + state_[0];
        const std::uint64_t shifted = state_[1] << 17;
        state_[2] ^= state_[0];
        state_[3] ^= state_[1];
        state_[1] ^= state_[2];
        state_[0] ^= state_[3];
        state_[2] ^= shifted;
        state_[3] = std::rotl(state_[3], 45);
        return result;
    }

    // Uniform in 0..bound-1, bound > 0.
    std::uint64_t below(std::uint64_t bound) {
        uint128 product = uint128{next()} * bound;
        if (low64(product) < bound) {
            const std::uint64_t biased = (0 - bound) % bound;
            while (low64(product) < biased) {
                product = uint128{next()} * bound;
            }
        }
        return high64(product);
    }

    // The same for bounds above 64 bits: the bits of two words that the bound has, drawn until they are below it.
    uint128 below128(uint128 bound) {
        if (high64(bound) == 0) {
            return below(low64(bound));
        }
        const std::uint64_t mask = low_mask(static_cast<unsigned>(std::bit_width(high64(bound))));
        for (;;) {
            const std::uint64_t high = next() & mask;
            const uint128 value = join64(high, next());
            if (value < bound) {
                return value;
            }
        }
    }

private:
    std::array<std::uint64_t, 4> state_{};
};

}  // namespace ncode
