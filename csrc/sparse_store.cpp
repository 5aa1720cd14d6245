#include <algorithm>
#include <utility>

#include "code_store.hpp"
#include "key_table.hpp"

namespace ncode {
namespace {

// Shards grow one at a time, so the set never holds an old and a new copy of more than a small part of its keys.
template <std::size_t N>
class SparseStore final : public CodeStore {
public:
    explicit SparseStore(const Space& space)
        : packer_(space), length_(space.length()), shards_(make_shards(std::max<std::size_t>(1, packer_.bytes()))) {}

    void insert(Codes codes, bool* fresh) override {
        each(codes, fresh, [this](const Key<N>& key, std::uint64_t hash) {
            return key == Key<N>{} ? !std::exchange(has_zero_, true) : shard(hash).insert(key, in_shard(hash));
        });
    }

    void contains(Codes codes, bool* found) const override {
        each(codes, found, [this](const Key<N>& key, std::uint64_t hash) {
            return key == Key<N>{} ? has_zero_ : shard(hash).contains(key, in_shard(hash));
        });
    }

    void remove(Codes codes, bool* removed) override {
        each(codes, removed, [this](const Key<N>& key, std::uint64_t hash) {
            return key == Key<N>{} ? std::exchange(has_zero_, false) : shard(hash).remove(key, in_shard(hash));
        });
    }

    std::size_t size() const override {
        std::size_t total = has_zero_ ? 1 : 0;
        for (const auto& table : shards_) {
            total += table.size();
        }
        return total;
    }

    std::size_t nbytes() const override {
        std::size_t total = shards_.size() * sizeof(KeyTable<N>);
        for (const auto& table : shards_) {
            total += table.nbytes();
        }
        return total;
    }

    void for_each(const std::function<void(const Digit*)>& visit) const override {
        std::vector<Digit> row(length_);
        const auto visit_key = [&](const Key<N>& key) {
            packer_.template unpack<N>(key, row.data());
            visit(row.data());
        };
        if (has_zero_) {
            visit_key(Key<N>{});
        }
        for (const auto& table : shards_) {
            table.for_each(visit_key);
        }
    }

private:
    static constexpr std::size_t batch = 64;
    static constexpr unsigned shard_bits = KeyTable<N>::shard_bits;

    static std::vector<KeyTable<N>> make_shards(std::size_t key_bytes) {
        std::vector<KeyTable<N>> shards;
        for (std::size_t i = 0; i < (std::size_t{1} << shard_bits); ++i) {
            shards.emplace_back(key_bytes);
        }
        return shards;
    }

    static std::uint64_t in_shard(std::uint64_t hash) { return hash << shard_bits; }
    const KeyTable<N>& shard(std::uint64_t hash) const { return shards_[hash >> (64 - shard_bits)]; }
    KeyTable<N>& shard(std::uint64_t hash) { return shards_[hash >> (64 - shard_bits)]; }

    // Packs and hashes a few dozen codes and asks for their cache lines before it looks at any of them, so that the
    // waits for memory overlap.
    template <class Look>
    void each(Codes codes, bool* out, Look look) const {
        std::array<Key<N>, batch> keys;
        std::array<std::uint64_t, batch> hashes;
        for (std::size_t first = 0; first < codes.rows; first += batch) {
            const std::size_t count = std::min(batch, codes.rows - first);
            for (std::size_t i = 0; i < count; ++i) {
                keys[i] = packer_.template pack<N>(codes.row(first + i));
                hashes[i] = table_hash(keys[i]);
                shard(hashes[i]).prefetch(in_shard(hashes[i]));
            }
            for (std::size_t i = 0; i < count; ++i) {
                out[first + i] = look(keys[i], hashes[i]);
            }
        }
    }

    Packer packer_;
    std::size_t length_;
    std::vector<KeyTable<N>> shards_;
    bool has_zero_ = false;
};

}  // namespace

std::unique_ptr<CodeStore> make_sparse_store(const Space& space) {
    const std::size_t words = (Packer(space).bits() + 63) / 64;
    if (words <= 1) {
        return std::make_unique<SparseStore<1>>(space);
    }
    if (words <= 2) {
        return std::make_unique<SparseStore<2>>(space);
    }
    if (words <= 4) {
        return std::make_unique<SparseStore<4>>(space);
    }
    if (words <= 8) {
        return std::make_unique<SparseStore<8>>(space);
    }
    return std::make_unique<SparseStore<24>>(space);  // 256 positions of 6 bits
}

}  // namespace ncode
