// Texts of codes: one character a position, see alphabet.hpp.
#pragma once

#include "alphabet.hpp"
#include "space.hpp"

namespace ncode {

// The digit of a character of any width, or no_digit.
template <class Character>
Digit digit_of(Character character) {
    return character < 128 ? digit_of_character[character] : no_digit;
}

// Reads space.length() unsigned characters into `row`. Returns the first position whose character is no option there, or
// the length; what is behind that position is not written.
template <class Character>
std::size_t read_text(const Space& space, const Character* text, Digit* row) {
    std::size_t p = 0;
    for (; p < space.length(); ++p) {
        const Digit digit = digit_of(text[p]);
        if (digit >= space.sizes()[p]) {
            break;
        }
        row[p] = digit;
    }
    return p;
}

// Digits of no space give some character, never undefined behaviour.
inline void write_text(const Digit* row, std::size_t length, std::uint8_t* text) {
    for (std::size_t p = 0; p < length; ++p) {
        text[p] = static_cast<std::uint8_t>(alphabet[row[p] % max_options]);
    }
}

}  // namespace ncode
