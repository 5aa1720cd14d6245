// Hash sets of C++ libraries behind a C interface, for benchmarks/core/cpp_peers.py. They are used as their users use
// them: codes are packed or copied into a key one by one, and the set grows as it likes.
#include <absl/container/flat_hash_set.h>

#include <array>
#include <boost/unordered/unordered_flat_set.hpp>
#include <cstdint>
#include <cstring>
#include <memory>

namespace {

std::size_t allocated = 0;

// Counts the bytes that a set holds.
template <class T>
struct Counting {
    using value_type = T;
    Counting() = default;
    template <class U>
    Counting(const Counting<U>&) {}
    T* allocate(std::size_t n) {
        allocated += n * sizeof(T);
        return std::allocator<T>().allocate(n);
    }
    void deallocate(T* at, std::size_t n) {
        allocated -= n * sizeof(T);
        std::allocator<T>().deallocate(at, n);
    }
    friend bool operator==(const Counting&, const Counting&) { return true; }
};

constexpr std::size_t length = NCODE_LENGTH;
constexpr unsigned bits = NCODE_BITS;

struct Packed {
    using Key = std::uint64_t;
    static Key of(const std::uint8_t* code) {
        static_assert(length * bits <= 64);
        Key key = 0;
        for (std::size_t i = 0; i < length; ++i) {
            key |= std::uint64_t{code[i]} << (bits * i);
        }
        return key;
    }
};

struct Bytes {
    using Key = std::array<std::uint8_t, length>;
    static Key of(const std::uint8_t* code) {
        Key key;
        std::memcpy(key.data(), code, length);
        return key;
    }
};

struct Peer {
    virtual ~Peer() = default;
    virtual void insert(const std::uint8_t* codes, std::size_t rows, bool* fresh) = 0;
};

template <class Set, class Pack>
struct PeerOf final : Peer {
    void insert(const std::uint8_t* codes, std::size_t rows, bool* fresh) override {
        for (std::size_t i = 0; i < rows; ++i) {
            fresh[i] = set.insert(Pack::of(codes + i * length)).second;
        }
    }
    Set set;
};

template <class Key>
using Absl = absl::flat_hash_set<Key, absl::Hash<Key>, std::equal_to<Key>, Counting<Key>>;
template <class Key>
using Boost = boost::unordered_flat_set<Key, boost::hash<Key>, std::equal_to<Key>, Counting<Key>>;

}  // namespace

extern "C" {

Peer* make_peer(int kind) {
    switch (kind) {
        case 0: return new PeerOf<Absl<Packed::Key>, Packed>;
        case 1: return new PeerOf<Absl<Bytes::Key>, Bytes>;
        case 2: return new PeerOf<Boost<Packed::Key>, Packed>;
        default: return nullptr;
    }
}

void insert(Peer* peer, const std::uint8_t* codes, std::size_t rows, bool* fresh) { peer->insert(codes, rows, fresh); }
void free_peer(Peer* peer) { delete peer; }
std::size_t peer_bytes() { return allocated; }
}
