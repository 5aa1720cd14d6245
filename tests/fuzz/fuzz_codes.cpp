// Fuzz target: any bytes as a space and as texts, indices and codes of it, against the slow way of slow.hpp.
//
// The bytes (test_corpus.py reads them too): positions less one; k, then 1 + k % 16 bytes of options, which repeat over
// the positions (255: none, 254: one too many, else 1 + b % 64); all that follow are a text of one-byte characters, of
// two-byte and four-byte ones, an index (16 bytes, little-endian), and a batch of codes, as they are and cut to the space.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <set>
#include <stdexcept>

#include "code_set.hpp"
#include "enumeration.hpp"
#include "hash.hpp"
#include "indexing.hpp"
#include "slow.hpp"
#include "text.hpp"

namespace {

using ncode::Codes;
using ncode::Digit;
using ncode::Space;
using slow::Code;

constexpr std::size_t most_rows = 40;

void check(bool holds, const char* what) {
    if (!holds) {
        std::fprintf(stderr, "wrong: %s\n", what);
        std::abort();
    }
}

struct Input {
    std::vector<long long> sizes;
    std::vector<std::uint8_t> rest;
};

Input parse(const std::uint8_t* data, std::size_t size) {
    const auto byte = [&](std::size_t at) { return at < size ? data[at] : std::uint8_t{0}; };
    Input input;
    const std::size_t given = 1 + byte(1) % 16;
    for (std::size_t p = 0; p < byte(0) + std::size_t{1}; ++p) {
        const auto options = byte(2 + p % given);
        input.sizes.push_back(options == 255 ? 0 : options == 254 ? 65 : 1 + options % 64);
    }
    input.rest.assign(data + std::min(size, 2 + given), data + size);
    return input;
}

ncode::uint128 to_uint128(const slow::Number& number) {
    ncode::uint128 value = 0;
    for (std::size_t i = 16; i-- > 0;) {
        value = value << 8 | number.byte(i);
    }
    return value;
}

// The sanitizers see a read behind a text's end, because it is copied to the length that it has.
template <class Character>
void check_text(const Space& space, const std::vector<std::uint8_t>& rest) {
    const std::size_t length = space.length();
    std::vector<Character> text(length, 'x');
    for (std::size_t p = 0; p < std::min(length, rest.size() / sizeof(Character)); ++p) {
        std::memcpy(&text[p], rest.data() + p * sizeof(Character), sizeof(Character));
    }
    std::size_t right = 0;
    Code expected;
    for (; right < length; ++right) {
        const auto digit = text[right] < 128 ? slow::alphabet.find(static_cast<char>(text[right])) : std::string::npos;
        if (digit == std::string::npos || digit >= space.sizes()[right]) {
            break;
        }
        expected.push_back(static_cast<std::uint8_t>(digit));
    }
    Code row(length);
    check(ncode::read_text(space, text.data(), row.data()) == right, "where a text is no code");
    row.resize(right);
    check(row == expected, "the code of a text");
    std::vector<std::uint8_t> written(right);
    ncode::write_text(row.data(), right, written.data());
    check(std::equal(written.begin(), written.end(), text.begin()), "the text of a code");
}

void check_size(const Space& space) {
    const slow::Number last = slow::last_index(space.sizes());
    const auto given = space.last_index();
    check(given.has_value() == (last.bytes() <= 16), "which spaces have an index");
    check(!given || *given == to_uint128(last), "the last index");
}

void check_index(const Space& space, const std::vector<std::uint8_t>& rest) {
    const std::vector<std::uint8_t> bytes(rest.begin(), rest.begin() + static_cast<long>(std::min<std::size_t>(16, rest.size())));
    slow::Number number(bytes);
    const auto index = to_uint128(number);
    const Code expected = slow::code_at(space.sizes(), number);
    if (!space.last_index()) {
        return;
    }
    check((index <= *space.last_index()) == (number == slow::Number()), "which indices are in the space");
    const std::size_t rows = index > *space.last_index() ? 0 : static_cast<std::size_t>(std::min<ncode::uint128>(2, *space.last_index() - index)) + 1;
    check(space.rows_from(index, 3) == rows, "how many codes are left from an index on");
    if (rows == 0) {
        return;
    }
    Code code(space.length());
    ncode::write_code(space, index, code.data());
    check(code == expected, "the code of an index");
    check(ncode::index_of(space, code.data()) == index, "the index of a code");
}

// Codes as a batch that ends with its memory.
struct Batch {
    std::vector<Digit> digits;
    std::size_t length;

