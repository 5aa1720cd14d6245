#include "feasible.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>

#include "conditions.hpp"

namespace ncode {
namespace {

using Masks = std::vector<std::uint64_t>;  // by position: the options that match

constexpr std::uint64_t all_options = ~std::uint64_t{0};

Masks checked_masks(const Space& space, const ForbiddenRule& rule) {
    if (rule.parts.empty()) {
        throw std::invalid_argument("a forbidden combination needs a position");
    }
    Masks masks(space.length(), all_options);
    for (const auto& part : rule.parts) {
        const std::size_t position = checked_position(space, part.position);
        if (masks[position] != all_options) {
            throw std::invalid_argument(position_text(position) + " is twice in a forbidden combination");
        }
        masks[position] = checked_options(space, position, part.options);
    }
    return masks;
}

// What matches only where all of its positions matter.
Masks mattering_masks(const Space& space, const Requirements& requirements, const ForbiddenRule& rule) {
    Masks masks = checked_masks(space, rule);
    for (const auto& part : rule.parts) {
        for (const Condition& requirement : requirements[static_cast<std::size_t>(part.position)]) {
            masks[requirement.parent] &= requirement.allowed;
        }
    }
    return masks;
}

// Every code but those that match. Two nodes a layer, from the last back: one for codes that match so far, one for those
// that no longer can.
Diagram without(const Space& space, const Masks& masks) {
    std::vector<std::vector<Node>> layers(space.length());
    Node matching = dead;
    Node other = 0;
    for (std::size_t p = space.length(); p-- > 0;) {
        LayerBuilder builder(space.sizes()[p]);
        std::array<Node, max_options> children;
        for (std::size_t d = 0; d < space.sizes()[p]; ++d) {
            children[d] = (masks[p] >> d & 1) != 0 ? matching : other;
        }
        matching = builder.add(children.data());  // first, so that it is the root
        children.fill(other);
        other = builder.add(children.data());
        layers[p] = builder.take();
    }
    return Diagram(space, matching == dead ? std::vector<std::vector<Node>>(space.length()) : std::move(layers));
}

// Codes that are not canonical: another digit than 0 where a requirement does not hold.
std::vector<Masks> masks_of_equals(const Space& space, const Requirements& requirements) {
    std::vector<Masks> all;
    for (std::size_t p = 0; p < space.length(); ++p) {
        for (const Condition& requirement : requirements[p]) {
            Masks masks(space.length(), all_options);
            masks[p] = ~std::uint64_t{1};
            masks[requirement.parent] = ~requirement.allowed;
            all.push_back(std::move(masks));
        }
    }
    return all;
}

// With the constraint's number in the error if it is too large.
template <class Make>
auto make_named(std::size_t number, Make make) {
    try {
        return make();
    } catch (const std::length_error& error) {
        throw std::length_error("constraint " + std::to_string(number) + " needs " + error.what());
    }
}

}  // namespace

struct Feasible::Constraint {
    std::size_t number;
    const Cost* cost;  // or nullptr
    Diagram codes;
    long double estimate;
};

Feasible::Feasible(std::shared_ptr<const Space> space, const ConstraintRules& rules, std::size_t max_states)
    : space_(std::move(space)), diagram_(*space_) {
    const StateBudget budget(max_states);
    auto constraints = make_constraints(rules, budget);
    std::stable_sort(constraints.begin(), constraints.end(),
                     [](const auto& one, const auto& other) { return one.estimate > other.estimate; });
    intersect_all(constraints, budget);
    count();
}

std::vector<Feasible::Constraint> Feasible::make_constraints(const ConstraintRules& rules, StateBudget budget) {
    const Requirements requirements = Conditions(*space_, rules.conditions).requirements();
    for (const CostRule& rule : rules.costs) {
        costs_.push_back(make_named(costs_.size(), [&] { return Cost(*space_, requirements, rule); }));
    }
    std::vector<Constraint> constraints;
    const auto add = [&](std::size_t number, const Cost* cost, Diagram codes) {
        const long double estimate = codes.estimate();
        constraints.push_back({number, cost, std::move(codes), estimate});
    };
    std::size_t number = 0;
    for (const Cost& cost : costs_) {
        if (cost.is_bounded()) {
            add(number, &cost, make_named(number, [&] { return cost.within(*space_, budget); }));
        }
        ++number;
    }
    for (const ForbiddenRule& rule : rules.forbidden) {
        add(number++, nullptr, without(*space_, mattering_masks(*space_, requirements, rule)));
    }
    if (rules.canonical) {
        for (const Masks& masks : masks_of_equals(*space_, requirements)) {
            add(number, nullptr, without(*space_, masks));
        }
    }
    return constraints;
}

void Feasible::intersect_all(const std::vector<Constraint>& constraints, StateBudget budget) {
    for (const Constraint& constraint : constraints) {
        Diagram both = make_named(constraint.number,
                                  [&] { return intersect(*space_, diagram_, constraint.codes, budget); });
        if (both.empty()) {
            conflict_ = {constraint.number, std::nullopt};
            if (constraint.cost != nullptr) {
                conflict_->possible = constraint.cost->range(diagram_);
            }
        }
        diagram_ = std::move(both);
        if (conflict_) {
            return;
        }
    }
}

std::vector<Range> Feasible::ranges() const {
    std::vector<Range> ranges;
    for (const Cost& cost : costs_) {
        ranges.push_back(cost.range(diagram_));
    }
    return ranges;
}

void Feasible::costs(Codes codes, Amount* out) const {
    for (std::size_t i = 0; i < costs_.size(); ++i) {
        costs_[i].sum(codes, out + i, costs_.size());
    }
}

bool Feasible::contains_row(const Digit* row) const {
    Node node = diagram_.empty() ? dead : 0;
    for (std::size_t p = 0; p < space_->length() && node != dead; ++p) {
        node = diagram_.next(p, node, row[p]);
    }
    return node != dead;
}

void Feasible::contains(Codes codes, bool* out) const {
    for (std::size_t r = 0; r < codes.rows; ++r) {
        out[r] = contains_row(codes.row(r));
    }
}

void Feasible::rank(Codes codes, uint128* out) const {
    for (std::size_t r = 0; r < codes.rows; ++r) {
        if (!contains_row(codes.row(r))) {
            throw std::invalid_argument("row " + std::to_string(r) + " is not feasible");
        }
        Node node = 0;
        out[r] = 0;
        for (std::size_t p = 0; p < codes.length; ++p) {
            for (std::size_t d = 0; d < codes.row(r)[p]; ++d) {
                out[r] += count_from(p + 1, diagram_.next(p, node, d));
            }
            node = diagram_.next(p, node, codes.row(r)[p]);
        }
    }
}

void Feasible::unrank(uint128 index, Digit* row) const {
    Node node = 0;
    for (std::size_t p = 0; p < space_->length(); ++p) {
        std::size_t d = 0;
        for (;; ++d) {
            const uint128 count = count_from(p + 1, diagram_.next(p, node, d));
            if (index < count) {
                break;
            }
            index -= count;
        }
        row[p] = static_cast<Digit>(d);
        node = diagram_.next(p, node, d);
    }
}

// The first code that goes on from path[position]; path[p] is the node before position p.
void Feasible::complete(std::size_t position, std::vector<Node>& path, Digit* row) const {
    for (std::size_t p = position; p < space_->length(); ++p) {
        std::size_t d = 0;
        while (diagram_.next(p, path[p], d) == dead) {
            ++d;
        }
        row[p] = static_cast<Digit>(d);
        path[p + 1] = diagram_.next(p, path[p], d);
    }
}

// To the next code; false after the last.
bool Feasible::step(std::vector<Node>& path, Digit* row) const {
    for (std::size_t p = space_->length(); p-- > 0;) {
        for (std::size_t d = row[p] + std::size_t{1}; d < diagram_.options(p); ++d) {
            const Node child = diagram_.next(p, path[p], d);
            if (child != dead) {
                row[p] = static_cast<Digit>(d);
                path[p + 1] = child;
                complete(p + 1, path, row);
                return true;
            }
        }
    }
    return false;
}

void Feasible::enumerate(uint128 start, CodesOut out) const {
    if (out.rows == 0) {
        return;
    }
    std::vector<Digit> row(out.length);
    std::vector<Node> path(out.length + 1, 0);
    unrank(start, row.data());
    for (std::size_t p = 0; p < out.length; ++p) {
        path[p + 1] = diagram_.next(p, path[p], row[p]);
    }
    for (std::size_t r = 0; r < out.rows; ++r) {
        std::copy(row.begin(), row.end(), out.row(r));
        step(path, row.data());
    }
}

}  // namespace ncode
