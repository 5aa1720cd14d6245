// One shard of a set of packed keys: an open-addressing table made for sets far larger than the caches.
//
// * A slot holds the bytes of a key and nothing else. Zero means empty; the set above keeps the zero key itself.
// * Slots form buckets of about a cache line. A bucket fills from its start, and a key goes to the first bucket with
//   room from its home on, so a search ends at the first bucket that is not full: one cache miss at the usual fill.
// * A bucket is searched without branches, because which slot matches cannot be predicted.
// * The home grows with the hash. Growing walks the old table in the order of the new one: two streams, no random
//   access. A table that is told how many keys to expect grows in larger steps, so that each key moves less often.
// * Removal pulls a later key into the hole where one belongs there, so there are no tombstones.
#pragma once

#include <algorithm>
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

// N: words of a key. Width: bytes of a slot if they are known when this is compiled, or 0: known widths are faster.
template <std::size_t N, std::size_t Width>
class KeyTable {
public:
    // `stagger`: 0..7, see grow().
    KeyTable(std::size_t key_bytes, std::size_t stagger) : any_width_(key_bytes), stagger_(stagger) {}

    std::size_t size() const { return size_; }
    std::size_t nbytes() const { return bucket_count_ == 0 ? 0 : allocation(bucket_count_); }

    // Further keys to expect: a guess, which growth follows up to a point. 0 when there is none.
    void expect(std::size_t more) { expected_ = size_ + more; }

    // Gives back the memory that keys which did not come were expected to need.
    void trim() {
        if (size_ < limit_ / 2 && bucket_count_ >= first_staggered) {
            rehash(step_for(size_ + 1, 0));
        }
    }

