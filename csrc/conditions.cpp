#include "conditions.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <stdexcept>

namespace ncode {
namespace {

Condition checked(const Space& space, const ConditionRule& rule) {
    const std::size_t position = checked_position(space, rule.position);
    const std::size_t parent = checked_position(space, rule.parent);
    if (rule.allowed.empty()) {
        throw std::invalid_argument(position_text(position) + ": its condition on " + position_text(parent) +
                                    " allows no option");
    }
    return {position, parent, checked_options(space, parent, rule.allowed)};
}

// Puts the conditions of every position after those of its parents.
class Sorter {
public:
    Sorter(std::vector<Condition> conditions, std::size_t length)
        : conditions_(std::move(conditions)), done_(length, false) {}

    std::vector<Condition> sorted() {
        for (const Condition& condition : conditions_) {
            visit(condition.position);
        }
        return std::move(sorted_);
    }

private:
    void visit(std::size_t position) {
        if (done_[position]) {
            return;
        }
        const auto seen = std::find(path_.begin(), path_.end(), position);
        if (seen != path_.end()) {
            on_circle(seen);
        }
        path_.push_back(position);
        each_of(position, [&](const Condition& condition) { visit(condition.parent); });
        path_.pop_back();
        each_of(position, [&](const Condition& condition) { sorted_.push_back(condition); });
        done_[position] = true;
    }

    template <class Use>
    void each_of(std::size_t position, Use use) const {
        for (const Condition& condition : conditions_) {
            if (condition.position == position) {
                use(condition);
            }
        }
    }

    [[noreturn]] void on_circle(std::vector<std::size_t>::const_iterator first) const {
        std::string text = "conditions in a circle: ";
        for (auto position = first; position != path_.end(); ++position) {
            text += position_text(*position) + " needs ";
        }
        throw std::invalid_argument(text + position_text(*first));
    }

    std::vector<Condition> conditions_;
    std::vector<bool> done_;
    std::vector<std::size_t> path_;
    std::vector<Condition> sorted_;
};

std::vector<Condition> sorted_conditions(const Space& space, const std::vector<ConditionRule>& rules) {
    std::vector<Condition> conditions;
    for (const ConditionRule& rule : rules) {
        conditions.push_back(checked(space, rule));
    }
    return Sorter(std::move(conditions), space.length()).sorted();
}

}  // namespace

std::uint64_t checked_options(const Space& space, std::size_t position, const std::vector<long long>& options) {
    std::uint64_t mask = 0;
    for (const long long option : options) {
        if (option < 0 || option >= space.sizes()[position]) {
            throw std::invalid_argument(position_text(position) + ": option " + std::to_string(option) +
                                        " is not in 0.." + std::to_string(space.sizes()[position] - 1));
        }
        mask |= std::uint64_t{1} << option;
    }
    return mask;
}

std::string position_text(std::size_t position) { return "position " + std::to_string(position); }

std::size_t checked_position(const Space& space, long long position) {
    if (position < 0 || position >= static_cast<long long>(space.length())) {
        throw std::invalid_argument("there is no position " + std::to_string(position) + "; the space has 0.." +
                                    std::to_string(space.length() - 1));
    }
    return static_cast<std::size_t>(position);
}

Conditions::Conditions(const Space& space, const std::vector<ConditionRule>& rules)
    : conditions_(sorted_conditions(space, rules)), length_(space.length()) {}

void Conditions::mark_active(const Digit* row, bool* active) const {
    std::fill_n(active, length_, true);
    for (const Condition& condition : conditions_) {
        const bool allowed = (condition.allowed >> (row[condition.parent] % max_options) & 1) != 0;
        active[condition.position] = active[condition.position] && active[condition.parent] && allowed;
    }
}

std::vector<std::vector<Condition>> Conditions::requirements() const {
    std::vector<std::vector<Condition>> result(length_);
    const auto require = [&](std::size_t position, const Condition& condition) {
        for (Condition& known : result[position]) {
            if (known.parent == condition.parent) {
                known.allowed &= condition.allowed;
                return;
            }
        }
        result[position].push_back({position, condition.parent, condition.allowed});
    };
    for (const Condition& condition : conditions_) {  // those of the parent are known
        require(condition.position, condition);
        for (const Condition& inherited : result[condition.parent]) {
            require(condition.position, inherited);
        }
    }
    return result;
}

void Conditions::apply(CodesOut codes) const {
    std::array<bool, max_positions> active;
    for (std::size_t r = 0; r < codes.rows; ++r) {
        mark_active(codes.row(r), active.data());
        for (const Condition& condition : conditions_) {
            Digit& digit = codes.row(r)[condition.position];
            digit = active[condition.position] ? digit : Digit{0};
        }
    }
}

bool Conditions::same_under(const std::vector<std::size_t>& image) const {
    const std::set<Condition> before(conditions_.begin(), conditions_.end());
    std::set<Condition> after;
    for (const Condition& condition : conditions_) {
        after.insert({image[condition.position], image[condition.parent], condition.allowed});
    }
    return before == after;
}

}  // namespace ncode
