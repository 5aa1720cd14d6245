#include <stdexcept>

#include "code_store.hpp"
#include "indexing.hpp"

namespace ncode {
namespace {

class DenseStore final : public CodeStore {
public:
    explicit DenseStore(const Space& space)
        : indexer_(space), last_(low64(space.require_last_index())), words_(last_ / 64 + 1), space_(space) {}

    void insert(Codes codes, bool* fresh) override {
        for (std::size_t i = 0; i < codes.rows; ++i) {
            const std::uint64_t index = checked_index(codes.row(i));
            std::uint64_t& word = words_[index / 64];
            fresh[i] = (word >> (index % 64) & 1) == 0;
            word |= std::uint64_t{1} << (index % 64);
            size_ += fresh[i] ? 1 : 0;
        }
    }

    void contains(Codes codes, bool* found) const override {
        for (std::size_t i = 0; i < codes.rows; ++i) {
            const std::uint64_t index = checked_index(codes.row(i));
            found[i] = (words_[index / 64] >> (index % 64) & 1) != 0;
        }
    }

    void remove(Codes codes, bool* removed) override {
        for (std::size_t i = 0; i < codes.rows; ++i) {
            const std::uint64_t index = checked_index(codes.row(i));
            std::uint64_t& word = words_[index / 64];
            removed[i] = (word >> (index % 64) & 1) != 0;
            word &= ~(std::uint64_t{1} << (index % 64));
            size_ -= removed[i] ? 1 : 0;
        }
    }

    std::size_t size() const override { return size_; }
    std::size_t nbytes() const override { return words_.size() * sizeof(std::uint64_t); }

    void for_each(const std::function<void(const Digit*)>& visit) const override {
        std::vector<Digit> row(space_.length());
        for (std::uint64_t index = 0; index <= last_; ++index) {
            if ((words_[index / 64] >> (index % 64) & 1) != 0) {
                write_code(space_, index, row.data());
                visit(row.data());
            }
        }
    }

private:
    // The codes were validated, but another thread may have written to the caller's array since.
    std::uint64_t checked_index(const Digit* row) const {
        const std::uint64_t index = indexer_(row);
        if (index > last_) {
            throw std::invalid_argument("the codes changed while they were looked up");
        }
        return index;
    }

    WordIndexer indexer_;
    std::uint64_t last_;
    std::vector<std::uint64_t> words_;
    std::size_t size_ = 0;
    Space space_;
};

constexpr std::uint64_t largest_dense = std::uint64_t{1} << 43;  // codes: a terabyte

}  // namespace

std::unique_ptr<CodeStore> make_dense_store(const Space& space) { return std::make_unique<DenseStore>(space); }

std::size_t dense_store_bytes(const Space& space) {
    const auto last = space.last_index();
    return last && *last < largest_dense ? static_cast<std::size_t>(*last / 64 + 1) * 8 : never_dense;
}

}  // namespace ncode
