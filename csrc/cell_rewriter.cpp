// Large cells: codes rewritten by rules that keep the expression, then the smallest over all orders of the inner nodes.
//
// The rules name nodes by their edges alone, never by their numbers, so that they do the same to a renumbered code.
#include <algorithm>
#include <array>
#include <numeric>
#include <stdexcept>
#include <string>

#include "cell.hpp"

namespace ncode {
namespace {

constexpr std::size_t max_nodes = 10;  // 8! orders of the inner nodes
constexpr std::size_t max_edges = max_nodes * (max_nodes - 1) / 2;
constexpr std::size_t no_edge = max_edges;

using Digits = std::array<Digit, max_edges>;           // of the cell's edges; the rest is 0
using EdgeList = std::array<std::uint8_t, max_edges>;  // edge -> edge, or no_edge

// A digit that may as well be on another edge, the longer one of the two.
struct Move {
    std::size_t from;
    std::size_t to;
};
using Moves = std::vector<Move>;

using End = std::size_t Cell::Edge::*;  // the node that an edge comes from, or leads to

using EdgeOf = std::array<std::array<std::size_t, max_nodes>, max_nodes>;

Cell checked_nodes(Cell cell) {
    if (cell.nodes > max_nodes) {
        throw std::invalid_argument("a cell too large for a table has at most " + std::to_string(max_nodes) +
                                    " nodes, not " + std::to_string(cell.nodes));
    }
    return cell;
}

EdgeOf edges_by_nodes(const Cell& cell) {
    EdgeOf edge_of{};
    for (auto& edges : edge_of) {
        edges.fill(no_edge);
    }
    for (std::size_t e = 0; e < cell.edges.size(); ++e) {
        edge_of[cell.edges[e].from][cell.edges[e].to] = e;
    }
    return edge_of;
}

class CellRewriter final : public CellForm {
public:
    explicit CellRewriter(Cell cell) : cell_(checked_nodes(std::move(cell))), edge_of_(edges_by_nodes(cell_)) {
        make_orders();
    }

    void apply(CodesOut codes) const override {
        for (std::size_t r = 0; r < codes.rows; ++r) {
            Digits digits{};
            for (std::size_t e = 0; e < cell_.edges.size(); ++e) {
                digits[e] = codes.row(r)[cell_.edges[e].position];
            }
            normalise(digits);
            for (std::size_t e = 0; e < cell_.edges.size(); ++e) {
                codes.row(r)[cell_.edges[e].position] = digits[e];
            }
        }
    }

private:
    bool has_none() const { return cell_.none != no_option; }
    bool present(const Digits& digits, std::size_t e) const { return digits[e] != cell_.none; }

    // Repeated, because in a cell without all edges another order may have room for another rewriting.
    void normalise(Digits& digits) const {
        Digits before;
        do {
            before = digits;
            clear_dead(digits);
            while (has_none() && rewrite(digits)) {
                clear_dead(digits);
            }
            take_smallest_order(digits);
        } while (digits != before);
    }

    bool rewrite(Digits& digits) const {
        const Digits before = digits;
        carry_out(&CellRewriter::moves_to_source, digits);
        carry_out(&CellRewriter::moves_to_target, digits);
        turn_round(digits);
        return digits != before;
    }

    // Edges that are not on a way from the input to the output.
    void clear_dead(Digits& digits) const {
        std::uint32_t fed = 1;
        std::uint32_t used = std::uint32_t{1} << (cell_.nodes - 1);
        for (const std::size_t e : cell_.by_target) {
            fed |= (present(digits, e) ? fed >> cell_.edges[e].from & 1 : 0) << cell_.edges[e].to;
        }
        for (auto e = cell_.by_target.rbegin(); e != cell_.by_target.rend(); ++e) {
            used |= (present(digits, *e) ? used >> cell_.edges[*e].to & 1 : 0) << cell_.edges[*e].from;
        }
        for (std::size_t e = 0; e < cell_.edges.size(); ++e) {
            if ((fed >> cell_.edges[e].from & used >> cell_.edges[e].to & 1) == 0) {
                digits[e] = has_none() ? static_cast<Digit>(cell_.none) : Digit{0};
            }
        }
    }

    // A node that is a skip of one other and nothing else: what leaves it may as well leave the other.
    Moves moves_to_source(const Digits& digits, std::size_t node) const {
        return moves_over_skip(digits, node, &Cell::Edge::from, only_skip(digits, node, &Cell::Edge::to));
    }

    // A node that only a skip leaves: what comes into it may as well come into where the skip leads.
    Moves moves_to_target(const Digits& digits, std::size_t node) const {
        return moves_over_skip(digits, node, &Cell::Edge::to, only_skip(digits, node, &Cell::Edge::from));
    }

