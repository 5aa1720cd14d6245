#include <pybind11/stl.h>

#include <memory>

#include "alphabet.hpp"
#include "register.hpp"
#include "space_calls.hpp"
#include "texts.hpp"

namespace ncode::bindings {
namespace {

void validate(const Space& space, const py::object& object) {
    const CodeArray codes = batch_from(object);
    without_gil([&] { space.validate(view(codes)); });
}

py::list to_text(const Space& space, const py::object& object) {
    const CodeArray codes = batch_from(object);
    without_gil([&] { space.validate(view(codes)); });
    return to_texts(view(codes));
}

std::shared_ptr<Space> make_space(const py::object& sizes) {
    return std::make_shared<Space>(to_numbers(sizes, "size"));
}

std::vector<int> sizes_of(const Space& space) { return {space.sizes().begin(), space.sizes().end()}; }

std::string describe(const Space& space) {
    return "Space(" + py::repr(py::cast(sizes_of(space))).cast<std::string>() + ")";
}

using SpaceClass = py::class_<Space, std::shared_ptr<Space>>;

void register_conversions(SpaceClass& space) {
    using namespace pybind11::literals;
    space
        .def("validate", &validate, "codes"_a,
             "Raise ValueError naming the first wrong row of codes (n, L), its position, digit and what is allowed.")
        .def("to_text", &to_text, "codes"_a, "The texts of codes (n, L), one character of ALPHABET a position.")
        .def("from_text", &from_texts, "texts"_a,
             "The codes (n, L) of texts; ValueError names the text, the position, the character and what is allowed.")
        .def("to_index", &to_index, "codes"_a,
             "The indices of codes (n, L); position 0 is the most significant digit. OverflowError above 2**128 codes.")
        .def("from_index", &from_index, "indices"_a, "The codes (n, L) of indices.");
}

void register_draws(SpaceClass& space) {
    using namespace pybind11::literals;
    space
        .def("enumerate", &enumerate_codes, "start"_a, "count"_a,
             "Up to count codes (n, L) from index start on, in the order of their indices.")
        .def("sample", &sample, "count"_a, "seed"_a, "start"_a = 0,
             "Elements start to start + count of a pseudo-random permutation of all codes: (n, L), distinct for one "
             "seed.")
        .def("random", &random, "count"_a, "seed"_a, "Uniform codes (count, L), drawn with replacement.")
        .def("mutate", &mutate_codes, "parents"_a, "seed"_a, "changes"_a = 1,
             "Copies (n, L) of parents with exactly `changes` positions (or all that have a choice) changed.")
        .def("crossover", &cross, "first"_a, "second"_a, "seed"_a,
             "(n, L): every digit from the row of first or of second, with equal chances.")
        .def("neighbours", &neighbours_of, "code"_a,
             "All codes (sum(sizes - 1), L) one option away from code (L,), by position and then by option.");
}

}  // namespace

void register_space(py::module_& module) {
    using namespace pybind11::literals;
    SpaceClass space(module, "Space", "A list of 1 to 256 positions with 1 to 64 options each.");
    space.def(py::init(&make_space), "sizes"_a)
        .def_property_readonly("sizes", &sizes_of, "Options of every position.")
        .def_property_readonly("length", &Space::length, "Number of positions.")
        .def_property_readonly("size", &size_of, "Number of codes, exact at any magnitude.")
        .def("__repr__", &describe);
    register_conversions(space);
    register_draws(space);
}

}  // namespace ncode::bindings
