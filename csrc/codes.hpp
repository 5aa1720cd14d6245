// Views of a batch of NCodes: `rows` codes of `length` digits each, row after row.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ncode {

using Digit = std::uint8_t;

struct Codes {
    const Digit* data;
    std::size_t rows;
    std::size_t length;

    const Digit* row(std::size_t index) const { return data + index * length; }
    Codes slice(std::size_t first, std::size_t count) const { return {row(first), count, length}; }
};

struct CodesOut {
    Digit* data;
    std::size_t rows;
    std::size_t length;

    Digit* row(std::size_t index) const { return data + index * length; }
    std::size_t bytes() const { return rows * length; }
    operator Codes() const { return {data, rows, length}; }
};

}  // namespace ncode