    // The edges whose `end` is the node get the skip's `end` in its place.
    Moves moves_over_skip(const Digits& digits, std::size_t node, End end, std::size_t skip) const {
        Moves moves;
        for (std::size_t e = 0; skip != no_edge && e < cell_.edges.size(); ++e) {
            if (cell_.edges[e].*end == node && present(digits, e)) {
                Cell::Edge moved = cell_.edges[e];
                moved.*end = cell_.edges[skip].*end;
                moves.push_back({e, edge_of_[moved.from][moved.to]});
            }
        }
        return moves;
    }

    std::size_t only_skip(const Digits& digits, std::size_t node, End end) const {
        const std::size_t e = only_edge(digits, node, end);
        return e != no_edge && digits[e] == cell_.skip ? e : no_edge;
    }

    // The one edge in use whose `end` is the node; no_edge for none or several.
    std::size_t only_edge(const Digits& digits, std::size_t node, End end) const {
        std::size_t found = no_edge;
        for (std::size_t e = 0; e < cell_.edges.size(); ++e) {
            if (cell_.edges[e].*end == node && present(digits, e)) {
                if (found != no_edge) {
                    return no_edge;
                }
                found = e;
            }
        }
        return found;
    }

    // A digit goes to the longer edge if that is free, and changes places with a larger one there. Every such step
    // makes the edges in use longer together, or puts a smaller digit on one of the same, so there is an end to it.
    // Where two want the same edge both stay, because which one is first would depend on the nodes' numbers.
    void carry_out(Moves (CellRewriter::*rule)(const Digits&, std::size_t) const, Digits& digits) const {
        Moves all;
        std::array<unsigned, max_edges + 1> wanted{};
        for (std::size_t node = 1; node + 1 < cell_.nodes; ++node) {
            for (const Move& move : (this->*rule)(digits, node)) {
                all.push_back(move);
                ++wanted[move.to];
            }
        }
        for (const Move& move : all) {
            if (move.to != no_edge && wanted[move.to] == 1 && present(digits, move.from) &&
                (!present(digits, move.to) || digits[move.from] < digits[move.to])) {
                std::swap(digits[move.from], digits[move.to]);
            }
        }
    }

    // An operation before a skip, with nothing else at the node between them, is the same as a skip before it.
    void turn_round(Digits& digits) const {
        for (std::size_t node = 1; node + 1 < cell_.nodes; ++node) {
            const std::size_t in = only_edge(digits, node, &Cell::Edge::to);
            const std::size_t out = only_edge(digits, node, &Cell::Edge::from);
            if (in != no_edge && out != no_edge && digits[out] == cell_.skip && cell_.skip != no_option) {
                std::swap(digits[in], digits[out]);
            }
        }
    }

    // For every order of the inner nodes, which edge each edge's digit comes from.
    void make_orders() {
        std::array<std::size_t, max_nodes> number{};  // node -> its number in the order
        std::iota(number.begin(), number.end(), std::size_t{0});
        const auto first = number.begin() + 1;
        const auto last = number.begin() + static_cast<std::ptrdiff_t>(cell_.nodes) - 1;
        while (std::next_permutation(first, last)) {  // the first order of all is the code as it is
            add_order(number);
        }
    }

    void add_order(const std::array<std::size_t, max_nodes>& number) {
        EdgeList sources;
        sources.fill(no_edge);
        std::size_t placed = 0;
        for (std::size_t e = 0; e < cell_.edges.size(); ++e) {
            const std::size_t target = edge_of_[number[cell_.edges[e].from]][number[cell_.edges[e].to]];
            if (target != no_edge) {
                sources[target] = static_cast<std::uint8_t>(e);
                ++placed;
            }
        }
        if (has_none() || placed == cell_.edges.size()) {  // without *none*, every edge must have a place
            orders_.push_back(sources);
        }
    }

    void take_smallest_order(Digits& digits) const {
        const Digits given = digits;
        const std::size_t count = count_present(given);
        Digits other{};
        for (const EdgeList& sources : orders_) {
            if (reordered_is_less(given, sources, digits, other) && count_present(other) == count) {
                digits = other;
            }
        }
    }

    bool reordered_is_less(const Digits& given, const EdgeList& sources, const Digits& best, Digits& other) const {
        bool less = false;
        for (std::size_t e = 0; e < cell_.edges.size(); ++e) {
            other[e] = sources[e] == no_edge ? static_cast<Digit>(cell_.none) : given[sources[e]];
            if (!less && other[e] != best[e]) {
                if (other[e] > best[e]) {
                    return false;
                }
                less = true;
            }
        }
        return less;
    }

    std::size_t count_present(const Digits& digits) const {
        std::size_t count = 0;
        for (std::size_t e = 0; e < cell_.edges.size(); ++e) {
            count += present(digits, e) ? 1 : 0;
        }
        return count;
    }

    Cell cell_;
    EdgeOf edge_of_;
    std::vector<EdgeList> orders_;
};

}  // namespace

std::unique_ptr<CellForm> make_cell_rewriter(Cell cell) { return std::make_unique<CellRewriter>(std::move(cell)); }

}  // namespace ncode
