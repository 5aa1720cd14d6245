// The codes within a cost's bounds, as a diagram.
//
// From the root on, depth first. A state is a position, the sum before it, and a memory. What may follow is the same for a whole
// interval of sums around it: the intersection of its children's intervals, each moved by the digit's cost; so a node is
// made once for its interval, and real costs, whose sums seldom coincide, share nodes as well as small whole numbers do
// (Abío, Nieuwenhuis, Oliveras, Rodríguez-Carbonell and Mayer-Eichberger 2012). Bounds on what the rest may add prune
// everything that cannot be completed.
#include <algorithm>
#include <array>
#include <deque>
#include <map>

#include "costs.hpp"

namespace ncode {
namespace {

// A node, and the sums that lead to it.
struct Reach {
    Node node;
    Amount low, high;
};

constexpr Amount infinite = Amount{1} << 62;

// Disjoint intervals of sums, by their ends.
class Intervals {
public:
    const Reach* find(Amount sum) const {
        const auto found = reaches_.lower_bound(sum);
        return found != reaches_.end() && found->second.low <= sum ? &found->second : nullptr;
    }

    // Intervals that overlap have the same node, so they become one.
    void add(Reach reach) {
        auto at = reaches_.lower_bound(reach.low);
        while (at != reaches_.end() && at->second.low <= reach.high) {
            reach.low = std::min(reach.low, at->second.low);
            reach.high = std::max(reach.high, at->second.high);
            at = reaches_.erase(at);
        }
        reaches_.emplace(reach.high, reach);
    }

private:
    std::map<Amount, Reach> reaches_;
};

class Search {
public:
    Search(const Space& space, const Cost& cost, StateBudget budget)
        : space_(space), cost_(cost), bounds_(cost.bounds()), budget_(budget), known_(space.length()),
          rest_(space.length() + 1) {
        for (std::size_t p = 0; p < space.length(); ++p) {
            layers_.emplace_back(space.sizes()[p]);
            known_[p].resize(cost.memories(p));
        }
        bound_rest();
    }

    Diagram run() {
        visit(0, 0, 0);
        std::vector<std::vector<Node>> layers;
        for (auto& layer : layers_) {
            layers.push_back(layer.take());
        }
        return Diagram(space_, std::move(layers));
    }

private:
    // rest_[p][memory]: what positions p, p+1, ... may add.
    void bound_rest() {
        rest_[space_.length()] = {{0, 0}};
        for (std::size_t p = space_.length(); p-- > 0;) {
            for (std::size_t memory = 0; memory < cost_.memories(p); ++memory) {
                rest_[p].push_back(rest_from(p, memory));
            }
        }
    }

    Range rest_from(std::size_t p, std::size_t memory) const {
        Range range{infinite, -infinite};
        for (std::size_t d = 0; d < space_.sizes()[p]; ++d) {
            const Range& after = rest_[p + 1][cost_.next(p, memory, d)];
            const Amount step = cost_.amount(p, memory, d);
            range = {std::min(range.least, step + after.least), std::max(range.most, step + after.most)};
        }
        return range;
    }

    Reach visit(std::size_t p, std::size_t memory, Amount sum) {
        const Range& rest = rest_[p][memory];
        if (sum > bounds_.most - rest.least) {
            return {dead, bounds_.most - rest.least + 1, infinite};
        }
        if (sum < bounds_.least - rest.most) {
            return {dead, -infinite, bounds_.least - rest.most - 1};
        }
        if (p == space_.length()) {
            return {0, bounds_.least, bounds_.most};
        }
        if (const Reach* known = known_[p][memory].find(sum)) {
            return *known;
        }
        return expand(p, memory, sum);
    }

    // Infinite ends are moved by steps, too: they stay beyond every sum, because no path's steps add up to 2**60.
    Reach expand(std::size_t p, std::size_t memory, Amount sum) {
        budget_.take();
        std::array<Node, max_options> children;
        Reach reach{dead, -infinite, infinite};
        for (std::size_t d = 0; d < space_.sizes()[p]; ++d) {
            const Amount step = cost_.amount(p, memory, d);
            const Reach child = visit(p + 1, cost_.next(p, memory, d), sum + step);
            children[d] = child.node;
            reach.low = std::max(reach.low, child.low - step);
            reach.high = std::min(reach.high, child.high - step);
        }
        reach.node = layers_[p].add(children.data());
        known_[p][memory].add(reach);
        return reach;
    }

    const Space& space_;
    const Cost& cost_;
    Range bounds_;
    StateBudget budget_;
    std::deque<LayerBuilder> layers_;
    std::vector<std::vector<Intervals>> known_;  // by position and memory
    std::vector<std::vector<Range>> rest_;
};

}  // namespace

Diagram Cost::within(const Space& space, StateBudget budget) const { return Search(space, *this, budget).run(); }

}  // namespace ncode
