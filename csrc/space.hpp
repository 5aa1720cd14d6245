// A search space: 1 to 256 positions with 1 to 64 options each.
#pragma once

#include <optional>
#include <vector>

#include "codes.hpp"
#include "integers.hpp"

namespace ncode {

constexpr std::size_t max_options = 64;
constexpr std::size_t max_positions = 256;

class Space {
public:
    // Throws std::invalid_argument naming the position.
    explicit Space(const std::vector<long long>& sizes);

    const std::vector<Digit>& sizes() const { return sizes_; }
    std::size_t length() const { return sizes_.size(); }

    // The last index (the size less one, so that a size of exactly 2**128 fits), or nothing for a larger space.
    std::optional<uint128> last_index() const { return last_index_; }

    // The same, where a larger space is an error: throws std::overflow_error.
    uint128 require_last_index() const;

    // How many of `count` elements from `start` exist. Throws std::overflow_error as above.
    std::size_t rows_from(uint128 start, std::size_t count) const;

    // Throws std::invalid_argument naming the first wrong row, its position and digit, and what is allowed.
    void validate(Codes codes) const;

private:
    std::vector<Digit> sizes_;
    std::vector<Digit> tiled_sizes_;  // `sizes_` repeated over a block of rows, so that validation is one flat loop
    std::optional<uint128> last_index_;
};

// `row` repeated `times` times.
std::vector<Digit> repeat_row(const std::vector<Digit>& row, std::size_t times);

}  // namespace ncode
