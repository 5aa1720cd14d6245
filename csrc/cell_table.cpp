// Small cells: the first code of every class, looked up in a table of all codes.
#include <algorithm>
#include <array>
#include <bit>
#include <mutex>

#include "cell.hpp"
#include "integers.hpp"

namespace ncode {
namespace {

// The hash of a sum: that of its summands, added, so that their order makes no difference. 0 is the empty sum.
struct Sum {
    std::uint64_t high = 0;
    std::uint64_t low = 0;

    bool operator==(const Sum&) const = default;
    bool empty() const { return (high | low) == 0; }
    void add(const Sum& other) {
        high += other.high;
        low += other.low;
    }
};

constexpr Sum input_sum{0x8f1bbcdcbfa53e0bU, 0x2545f4914f6cdd1dU};

// The summand that an operation makes of a sum: four rounds of a Feistel network, so that no two sums meet by design.
Sum operation(const Sum& sum, std::uint64_t key) {
    const std::uint64_t a = sum.high ^ mix64(sum.low + key);
    const std::uint64_t b = sum.low ^ mix64(a + std::rotl(key, 17));
    const std::uint64_t c = a ^ mix64(b + std::rotl(key, 31));
    return {c, b ^ mix64(c + std::rotl(key, 47))};
}

// Computes a code's output with hashes for values.
class Expression {
public:
    explicit Expression(const Cell& cell) : cell_(cell), sums_(cell.nodes) {
        for (std::size_t d = 0; d < max_options; ++d) {
            keys_[d] = mix64(0x9e3779b97f4a7c15U * (d + 1));
        }
    }

    // digits: of the cell's edges, in their order
    Sum operator()(const Digit* digits) {
        std::fill(sums_.begin() + 1, sums_.end(), Sum{});
        sums_[0] = input_sum;
        for (const std::size_t e : cell_.by_target) {
            const Sum& from = sums_[cell_.edges[e].from];
            if (digits[e] == cell_.skip) {
                sums_[cell_.edges[e].to].add(from);
            } else if (digits[e] != cell_.none && !from.empty()) {
                sums_[cell_.edges[e].to].add(operation(from, keys_[digits[e]]));
            }
        }
        return sums_.back();
    }

private:
    const Cell& cell_;
    std::vector<Sum> sums_;
    std::array<std::uint64_t, max_options> keys_;
};

// Sum -> the index that it was first given with. Open addressing on the numbers of the classes, which take a fifth of
// the memory of their sums.
class FirstIndices {
public:
    std::uint32_t first(const Sum& sum, std::uint32_t index) {
        if (2 * sums_.size() >= slots_.size()) {
            grow();
        }
        std::uint32_t& slot = find(sum);
        if (slot == 0) {
            sums_.push_back(sum);
            indices_.push_back(index);
            slot = static_cast<std::uint32_t>(sums_.size());
        }
        return indices_[slot - 1];
    }

private:
    std::uint32_t& find(const Sum& sum) {
        std::size_t at = mix64(sum.low) & (slots_.size() - 1);
        while (slots_[at] != 0 && sums_[slots_[at] - 1] != sum) {
            at = (at + 1) & (slots_.size() - 1);
        }
        return slots_[at];
    }

    void grow() {
        slots_.assign(std::max<std::size_t>(1024, 2 * slots_.size()), 0);
        for (std::size_t i = 0; i < sums_.size(); ++i) {
            find(sums_[i]) = static_cast<std::uint32_t>(i + 1);
        }
    }

    std::vector<std::uint32_t> slots_;  // number of a class, from 1; a power of two of them, at most half of them used
    std::vector<Sum> sums_;
    std::vector<std::uint32_t> indices_;
};

class CellTable final : public CellForm {
public:
    explicit CellTable(Cell cell) : cell_(std::move(cell)) {}

    // Block by block, so that the waits for the table overlap.
    void apply(CodesOut codes) const override {
        std::call_once(made_, [&] { make(); });
        constexpr std::size_t block = 128;
        std::array<std::uint32_t, block> indices;
        for (std::size_t first = 0; first < codes.rows; first += block) {
            const std::size_t rows = std::min(block, codes.rows - first);
            for (std::size_t i = 0; i < rows; ++i) {
                indices[i] = index_of_row(codes.row(first + i));
            }
            for (std::size_t i = 0; i < rows; ++i) {
                indices[i] = firsts_[indices[i]];
            }
            for (std::size_t i = 0; i < rows; ++i) {
                write(indices[i], codes.row(first + i));
            }
        }
    }

private:
    void make() const {
        firsts_.resize(count_codes(cell_, std::size_t{1} << 32));
        std::vector<Digit> digits(cell_.edges.size(), 0);
        Expression expression(cell_);
        FirstIndices classes;
        for (std::uint32_t index = 0; index < firsts_.size(); ++index) {
            firsts_[index] = classes.first(expression(digits.data()), index);
            for (std::size_t e = digits.size(); e > 0 && ++digits[e - 1] == cell_.options; --e) {
                digits[e - 1] = 0;
            }
        }
    }

    std::uint32_t index_of_row(const Digit* row) const {
        std::uint32_t index = 0;
        for (const auto& edge : cell_.edges) {
            index = index * static_cast<std::uint32_t>(cell_.options) + row[edge.position];
        }
        return index;
    }

    void write(std::uint32_t index, Digit* row) const {
        const auto options = static_cast<std::uint32_t>(cell_.options);
        for (std::size_t e = cell_.edges.size(); e > 0; --e) {
            row[cell_.edges[e - 1].position] = static_cast<Digit>(index % options);
            index /= options;
        }
    }

    Cell cell_;
    mutable std::once_flag made_;
    mutable std::vector<std::uint32_t> firsts_;  // index of a code -> index of the first of its class
};

}  // namespace

std::unique_ptr<CellForm> make_cell_table(Cell cell) { return std::make_unique<CellTable>(std::move(cell)); }

}  // namespace ncode
