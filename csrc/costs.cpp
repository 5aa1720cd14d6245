#include "costs.hpp"

#include <algorithm>

#include "cost_steps.hpp"

namespace ncode {
namespace {

// Bounds beyond every sum are as good as none.
Amount clamped(long long bound) { return std::clamp<Amount>(bound, -Cost::unbounded, Cost::unbounded); }

void widen(Range& range, Amount least, Amount most) {
    range.least = std::min(range.least, least);
    range.most = std::max(range.most, most);
}

constexpr Range nothing{std::numeric_limits<Amount>::max(), std::numeric_limits<Amount>::min()};

}  // namespace

Cost::Cost(const Space& space, const Requirements& requirements, const CostRule& rule)
    : sizes_(space.sizes()),
      bounds_{clamped(rule.least.value_or(-unbounded)), clamped(rule.most.value_or(unbounded))} {
    CostSteps steps(space, requirements, rule);
    memories_ = {1};
    for (std::size_t p = 0; p < sizes_.size(); ++p) {
        steps_.push_back(steps.next_position(p));
        memories_.push_back(steps.memories());
    }
}

void Cost::sum(Codes codes, Amount* out, std::size_t stride) const {
    for (std::size_t r = 0; r < codes.rows; ++r) {
        Amount sum = 0;
        std::size_t memory = 0;
        for (std::size_t p = 0; p < codes.length; ++p) {
            const Digit digit = codes.row(r)[p];
            sum += amount(p, memory, digit);
            memory = next(p, memory, digit);
        }
        out[r * stride] = sum;
    }
}

// From the root on: what the sums of all paths to a node are between, for each memory that they leave.
Range Cost::range(const Diagram& codes) const {
    std::vector<Range> ranges{{0, 0}};
    for (std::size_t p = 0; p < codes.length(); ++p) {
        const std::size_t nodes_after = p + 1 < codes.length() ? codes.nodes(p + 1) : 1;
        std::vector<Range> after(nodes_after * memories_[p + 1], nothing);
        for (std::size_t i = 0; i < ranges.size(); ++i) {
            const auto node = static_cast<Node>(i / memories_[p]);
            const std::size_t memory = i % memories_[p];
            for (std::size_t d = 0; d < sizes_[p] && ranges[i].least <= ranges[i].most; ++d) {
                const Node child = codes.next(p, node, d);
                if (child != dead) {
                    const Amount added = amount(p, memory, d);
                    widen(after[child * memories_[p + 1] + next(p, memory, d)], ranges[i].least + added,
                          ranges[i].most + added);
                }
            }
        }
        ranges = std::move(after);
    }
    return ranges[0];
}

}  // namespace ncode
