#include <cstring>
#include <memory>

#include "arrays.hpp"
#include "draws.hpp"
#include "enumeration.hpp"
#include "indexing.hpp"
#include "space_calls.hpp"
#include "unranking.hpp"

namespace ncode::bindings {
// Copies first and checks the copy, which no other thread can change.
CodeArray valid_copy(const Space& space, const py::object& object, const char* name) {
    const CodeArray given = batch_from(object, name);
    auto copy = empty_codes(view(given).rows, view(given).length);
    const CodesOut out = view_out(copy);
    without_gil([&] {
        if (out.bytes() > 0) {
            std::memcpy(out.data, given.data(), out.bytes());
        }
        space.validate(out);
    });
    return copy;
}

void require_same_rows(const CodeArray& first, const CodeArray& second) {
    if (view(first).rows != view(second).rows) {
        throw py::value_error("first has " + std::to_string(view(first).rows) + " codes, second has " +
                              std::to_string(view(second).rows));
    }
}

py::list to_index(const Space& space, const py::object& object) {
    const CodeArray codes = batch_from(object);
    space.require_last_index();
    std::vector<uint128> indices(view(codes).rows);
    without_gil([&] {
        space.validate(view(codes));
        for (std::size_t i = 0; i < indices.size(); ++i) {
            indices[i] = index_of(space, view(codes).row(i));
        }
    });
    return indices_to_python(indices);
}

CodeArray from_index(const Space& space, const py::object& objects) {
    const uint128 last_index = space.require_last_index();
    if (const auto words = to_words(objects, last_index)) {
        auto codes = empty_codes(static_cast<std::size_t>(words->size()), space.length());
        const CodesOut out = view_out(codes);
        const std::uint64_t* indices = words->data();
        bool in_space = false;
        without_gil([&] { in_space = write_codes(space, indices, out); });
        if (in_space) {
            return codes;
        }
    }  // else the way through Python's integers names the index that is wrong
    const auto indices = to_indices(objects, last_index);
    auto codes = empty_codes(indices.size(), space.length());
    const CodesOut out = view_out(codes);
    without_gil([&] {
        for (std::size_t i = 0; i < indices.size(); ++i) {
            write_code(space, indices[i], out.row(i));
        }
    });
    return codes;
}

CodeArray enumerate_codes(const Space& space, const py::object& start, const py::object& count) {
    uint128 first = 0;
    auto codes = empty_codes(rows_from(space, start, count, first), space.length());
    const CodesOut out = view_out(codes);
    without_gil([&] { enumerate(space, identity_map(space.length()), first, out); });
    return codes;
}

CodeArray sample(const Space& space, const py::object& count, const py::object& seed, const py::object& start) {
    uint128 first = 0;
    const auto number = to_seed(seed);
    auto codes = empty_codes(rows_from(space, start, count, first), space.length());
    const CodesOut out = view_out(codes);
    without_gil([&] { draw_distinct(space, number, first, out); });
    return codes;
}

CodeArray random(const Space& space, const py::object& count, const py::object& seed) {
    const auto number = to_seed(seed);
    auto codes = empty_codes(to_count(count, "count"), space.length());
    const CodesOut out = view_out(codes);
    without_gil([&] { draw_uniform(space, number, out); });
    return codes;
}

CodeArray mutate_codes(const Space& space, const py::object& parents, const py::object& seed,
                       const py::object& changes) {
    const auto number = to_seed(seed);
    const auto amount = to_count(changes, "changes");
    auto codes = valid_copy(space, parents, "parents");
    const CodesOut out = view_out(codes);
    without_gil([&] { mutate(space, number, amount, out); });
    return codes;
}

CodeArray cross(const Space& space, const py::object& first, const py::object& second, const py::object& seed) {
    const auto number = to_seed(seed);
    auto result = valid_copy(space, first, "first");
    const auto other = valid_copy(space, second, "second");
    require_same_rows(result, other);
    const CodesOut out = view_out(result);
    without_gil([&] { crossover(out, view(other), number, out); });
    return result;
}

CodeArray neighbours_of(const Space& space, const py::object& object) {
    const CodeArray code = code_from(object);
    space.validate(view(code));
    auto codes = empty_codes(neighbour_count(space), space.length());
    const CodesOut out = view_out(codes);
    without_gil([&] { neighbours(space, code.data(), out); });
    return codes;
}

}  // namespace ncode::bindings
