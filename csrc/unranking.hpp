// Indices -> codes in a space of at most 2**64, a table of digits for every few positions: a multiplication and a
// look-up replace a division for each position.
#pragma once

#include <vector>

#include "space.hpp"

namespace ncode {

class Unranker {
public:
    explicit Unranker(const Space& space);  // space.last_index() < 2**64

    // indices: (out.rows,). False, with `out` half written, where one is beyond space.last_index().
    [[nodiscard]] bool operator()(const std::uint64_t* indices, CodesOut out) const;

    // Up to eight neighbouring positions.
    struct Group {
        std::size_t first;
        std::size_t length;
        unsigned half_bits;     // of the word: a shift by all 64 bits at once is not defined
        std::uint64_t size;     // product of the positions' options, at most most_rows if they are several
        std::uint64_t inverse;  // 2**64 / size, rounded up where exact_
        std::size_t table;      // of its first row in digits_
    };

private:
    void add_group(std::size_t first, std::size_t last);
    std::size_t table_of(std::size_t first, std::size_t last);
    void set_inverses();
    void append_digit(std::size_t table, std::uint64_t options, std::size_t shift);
    bool write_whole_words(const std::uint64_t* indices, CodesOut out) const;  // up to 7 bytes behind the last row

    const std::vector<Digit> sizes_;
    const std::uint64_t last_;
    bool exact_ = false;                 // quotients by the inverses need no correction
    std::vector<Group> groups_;          // the last positions first
    std::vector<std::uint64_t> digits_;  // rows of the groups' tables, digit 0 lowest
};

// The codes of many indices in a space of at most 2**64, the fastest way for so many. False, with `out` half written,
// where an index is beyond space.last_index().
[[nodiscard]] bool write_codes(const Space& space, const std::uint64_t* indices, CodesOut out);

}  // namespace ncode
