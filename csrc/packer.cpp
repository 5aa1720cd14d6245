#include "packer.hpp"

#include <algorithm>
#include <bit>

namespace ncode {

Packer::Packer(const Space& space) {
    for (const Digit size : space.sizes()) {
        widths_.push_back(static_cast<unsigned>(std::bit_width(size - 1U)));
    }
    for (std::size_t begin = 0; begin < widths_.size(); begin += 8) {
        add_group(begin, std::min(begin + 8, widths_.size()));
    }
}

// The last group of a row of at least eight positions is read as the row's last whole word.
void Packer::add_group(std::size_t begin, std::size_t end) {
    const std::size_t missing = 8 - (end - begin);
    const std::size_t back = std::min(begin, missing);
    Group group{begin - back, static_cast<unsigned>(8 * back), widths_[begin], 0, bits_, {}};
    for (std::size_t p = begin; p < end; ++p) {
        group.widths[p - begin] = widths_[p];
        group.bits += widths_[p];
        group.width = widths_[p] == group.width ? group.width : 0;
    }
    if (group.bits > 0) {
        groups_.push_back(group);
    }
    bits_ += group.bits;
}

}  // namespace ncode
