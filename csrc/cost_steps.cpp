#include "cost_steps.hpp"

#include <algorithm>
#include <stdexcept>
#include <unordered_map>

namespace ncode {
namespace {

void require_count(std::size_t position, std::size_t given, std::size_t wanted) {
    if (given != wanted) {
        throw std::invalid_argument(position_text(position) + " has " + std::to_string(wanted) + " options, but " +
                                    std::to_string(given) + " costs");
    }
}

Amount magnitude(Amount amount) { return amount < 0 ? -std::max(amount, -largest_sum) : amount; }

Amount largest_of(const std::vector<std::vector<long long>>& costs) {
    Amount largest = 0;
    for (const auto& row : costs) {
        for (const Amount cost : row) {
            largest = std::max(largest, magnitude(cost));
        }
    }
    return largest;
}

// The position at which it is known whether `position` matters, and its digit.
std::size_t known_at(const Requirements& requirements, std::size_t position) {
    std::size_t last = position;
    for (const Condition& requirement : requirements[position]) {
        last = std::max(last, requirement.parent);
    }
    return last;
}

}  // namespace

CostSteps::CostSteps(const Space& space, const Requirements& requirements, const CostRule& rule)
    : space_(space), requirements_(requirements), needed_until_(space.length(), 0) {
    if (rule.options.size() != space.length()) {
        throw std::invalid_argument("costs of " + std::to_string(rule.options.size()) + " positions, the space has " +
                                    std::to_string(space.length()));
    }
    add_options(rule);
    for (const auto& pair : rule.pairs) {
        checked_position(space, pair.position);
        checked_position(space, pair.position + 1);
        add_pair(pair);
    }
    check_sum();
    Memory start(space.length(), off);
    for (std::size_t p = 0; p < start.size(); ++p) {
        start[p] = needed_until_[p] > 0 ? open : off;
    }
    memories_.push_back(std::move(start));
}

void CostSteps::add_options(const CostRule& rule) {
    for (std::size_t p = 0; p < space_.length(); ++p) {
        require_count(p, rule.options[p].size(), space_.sizes()[p]);
        add_term(p, p, {rule.options[p]});
    }
}

void CostSteps::add_pair(const CostRule::Pair& pair) {
    const auto first = static_cast<std::size_t>(pair.position);
    const std::size_t second = first + 1;
    if (std::any_of(terms_.begin(), terms_.end(),
                    [&](const Term& term) { return term.first == first && term.second == second; })) {
        throw std::invalid_argument(position_text(first) + " and " + position_text(second) + " are a pair twice");
    }
    require_count(first, pair.costs.size(), space_.sizes()[first]);
    for (const auto& row : pair.costs) {
        require_count(second, row.size(), space_.sizes()[second]);
    }
    add_term(first, second, pair.costs);
}

void CostSteps::add_term(std::size_t first, std::size_t second, std::vector<std::vector<long long>> costs) {
    if (first == second && largest_of(costs) == 0) {
        return;  // nothing to remember
    }
    const std::size_t due = std::max(known_at(requirements_, first), known_at(requirements_, second));
    for (const std::size_t position : {first, second}) {
        needed_until_[position] = std::max(needed_until_[position], due + 1);
    }
    terms_.push_back({first, second, std::move(costs), due});
}

void CostSteps::check_sum() const {
    Amount sum = 0;
    for (const Term& term : terms_) {
        const Amount largest = largest_of(term.costs);
        if (largest >= largest_sum - sum) {
            throw std::invalid_argument("the costs may add up to 2**60 or more");
        }
        sum += largest;
    }
}

std::vector<Cost::Step> CostSteps::next_position(std::size_t position) {
    std::vector<Cost::Step> steps;
    std::vector<Memory> after;
    std::unordered_map<Memory, std::uint32_t> numbers;
    for (const Memory& before : memories_) {
        for (std::size_t d = 0; d < space_.sizes()[position]; ++d) {
            Memory memory = before;
            read(position, d, memory);
            const Amount amount = due_amount(position, memory);
            for (std::size_t p = 0; p < memory.size(); ++p) {
                memory[p] = needed_until_[p] > position + 1 ? memory[p] : off;
            }
            const auto [at, is_new] = numbers.try_emplace(memory, static_cast<std::uint32_t>(after.size()));
            if (is_new) {
                after.push_back(std::move(memory));
            }
            steps.push_back({amount, at->second});
        }
        if (after.size() > Cost::most_memories) {
            throw std::length_error("too much to be remembered between positions");
        }
    }
    memories_ = std::move(after);
    return steps;
}

void CostSteps::read(std::size_t position, std::size_t digit, Memory& memory) const {
    if (memory[position] != off) {
        memory[position] = static_cast<char>(first_digit + static_cast<char>(digit));
    }
    for (std::size_t p = 0; p < memory.size(); ++p) {
        for (const Condition& requirement : requirements_[p]) {
            if (requirement.parent == position && (requirement.allowed >> digit & 1) == 0) {
                memory[p] = off;
            }
        }
    }
}

Amount CostSteps::due_amount(std::size_t position, const Memory& memory) const {
    Amount sum = 0;
    for (const Term& term : terms_) {
        if (term.due == position && memory[term.first] != off && memory[term.second] != off) {
            const auto first = static_cast<std::size_t>(memory[term.first] - first_digit);
            const auto second = static_cast<std::size_t>(memory[term.second] - first_digit);
            sum += term.first == term.second ? term.costs[0][first] : term.costs[first][second];
        }
    }
    return sum;
}

}  // namespace ncode
