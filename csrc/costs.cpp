#include "costs.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "conditions.hpp"

namespace ncode {
namespace {

// Bounds beyond every sum are as good as none.
Amount clamped(long long bound) { return std::clamp<Amount>(bound, -Cost::unbounded, Cost::unbounded); }

void require_count(std::size_t position, std::size_t given, std::size_t wanted) {
    if (given != wanted) {
        throw std::invalid_argument(position_text(position) + " has " + std::to_string(wanted) + " options, but " +
                                    std::to_string(given) + " costs");
    }
}

Amount magnitude(Amount amount) { return amount < 0 ? -std::max(amount, -largest_sum) : amount; }

void widen(Range& range, Amount least, Amount most) {
    range.least = std::min(range.least, least);
    range.most = std::max(range.most, most);
}

constexpr Range nothing{std::numeric_limits<Amount>::max(), std::numeric_limits<Amount>::min()};

}  // namespace

Cost::Cost(const Space& space, const CostRule& rule)
    : sizes_(space.sizes()), befores_(space.length() + 1, 1), steps_(space.length()),
      bounds_{clamped(rule.least.value_or(-unbounded)), clamped(rule.most.value_or(unbounded))} {
    if (rule.options.size() != space.length()) {
        throw std::invalid_argument("costs of " + std::to_string(rule.options.size()) +
                                    " positions, the space has " + std::to_string(space.length()));
    }
    add_options(rule);
    for (const auto& pair : rule.pairs) {
        checked_position(space, pair.position);
        checked_position(space, pair.position + 1);
        add_pair(pair);
    }
    check_sum();
}

void Cost::add_options(const CostRule& rule) {
    for (std::size_t p = 0; p < sizes_.size(); ++p) {
        require_count(p, rule.options[p].size(), sizes_[p]);
        steps_[p].assign(rule.options[p].begin(), rule.options[p].end());
    }
}

void Cost::add_pair(const CostRule::Pair& pair) {
    const auto first = static_cast<std::size_t>(pair.position);
    const std::size_t second = first + 1;
    if (steps_[second].size() != sizes_[second]) {
        throw std::invalid_argument(position_text(first) + " and " + position_text(second) + " are a pair twice");
    }
    require_count(first, pair.costs.size(), sizes_[first]);
    const std::vector<Amount> own = std::move(steps_[second]);
    steps_[second].clear();
    for (const auto& row : pair.costs) {
        require_count(second, row.size(), sizes_[second]);
        for (std::size_t d = 0; d < row.size(); ++d) {
            if (magnitude(row[d]) >= largest_sum || magnitude(own[d]) >= largest_sum) {
                throw std::invalid_argument("the costs may add up to 2**60 or more");
            }
            steps_[second].push_back(own[d] + row[d]);
        }
    }
    befores_[second] = sizes_[first];
}

void Cost::check_sum() const {
    Amount sum = 0;
    for (const auto& steps : steps_) {
        Amount largest = 0;
        for (const Amount step : steps) {
            largest = std::max(largest, magnitude(step));
        }
        if (largest >= largest_sum - sum) {
            throw std::invalid_argument("the costs may add up to 2**60 or more");
        }
        sum += largest;
    }
}

void Cost::sum(Codes codes, Amount* out, std::size_t stride) const {
    for (std::size_t r = 0; r < codes.rows; ++r) {
        Amount sum = 0;
        std::size_t before = 0;
        for (std::size_t p = 0; p < codes.length; ++p) {
            const Digit digit = codes.row(r)[p];
            sum += step(p, before, digit);
            before = left_behind(p, digit);
        }
        out[r * stride] = sum;
    }
}

// From the root on: what the sums of all paths to a node are between, for each digit that its position before may have
// left behind.
Range Cost::range(const Diagram& codes) const {
    std::vector<Range> ranges{{0, 0}};
    for (std::size_t p = 0; p < codes.length(); ++p) {
        const std::size_t nodes_after = p + 1 < codes.length() ? codes.nodes(p + 1) : 1;
        std::vector<Range> after(nodes_after * befores_[p + 1], nothing);
        for (std::size_t i = 0; i < ranges.size(); ++i) {
            const auto node = static_cast<Node>(i / befores_[p]);
            for (std::size_t d = 0; d < sizes_[p] && ranges[i].least <= ranges[i].most; ++d) {
                const Node child = codes.next(p, node, d);
                if (child != dead) {
                    const Amount cost = step(p, i % befores_[p], d);
                    widen(after[child * befores_[p + 1] + left_behind(p, d)], ranges[i].least + cost,
                          ranges[i].most + cost);
                }
            }
        }
        ranges = std::move(after);
    }
    return ranges[0];
}

}  // namespace ncode
