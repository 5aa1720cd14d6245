// Canonical codes: one for all codes that a space declares to be equal.
#pragma once

#include <memory>
#include <vector>

#include "cell.hpp"
#include "conditions.hpp"
#include "interchangeable.hpp"
#include "space.hpp"

namespace ncode {

// What makes codes equal.
struct EqualityRules {
    std::vector<ConditionRule> conditions;
    std::vector<CellRule> cells;
    std::vector<GroupRule> groups;
};

// Cells of at most this many codes have a table (4 bytes a code, and seconds to make it), larger ones are rewritten.
constexpr std::size_t default_table_codes = 10'000'000;

// Conditions, cells and groups are applied once, in this order: that is enough, because a position of a cell is in
// nothing else, and a group whose members differ in their conditions is refused. Safe to call from several threads.
class Canonical {
public:
    // Throws std::invalid_argument naming the positions.
    Canonical(std::shared_ptr<const Space> space, const EqualityRules& rules, std::size_t table_codes);

    const Space& space() const { return *space_; }

    // Valid codes, in place.
    void apply(CodesOut codes) const;

    // Which positions of valid codes matter by the conditions. out: (rows, length)
    void active(Codes codes, bool* out) const;

private:
    void add_cell(const CellRule& rule, std::size_t table_codes);
    void add_group(const GroupRule& rule);
    void claim(std::size_t position, const char* owner);

    std::shared_ptr<const Space> space_;
    Conditions conditions_;
    std::vector<std::unique_ptr<CellForm>> cells_;
    std::vector<InterchangeableGroup> groups_;
    std::vector<const char*> owners_;  // the cell or group of every position, or nullptr
};

}  // namespace ncode
