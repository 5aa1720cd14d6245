#include <algorithm>
#include <initializer_list>

#include "draws.hpp"
#include "feasible.hpp"
#include "permutation.hpp"
#include "random.hpp"

namespace ncode {

// The walk that makes a code feasible.
class Repair {
public:
    Repair(const Feasible& feasible, Random& random) : feasible_(feasible), random_(random) {}

    // In place; where a digit cannot be kept, one of `others`, rows or nothing, is the next choice.
    void operator()(Digit* row, std::initializer_list<const Digit*> others) {
        Node node = 0;
        for (std::size_t p = 0; p < feasible_.space().length(); ++p) {
            row[p] = choose(p, node, row[p], others);
            node = feasible_.diagram_.next(p, node, row[p]);
        }
    }

private:
    Digit choose(std::size_t p, Node node, Digit wish, std::initializer_list<const Digit*> others) {
        if (feasible_.diagram_.next(p, node, wish) != dead) {
            return wish;
        }
        for (const Digit* other : others) {
            if (feasible_.diagram_.next(p, node, other[p]) != dead) {
                return other[p];
            }
        }
        return feasible_.draw(p, node, random_);
    }

    const Feasible& feasible_;
    Random& random_;
};

// The digit of a uniform code that goes on from here.
Digit Feasible::draw(std::size_t position, Node node, Random& random) const {
    uint128 left = random.below128(is_counted_ ? counts_[position][node] : sum_of_children(position, node).value());
    for (Digit d = 0;; ++d) {
        const uint128 count = count_from(position + 1, diagram_.next(position, node, d));
        if (left < count) {
            return d;
        }
        left -= count;
    }
}

void Feasible::random(std::uint64_t seed, CodesOut out) const {
    Random random(seed, Stream::feasible);
    for (std::size_t r = 0; r < out.rows; ++r) {
        if (is_counted_) {
            unrank(random.below128(size()), out.row(r));
            continue;
        }
        Node node = 0;
        for (std::size_t p = 0; p < out.length; ++p) {
            out.row(r)[p] = draw(p, node, random);
            node = diagram_.next(p, node, out.row(r)[p]);
        }
    }
}

void Feasible::sample(std::uint64_t seed, uint128 start, CodesOut out) const {
    if (out.rows == 0) {
        return;
    }
    const Permutation permutation(size() - 1, seed);
    for (std::size_t r = 0; r < out.rows; ++r) {
        unrank(permutation(start + r), out.row(r));
    }
}

void Feasible::mutate(std::uint64_t seed, std::size_t changes, CodesOut codes) const {
    Random random(seed, Stream::feasible_mutate);
    Repair repair(*this, random);
    Mutation mutation(*space_, changes);
    std::vector<Digit> parent(codes.length);
    for (std::size_t r = 0; r < codes.rows; ++r) {
        Digit* row = codes.row(r);
        std::copy_n(row, codes.length, parent.begin());
        for (int attempt = 0; attempt < attempts; ++attempt) {
            std::copy(parent.begin(), parent.end(), row);
            mutation(random, row);
            if (contains_row(row)) {
                break;
            }
        }
        repair(row, {});
    }
}

void Feasible::crossover(Codes first, Codes second, std::uint64_t seed, CodesOut out) const {
    Random random(seed, Stream::feasible_crossover);
    Repair repair(*this, random);
    for (std::size_t r = 0; r < out.rows; ++r) {
        for (int attempt = 0; attempt < attempts; ++attempt) {
            cross(random, first.row(r), second.row(r), out.row(r), out.length);
            if (contains_row(out.row(r))) {
                break;
            }
        }
        repair(out.row(r), {first.row(r), second.row(r)});
    }
}

}  // namespace ncode
