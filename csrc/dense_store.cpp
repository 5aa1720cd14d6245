#include <algorithm>
#include <array>
#include <stdexcept>

#include "code_store.hpp"
#include "indexing.hpp"

namespace ncode {
namespace {

class DenseStore final : public CodeStore {
public:
    explicit DenseStore(const Space& space)
        : indexer_(space), last_(low64(space.require_last_index())), words_(last_ / 64 + 1) {}

    void insert(Codes codes, bool* fresh) override {
        size_ += each(words_, codes, fresh, [](std::uint64_t& word, std::uint64_t bit) {
            const bool is_new = (word & bit) == 0;
            word |= bit;
            return is_new;
        });
    }

    void contains(Codes codes, bool* found) const override {
        each(words_, codes, found, [](const std::uint64_t& word, std::uint64_t bit) { return (word & bit) != 0; });
    }

    void remove(Codes codes, bool* removed) override {
        size_ -= each(words_, codes, removed, [](std::uint64_t& word, std::uint64_t bit) {
            const bool was_there = (word & bit) != 0;
            word &= ~bit;
            return was_there;
        });
    }

    void expect(std::size_t) override {}
    void trim() override {}

    std::size_t size() const override { return size_; }
    std::size_t nbytes() const override { return words_.size() * sizeof(std::uint64_t); }

    std::unique_ptr<CodeStore> to_dense(const Space&) const override { return nullptr; }

private:
    static constexpr std::size_t batch = 256;

    // Returns for how many codes `look` was true.
    template <class Words, class Look>
    std::size_t each(Words& words, Codes codes, bool* out, Look look) const {
        std::array<std::uint64_t, batch> indices;
        std::size_t total = 0;
        for (std::size_t first = 0; first < codes.rows; first += batch) {
            const std::size_t count = std::min(batch, codes.rows - first);
            indexer_(codes.slice(first, count), indices.data());
            total += look_at_bits(words.data(), indices.data(), count, out + first, look);
        }
        return total;
    }

    template <class Word, class Look>
    std::size_t look_at_bits(Word* words, const std::uint64_t* indices, std::size_t count, bool* out, Look look) const {
        const std::uint64_t last = last_;
        std::size_t total = 0;
        for (std::size_t i = 0; i < count; ++i) {
            if (indices[i] > last) [[unlikely]] {
                on_changed_codes();
            }
            out[i] = look(words[indices[i] / 64], std::uint64_t{1} << (indices[i] % 64));
            total += out[i] ? 1 : 0;
        }
        return total;
    }

    // The codes were validated, but another thread may have written to the caller's array since.
    [[noreturn]] static void on_changed_codes() {
        throw std::invalid_argument("the codes changed while they were looked up");
    }

    WordIndexer indexer_;
    std::uint64_t last_;
    std::vector<std::uint64_t> words_;
    std::size_t size_ = 0;
};

constexpr std::uint64_t largest_dense = std::uint64_t{1} << 43;  // codes: a terabyte

}  // namespace

std::unique_ptr<CodeStore> make_dense_store(const Space& space) { return std::make_unique<DenseStore>(space); }

std::size_t dense_store_bytes(const Space& space) {
    const auto last = space.last_index();
    return last && *last < largest_dense ? static_cast<std::size_t>(*last / 64 + 1) * 8 : never_dense;
}

}  // namespace ncode
