#include "diagram.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <unordered_map>

namespace ncode {
namespace {

// All pairs of nodes, layer by layer from the root, that one prefix leads to; then, from the last layer back, the nodes
// that they become.
class Product {
public:
    Product(const Diagram& one, const Diagram& other, StateBudget budget)
        : one_(one), other_(other), budget_(budget), layers_(one.length()) {}

    std::vector<std::vector<Node>> run() {
        std::vector<Pair> pairs{{0, 0}};
        for (std::size_t p = 0; p < layers_.size(); ++p) {
            pairs = expand(p, pairs);
        }
        std::vector<Node> nodes{0};
        for (std::size_t p = layers_.size(); p-- > 0;) {
            nodes = reduce(p, nodes);
        }
        return std::move(layers_);
    }

private:
    struct Pair {
        Node one, other;
    };

    // Writes the children of a layer's pairs, as places in the list of the next layer's pairs, which it returns.
    std::vector<Pair> expand(std::size_t position, const std::vector<Pair>& pairs) {
        std::vector<Pair> after;
        std::unordered_map<std::uint64_t, Node> places;
        auto& children = layers_[position];
        children.reserve(pairs.size() * one_.options(position));
        for (const Pair& pair : pairs) {
            for (std::size_t d = 0; d < one_.options(position); ++d) {
                const Pair child{one_.next(position, pair.one, d), other_.next(position, pair.other, d)};
                children.push_back(child.one == dead || child.other == dead ? dead : place(child, places, after));
            }
        }
        return after;
    }

    Node place(Pair pair, std::unordered_map<std::uint64_t, Node>& places, std::vector<Pair>& after) {
        const auto key = std::uint64_t{pair.one} << 32 | pair.other;
        const auto [at, is_new] = places.try_emplace(key, static_cast<Node>(after.size()));
        if (is_new) {
            budget_.take();
            after.push_back(pair);
        }
        return at->second;
    }

    // The nodes that a layer's pairs become, where `after` are those of the next layer's.
    std::vector<Node> reduce(std::size_t position, const std::vector<Node>& after) {
        const std::size_t options = one_.options(position);
        auto& children = layers_[position];
        LayerBuilder builder(options);
        std::vector<Node> nodes(children.size() / options);
        for (std::size_t i = 0; i < nodes.size(); ++i) {
            Node* own = children.data() + i * options;
            std::transform(own, own + options, own, [&](Node child) { return child == dead ? dead : after[child]; });
            nodes[i] = builder.add(own);
        }
        children = builder.take();
        return nodes;
    }

    const Diagram& one_;
    const Diagram& other_;
    StateBudget budget_;
    std::vector<std::vector<Node>> layers_;
};

std::vector<std::vector<Node>> whole(const Space& space) {
    std::vector<std::vector<Node>> layers;
    for (const Digit size : space.sizes()) {
        layers.emplace_back(size, Node{0});
    }
    return layers;
}

}  // namespace

void StateBudget::take() {
    if (++taken_ > limit_) {
        throw std::length_error("more than " + std::to_string(limit_) + " states");
    }
}

LayerBuilder::LayerBuilder(std::size_t options) : options_(options), nodes_(16, Hash{this}, Equal{this}) {}

std::size_t LayerBuilder::Hash::operator()(Node node) const {
    std::uint64_t state = layer->options_;
    for (std::size_t d = 0; d < layer->options_; ++d) {
        state = mix64(state ^ layer->children(node)[d]);
    }
    return state;
}

bool LayerBuilder::Equal::operator()(Node one, Node other) const {
    return std::equal(layer->children(one), layer->children(one) + layer->options_, layer->children(other));
}

Node LayerBuilder::add(const Node* children) {
    if (std::all_of(children, children + options_, [](Node child) { return child == dead; })) {
        return dead;
    }
    const auto node = static_cast<Node>(next_.size() / options_);
    next_.insert(next_.end(), children, children + options_);
    const auto [found, is_new] = nodes_.insert(node);
    if (!is_new) {
        next_.resize(next_.size() - options_);
    }
    return *found;
}

Diagram::Diagram(const Space& space) : Diagram(space, whole(space)) {}

Diagram::Diagram(const Space& space, std::vector<std::vector<Node>> layers)
    : sizes_(space.sizes()), layers_(std::move(layers)) {}

std::size_t Diagram::states() const {
    std::size_t sum = 0;
    for (std::size_t p = 0; p < length(); ++p) {
        sum += nodes(p);
    }
    return sum;
}

long double Diagram::estimate() const {
    std::vector<long double> after{1};
    for (std::size_t p = length(); p-- > 0;) {
        std::vector<long double> counts(nodes(p), 0);
        for (std::size_t i = 0; i < layers_[p].size(); ++i) {
            counts[i / sizes_[p]] += layers_[p][i] == dead ? 0 : after[layers_[p][i]];
        }
        after = std::move(counts);
    }
    return after.empty() ? 0 : after[0];
}

Diagram intersect(const Space& space, const Diagram& one, const Diagram& other, StateBudget budget) {
    if (one.empty() || other.empty()) {
        return Diagram(space, std::vector<std::vector<Node>>(space.length()));
    }
    return Diagram(space, Product(one, other, budget).run());
}

}  // namespace ncode
