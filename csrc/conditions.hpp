// Positions that matter only where other positions have certain digits.
#pragma once

#include <compare>
#include <string>
#include <vector>

#include "space.hpp"

namespace ncode {

// `position` matters only where `parent` matters and has one of the `allowed` digits.
struct ConditionRule {
    long long position;
    long long parent;
    std::vector<long long> allowed;
};

struct Condition {
    std::size_t position;
    std::size_t parent;
    std::uint64_t allowed;  // bit d: digit d

    auto operator<=>(const Condition&) const = default;
};

class Conditions {
public:
    // Several rules for one position must all hold. Throws std::invalid_argument naming the positions of a circle, and
    // whatever is not in the space.
    Conditions(const Space& space, const std::vector<ConditionRule>& rules);

    const std::vector<Condition>& all() const { return conditions_; }

    // By position: the digits that others must have so that it matters, those that these need included. Each parent once.
    std::vector<std::vector<Condition>> requirements() const;

    // active[p], for every position of a valid code.
    void mark_active(const Digit* row, bool* active) const;

    // Digits that do not matter become 0.
    void apply(CodesOut codes) const;

    // Whether the conditions stay the same when each position p is renamed image[p].
    bool same_under(const std::vector<std::size_t>& image) const;

private:
    std::vector<Condition> conditions_;  // those of a position after those of its parents
    std::size_t length_;
};

// "position 3", as errors say it.
std::string position_text(std::size_t position);

// Throws std::invalid_argument unless it is a position of the space.
std::size_t checked_position(const Space& space, long long position);

// Bit d: digit d. Throws std::invalid_argument unless all are options of the position.
std::uint64_t checked_options(const Space& space, std::size_t position, const std::vector<long long>& options);

}  // namespace ncode
