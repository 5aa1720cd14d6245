#include "draws.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

#include "indexing.hpp"
#include "permutation.hpp"
#include "random.hpp"

namespace ncode {
namespace {

// Digit i of the flattened batch comes from the i-th 16 bits of the seed's stream by Lemire's multiplication. The few
// that would be biased (none for powers of two, at most 0.1 % otherwise) are drawn again from a stream of their own, so
// that the common case is a flat loop without branches that the compiler turns into vector instructions.
class UniformDraw {
public:
    UniformDraw(const Space& space, std::uint64_t seed)
        : length_(space.length()), draws_(seed, Stream::random), redraws_(seed, Stream::redraw) {
        block_rows_ = std::max<std::size_t>(4, block_digits / length_ / 4 * 4);  // so that blocks use up whole words
        for (std::size_t i = 0; i < block_rows_ * length_; ++i) {
            const unsigned size = space.sizes()[i % length_];
            sizes_[i] = static_cast<std::uint16_t>(size);
            biased_[i] = static_cast<std::uint16_t>(65536U % size);
        }
    }

    void run(CodesOut out) {
        for (std::size_t row = 0; row < out.rows; row += block_rows_) {
            const std::size_t digits = std::min(block_rows_, out.rows - row) * length_;
            fill_chunks(digits);
            if (scale(out.row(row), digits)) {
                redraw(out.row(row), digits);
            }
        }
    }

private:
    static constexpr std::size_t block_digits = 1024;

    void fill_chunks(std::size_t digits) {
        for (std::size_t i = 0; i < digits; i += 4) {
            const std::uint64_t word = draws_.next();
            for (std::size_t k = 0; k < 4; ++k) {
                chunks_[i + k] = static_cast<std::uint16_t>(word >> (16 * k));
            }
        }
    }

    // Returns whether any digit must be drawn again.
    bool scale(Digit* out, std::size_t digits) const {
        std::uint16_t rejected = 0;
        for (std::size_t i = 0; i < digits; ++i) {
            const std::uint32_t product = std::uint32_t{chunks_[i]} * sizes_[i];
            out[i] = static_cast<Digit>(product >> 16);
            const auto low = static_cast<std::uint16_t>(product);
            rejected = static_cast<std::uint16_t>(rejected | static_cast<std::uint16_t>(low < biased_[i]));
        }
        return rejected != 0;
    }

    void redraw(Digit* out, std::size_t digits) {
        for (std::size_t i = 0; i < digits; ++i) {
            if (static_cast<std::uint16_t>(chunks_[i] * sizes_[i]) < biased_[i]) {
                out[i] = static_cast<Digit>(redraws_.below(sizes_[i]));
            }
        }
    }

    std::size_t length_;
    std::size_t block_rows_;
    Random draws_;
    Random redraws_;
    std::array<std::uint16_t, block_digits> chunks_{};
    std::array<std::uint16_t, block_digits> sizes_{};
    std::array<std::uint16_t, block_digits> biased_{};  // products with a lower low half would favour some options
};

std::vector<std::size_t> positions_with_choice(const Space& space) {
    std::vector<std::size_t> positions;
    for (std::size_t p = 0; p < space.length(); ++p) {
        if (space.sizes()[p] > 1) {
            positions.push_back(p);
        }
    }
    return positions;
}

// Another option than `digit`, all equally likely: a draw among one fewer, and those from `digit` on move up by one.
Digit other_option(Digit digit, Digit size, Random& random) {
    const auto drawn = static_cast<Digit>(random.below(size - 1U));
    return static_cast<Digit>(drawn + (drawn >= digit ? 1 : 0));
}

}  // namespace

void draw_uniform(const Space& space, std::uint64_t seed, CodesOut out) { UniformDraw(space, seed).run(out); }

void draw_distinct(const Space& space, std::uint64_t seed, uint128 start, CodesOut out) {
    const Permutation permutation(space.require_last_index(), seed);
    for (std::size_t i = 0; i < out.rows; ++i) {
        write_code(space, permutation(start + i), out.row(i));
    }
}

Mutation::Mutation(const Space& space, std::size_t changes)
    : space_(space), positions_(positions_with_choice(space)), changes_(std::min(changes, positions_.size())) {}

void Mutation::operator()(Random& random, Digit* row) {
    for (std::size_t k = 0; k < changes_; ++k) {  // the start of a shuffle; any order before it is as good
        std::swap(positions_[k], positions_[k + random.below(positions_.size() - k)]);
        Digit& digit = row[positions_[k]];
        digit = other_option(digit, space_.sizes()[positions_[k]], random);
    }
}

void mutate(const Space& space, std::uint64_t seed, std::size_t changes, CodesOut codes) {
    Random random(seed, Stream::mutate);
    Mutation mutation(space, changes);
    for (std::size_t i = 0; i < codes.rows; ++i) {
        mutation(random, codes.row(i));
    }
}

void cross(Random& random, const Digit* first, const Digit* second, Digit* out, std::size_t length) {
    std::uint64_t bits = 0;
    for (std::size_t p = 0; p < length; ++p) {
        bits = p % 64 == 0 ? random.next() : bits >> 1;
        out[p] = (bits & 1) != 0 ? second[p] : first[p];
    }
}

void crossover(Codes first, Codes second, std::uint64_t seed, CodesOut out) {
    Random random(seed, Stream::crossover);
    for (std::size_t i = 0; i < out.rows; ++i) {
        cross(random, first.row(i), second.row(i), out.row(i), out.length);
    }
}

std::size_t neighbour_count(const Space& space) {
    return std::accumulate(space.sizes().begin(), space.sizes().end(), std::size_t{0},
                           [](std::size_t sum, Digit size) { return sum + size - 1; });
}

void neighbours(const Space& space, const Digit* code, CodesOut out) {
    std::size_t row = 0;
    for (std::size_t p = 0; p < space.length(); ++p) {
        for (Digit option = 0; option < space.sizes()[p]; ++option) {
            if (option != code[p] && row < out.rows) {
                std::memcpy(out.row(row), code, out.length);
                out.row(row++)[p] = option;
            }
        }
    }
}

}  // namespace ncode
