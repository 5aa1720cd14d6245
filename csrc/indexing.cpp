#include "indexing.hpp"

#include <algorithm>

namespace ncode {

uint128 index_of(const Space& space, const Digit* row) {
    uint128 index = 0;
    for (std::size_t i = 0; i < space.length(); ++i) {
        index = index * space.sizes()[i] + row[i];
    }
    return index;
}

void write_code(const Space& space, uint128 index, Digit* row) {
    const auto& sizes = space.sizes();
    std::size_t i = sizes.size();
    for (; i > 0 && high64(index) != 0; --i) {  // 128-bit division is slow: only as long as it is needed
        row[i - 1] = static_cast<Digit>(index % sizes[i - 1]);
        index /= sizes[i - 1];
    }
    std::uint64_t rest = low64(index);
    for (; i > 0; --i) {
        row[i - 1] = static_cast<Digit>(rest % sizes[i - 1]);
        rest /= sizes[i - 1];
    }
}

WordIndexer::WordIndexer(const Space& space) : sizes_(space.sizes()) {
    for (std::size_t begin = 0; begin < sizes_.size(); begin += 8) {
        groups_.push_back(make_group(begin, std::min(begin + 8, sizes_.size())));
    }
}

// A group of fewer than eight is moved to the end of its word; the places before it count as positions whose digit is 0.
WordIndexer::Group WordIndexer::make_group(std::size_t begin, std::size_t end) const {
    const std::size_t missing = 8 - (end - begin);
    const auto first = sizes_.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto last = sizes_.begin() + static_cast<std::ptrdiff_t>(end);
    const bool uniform = std::all_of(first, last, [&](Digit size) { return size == *first; });
    Group group{begin - std::min(begin, missing), ~std::uint64_t{0} << (8 * missing), uniform ? *first : 0U, 1, {}};
    group.sizes.fill(1);
    std::copy(first, last, group.sizes.begin() + static_cast<std::ptrdiff_t>(missing));
    for (const Digit size : group.sizes) {
        group.size *= size;
    }
    return group;
}

}  // namespace ncode
