#include "space.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace ncode {
namespace {

constexpr std::size_t validation_block = 2048;  // bytes

std::vector<Digit> checked_sizes(const std::vector<long long>& sizes) {
    if (sizes.empty() || sizes.size() > max_positions) {
        throw std::invalid_argument("a space has 1 to 256 positions, not " + std::to_string(sizes.size()));
    }
    std::vector<Digit> result;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        if (sizes[i] < 1 || sizes[i] > static_cast<long long>(max_options)) {
            throw std::invalid_argument("position " + std::to_string(i) + ": a position has 1 to 64 options, not " +
                                        std::to_string(sizes[i]));
        }
        result.push_back(static_cast<Digit>(sizes[i]));
    }
    return result;
}

// last = (last + 1) * size - 1, step by step, without ever forming a number above 2**128 - 1.
std::optional<uint128> last_index_of(const std::vector<Digit>& sizes) {
    constexpr uint128 limit = ~uint128{0};
    uint128 last = 0;
    for (const Digit size : sizes) {
        const uint128 step = static_cast<uint128>(size - 1);
        if (last > (limit - step) / size) {
            return std::nullopt;
        }
        last = last * size + step;
    }
    return last;
}

bool all_below(const Digit* digits, const Digit* bounds, std::size_t count) {
    Digit bad = 0;
    for (std::size_t i = 0; i < count; ++i) {
        bad = static_cast<Digit>(bad | static_cast<Digit>(digits[i] >= bounds[i]));
    }
    return bad == 0;
}

void require_length(std::size_t given, std::size_t wanted) {
    if (given != wanted) {
        throw std::invalid_argument("codes have " + std::to_string(given) + " positions, the space has " +
                                    std::to_string(wanted));
    }
}

[[noreturn]] void on_wrong_digit(Codes codes, const std::vector<Digit>& sizes, std::size_t first_row) {
    for (std::size_t r = first_row; r < codes.rows; ++r) {
        for (std::size_t p = 0; p < codes.length; ++p) {
            if (codes.row(r)[p] >= sizes[p]) {
                throw std::invalid_argument("row " + std::to_string(r) + ", position " + std::to_string(p) +
                                            ": digit " + std::to_string(codes.row(r)[p]) + " is not in 0.." +
                                            std::to_string(sizes[p] - 1));
            }
        }
    }
    throw std::invalid_argument("the codes changed while they were checked");
}

}  // namespace

std::vector<Digit> repeat_row(const std::vector<Digit>& row, std::size_t times) {
    std::vector<Digit> result;
    result.reserve(row.size() * times);
    for (std::size_t i = 0; i < times; ++i) {
        result.insert(result.end(), row.begin(), row.end());
    }
    return result;
}

Space::Space(const std::vector<long long>& sizes)
    : sizes_(checked_sizes(sizes)),
      tiled_sizes_(repeat_row(sizes_, std::max<std::size_t>(1, validation_block / sizes_.size()))),
      last_index_(last_index_of(sizes_)) {}

uint128 Space::require_last_index() const {
    if (!last_index_) {
        throw std::overflow_error("the space has more than 2**128 codes: they have no index");
    }
    return *last_index_;
}

std::size_t Space::rows_from(uint128 start, std::size_t count) const {
    const uint128 last = require_last_index();
    if (count == 0 || start > last) {
        return 0;
    }
    return static_cast<std::size_t>(std::min<uint128>(count - 1, last - start)) + 1;
}

void Space::validate(Codes codes) const {
    require_length(codes.length, length());
    const std::size_t block = tiled_sizes_.size() / length();
    for (std::size_t r = 0; r < codes.rows; r += block) {
        const std::size_t rows = std::min(block, codes.rows - r);
        if (!all_below(codes.row(r), tiled_sizes_.data(), rows * length())) {
            on_wrong_digit(codes, sizes_, r);
        }
    }
}

}  // namespace ncode
