#include <algorithm>
#include <utility>

#include "code_store.hpp"
#include "key_table.hpp"

namespace ncode {
namespace {

// Shards grow one at a time, so the set never holds an old and a new copy of more than a small part of its keys.
template <std::size_t N, std::size_t Width>
class SparseStore final : public CodeStore {
    using Table = KeyTable<N, Width>;
    static constexpr unsigned shard_bits = Table::shard_bits;

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

    void expect(std::size_t more) override {
        for (auto& table : shards_) {
            table.expect(more / shards_.size());
        }
    }

    void trim() override {
        try {
            for (auto& table : shards_) {
                table.trim();
            }
        } catch (const std::bad_alloc&) {  // a table stays as large as it is; what was inserted is in it
        }
    }

    std::size_t size() const override {
        std::size_t total = has_zero_ ? 1 : 0;
        for (const auto& table : shards_) {
            total += table.size();
        }
        return total;
    }

    std::size_t nbytes() const override {
        std::size_t total = shards_.size() * sizeof(Table);
        for (const auto& table : shards_) {
            total += table.nbytes();
        }
        return total;
    }

    std::unique_ptr<CodeStore> to_dense(const Space& space) const override {
        auto dense = make_dense_store(space);
        std::vector<Digit> rows(batch * length_);
        std::array<bool, batch> fresh;
        std::size_t count = 0;
        const auto flush = [&] { dense->insert({rows.data(), std::exchange(count, 0), length_}, fresh.data()); };
        const auto add = [&](const Key<N>& key) {
            packer_.template unpack<N>(key, rows.data() + count * length_);
            if (++count == batch) {
                flush();
            }
        };
        for_each(add);
        flush();
        return dense;
    }

private:
    static constexpr std::size_t batch = Packer::max_rows;

    static std::vector<Table> make_shards(std::size_t key_bytes) {
        std::vector<Table> shards;
        for (std::size_t i = 0; i < (std::size_t{1} << shard_bits); ++i) {
            shards.emplace_back(key_bytes, i % 8);
        }
        return shards;
    }

    static std::uint64_t in_shard(std::uint64_t hash) { return hash << shard_bits; }
    const Table& shard(std::uint64_t hash) const { return shards_[hash >> (64 - shard_bits)]; }
    Table& shard(std::uint64_t hash) { return shards_[hash >> (64 - shard_bits)]; }

    template <class Visit>
    void for_each(Visit visit) const {
        if (has_zero_) {
            visit(Key<N>{});
        }
        for (const auto& table : shards_) {
            table.for_each(visit);
        }
    }

    // Packs and hashes a few dozen codes and asks for their cache lines before it looks at any of them, so that the
    // waits for memory overlap.
    template <class Look>
    void each(Codes codes, bool* out, Look look) const {
        std::array<Key<N>, batch> keys;
        std::array<std::uint64_t, batch> hashes;
        for (std::size_t first = 0; first < codes.rows; first += batch) {
            const Codes part = codes.slice(first, std::min(batch, codes.rows - first));
            packer_.pack(part, keys.data());
            for (std::size_t i = 0; i < part.rows; ++i) {
                hashes[i] = table_hash(keys[i]);
                shard(hashes[i]).prefetch(in_shard(hashes[i]));
            }
            for (std::size_t i = 0; i < part.rows; ++i) {
                out[first + i] = look(keys[i], hashes[i]);
            }
        }
    }

    Packer packer_;
    std::size_t length_;
    std::vector<Table> shards_;
    bool has_zero_ = false;
};

// Slots of a whole number of words, and those of 4 bytes, are compiled for their width.
template <std::size_t N>
std::unique_ptr<CodeStore> make_store(const Space& space, std::size_t bytes) {
    if (bytes == 8 * N) {
        return std::make_unique<SparseStore<N, 8 * N>>(space);
    }
    return std::make_unique<SparseStore<N, 0>>(space);
}

}  // namespace

std::unique_ptr<CodeStore> make_sparse_store(const Space& space) {
    const std::size_t bytes = Packer(space).bytes();
    if (bytes == 4) {
        return std::make_unique<SparseStore<1, 4>>(space);
    }
    if (bytes <= 8) {
        return make_store<1>(space, bytes);
    }
    if (bytes <= 16) {
        return make_store<2>(space, bytes);
    }
    if (bytes <= 32) {
        return make_store<4>(space, bytes);
    }
    if (bytes <= 64) {
        return make_store<8>(space, bytes);
    }
    return make_store<24>(space, bytes);  // 256 positions of 6 bits
}

}  // namespace ncode
