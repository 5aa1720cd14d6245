#include "enumeration.hpp"

#include <algorithm>
#include <cstring>

#include "indexing.hpp"

namespace ncode {
namespace {

constexpr std::size_t tile_bytes = 16 * 1024;
constexpr std::size_t pattern_bytes = 1024;

class Enumerator {
public:
    Enumerator(const Space& space, const DigitMap& map) : space_(space), map_(map), length_(space.length()) {
        choose_tile();
        fill_tile();
        pattern_.resize(std::max<std::size_t>(1, pattern_bytes / length_) * length_);
    }

    void run(uint128 start, CodesOut out) {
        digits_.resize(length_);
        write_code(space_, start, digits_.data());
        std::size_t offset = static_cast<std::size_t>(start % tile_rows_);
        for (std::size_t done = 0; done < out.rows;) {
            const std::size_t rows = std::min(tile_rows_ - offset, out.rows - done);
            fill_pattern();
            join(tile_.data() + offset * length_, out.row(done), rows * length_);
            done += rows;
            offset = 0;
            next_prefix();
        }
    }

private:
    void choose_tile() {
        first_tiled_ = length_;
        while (first_tiled_ > 0 && tile_rows_ * space_.sizes()[first_tiled_ - 1] * length_ <= tile_bytes) {
            tile_rows_ *= space_.sizes()[--first_tiled_];
        }
    }

    // Position by position from the last: a column holds each option for as many rows as the positions after it have
    // combinations.
    void fill_tile() {
        tile_.assign(tile_rows_ * length_, 0);
        std::size_t run = 1;
        for (std::size_t p = length_; p > first_tiled_; --p) {
            const std::size_t size = space_.sizes()[p - 1];
            for (std::size_t r = 0; r < tile_rows_; ++r) {
                tile_[r * length_ + p - 1] = map_[p - 1][r / run % size];
            }
            run *= size;
        }
    }

    void fill_pattern() {
        for (std::size_t p = 0; p < length_; ++p) {
            pattern_[p] = p < first_tiled_ ? map_[p][digits_[p]] : Digit{0};
        }
        for (std::size_t filled = length_; filled < pattern_.size();) {
            const std::size_t count = std::min(filled, pattern_.size() - filled);
            std::memcpy(pattern_.data() + filled, pattern_.data(), count);
            filled += count;
        }
    }

    void join(const Digit* tile, Digit* out, std::size_t bytes) const {
        for (std::size_t done = 0; done < bytes; done += pattern_.size()) {
            join_block(tile + done, pattern_.data(), out + done, std::min(pattern_.size(), bytes - done));
        }
    }

    static void join_block(const Digit* __restrict tile, const Digit* __restrict pattern, Digit* __restrict out,
                           std::size_t bytes) {
        for (std::size_t i = 0; i < bytes; ++i) {
            out[i] = static_cast<Digit>(tile[i] | pattern[i]);
        }
    }

    void next_prefix() {
        for (std::size_t p = first_tiled_; p > 0; --p) {
            if (++digits_[p - 1] < space_.sizes()[p - 1]) {
                return;
            }
            digits_[p - 1] = 0;
        }
    }

    const Space& space_;
    const DigitMap& map_;
    std::size_t length_;
    std::size_t first_tiled_ = 0;
    std::size_t tile_rows_ = 1;
    std::vector<Digit> tile_;     // (tile_rows, length), zero before first_tiled_
    std::vector<Digit> pattern_;  // the current prefix, repeated; zero from first_tiled_ on
    std::vector<Digit> digits_;
};

}  // namespace

DigitMap identity_map(std::size_t length) {
    DigitMap map(length);
    for (auto& options : map) {
        for (std::size_t i = 0; i < options.size(); ++i) {
            options[i] = static_cast<Digit>(i);
        }
    }
    return map;
}

void enumerate(const Space& space, const DigitMap& map, uint128 start, CodesOut out) {
    if (out.rows > 0) {
        Enumerator(space, map).run(start, out);
    }
}

}  // namespace ncode
