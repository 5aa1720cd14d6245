// How a cost's automaton is made: position by position, from every memory that may be left before it.
#pragma once

#include <string>
#include <vector>

#include "costs.hpp"

namespace ncode {

class CostSteps {
public:
    // Throws std::invalid_argument naming the position.
    CostSteps(const Space& space, const Requirements& requirements, const CostRule& rule);

    // The steps of the next position, from every memory before it: (memories, options). To be called for 0, 1, ...
    // Throws std::length_error.
    std::vector<Cost::Step> next_position(std::size_t position);

    // How many memories that position leaves.
    std::size_t memories() const { return memories_.size(); }

private:
    // What is known of every position: that it does not matter (or is known no more), that it may, or its digit.
    using Memory = std::string;
    static constexpr char off = 0;
    static constexpr char open = 1;
    static constexpr char first_digit = 2;

    // An amount for the digits of one position, or of two.
    struct Term {
        std::size_t first, second;  // the same for a single position
        std::vector<std::vector<long long>> costs;
        std::size_t due;  // the position at which all is known
    };

    void add_options(const CostRule& rule);
    void add_pair(const CostRule::Pair& pair);
    void add_term(std::size_t first, std::size_t second, std::vector<std::vector<long long>> costs);
    void check_sum() const;
    void read(std::size_t position, std::size_t digit, Memory& memory) const;
    Amount due_amount(std::size_t position, const Memory& memory) const;

    const Space& space_;
    const Requirements& requirements_;
    std::vector<Term> terms_;
    std::vector<std::size_t> needed_until_;  // by position, one past the last position at which it is asked for
    std::vector<Memory> memories_;
};

}  // namespace ncode
