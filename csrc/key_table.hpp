// One shard of a set of packed keys: an open-addressing table made for sets far larger than the caches.
//
// * A slot holds the bytes of a key and nothing else. Zero means empty; the set above keeps the zero key itself.
// * Slots form buckets of about a cache line. A bucket fills from its start, and a key goes to the first bucket with
//   room from its home on, so a search ends at the first bucket that is not full: one cache miss at the usual fill.
// * A bucket is searched without branches, because which slot matches cannot be predicted.
// * The home grows with the hash. Growing walks the old table in the order of the new one: two streams, no random
//   access. So growth can be by a quarter and memory stays close to the keys.
// * Removal pulls a later key into the hole where one belongs there, so there are no tombstones.
#pragma once

#include <cstring>
#include <memory>
#include <new>

#include "packer.hpp"

namespace ncode {

template <std::size_t N>
std::uint64_t table_hash(const Key<N>& key) {
    std::uint64_t hash = 0;
    for (const std::uint64_t word : key) {
        hash = mix64(hash + word);
    }
    return hash;
}

struct AlignedDelete {
    void operator()(std::uint8_t* bytes) const { ::operator delete(bytes, std::align_val_t{64}); }
};

template <std::size_t N>
class KeyTable {
public:
    explicit KeyTable(std::size_t key_bytes) : width_(key_bytes), top_mask_(low_mask(top_bits(key_bytes))) {}

    std::size_t size() const { return size_; }
    std::size_t nbytes() const { return bucket_count_ == 0 ? 0 : allocation(bucket_count_); }

    void prefetch(std::uint64_t hash) const {
        if (bucket_count_ != 0) {
            const std::uint8_t* first = bucket(home(hash));
            __builtin_prefetch(first);
            __builtin_prefetch(first + bucket_slots * width_ - 1);
        }
    }

    bool contains(const Key<N>& key, std::uint64_t hash) const {
        return bucket_count_ != 0 && find(key, hash).found;
    }

    // Returns whether the key is new. key != 0
    bool insert(const Key<N>& key, std::uint64_t hash) {
        if (size_ == limit_) {
            grow();
        }
        const Place place = find(key, hash);
        if (place.found) {
            return false;
        }
        store(slot(place), key);
        ++size_;
        return true;
    }

    bool remove(const Key<N>& key, std::uint64_t hash) {
        if (bucket_count_ == 0) {
            return false;
        }
        const Place place = find(key, hash);
        if (!place.found) {
            return false;
        }
        close_hole(place);
        --size_;
        return true;
    }

    template <class Visit>
    void for_each(Visit visit) const {
        for (std::size_t b = 0; b < bucket_count_; ++b) {
            for (std::size_t i = 0, count = bucket_fill(b); i < count; ++i) {
                visit(load(bucket(b) + i * width_));
            }
        }
    }

private:
    static constexpr std::size_t bucket_slots = N == 1 ? 8 : 4;

    struct Place {
        std::size_t bucket;
        std::size_t slot;  // of the key, or the first empty one
        bool found;
    };

    static constexpr unsigned top_bits(std::size_t bytes) { return static_cast<unsigned>(8 * ((bytes - 1) % 8 + 1)); }

    // Slots are read as whole words, so the last one needs seven bytes after it.
    std::size_t allocation(std::size_t buckets) const { return buckets * bucket_slots * width_ + 8; }

    std::size_t home(std::uint64_t hash) const {
        return static_cast<std::size_t>(high64(uint128{hash} * bucket_count_));
    }

    std::size_t after(std::size_t b) const { return b + 1 == bucket_count_ ? 0 : b + 1; }
    std::uint8_t* bucket(std::size_t b) const { return bytes_.get() + b * bucket_slots * width_; }
    std::uint8_t* slot(const Place& place) const { return bucket(place.bucket) + place.slot * width_; }

    Key<N> load(const std::uint8_t* slot) const {
        Key<N> key{};
        const std::size_t top = N == 1 ? 0 : (width_ - 1) / 8;
        for (std::size_t w = 0; w < top; ++w) {
            key[w] = load_word(slot + 8 * w);
        }
        key[top] = load_word(slot + 8 * top) & top_mask_;
        return key;
    }

