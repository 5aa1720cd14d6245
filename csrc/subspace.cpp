#include "subspace.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "alphabet.hpp"

namespace ncode {
namespace {

using Kept = std::vector<std::vector<long long>>;

[[noreturn]] void on_wrong_kept(std::size_t position, const std::string& what) {
    throw std::invalid_argument("position " + std::to_string(position) + ": " + what);
}

void check_kept(std::size_t position, const std::vector<long long>& options, Digit size) {
    if (options.empty()) {
        on_wrong_kept(position, "at least one option must be kept");
    }
    for (std::size_t i = 0; i < options.size(); ++i) {
        if (options[i] < 0 || options[i] >= size) {
            on_wrong_kept(position, "kept option " + std::to_string(options[i]) + " is not in 0.." +
                                        std::to_string(size - 1));
        }
        if (std::count(options.begin(), options.end(), options[i]) > 1) {
            on_wrong_kept(position, "option " + std::to_string(options[i]) + " is kept twice");
        }
    }
}

std::vector<long long> kept_sizes(const Space& full, const Kept& kept) {
    if (kept.size() != full.length()) {
        throw std::invalid_argument("kept options of " + std::to_string(kept.size()) + " positions, the space has " +
                                    std::to_string(full.length()));
    }
    std::vector<long long> sizes;
    for (std::size_t p = 0; p < kept.size(); ++p) {
        check_kept(p, kept[p], full.sizes()[p]);
        sizes.push_back(static_cast<long long>(kept[p].size()));
    }
    return sizes;
}

DigitMap full_digits_of(const Kept& kept) {
    DigitMap map(kept.size());
    for (std::size_t p = 0; p < kept.size(); ++p) {
        map[p].fill(0);
        std::transform(kept[p].begin(), kept[p].end(), map[p].begin(), [](long long option) {
            return static_cast<Digit>(option);
        });
    }
    return map;
}

[[noreturn]] void on_outside(std::size_t row, std::size_t position, Digit digit) {
    throw std::invalid_argument("row " + std::to_string(row) + ", position " + std::to_string(position) + ": option " +
                                std::to_string(digit) + " is not kept");
}

}  // namespace

Subspace::Subspace(const std::vector<long long>& sizes, const Kept& kept)
    : full_(sizes), dense_(kept_sizes(full_, kept)), full_digits_(full_digits_of(kept)), dense_digits_(kept.size()) {
    for (std::size_t p = 0; p < kept.size(); ++p) {
        dense_digits_[p].fill(no_digit);
        for (std::size_t d = 0; d < kept[p].size(); ++d) {
            dense_digits_[p][full_digits_[p][d]] = static_cast<Digit>(d);
        }
    }
}

std::vector<Digit> Subspace::kept(std::size_t position) const {
    const auto& digits = full_digits_.at(position);
    return {digits.begin(), digits.begin() + dense_.sizes()[position]};
}

void Subspace::contains(Codes codes, bool* out) const {
    full_.validate(codes);
    for (std::size_t r = 0; r < codes.rows; ++r) {
        bool inside = true;
        for (std::size_t p = 0; p < codes.length; ++p) {
            inside &= dense_digits_[p][codes.row(r)[p]] != no_digit;
        }
        out[r] = inside;
    }
}

void Subspace::prune(Codes codes, CodesOut out) const {
    full_.validate(codes);
    for (std::size_t r = 0; r < codes.rows; ++r) {
        for (std::size_t p = 0; p < codes.length; ++p) {
            const Digit digit = codes.row(r)[p];
            const Digit dense = dense_digits_[p][digit];
            if (dense == no_digit) {
                on_outside(r, p, digit);
            }
            out.row(r)[p] = dense;
        }
    }
}

void Subspace::restore(CodesOut codes) const {
    for (std::size_t r = 0; r < codes.rows; ++r) {
        for (std::size_t p = 0; p < codes.length; ++p) {
            Digit& digit = codes.row(r)[p];
            digit = full_digits_[p][digit % max_options];
        }
    }
}

}  // namespace ncode
