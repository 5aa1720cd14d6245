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
        const auto add = [this](std::size_t count) { size_ += count; };
        each(words_, codes, fresh, add, [](std::uint64_t& word, std::uint64_t bit) {
            const bool is_new = (word & bit) == 0;
            word |= bit;
            return is_new;
        });
    }

    void contains(Codes codes, bool* found) const override {
        const auto is_there = [](const std::uint64_t& word, std::uint64_t bit) { return (word & bit) != 0; };
        each(words_, codes, found, [](std::size_t) {}, is_there);
    }

    void remove(Codes codes, bool* removed) override {
        const auto forget = [this](std::size_t count) { size_ -= count; };
        each(words_, codes, removed, forget, [](std::uint64_t& word, std::uint64_t bit) {
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

    // Tells `counted`, a batch at a time, for how many codes `look` was true.
    template <class Words, class Counted, class Look>
    void each(Words& words, Codes codes, bool* out, Counted counted, Look look) const {
        std::array<std::uint64_t, batch> indices;
        for (std::size_t first = 0; first < codes.rows; first += batch) {
            const std::size_t count = std::min(batch, codes.rows - first);
            indexer_(codes.slice(first, count), indices.data());
            if (std::any_of(indices.data(), indices.data() + count, [this](auto index) { return index > last_; })) {
                on_changed_codes();
            }
            counted(look_at_bits(words.data(), indices.data(), count, out + first, look));
        }
    }

    template <class Word, class Look>
    static std::size_t look_at_bits(Word* words, const std::uint64_t* indices, std::size_t count, bool* out,
                                    Look look) {
        std::size_t total = 0;
        for (std::size_t i = 0; i < count; ++i) {
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
