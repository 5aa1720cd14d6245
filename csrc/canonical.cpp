#include "canonical.hpp"

#include <stdexcept>
#include <string>

namespace ncode {

Canonical::Canonical(std::shared_ptr<const Space> space, const EqualityRules& rules, std::size_t table_codes)
    : space_(std::move(space)), conditions_(*space_, rules.conditions), owners_(space_->length(), nullptr) {
    for (const CellRule& rule : rules.cells) {
        add_cell(rule, table_codes);
    }
    for (const Condition& condition : conditions_.all()) {
        for (const std::size_t position : {condition.position, condition.parent}) {
            if (owners_[position] != nullptr) {
                throw std::invalid_argument(position_text(position) +
                                            " is in a cell and in a condition; it can be in one only");
            }
        }
    }
    for (const GroupRule& rule : rules.groups) {
        add_group(rule);
    }
}

void Canonical::add_cell(const CellRule& rule, std::size_t table_codes) {
    Cell cell = check_cell(*space_, rule);
    for (const auto& edge : cell.edges) {
        claim(edge.position, "a cell");
    }
    const bool small = count_codes(cell, table_codes) <= table_codes;
    cells_.push_back(small ? make_cell_table(std::move(cell)) : make_cell_rewriter(std::move(cell)));
}

void Canonical::add_group(const GroupRule& rule) {
    for (const auto& member : rule) {
        for (const long long position : member) {
            claim(checked_position(*space_, position), "an interchangeable group");
        }
    }
    groups_.emplace_back(*space_, conditions_, rule);
}

void Canonical::claim(std::size_t position, const char* owner) {
    if (owners_[position] != nullptr) {
        throw std::invalid_argument(position_text(position) + " is in " + owners_[position] + " and again in " + owner +
                                    "; it can be in one only");
    }
    owners_[position] = owner;
}

void Canonical::apply(CodesOut codes) const {
    conditions_.apply(codes);
    for (const auto& cell : cells_) {
        cell->apply(codes);
    }
    for (const auto& group : groups_) {
        group.apply(codes);
    }
}

void Canonical::active(Codes codes, bool* out) const {
    for (std::size_t r = 0; r < codes.rows; ++r) {
        conditions_.mark_active(codes.row(r), out + r * codes.length);
    }
}

}  // namespace ncode
