// Cells: graphs of nodes that sum what their edges bring, where a position's digit is the operation of its edge.
//
// Node 0 is the input, the largest node the output. Two codes of a cell are equal if their outputs are the same
// expression: an edge with the *none* digit brings nothing, one with the *skip* digit the very summands of the node
// that it comes from, any other the operation of that node's sum, and an operation of nothing is nothing. So nodes and
// edges that do not lead from the input to the output, the numbering of the inner nodes, and skips make no difference.
#pragma once

#include <memory>
#include <vector>

#include "space.hpp"

namespace ncode {

constexpr long long no_option = -1;

struct CellRule {
    struct Edge {
        long long position, from, to;
    };
    std::vector<Edge> edges;
    long long none = no_option;
    long long skip = no_option;
};

// A checked cell: its positions rise, and its nodes are numbered without gaps.
struct Cell {
    struct Edge {
        std::size_t position, from, to;
    };
    std::vector<Edge> edges;
    std::vector<std::size_t> by_target;  // indices of `edges`, those into a node before those out of it
    std::size_t nodes;
    std::size_t options;
    int none;  // a digit, or no_option
    int skip;
};

// Throws std::invalid_argument naming the position.
Cell check_cell(const Space& space, const CellRule& rule);

// Number of the cell's codes, or `limit` + 1 if that is less.
std::size_t count_codes(const Cell& cell, std::size_t limit);

// A way to the canonical codes of a cell, in place; safe to call from several threads.
class CellForm {
public:
    virtual ~CellForm() = default;
    virtual void apply(CodesOut codes) const = 0;
};

// The first code, in the order of indices, of those with the same expression: by a table of all codes of the cell,
// which is made when it is first needed.
std::unique_ptr<CellForm> make_cell_table(Cell cell);

// For cells too large for a table: the same for every numbering of the inner nodes in a cell with all edges. Never joins
// different expressions, but leaves some apart that are the same, such as one sum at two nodes and at one.
// Throws std::invalid_argument for a cell with too many nodes.
std::unique_ptr<CellForm> make_cell_rewriter(Cell cell);

}  // namespace ncode
