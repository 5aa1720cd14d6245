#include "code_set.hpp"

#include <algorithm>

namespace ncode {
namespace {

constexpr std::size_t small_bytes = 4096;  // what an empty sparse store takes anyway
constexpr std::size_t first_step = 256;    // codes before the first look at how many of them are new
constexpr std::size_t most_step = 8192;    // codes between looks at the store's size

std::unique_ptr<CodeStore> make_empty_store(const Space& space, std::size_t dense_bytes) {
    return dense_bytes <= small_bytes ? make_dense_store(space) : make_sparse_store(space);
}

}  // namespace

CodeSet::CodeSet(std::shared_ptr<const Space> space)
    : space_(std::move(space)),
      dense_bytes_(dense_store_bytes(*space_)),
      store_(make_empty_store(*space_, dense_bytes_)) {}

void CodeSet::insert(Codes codes, bool* fresh) {
    space_->validate(codes);
    const std::lock_guard lock(mutex_);
    if (codes.rows >= dense_bytes_) {  // no larger than the mask: not worth starting with a table
        become_dense();
    }
    std::size_t step = first_step;
    for (std::size_t first = 0; first < codes.rows; step = std::min(2 * step, most_step)) {
        const std::size_t count = std::min(step, codes.rows - first);
        insert_part(codes.slice(first, count), fresh + first, codes.rows - first - count);
        first += count;
    }
    store_->trim();
}

// `left`: codes of the batch behind this part. They are taken to bring about as many new ones as this part did.
void CodeSet::insert_part(Codes part, bool* fresh, std::size_t left) {
    const std::size_t before = store_->size();
    store_->insert(part, fresh);
    if (store_->nbytes() > dense_bytes_) {
        become_dense();
    }
    const double share = static_cast<double>(store_->size() - before) / static_cast<double>(part.rows);
    store_->expect(static_cast<std::size_t>(share * static_cast<double>(left)));
}

void CodeSet::contains(Codes codes, bool* found) const {
    space_->validate(codes);
    const std::shared_lock lock(mutex_);
    store_->contains(codes, found);
}

void CodeSet::remove(Codes codes, bool* removed) {
    space_->validate(codes);
    const std::lock_guard lock(mutex_);
    store_->remove(codes, removed);
}

void CodeSet::clear() {
    const std::lock_guard lock(mutex_);
    store_ = make_empty_store(*space_, dense_bytes_);
}

std::size_t CodeSet::size() const {
    const std::shared_lock lock(mutex_);
    return store_->size();
}

std::size_t CodeSet::nbytes() const {
    const std::shared_lock lock(mutex_);
    return store_->nbytes();
}

void CodeSet::become_dense() {
    if (auto dense = store_->to_dense(*space_)) {
        store_ = std::move(dense);
    }
}

}  // namespace ncode
