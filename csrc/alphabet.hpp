// The text of a code: one character a position.
//
// The last two characters are `_` and `.`: neither is special to a shell or in CSV, both are unreserved in URLs, and,
// unlike `+` and `-`, a text that starts with one is never taken for an option or a spreadsheet's formula.
#pragma once

#include <array>
#include <string_view>

#include "codes.hpp"

namespace ncode {

constexpr std::string_view alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_.";
constexpr Digit no_digit = 255;

// Digit of every ASCII character, or no_digit.
constexpr std::array<Digit, 128> make_digit_table() {
    std::array<Digit, 128> table{};
    table.fill(no_digit);
    for (std::size_t i = 0; i < alphabet.size(); ++i) {
        table[static_cast<unsigned char>(alphabet[i])] = static_cast<Digit>(i);
    }
    return table;
}

constexpr std::array<Digit, 128> digit_of_character = make_digit_table();

}  // namespace ncode
