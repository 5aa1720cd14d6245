// Python integers <-> 64- and 128-bit integers, exactly.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <vector>

#include "integers.hpp"
#include "space.hpp"

namespace ncode::bindings {

namespace py = pybind11;

py::int_ to_python(uint128 value);

// Nothing for a number of 2**128 or more; ValueError, naming it `name`, for a negative one; TypeError for no integer.
std::optional<uint128> to_uint128(const py::handle& object, const char* name);

std::uint64_t to_seed(const py::object& object);                      // ValueError unless 0..2**64-1
std::size_t to_count(const py::object& object, const char* name);     // ValueError unless 0..2**63-1
std::vector<long long> to_numbers(const py::object& object, const char* name);

// The product of a space's options: an exact Python integer of any magnitude.
py::int_ size_of(const Space& space);

// list[int] of the codes' indices.
py::list indices_to_python(const std::vector<uint128>& indices);

// ValueError naming the number in the batch unless every index is at most `last`.
std::vector<uint128> to_indices(const py::object& objects, uint128 last);

// An array (n,) of integers as words, not copied where they are words already; nothing for anything else, and where
// `last` does not fit in a word. No word is checked; negative numbers are beyond `last`.
using WordArray = py::array_t<std::uint64_t, py::array::c_style | py::array::forcecast |
                                                 py::detail::npy_api::NPY_ARRAY_ALIGNED_>;
std::optional<WordArray> to_words(const py::object& object, uint128 last);

// How many of `count` elements from `start` exist; `start` is set if any does.
std::size_t rows_from(const Space& space, const py::object& start_object, const py::object& count, uint128& start);

}  // namespace ncode::bindings
