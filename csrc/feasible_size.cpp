#include <algorithm>
#include <stdexcept>

#include "feasible.hpp"

namespace ncode {

// From the last layer back. Where a sum does not fit, the counts of the layer before it are divided by 2**7, more than
// a position has options: from then on counts are weights, whose proportions are right to 2**-100 or so.
void Feasible::count() {
    const std::size_t length = space_->length();
    counts_.resize(length + 1);
    counts_[length] = {1};
    for (std::size_t p = length; p-- > 0;) {
        if (!count_layer(p)) {
            is_counted_ = false;
            for (uint128& count : counts_[p + 1]) {
                count = std::max<uint128>(count >> 7, 1);
            }
            count_layer(p);
        }
    }
    if (!is_counted_) {
        exact_size_ = sum_exactly();
    }
}

// False where a number does not fit.
bool Feasible::count_layer(std::size_t position) {
    std::vector<uint128> counts;
    for (std::size_t node = 0; node < diagram_.nodes(position); ++node) {
        const auto sum = sum_of_children(position, static_cast<Node>(node));
        if (!sum) {
            return false;
        }
        counts.push_back(*sum);
    }
    counts_[position] = std::move(counts);
    return true;
}

std::optional<uint128> Feasible::sum_of_children(std::size_t position, Node node) const {
    uint128 sum = 0;
    for (std::size_t d = 0; d < diagram_.options(position); ++d) {
        const uint128 child = count_from(position + 1, diagram_.next(position, node, d));
        if (child > ~uint128{0} - sum) {
            return std::nullopt;
        }
        sum += child;
    }
    return sum;
}

uint128 Feasible::count_from(std::size_t position, Node node) const {
    return node == dead ? 0 : counts_[position][node];
}

uint128 Feasible::size() const {
    if (!is_counted_) {
        throw std::overflow_error("2**128 codes or more are feasible: they have no places, and cannot be listed");
    }
    return diagram_.empty() ? 0 : counts_[0][0];
}

namespace {

using Limbs = std::vector<std::uint64_t>;  // the lowest first

void add(const Limbs& other, Limbs& sum) {
    bool carry = false;
    for (std::size_t i = 0; i < sum.size(); ++i) {
        const uint128 limb = uint128{sum[i]} + other[i] + (carry ? 1 : 0);
        sum[i] = low64(limb);
        carry = high64(limb) != 0;
    }
}

}  // namespace

std::vector<std::uint64_t> Feasible::sum_exactly() const {
    const std::size_t limbs = space_->length() * 6 / 64 + 1;  // a position has at most 2**6 options
    std::vector<Limbs> after{Limbs(limbs)};
    after[0][0] = 1;
    for (std::size_t p = space_->length(); p-- > 0;) {
        std::vector<Limbs> layer(diagram_.nodes(p), Limbs(limbs));
        for (std::size_t node = 0; node < layer.size(); ++node) {
            for (std::size_t d = 0; d < diagram_.options(p); ++d) {
                const Node child = diagram_.next(p, static_cast<Node>(node), d);
                if (child != dead) {
                    add(after[child], layer[node]);
                }
            }
        }
        after = std::move(layer);
    }
    return after[0];
}

}  // namespace ncode
