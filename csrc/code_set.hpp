// A set of codes that reports, for a whole batch, which of them are new.
#pragma once

#include <memory>
#include <mutex>
#include <shared_mutex>

#include "code_store.hpp"
#include "space.hpp"

namespace ncode {

// Safe to call from several threads: look-ups run side by side, a change waits until it is alone. Every method checks
// its whole batch before it looks at the set (std::invalid_argument), so a wrong code changes nothing.
class CodeSet {
public:
    explicit CodeSet(std::shared_ptr<const Space> space);

    // fresh[i]: code i was not in the set and not among the codes before it.
    void insert(Codes codes, bool* fresh);
    void contains(Codes codes, bool* found) const;

    // removed[i]: code i was in the set and not among the codes before it.
    void remove(Codes codes, bool* removed);

    void clear();
    std::size_t size() const;
    std::size_t nbytes() const;

private:
    void insert_part(Codes part, bool* fresh, std::size_t left);
    void become_dense();

    std::shared_ptr<const Space> space_;
    std::size_t dense_bytes_;  // of a bit for every code of the space
    std::unique_ptr<CodeStore> store_;
    mutable std::shared_mutex mutex_;
};

}  // namespace ncode
