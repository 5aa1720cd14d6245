// The codes that keep to every bound and make no forbidden combination: counted, listed and drawn without ever looking
// at another code.
//
// Every constraint is a diagram, and so is their intersection, where each node knows how many codes it leads to. Counting,
// ranking, listing and uniform draws are walks from its root, however few of the space's codes are feasible.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "costs.hpp"
#include "diagram.hpp"

namespace ncode {

class Random;

// Codes whose digits at all of these positions matter and are among the options are forbidden.
struct ForbiddenRule {
    struct Part {
        long long position;
        std::vector<long long> options;
    };
    std::vector<Part> parts;
};

// What feasible codes must keep to.
struct ConstraintRules {
    std::vector<CostRule> costs;
    std::vector<ForbiddenRule> forbidden;
    std::vector<ConditionRule> conditions;
    bool canonical = false;  // only codes in which digits that do not matter are 0
};

// The constraint with which nothing was left, when they were taken from the one that most codes keep to alone on.
struct Conflict {
    std::size_t constraint;         // costs first, then forbidden combinations
    std::optional<Range> possible;  // of a cost: what it is between in the codes that keep to the constraints before it
};

constexpr std::size_t default_states = 1'000'000;

// Safe to call from several threads. Codes are checked by the caller.
class Feasible {
public:
    // Throws std::invalid_argument naming the positions, std::length_error naming the constraint where a diagram needs
    // too many states.
    Feasible(std::shared_ptr<const Space> space, const ConstraintRules& rules, std::size_t max_states);

    const Space& space() const { return *space_; }

    // Throws std::overflow_error for 2**128 feasible codes or more: these have no places, and cannot be listed.
    uint128 size() const;

    bool has_places() const { return is_counted_; }

    // The size of a set without places, in words of 64 bits, the lowest first.
    const std::vector<std::uint64_t>& exact_size() const { return exact_size_; }

    std::size_t states() const { return diagram_.states(); }
    bool empty() const { return diagram_.empty(); }
    const std::optional<Conflict>& conflict() const { return conflict_; }
    std::size_t cost_count() const { return costs_.size(); }

    // Of every cost over the feasible codes, which are not none.
    std::vector<Range> ranges() const;

    // out: (rows, costs)
    void costs(Codes codes, Amount* out) const;

    // out: (rows,)
    void contains(Codes codes, bool* out) const;

    // Places among the feasible codes, in the order of the space's indices. out: (rows,). Throws std::invalid_argument
    // naming the first row that is not feasible.
    void rank(Codes codes, uint128* out) const;

    // index < size()
    void unrank(uint128 index, Digit* row) const;

    // out.rows codes from place `start` on. start + out.rows <= size(). As all that has to do with places, only for sets
    // of a size().
    void enumerate(uint128 start, CodesOut out) const;

    // Uniform with replacement, from 2**128 codes on to within rounding; from a set that is not empty, as all draws.
    void random(std::uint64_t seed, CodesOut out) const;

    // Elements start..start+rows of the seed's permutation of all feasible codes.
    void sample(std::uint64_t seed, uint128 start, CodesOut out) const;

    // As in a space without constraints, with `attempts` tries at a change that is feasible; then the last of them is
    // repaired: from the first position on, each digit is kept where a feasible code begins so, and drawn as in a uniform
    // feasible code with that beginning where none does. So it may change more positions than asked for, or none.
    void mutate(std::uint64_t seed, std::size_t changes, CodesOut codes) const;

    // The same, but a digit that cannot be kept is the other parent's, if that can be. `out` is neither parent.
    void crossover(Codes first, Codes second, std::uint64_t seed, CodesOut out) const;

    static constexpr int attempts = 8;

private:
    struct Constraint;
    std::vector<Constraint> make_constraints(const ConstraintRules& rules, StateBudget budget);
    void intersect_all(const std::vector<Constraint>& constraints, StateBudget budget);
    void count();
    bool count_layer(std::size_t position);
    std::vector<std::uint64_t> sum_exactly() const;
    std::optional<uint128> sum_of_children(std::size_t position, Node node) const;
    bool contains_row(const Digit* row) const;
    uint128 count_from(std::size_t position, Node node) const;
    Digit draw(std::size_t position, Node node, Random& random) const;
    void complete(std::size_t position, std::vector<Node>& path, Digit* row) const;
    bool step(std::vector<Node>& path, Digit* row) const;

    std::shared_ptr<const Space> space_;
    std::vector<Cost> costs_;
    Diagram diagram_;
    std::vector<std::vector<uint128>> counts_;  // by layer and node; the layer behind the last position has a 1
    bool is_counted_ = true;  // or counts are rounded weights
    std::vector<std::uint64_t> exact_size_;
    std::optional<Conflict> conflict_;

    friend class Repair;
};

}  // namespace ncode
