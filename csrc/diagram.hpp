// Sets of codes as layered decision diagrams.
//
// A node of layer p stands for everything that positions p, p+1, ... may still be after some prefixes; its child for a
// digit is a node of layer p + 1, or dead where no code of the set goes on like this. Nodes of one layer differ in what
// may follow, so prefixes that are completed by the same digits share a node (the reduced multi-valued decision diagram
// of Srinivasan et al. 1990), and every path from the root leads to a code.
#pragma once

#include <unordered_set>
#include <vector>

#include "space.hpp"

namespace ncode {

using Node = std::uint32_t;
constexpr Node dead = ~Node{0};

// Counts what is made on the way to a diagram. Throws std::length_error above the limit.
class StateBudget {
public:
    explicit StateBudget(std::size_t limit) : limit_(limit) {}
    void take();

private:
    std::size_t limit_;
    std::size_t taken_ = 0;
};

// The nodes of one layer, each of them once. Not movable: its set looks at its own nodes.
class LayerBuilder {
public:
    explicit LayerBuilder(std::size_t options);
    LayerBuilder(const LayerBuilder&) = delete;
    LayerBuilder& operator=(const LayerBuilder&) = delete;

    // The node with these children, one for each option; dead where all of them are.
    Node add(const Node* children);

    std::vector<Node> take() { return std::move(next_); }

private:
    struct Hash {
        const LayerBuilder* layer;
        std::size_t operator()(Node node) const;
    };
    struct Equal {
        const LayerBuilder* layer;
        bool operator()(Node one, Node other) const;
    };

    const Node* children(Node node) const { return next_.data() + std::size_t{node} * options_; }

    std::size_t options_;
    std::vector<Node> next_;
    std::unordered_set<Node, Hash, Equal> nodes_;
};

// The root is node 0 of layer 0; the layer behind the last position has the one node 0.
class Diagram {
public:
    // Every code of the space.
    explicit Diagram(const Space& space);

    // layers[p]: (nodes, options) children.
    Diagram(const Space& space, std::vector<std::vector<Node>> layers);

    std::size_t length() const { return layers_.size(); }
    std::size_t options(std::size_t position) const { return sizes_[position]; }
    std::size_t nodes(std::size_t position) const { return layers_[position].size() / sizes_[position]; }
    std::size_t states() const;
    bool empty() const { return layers_[0].empty(); }

    Node next(std::size_t position, Node node, std::size_t digit) const {
        return layers_[position][std::size_t{node} * sizes_[position] + digit];
    }

    // How many codes, in floating point: infinity where that ends.
    long double estimate() const;

private:
    std::vector<Digit> sizes_;
    std::vector<std::vector<Node>> layers_;
};

// The codes that are in both. Throws std::length_error, see StateBudget.
Diagram intersect(const Space& space, const Diagram& one, const Diagram& other, StateBudget budget);

}  // namespace ncode
