// Additive costs of codes, in whole numbers: a cost for every option, and for pairs of options of neighbouring
// positions.
#pragma once

#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "diagram.hpp"
#include "space.hpp"

namespace ncode {

using Amount = std::int64_t;

// The sum of the largest amounts of all positions stays below this, so that no sum of two of them overflows.
constexpr Amount largest_sum = Amount{1} << 60;

struct CostRule {
    struct Pair {
        long long position;                        // and the one after it
        std::vector<std::vector<long long>> costs;  // (options there, options after it)
    };
    std::vector<std::vector<long long>> options;  // (positions, options)
    std::vector<Pair> pairs;
    std::optional<long long> least;
    std::optional<long long> most;
};

struct Range {
    Amount least, most;
};

class Cost {
public:
    // Throws std::invalid_argument naming the position.
    Cost(const Space& space, const CostRule& rule);

    bool is_bounded() const { return bounds_.least > -unbounded || bounds_.most < unbounded; }
    Range bounds() const { return bounds_; }

    // What position p's digit costs. `before` is what the position before it left behind: its digit where the two are
    // a pair, else 0.
    Amount step(std::size_t position, std::size_t before, std::size_t digit) const {
        return steps_[position][before * sizes_[position] + digit];
    }

    // What position p leaves behind; befores(p) is how many different ones its successor may find.
    std::size_t left_behind(std::size_t position, std::size_t digit) const {
        return befores_[position + 1] > 1 ? digit : 0;
    }
    std::size_t befores(std::size_t position) const { return befores_[position]; }

    // out[r * stride]: the cost of valid code r.
    void sum(Codes codes, Amount* out, std::size_t stride) const;

    // The codes within the bounds. Throws std::length_error, see StateBudget.
    Diagram within(const Space& space, StateBudget budget) const;

    // The smallest and the largest cost in a set that is not empty.
    Range range(const Diagram& codes) const;

    static constexpr Amount unbounded = Amount{1} << 61;

private:
    void add_options(const CostRule& rule);
    void add_pair(const CostRule::Pair& pair);
    void check_sum() const;

    std::vector<Digit> sizes_;
    std::vector<std::size_t> befores_;  // one more than positions
    std::vector<std::vector<Amount>> steps_;
    Range bounds_;
};

}  // namespace ncode