    std::size_t rows() const { return digits.size() / length; }
    Codes codes() const { return {digits.data(), rows(), length}; }
    Code row(std::size_t i) const { return {codes().row(i), codes().row(i) + length}; }
};

Batch batch_of(const Space& space, const std::vector<std::uint8_t>& rest) {
    const std::size_t rows = std::min(most_rows, rest.size() / space.length());
    Batch batch{{rest.begin(), rest.begin() + static_cast<long>(rows * space.length())}, space.length()};
    batch.digits.shrink_to_fit();
    return batch;
}

bool accepts(const Space& space, Codes codes) {
    try {
        space.validate(codes);
        return true;
    } catch (const std::invalid_argument&) {
        return false;
    }
}

void check_validation(const Space& space, const Batch& batch) {
    bool valid = true;
    for (std::size_t i = 0; i < batch.rows(); ++i) {
        valid = valid && slow::is_valid(space.sizes(), batch.codes().row(i));
    }
    check(accepts(space, batch.codes()) == valid, "which codes are valid");
    const Codes other{batch.digits.data(), 0, space.length() + 1};
    check(!accepts(space, other), "codes of another length are refused");
}

void check_hashes(const Batch& batch) {
    std::vector<std::uint64_t> high(batch.rows());
    std::vector<std::uint64_t> both(2 * batch.rows());
    ncode::hash64(batch.codes(), high.data());
    ncode::hash128(batch.codes(), both.data());
    for (std::size_t i = 0; i < batch.rows(); ++i) {
        check(high[i] == slow::hash(batch.row(i), 0), "the 64-bit hash");
        check(both[2 * i] == high[i] && both[2 * i + 1] == slow::hash(batch.row(i), 1), "the 128-bit hash");
    }
}

void check_enumeration(const Space& space, ncode::uint128 index) {
    const std::size_t rows = space.rows_from(index, 5);
    std::vector<Digit> digits(rows * space.length());
    ncode::enumerate(space, ncode::identity_map(space.length()), index, {digits.data(), rows, space.length()});
    for (std::size_t i = 0; i < rows; ++i) {
        check(ncode::index_of(space, digits.data() + i * space.length()) == index + i, "the codes after an index");
    }
}

void check_indices(const Space& space, const Batch& batch) {
    if (!space.last_index()) {
        return;
    }
    const bool short_enough = ncode::high64(*space.last_index()) == 0;
    std::vector<std::uint64_t> words(batch.rows());
    if (short_enough) {
        ncode::WordIndexer{space}(batch.codes(), words.data());
    }
    for (std::size_t i = 0; i < batch.rows(); ++i) {
        const auto index = to_uint128(slow::index_of(space.sizes(), batch.row(i)));
        check(ncode::index_of(space, batch.codes().row(i)) == index, "the index of a code in a batch");
        check(!short_enough || words[i] == index, "the index in one word");
    }
    if (batch.rows() > 0) {
        check_enumeration(space, ncode::index_of(space, batch.codes().row(0)));
    }
}

void check_mask(const bool* mask, const std::vector<bool>& expected, const char* what) {
    for (std::size_t i = 0; i < expected.size(); ++i) {
        check(mask[i] == expected[i], what);
    }
}

// Inserts the first two thirds, asks for all, removes the last two thirds, inserts all.
void check_set(const Space& space, const Batch& batch) {
    ncode::CodeSet set(std::make_shared<Space>(space));
    std::set<Code> known;
    const std::size_t third = batch.rows() / 3;
    const auto mask = std::make_unique<bool[]>(batch.rows() + 1);
    const auto expected = [&](std::size_t first, std::size_t count, auto step) {
        std::vector<bool> result;
        for (std::size_t i = first; i < first + count; ++i) {
            result.push_back(step(batch.row(i)));
        }
        return result;
    };
    const auto insert = [&](const Code& code) { return known.insert(code).second; };
    set.insert(batch.codes().slice(0, 2 * third), mask.get());
    check_mask(mask.get(), expected(0, 2 * third, insert), "which codes are new");
    set.contains(batch.codes(), mask.get());
    check_mask(mask.get(), expected(0, batch.rows(), [&](const Code& code) { return known.contains(code); }), "which codes are in");
    set.remove(batch.codes().slice(third, batch.rows() - third), mask.get());
    check_mask(mask.get(), expected(third, batch.rows() - third, [&](const Code& code) { return known.erase(code) > 0; }), "which codes were removed");
    set.insert(batch.codes(), mask.get());
    check_mask(mask.get(), expected(0, batch.rows(), insert), "which codes are new again");
    check(set.size() == known.size(), "how many codes are in");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const Input input = parse(data, size);
    const bool valid = std::all_of(input.sizes.begin(), input.sizes.end(), [](long long s) { return s > 0 && s <= 64; });
    std::unique_ptr<Space> made;
    try {
        made = std::make_unique<Space>(input.sizes);
    } catch (const std::invalid_argument&) {
        check(!valid, "a space of valid sizes is made");
        return 0;
    }
    check(valid, "wrong sizes are refused");
    const Space& space = *made;
    check_size(space);
    check_text<std::uint8_t>(space, input.rest);
    check_text<std::uint16_t>(space, input.rest);
    check_text<std::uint32_t>(space, input.rest);
    check_index(space, input.rest);
    Batch batch = batch_of(space, input.rest);
    check_validation(space, batch);
    check_hashes(batch);
    for (std::size_t i = 0; i < batch.digits.size(); ++i) {
        batch.digits[i] = static_cast<Digit>(batch.digits[i] % space.sizes()[i % space.length()]);
    }
    check_validation(space, batch);
    check_indices(space, batch);
    check_set(space, batch);
    return 0;
}