    void store(std::uint8_t* slot, const Key<N>& key) const {
        for (std::size_t i = 0; i < width_; ++i) {
            slot[i] = static_cast<std::uint8_t>(key[i / 8] >> (8 * (i % 8)));
        }
    }

    Place find(const Key<N>& key, std::uint64_t hash) const {
        for (std::size_t b = home(hash);; b = after(b)) {
            unsigned matches = 0;
            unsigned fill = 0;
            search_bucket(bucket(b), key, matches, fill);
            if (matches != 0) {
                return {b, static_cast<std::size_t>(__builtin_ctz(matches)), true};
            }
            if (fill < bucket_slots) {
                return {b, fill, false};
            }
        }
    }

    void search_bucket(const std::uint8_t* slots, const Key<N>& key, unsigned& matches, unsigned& fill) const {
        for (std::size_t i = 0; i < bucket_slots; ++i) {
            const Key<N> found = load(slots + i * width_);
            matches |= static_cast<unsigned>(found == key) << i;
            fill += static_cast<unsigned>(found != Key<N>{});
        }
    }

    unsigned bucket_fill(std::size_t b) const {
        unsigned matches = 0;
        unsigned fill = 0;
        search_bucket(bucket(b), Key<N>{}, matches, fill);
        return fill;
    }

    void grow() {
        KeyTable larger(width_);
        larger.allocate(bucket_count_ < 16 ? 2 * bucket_count_ + 1 : bucket_count_ + bucket_count_ / 4);
        for_each([&](const Key<N>& key) { larger.insert(key, table_hash_in_shard(key)); });
        *this = std::move(larger);
    }

    void allocate(std::size_t buckets) {
        bytes_.reset(static_cast<std::uint8_t*>(::operator new(allocation(buckets), std::align_val_t{64})));
        std::memset(bytes_.get(), 0, allocation(buckets));
        bucket_count_ = buckets;
        limit_ = buckets * bucket_slots * 9 / 10;
    }

    // The last key of the bucket fills the hole. If the bucket was full, later buckets may hold a key that only went
    // there because of that; the first such key moves here and leaves a hole of its own.
    void close_hole(Place hole) {
        std::size_t b = hole.bucket;
        bool was_full = take_last(b, hole.slot);
        for (std::size_t next = after(b); was_full; next = after(next)) {
            const std::size_t mover = find_mover(b, next);
            if (mover == bucket_slots) {
                was_full = bucket_fill(next) == bucket_slots;
                continue;
            }
            std::memcpy(bucket(b) + (bucket_slots - 1) * width_, bucket(next) + mover * width_, width_);
            was_full = take_last(next, mover);
            b = next;
        }
    }

    // Returns whether the bucket was full before.
    bool take_last(std::size_t b, std::size_t hole) {
        const std::size_t last = bucket_fill(b) - 1;
        std::memmove(bucket(b) + hole * width_, bucket(b) + last * width_, width_);
        std::memset(bucket(b) + last * width_, 0, width_);
        return last + 1 == bucket_slots;
    }

    // A slot of bucket `from` whose key may as well lie in bucket `to`, or bucket_slots.
    std::size_t find_mover(std::size_t to, std::size_t from) const {
        const std::size_t count = bucket_fill(from);
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t start = home(table_hash_in_shard(load(bucket(from) + i * width_)));
            if (distance(start, from) >= distance(to, from)) {
                return i;
            }
        }
        return bucket_slots;
    }

    std::size_t distance(std::size_t first, std::size_t last) const {
        return last >= first ? last - first : last + bucket_count_ - first;
    }

public:
    // The highest bits choose the shard, the others the place in it.
    static constexpr unsigned shard_bits = 6;
    static std::uint64_t table_hash_in_shard(const Key<N>& key) { return table_hash(key) << shard_bits; }

private:
    std::unique_ptr<std::uint8_t[], AlignedDelete> bytes_;
    std::size_t bucket_count_ = 0;
    std::size_t size_ = 0;
    std::size_t limit_ = 0;
    std::size_t width_;
    std::uint64_t top_mask_;
};

}  // namespace ncode
