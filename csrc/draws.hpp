// Seeded draws of codes: the same on every platform and in every version. Row i depends on the seed and on the rows
// before it only, so a longer batch starts with the shorter one.
#pragma once

#include "random.hpp"
#include "space.hpp"

namespace ncode {

// Uniform with replacement.
void draw_uniform(const Space& space, std::uint64_t seed, CodesOut out);

// Elements start..start+rows of the seed's permutation of the whole space.
void draw_distinct(const Space& space, std::uint64_t seed, uint128 start, CodesOut out);

// Changes of single codes, as `mutate` makes them.
class Mutation {
public:
    Mutation(const Space& space, std::size_t changes);
    void operator()(Random& random, Digit* row);

private:
    const Space& space_;
    std::vector<std::size_t> positions_;  // those with a choice
    std::size_t changes_;
};

// Every row of `codes` (valid codes) gets `changes` distinct positions changed, or all that have a choice if fewer.
void mutate(const Space& space, std::uint64_t seed, std::size_t changes, CodesOut codes);

// out[p] is first[p] or second[p], with equal chances.
void cross(Random& random, const Digit* first, const Digit* second, Digit* out, std::size_t length);

// out[i][p] is first[i][p] or second[i][p], with equal chances.
void crossover(Codes first, Codes second, std::uint64_t seed, CodesOut out);

std::size_t neighbour_count(const Space& space);

// All codes that differ from `code` in one position, by position and then by option. out: (neighbour_count, length)
void neighbours(const Space& space, const Digit* code, CodesOut out);

}  // namespace ncode
