#include "interchangeable.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <stdexcept>

namespace ncode {
namespace {

std::vector<std::vector<std::size_t>> checked_members(const Space& space, const GroupRule& rule) {
    std::vector<std::vector<std::size_t>> members;
    for (const auto& positions : rule) {
        members.emplace_back();
        for (const long long position : positions) {
            members.back().push_back(checked_position(space, position));
        }
    }
    return members;
}

}  // namespace

InterchangeableGroup::InterchangeableGroup(const Space& space, const Conditions& conditions, const GroupRule& rule)
    : members_(checked_members(space, rule)) {
    check_members(space);
    check_conditions(space, conditions);
}

std::vector<std::size_t> InterchangeableGroup::positions() const {
    std::vector<std::size_t> all;
    for (const auto& member : members_) {
        all.insert(all.end(), member.begin(), member.end());
    }
    return all;
}

void InterchangeableGroup::check_members(const Space& space) const {
    if (members_.size() < 2 || members_.front().empty()) {
        throw std::invalid_argument("an interchangeable group needs two members or more, each with a position");
    }
    const auto& first = members_.front();
    for (const auto& member : members_) {
        if (member.size() != first.size()) {
            throw std::invalid_argument("the interchangeable members that begin with " + position_text(first[0]) +
                                        " and " + (member.empty() ? "nothing" : position_text(member[0])) + " have " +
                                        std::to_string(first.size()) + " and " + std::to_string(member.size()) +
                                        " positions");
        }
        for (std::size_t k = 0; k < first.size(); ++k) {
            if (space.sizes()[member[k]] != space.sizes()[first[k]]) {
                throw std::invalid_argument(position_text(first[k]) + " and " + position_text(member[k]) +
                                            " are interchangeable, but differ in their options");
            }
        }
    }
}

// Swapping neighbours makes every order, so it is enough that no such swap changes the conditions.
void InterchangeableGroup::check_conditions(const Space& space, const Conditions& conditions) const {
    for (std::size_t m = 1; m < members_.size(); ++m) {
        std::vector<std::size_t> image(space.length());
        std::iota(image.begin(), image.end(), std::size_t{0});
        for (std::size_t k = 0; k < members_[m].size(); ++k) {
            std::swap(image[members_[m - 1][k]], image[members_[m][k]]);
        }
        if (!conditions.same_under(image)) {
            throw std::invalid_argument("the interchangeable members that begin with " +
                                        position_text(members_[m - 1][0]) + " and " + position_text(members_[m][0]) +
                                        " differ in their conditions, or in what depends on them");
        }
    }
}

void InterchangeableGroup::apply(CodesOut codes) const {
    for (std::size_t r = 0; r < codes.rows; ++r) {
        if (!is_sorted(codes.row(r))) {
            sort(codes.row(r));
        }
    }
}

bool InterchangeableGroup::is_less(const Digit* row, std::size_t one, std::size_t other) const {
    const auto digit = [&](std::size_t position) { return row[position]; };
    return std::ranges::lexicographical_compare(members_[one], members_[other], {}, digit, digit);
}

bool InterchangeableGroup::is_sorted(const Digit* row) const {
    for (std::size_t m = 1; m < members_.size(); ++m) {
        if (is_less(row, m, m - 1)) {
            return false;
        }
    }
    return true;
}

void InterchangeableGroup::sort(Digit* row) const {
    std::array<Digit, max_positions> before;
    for (const std::size_t position : positions()) {
        before[position] = row[position];
    }
    std::vector<std::size_t> order(members_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::sort(order, [&](std::size_t one, std::size_t other) { return is_less(before.data(), one, other); });
    for (std::size_t m = 0; m < members_.size(); ++m) {
        for (std::size_t k = 0; k < members_[m].size(); ++k) {
            row[members_[m][k]] = before[members_[order[m]][k]];
        }
    }
}

}  // namespace ncode
