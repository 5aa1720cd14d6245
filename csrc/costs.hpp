// Additive costs of codes, in whole numbers: a cost for every option, and for pairs of options of neighbouring
// positions. Positions that do not matter, by a space's conditions, cost nothing.
#pragma once

#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "conditions.hpp"
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

using Requirements = std::vector<std::vector<Condition>>;  // see Conditions::requirements

// An automaton that reads a code's digits and adds amounts. What it must remember between two positions (the digit of a
// pair's first position, whether a position may still matter, the digit of one that must wait to know) is a memory, a
// number below memories(p) before position p.
class Cost {
public:
    // Throws std::invalid_argument naming the position, std::length_error where there is too much to remember.
    Cost(const Space& space, const Requirements& requirements, const CostRule& rule);

    bool is_bounded() const { return bounds_.least > -unbounded || bounds_.most < unbounded; }
    Range bounds() const { return bounds_; }

    std::size_t memories(std::size_t position) const { return memories_[position]; }

    Amount amount(std::size_t position, std::size_t memory, std::size_t digit) const {
        return steps_[position][memory * sizes_[position] + digit].amount;
    }
    std::size_t next(std::size_t position, std::size_t memory, std::size_t digit) const {
        return steps_[position][memory * sizes_[position] + digit].next;
    }

    // out[r * stride]: the cost of valid code r.
    void sum(Codes codes, Amount* out, std::size_t stride) const;

    // The codes within the bounds. Throws std::length_error, see StateBudget.
    Diagram within(const Space& space, StateBudget budget) const;

    // The smallest and the largest cost in a set that is not empty.
    Range range(const Diagram& codes) const;

    static constexpr Amount unbounded = Amount{1} << 61;
    static constexpr std::size_t most_memories = 1 << 14;

    struct Step {
        Amount amount;
        std::uint32_t next;
    };

private:
    std::vector<Digit> sizes_;
    std::vector<std::size_t> memories_;  // one more than positions
    std::vector<std::vector<Step>> steps_;
    Range bounds_;
};

}  // namespace ncode
