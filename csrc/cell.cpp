#include "cell.hpp"

#include <algorithm>
#include <numeric>
#include <set>
#include <stdexcept>

#include "conditions.hpp"

namespace ncode {
namespace {

std::string edge_text(const CellRule::Edge& edge) {
    return "edge (" + std::to_string(edge.from) + ", " + std::to_string(edge.to) + ")";
}

void check_edges(const Space& space, const CellRule& rule) {
    std::set<long long> positions;
    std::set<std::pair<long long, long long>> pairs;
    for (const auto& edge : rule.edges) {
        const std::string at = position_text(checked_position(space, edge.position));
        if (!positions.insert(edge.position).second) {
            throw std::invalid_argument(at + " is twice in a cell");
        }
        if (edge.from < 0 || edge.from >= edge.to) {
            throw std::invalid_argument(at + ": " + edge_text(edge) +
                                        " does not go forward; nodes count from 0, and an edge goes to a larger one");
        }
        if (!pairs.insert({edge.from, edge.to}).second) {
            throw std::invalid_argument(at + ": " + edge_text(edge) + " is twice in a cell");
        }
    }
}

// The digits must mean the same on all edges of a cell.
std::size_t checked_options(const Space& space, const CellRule& rule) {
    const auto size = [&](const CellRule::Edge& edge) {
        return space.sizes()[static_cast<std::size_t>(edge.position)];
    };
    for (const auto& edge : rule.edges) {
        if (size(edge) != size(rule.edges[0])) {
            throw std::invalid_argument("position " + std::to_string(rule.edges[0].position) + " and position " +
                                        std::to_string(edge.position) +
                                        " are in one cell, but differ in their options");
        }
    }
    return size(rule.edges[0]);
}

int checked_option(long long digit, std::size_t options, const char* name) {
    if (digit < no_option || digit >= static_cast<long long>(options)) {
        throw std::invalid_argument(std::string("a cell's ") + name + " option " + std::to_string(digit) +
                                    " is not in 0.." + std::to_string(options - 1));
    }
    return static_cast<int>(digit);
}

std::vector<long long> sorted_nodes(const CellRule& rule) {
    std::set<long long> nodes;
    for (const auto& edge : rule.edges) {
        nodes.insert({edge.from, edge.to});
    }
    return {nodes.begin(), nodes.end()};
}

std::vector<Cell::Edge> sorted_edges(const CellRule& rule, const std::vector<long long>& nodes) {
    const auto number = [&](long long node) {
        return static_cast<std::size_t>(std::ranges::lower_bound(nodes, node) - nodes.begin());
    };
    std::vector<Cell::Edge> edges;
    for (const auto& edge : rule.edges) {
        edges.push_back({static_cast<std::size_t>(edge.position), number(edge.from), number(edge.to)});
    }
    std::ranges::sort(edges, {}, &Cell::Edge::position);
    return edges;
}

std::vector<std::size_t> order_by_target(const std::vector<Cell::Edge>& edges) {
    std::vector<std::size_t> order(edges.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, {}, [&](std::size_t e) { return edges[e].to; });
    return order;
}

}  // namespace

Cell check_cell(const Space& space, const CellRule& rule) {
    if (rule.edges.empty()) {
        throw std::invalid_argument("a cell needs an edge");
    }
    check_edges(space, rule);
    const std::size_t options = checked_options(space, rule);
    const int none = checked_option(rule.none, options, "none");
    const int skip = checked_option(rule.skip, options, "skip");
    if (none == skip && none != no_option) {
        throw std::invalid_argument("a cell's none and skip are both option " + std::to_string(none));
    }
    const auto nodes = sorted_nodes(rule);
    if (nodes.front() != 0) {
        throw std::invalid_argument("no edge of the cell of " + position_text(sorted_edges(rule, nodes)[0].position) +
                                    " leaves node 0, its input");
    }
    auto edges = sorted_edges(rule, nodes);
    auto order = order_by_target(edges);
    return {std::move(edges), std::move(order), nodes.size(), options, none, skip};
}

std::size_t count_codes(const Cell& cell, std::size_t limit) {
    std::size_t count = 1;
    for (std::size_t e = 0; e < cell.edges.size(); ++e) {
        if (count > limit / cell.options) {
            return limit + 1;
        }
        count *= cell.options;
    }
    return count;
}

}  // namespace ncode
