// Groups of positions whose order does not matter, such as the branches of a sum.
#pragma once

#include <vector>

#include "conditions.hpp"
#include "space.hpp"

namespace ncode {

// The members of a group, each a list of positions: the first positions of all members mean the same, and so on.
using GroupRule = std::vector<std::vector<long long>>;

class InterchangeableGroup {
public:
    // Throws std::invalid_argument naming positions where members differ in length or options, or are held apart by a
    // condition.
    InterchangeableGroup(const Space& space, const Conditions& conditions, const GroupRule& rule);

    // Sorts the members' digits, the smallest first.
    void apply(CodesOut codes) const;

private:
    void check_members(const Space& space) const;
    void check_conditions(const Space& space, const Conditions& conditions) const;
    std::vector<std::size_t> positions() const;
    bool is_less(const Digit* row, std::size_t one, std::size_t other) const;  // members
    bool is_sorted(const Digit* row) const;
    void sort(Digit* row) const;

    std::vector<std::vector<std::size_t>> members_;
};

}  // namespace ncode
