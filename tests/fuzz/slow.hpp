// What the core must compute, slowly and obviously: one digit at a time, in numbers of any size. Shares nothing with it.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace slow {

using Code = std::vector<std::uint8_t>;

constexpr std::string_view alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_.";

// A natural number of any size; bytes, the lowest first, without zeros at the end.
class Number {
public:
    Number() = default;
    explicit Number(std::vector<std::uint8_t> bytes) : bytes_(std::move(bytes)) { trim(); }

    void multiply_add(unsigned factor, unsigned summand) {
        unsigned carry = summand;
        for (std::uint8_t& byte : bytes_) {
            carry += byte * factor;
            byte = static_cast<std::uint8_t>(carry & 0xff);
            carry >>= 8;
        }
        for (; carry > 0; carry >>= 8) {
            bytes_.push_back(static_cast<std::uint8_t>(carry & 0xff));
        }
        trim();
    }

    // Divides by `divisor` and returns the remainder.
    unsigned divide(unsigned divisor) {
        unsigned rest = 0;
        for (auto byte = bytes_.rbegin(); byte != bytes_.rend(); ++byte) {
            rest = rest << 8 | *byte;
            *byte = static_cast<std::uint8_t>(rest / divisor);
            rest %= divisor;
        }
        trim();
        return rest;
    }

    std::size_t bytes() const { return bytes_.size(); }
    std::uint8_t byte(std::size_t at) const { return at < bytes_.size() ? bytes_[at] : std::uint8_t{0}; }
    bool operator==(const Number&) const = default;

private:
    void trim() {
        while (!bytes_.empty() && bytes_.back() == 0) {
            bytes_.pop_back();
        }
    }

    std::vector<std::uint8_t> bytes_;
};

inline Number index_of(const Code& sizes, const Code& code) {
    Number index;
    for (std::size_t p = 0; p < sizes.size(); ++p) {
        index.multiply_add(sizes[p], code[p]);
    }
    return index;
}

inline Number last_index(const Code& sizes) {
    Code last(sizes);
    for (std::uint8_t& digit : last) {
        --digit;
    }
    return index_of(sizes, last);
}

// The code of an index; what is left of a number beyond the space stays in `index`.
inline Code code_at(const Code& sizes, Number& index) {
    Code code(sizes.size());
    for (std::size_t p = sizes.size(); p-- > 0;) {
        code[p] = static_cast<std::uint8_t>(index.divide(sizes[p]));
    }
    return code;
}

inline bool is_valid(const Code& sizes, const std::uint8_t* row) {
    for (std::size_t p = 0; p < sizes.size(); ++p) {
        if (row[p] >= sizes[p]) {
            return false;
        }
    }
    return true;
}

inline std::uint64_t mix(std::uint64_t x, int low) {
    const int shifts[2][3] = {{30, 27, 31}, {33, 33, 33}};
    const std::uint64_t factors[2][2] = {{0xbf58476d1ce4e5b9U, 0x94d049bb133111ebU},
                                         {0xff51afd7ed558ccdU, 0xc4ceb9fe1a85ec53U}};
    x = (x ^ (x >> shifts[low][0])) * factors[low][0];
    x = (x ^ (x >> shifts[low][1])) * factors[low][1];
    return x ^ (x >> shifts[low][2]);
}

inline std::uint64_t hash(const Code& code, int low) {
    std::uint64_t state = 0;
    for (const char character : std::string_view(low != 0 ? "ncode-lo" : "ncode-hi")) {
        state = state << 8 | static_cast<std::uint8_t>(character);
    }
    state = mix(state + code.size(), low);
    for (std::size_t first = 0; first < code.size(); first += 8) {
        std::uint64_t word = 0;
        for (std::size_t p = first; p < code.size() && p < first + 8; ++p) {
            word |= std::uint64_t{code[p]} << (8 * (p - first));
        }
        state = mix(state ^ word, low);
    }
    return state;
}

}  // namespace slow
