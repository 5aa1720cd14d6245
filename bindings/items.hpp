// Parts of rules: tuples and numbers.
#pragma once

#include <string>

#include "python_integers.hpp"

namespace ncode::bindings {

// The items of an iterable that must have `count` of them.
inline py::tuple items_of(const py::handle& object, std::size_t count, const char* name) {
    const py::tuple items(py::reinterpret_borrow<py::object>(object));
    if (items.size() != count) {
        throw py::value_error(std::string(name) + " must have " + std::to_string(count) + " items, not " +
                              std::to_string(items.size()));
    }
    return items;
}

inline long long to_number(const py::object& object, const char* name) {
    return to_numbers(py::make_tuple(object), name)[0];
}

}  // namespace ncode::bindings