    void prefetch(std::uint64_t hash) const {
        if (bucket_count_ != 0) {
            const std::uint8_t* first = bucket(home(hash));
            __builtin_prefetch(first);
            __builtin_prefetch(first + bucket_slots * width() - 1);
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
        close_hole({place.bucket, slot_of(place.bucket, key), true});
        --size_;
        return true;
    }

    template <class Visit>
    void for_each(Visit visit) const {
        for (std::size_t b = 0; b < bucket_count_; ++b) {
            for (std::size_t i = 0, count = bucket_fill(b); i < count; ++i) {
                visit(load(bucket(b) + i * width()));
            }
        }
    }

private:
    static constexpr std::size_t bucket_slots = N == 1 ? 8 : 4;
    static constexpr std::size_t first_staggered = 16;  // buckets
    static constexpr std::size_t most_growth = 8;       // at once, however many keys are expected
    static constexpr std::size_t little = 512;          // keys that are expected to need no memory to speak of

    struct Place {
        std::size_t bucket;
        std::size_t slot;  // the first empty one if the key was not found
        bool found;
    };

    constexpr std::size_t width() const { return Width != 0 ? Width : any_width_; }

    // The last word of a slot, and the bytes of it that belong to the slot.
    constexpr std::size_t top() const { return N == 1 ? 0 : (width() - 1) / 8; }
    constexpr std::uint64_t top_mask() const { return low_mask(static_cast<unsigned>(8 * (width() - 8 * top()))); }

    // Slots are read as whole words, so the last one needs seven bytes after it.
    std::size_t allocation(std::size_t buckets) const { return buckets * bucket_slots * width() + 8; }

    std::size_t home(std::uint64_t hash) const {
        return static_cast<std::size_t>(high64(uint128{hash} * bucket_count_));
    }

    std::size_t after(std::size_t b) const { return b + 1 == bucket_count_ ? 0 : b + 1; }
    std::uint8_t* bucket(std::size_t b) const { return bytes_.get() + b * bucket_slots * width(); }
    std::uint8_t* slot(const Place& place) const { return bucket(place.bucket) + place.slot * width(); }

    Key<N> load(const std::uint8_t* slot) const {
        Key<N> key{};
        for (std::size_t w = 0; w < top(); ++w) {
            key[w] = load_word(slot + 8 * w);
        }
        key[top()] = load_word(slot + 8 * top()) & top_mask();
        return key;
    }

    // The last word is written whole, with the bytes that are there behind the slot.
    void store(std::uint8_t* slot, const Key<N>& key) const {
        for (std::size_t w = 0; w < top(); ++w) {
            store_word(slot + 8 * w, key[w]);
        }
        std::uint8_t* last = slot + 8 * top();
        store_word(last, (load_word(last) & ~top_mask()) | key[top()]);
    }

    Place find(const Key<N>& key, std::uint64_t hash) const {
        for (std::size_t b = home(hash);; b = after(b)) {
            if (bucket_has(bucket(b), key)) {
                return {b, 0, true};
            }
            const std::size_t fill = bucket_fill(b);
            if (fill < bucket_slots) {
                return {b, fill, false};
            }
        }
    }

    bool bucket_has(const std::uint8_t* slots, const Key<N>& key) const {
        bool found = false;
        for (std::size_t i = 0; i < bucket_slots; ++i) {
            found |= load(slots + i * width()) == key;
        }
        return found;
    }

    std::size_t slot_of(std::size_t b, const Key<N>& key) const {
        std::size_t i = 0;
        while (load(bucket(b) + i * width()) != key) {
            ++i;
        }
        return i;
    }

    // Full slots come first, so their number is found by halves.
    std::size_t bucket_fill(std::size_t b) const {
        const auto full = [this, slots = bucket(b)](std::size_t i) { return load(slots + i * width()) != Key<N>{}; };
        if (full(bucket_slots - 1)) {
            return bucket_slots;
        }
        std::size_t fill = 0;
        for (std::size_t step = bucket_slots / 2; step > 0; step /= 2) {
            fill += step * static_cast<std::size_t>(full(fill + step - 1));  // no branch: it cannot be predicted
        }
        return fill;
    }

    void grow() { rehash(step_for(std::min(expected_, std::max(most_growth * size_, little)), next_step(bucket_count_))); }

    void rehash(std::size_t buckets) {
        KeyTable other(width(), stagger_);
        other.allocate(buckets);
        Appender append(other);
        for_each(append);
        other.size_ = size_;
        other.expected_ = expected_;
        *this = std::move(other);
    }

    // Numbers of buckets grow by a half. Shards have about the same number of keys; staggered, they do not all have just
    // grown at the same time, and the set's memory stays close to the average fill.
    std::size_t next_step(std::size_t buckets) const {
        if (buckets < first_staggered / 2) {
            return 2 * buckets + 1;
        }
        return buckets < first_staggered ? first_staggered + stagger_ : buckets + buckets / 2;
    }

    // The first step from `buckets` on with room for so many keys.
    std::size_t step_for(std::size_t keys, std::size_t buckets) const {
        while (most_keys(buckets) < keys) {
            buckets = next_step(buckets);
        }
        return buckets;
    }

    static constexpr std::size_t most_keys(std::size_t buckets) { return buckets * bucket_slots * 15 / 16; }

    // Inserts keys that are known to be new. Keys with the same home mostly follow each other, so it remembers where
    // the last one went.
    class Appender {
    public:
        explicit Appender(KeyTable& table) : table_(table) {}

        void operator()(const Key<N>& key) {
            const std::size_t home = table_.home(table_hash_in_shard(key));
            if (home != home_) {
                home_ = bucket_ = home;
                fill_ = table_.bucket_fill(home);
            }
            while (fill_ == bucket_slots) {
                bucket_ = table_.after(bucket_);
                fill_ = table_.bucket_fill(bucket_);
            }
            table_.store(table_.slot({bucket_, fill_++, false}), key);
        }

    private:
        KeyTable& table_;
        std::size_t home_ = ~std::size_t{0};
        std::size_t bucket_ = 0;
        std::size_t fill_ = 0;
    };

    void allocate(std::size_t buckets) {
        bytes_.reset(static_cast<std::uint8_t*>(::operator new(allocation(buckets), std::align_val_t{64})));
        std::memset(bytes_.get(), 0, allocation(buckets));
        bucket_count_ = buckets;
        limit_ = most_keys(buckets);
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
            std::memcpy(bucket(b) + (bucket_slots - 1) * width(), bucket(next) + mover * width(), width());
            was_full = take_last(next, mover);
            b = next;
        }
    }

    // Returns whether the bucket was full before.
    bool take_last(std::size_t b, std::size_t hole) {
        const std::size_t last = bucket_fill(b) - 1;
        std::memmove(bucket(b) + hole * width(), bucket(b) + last * width(), width());
        std::memset(bucket(b) + last * width(), 0, width());
        return last + 1 == bucket_slots;
    }

    // A slot of bucket `from` whose key may as well lie in bucket `to`, or bucket_slots.
    std::size_t find_mover(std::size_t to, std::size_t from) const {
        const std::size_t count = bucket_fill(from);
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t start = home(table_hash_in_shard(load(bucket(from) + i * width())));
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
    std::size_t expected_ = 0;  // keys, the present ones included
    std::size_t any_width_;
    std::size_t stagger_;
};

}  // namespace ncode
