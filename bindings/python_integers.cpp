#include "python_integers.hpp"

#include <pybind11/numpy.h>

#include <algorithm>
#include <string>

namespace ncode::bindings {
namespace {

py::int_ checked(PyObject* number) {
    if (number == nullptr) {
        throw py::error_already_set();
    }
    return py::reinterpret_steal<py::int_>(number);
}

py::int_ integer_from(const py::handle& object, const char* name) {
    PyObject* number = PyNumber_Index(object.ptr());
    if (number == nullptr) {
        PyErr_Clear();
        throw py::type_error(std::string(name) + " must be an integer, not " + Py_TYPE(object.ptr())->tp_name);
    }
    return py::reinterpret_steal<py::int_>(number);
}

bool is_negative(const py::int_& number) { return number < py::int_(0); }

std::optional<std::uint64_t> to_uint64(const py::int_& number) {
    const std::uint64_t value = PyLong_AsUnsignedLongLong(number.ptr());
    if (PyErr_Occurred() != nullptr) {
        PyErr_Clear();
        return std::nullopt;
    }
    return value;
}

[[noreturn]] void on_out_of_range(const char* name, const py::int_& number, const char* range) {
    throw py::value_error(std::string(name) + " must be in " + range + ", not " +
                          py::str(number).cast<std::string>());
}

}  // namespace

py::int_ to_python(uint128 value) {
    const auto low = checked(PyLong_FromUnsignedLongLong(low64(value)));
    if (high64(value) == 0) {
        return low;
    }
    const auto high = checked(PyLong_FromUnsignedLongLong(high64(value)));
    return py::int_((high << py::int_(64)) | low);
}

std::optional<uint128> to_uint128(const py::handle& object, const char* name) {
    const py::int_ number = integer_from(object, name);
    if (const auto small = to_uint64(number)) {
        return *small;
    }
    if (is_negative(number)) {
        throw py::value_error(std::string(name) + " must not be negative, but is " +
                              py::str(number).cast<std::string>());
    }
    const auto high = to_uint64(py::int_(number >> py::int_(64)));
    const auto low = to_uint64(py::int_(number & checked(PyLong_FromUnsignedLongLong(~0ULL))));
    return high ? std::optional(join64(*high, *low)) : std::nullopt;
}

std::uint64_t to_seed(const py::object& object) {
    const py::int_ number = integer_from(object, "seed");
    const auto seed = to_uint64(number);
    if (!seed) {
        on_out_of_range("seed", number, "0..2**64-1");
    }
    return *seed;
}

std::size_t to_count(const py::object& object, const char* name) {
    const py::int_ number = integer_from(object, name);
    const auto count = to_uint64(number);
    if (!count || *count > static_cast<std::uint64_t>(PY_SSIZE_T_MAX)) {
        on_out_of_range(name, number, "0..2**63-1");
    }
    return static_cast<std::size_t>(*count);
}

// Numbers beyond 64 bits become the largest: they are out of every range that a caller checks.
std::vector<long long> to_numbers(const py::object& object, const char* name) {
    std::vector<long long> numbers;
    for (const auto item : py::iter(object)) {
        int overflow = 0;
        const py::int_ number = integer_from(item, name);
        const long long value = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
        numbers.push_back(overflow == 0 ? value : std::numeric_limits<long long>::max());
    }
    return numbers;
}

py::int_ size_of(const Space& space) {
    py::int_ size(1);
    for (const Digit options : space.sizes()) {
        size = py::int_(size * py::int_(options));
    }
    return size;
}

py::list indices_to_python(const std::vector<uint128>& indices) {
    py::list result(indices.size());
    for (std::size_t i = 0; i < indices.size(); ++i) {
        result[i] = to_python(indices[i]);
    }
    return result;
}

std::vector<uint128> to_indices(const py::object& objects, uint128 last) {
    std::vector<uint128> indices;
    for (const auto item : py::iter(objects)) {
        const auto index = to_uint128(item, "index");
        if (!index || *index > last) {
            throw py::value_error("index " + py::str(item).cast<std::string>() + " (number " +
                                  std::to_string(indices.size()) + ") is not in 0.." +
                                  py::str(to_python(last)).cast<std::string>());
        }
        indices.push_back(*index);
    }
    return indices;
}

std::optional<WordArray> to_words(const py::object& object, uint128 last) {
    if (!py::isinstance<py::array>(object) || high64(last) != 0) {
        return std::nullopt;
    }
    auto array = py::reinterpret_borrow<py::array>(object);
    const char kind = array.dtype().kind();
    // A negative number becomes a large one, which no space of fewer than 2**63 codes has.
    const bool in_range = kind == 'u' || (kind == 'i' && high64(last << 1) == 0);
    if (array.ndim() != 1 || !in_range) {
        return std::nullopt;
    }
    if (array.dtype().is(py::dtype::of<std::int64_t>())) {
        array = array.view("uint64");
    }
    const auto words = WordArray::ensure(array);
    return words ? std::optional(words) : std::nullopt;
}

std::size_t rows_from(const Space& space, const py::object& start_object, const py::object& count, uint128& start) {
    const std::size_t wanted = to_count(count, "count");
    space.require_last_index();
    const auto number = to_uint128(start_object, "start");
    start = number.value_or(0);
    return number ? space.rows_from(start, wanted) : 0;
}

}  // namespace ncode::bindings
