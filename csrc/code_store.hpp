// The two ways in which a CodeSet holds its codes; it changes from the first to the second when that is smaller.
#pragma once

#include <limits>
#include <memory>

#include "space.hpp"

namespace ncode {

class CodeStore {
public:
    virtual ~CodeStore() = default;
    virtual void insert(Codes codes, bool* fresh) = 0;
    virtual void contains(Codes codes, bool* found) const = 0;
    virtual void remove(Codes codes, bool* removed) = 0;

    // So many further codes are expected, as a guess; `trim` gives back what a wrong one took.
    virtual void expect(std::size_t more) = 0;
    virtual void trim() = 0;

    virtual std::size_t size() const = 0;
    virtual std::size_t nbytes() const = 0;

    // The same codes in a dense store, or nothing if this is one.
    virtual std::unique_ptr<CodeStore> to_dense(const Space& space) const = 0;
};

// Hash tables of packed codes.
std::unique_ptr<CodeStore> make_sparse_store(const Space& space);

// One bit for every code of the space.
std::unique_ptr<CodeStore> make_dense_store(const Space& space);

constexpr std::size_t never_dense = std::numeric_limits<std::size_t>::max();

// Bytes of a dense store, or never_dense for a space too large for one.
std::size_t dense_store_bytes(const Space& space);

}  // namespace ncode
